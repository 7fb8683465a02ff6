package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"bzzz/crdt"
)

// List is a handle on a list of byte strings that many may edit at once. Each
// element is a key of its own that says where it stands, wholly: elements that
// stand beside each other stay so whatever happens elsewhere in the list, and
// what two nodes insert at the same place at the same time comes one after the
// other, never interleaved. An element that one node deletes while another sets
// it stays, with the new value; of two values set at once the later shows.
//
// An index counts the elements that are there now, from 0. Finding one costs
// O(n): the list keeps no counts. Append and Prepend are O(log n). A value is
// at most 64 KiB. The keys of a list with adverse edits grow to 512 bytes
// behind its name; ErrTooLarge then, or once they are above the cap on keys.
type List struct{ handle }

// List returns the handle of the list of that name.
func (ns *Namespace) List(name []byte) List { return List{newHandle(ns, nil, name)} }

// List returns the handle of the list of that name in the transaction.
func (t *Txn) List(name []byte) List { return List{newHandle(t, nil, name)} }

// List returns the handle of a field's list.
func (m Map) List(field []byte) List { return List{m.field(field)} }

// Insert puts values, in their order, before the element of that index, or at
// the end if index is the length. ErrNotFound beyond that, ErrInvalid below 0.
// Many values in one call are much cheaper than as many calls. O(n).
func (l List) Insert(ctx context.Context, index int, values ...[]byte) error {
	return l.update(ctx, func(t *Txn) error {
		left, right, err := l.gap(ctx, t, index)
		if err != nil {
			return err
		}
		return l.insert(t, left, right, values)
	})
}

// Append puts values, in their order, at the end. O(log n) a value.
func (l List) Append(ctx context.Context, values ...[]byte) error {
	return l.update(ctx, func(t *Txn) error {
		return l.insert(t, l.ends(t).last, nil, values)
	})
}

// Prepend puts values, in their order, before the first element. O(log n) a
// value.
func (l List) Prepend(ctx context.Context, values ...[]byte) error {
	return l.update(ctx, func(t *Txn) error {
		return l.insert(t, nil, l.ends(t).first, values)
	})
}

// Set replaces the value of the element of that index, which stays where it
// is. ErrNotFound if there is none. O(n).
func (l List) Set(ctx context.Context, index int, value []byte) error {
	return l.update(ctx, func(t *Txn) error {
		found, err := l.find(ctx, t, index, 1)
		if err != nil {
			return err
		}
		f := found[0]
		f.values[f.lo] = value
		return l.rewrite(t, f.key, f.values)
	})
}

// Delete removes n elements from that index on, all or none: ErrNotFound if
// there are fewer, ErrInvalid if n is negative. O(n).
func (l List) Delete(ctx context.Context, index, n int) error {
	return l.update(ctx, func(t *Txn) error {
		found, err := l.find(ctx, t, index, n)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := l.rewrite(t, f.key, slices.Delete(f.values, f.lo, f.hi)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get returns the element of that index, which is the caller's. ErrNotFound if
// there is none. O(n).
func (l List) Get(ctx context.Context, index int) ([]byte, error) {
	var out []byte
	err := l.view(ctx, func(src source) error {
		found, err := l.find(ctx, src, index, 1)
		if err == nil {
			out = append([]byte{}, found[0].values[found[0].lo]...)
		}
		return err
	})
	return out, err
}

// All yields the elements in order, from the state of one moment, and stops at
// the first error, which it yields. The loop body of a Namespace's list must
// not write to the DB and should be short. Elements are the caller's. O(1)
// memory.
func (l List) All(ctx context.Context) iter.Seq2[[]byte, error] {
	return stream(ctx, l.handle, func(src source, yield func([]byte) bool) error {
		return l.each(ctx, src, func(_ []byte, values [][]byte) bool {
			for _, v := range values {
				if !yield(append([]byte{}, v...)) {
					return false
				}
			}
			return true
		})
	})
}

// Len returns the number of elements. O(n).
func (l List) Len(ctx context.Context) (int, error) {
	n := 0
	err := l.view(ctx, func(src source) (err error) {
		n, err = l.count(ctx, src)
		return err
	})
	return n, err
}

// Clear removes all elements, in one transaction (ErrTooLarge above 16 MiB of
// keys; DeleteName has no bound). O(n).
func (l List) Clear(ctx context.Context) error { return l.clear(ctx, crdt.MarkList) }

// each calls visit with the stored keys of the list that show elements, in
// order, and these: one, but for a key that two replicas used at once.
func (l List) each(ctx context.Context, src source, visit func(key []byte, values [][]byte) bool) error {
	stem := l.stem(crdt.MarkList)
	return l.under(ctx, src, crdt.MarkList, func(key []byte, s crdt.Siblings) bool {
		values := listValues(s)
		if len(values) == 0 || crdt.ValidatePosition(key[len(stem):]) != nil {
			return true
		}
		return visit(key, values)
	})
}

func (l List) count(ctx context.Context, src source) (n int, err error) {
	err = l.each(ctx, src, func(_ []byte, values [][]byte) bool {
		n += len(values)
		return true
	})
	return n, err
}

// gap returns the positions between which an element gets that index. Elements
// of one key cannot be parted: the gap is behind them then.
func (l List) gap(ctx context.Context, src source, index int) (left, right crdt.Position, err error) {
	if index < 0 {
		return nil, nil, fmt.Errorf("list index %d: %w", index, ErrInvalid)
	}
	n, stem := 0, l.stem(crdt.MarkList)
	err = l.each(ctx, src, func(key []byte, values [][]byte) bool {
		pos := bytes.Clone(key[len(stem):])
		if n >= index {
			right = pos
			return false
		}
		left = pos
		n += len(values)
		return true
	})
	if err == nil && n < index {
		err = fmt.Errorf("list index %d of %d elements: %w", index, n, ErrNotFound)
	}
	return left, right, err
}

// listKey is a stored key that shows elements, some of which were looked for.
type listKey struct {
	key    []byte
	values [][]byte
	lo, hi int // those of values that were looked for
}

// find returns the keys of n elements from index on.
func (l List) find(ctx context.Context, src source, index, n int) ([]listKey, error) {
	if index < 0 || n < 0 {
		return nil, fmt.Errorf("list elements %d, %d of them: %w", index, n, ErrInvalid)
	}
	var found []listKey
	at, missing := 0, n
	err := l.each(ctx, src, func(key []byte, values [][]byte) bool {
		lo := max(index-at, 0)
		at += len(values)
		if hi := min(len(values), lo+missing); lo < hi {
			found = append(found, listKey{bytes.Clone(key), values, lo, hi})
			missing -= hi - lo
		}
		return missing > 0
	})
	if err == nil && missing > 0 {
		err = fmt.Errorf("list elements %d, %d of them, of %d: %w", index, n, at, ErrNotFound)
	}
	return found, err
}

// rewrite makes a key that showed elements show others: none of them or one,
// and what is more gets keys of its own right behind it.
func (l List) rewrite(t *Txn, key []byte, values [][]byte) error {
	if len(values) == 0 {
		return t.set(key, crdt.Delete, nil, nil, false)
	}
	if err := t.set(key, crdt.Insert, values[0], nil, false); err != nil || len(values) == 1 {
		return err
	}
	pos := key[len(l.name)+2:]
	return l.insert(t, pos, l.next(t, append(bytes.Clone(key), 0)), values[1:])
}

// next returns the first position at or behind a stored key of the list, be it
// of an element or of one that was deleted; nil if there is none.
func (l List) next(src source, key []byte) crdt.Position {
	stem := l.stem(crdt.MarkList)
	for key := range src.heads(key, crdt.PrefixEnd(stem)) {
		if pos := crdt.Position(key[len(stem):]); crdt.ValidatePosition(pos) == nil {
			return bytes.Clone(pos)
		}
	}
	return nil
}

// listEnds are the first and the last position in a list, be they of elements
// or of ones that were deleted; nil if there are none.
type listEnds struct{ first, last crdt.Position }

// ends returns the ends of the list as the transaction sees it. O(log n), as
// long as nobody has put a malformed key behind the last.
func (l List) ends(t *Txn) *listEnds {
	stem := l.stem(crdt.MarkList)
	if e := t.lists[string(stem)]; e != nil {
		return e
	}
	e := &listEnds{first: l.next(t, stem)}
	e.last = e.first
	for key := t.batch.LastHead(stem, crdt.PrefixEnd(stem)); key != nil; key = t.batch.LastHead(stem, key) {
		if pos := crdt.Position(key[len(stem):]); crdt.ValidatePosition(pos) == nil {
			e.last = bytes.Clone(pos)
			break
		}
	}
	if t.lists == nil {
		t.lists = map[string]*listEnds{}
	}
	t.lists[string(stem)] = e
	return e
}

// insert writes values as new elements between two positions.
func (l List) insert(t *Txn, left, right crdt.Position, values [][]byte) error {
	if len(values) == 0 {
		return nil
	}
	writer, err := l.writer(t)
	if err != nil {
		return err
	}
	fresh, err := l.fresh(t, len(values))
	if err != nil {
		return err
	}
	positions, err := crdt.Run(left, right, writer, fresh, len(values))
	if err != nil {
		return err
	}
	stem, ends := l.stem(crdt.MarkList), l.ends(t)
	for i, p := range positions {
		if err := t.set(append(stem[:len(stem):len(stem)], p...), crdt.Insert, values[i], nil, false); err != nil {
			return err
		}
	}
	if first := positions[0]; ends.first == nil || bytes.Compare(first, ends.first) < 0 {
		ends.first = first
	}
	if last := positions[len(positions)-1]; bytes.Compare(last, ends.last) > 0 {
		ends.last = last
	}
	return nil
}

// fresh takes n numbers that this node has never used in the list, greater
// than all it has, and returns the first. They are counted in a node-local
// record, so that they stay short; a store that went back in time or lost it
// writes under another replica id, and so as another writer.
func (l List) fresh(t *Txn, n int) (uint64, error) {
	key := l.stem(crdt.MarkList)
	b, err := t.localRecord(key)
	if err != nil {
		return 0, err
	}
	last, _ := binary.Uvarint(b)
	t.setLocalRecord(key, binary.AppendUvarint(nil, last+uint64(n)))
	return last + 1, nil
}

// writer returns the short id under which this replica writes in the list and
// binds it. Of two replicas that bound one id apart from each other, the one
// whose binding loses takes another.
func (l List) writer(t *Txn) ([]byte, error) {
	self := t.ns.replica.Self()
	binding := func(id []byte) []byte { return append(l.stem(crdt.MarkListBind), id...) }
	var bound []byte // what the id asked for last is bound to
	var failed error
	id, err := crdt.WriterID(self, func(id []byte) bool {
		s, err := t.siblings(binding(id))
		if err != nil {
			failed = err
			return false
		}
		bound = boundTo(s)
		return bound != nil && !bytes.Equal(bound, self[:])
	})
	if err = errors.Join(failed, err); err != nil {
		return nil, err
	}
	if bound == nil {
		err = t.set(binding(id), crdt.Bind, self[:], nil, false)
	}
	return id, err
}

// boundTo returns the replica that the siblings of a binding are of, nil if it
// is none.
func boundTo(s crdt.Siblings) []byte {
	for _, v := range s.Sorted() {
		if v.Kind == crdt.Bind {
			return v.Value
		}
	}
	return nil
}

// listValues returns the values of the elements that the siblings of one key
// are: one, its latest, unless replicas that shared a writer id inserted there
// apart from each other. Versions of one element have an ancestor in common.
func listValues(s crdt.Siblings) [][]byte {
	if len(s) == 1 && s[0].Kind == crdt.Insert {
		return [][]byte{s[0].Value}
	}
	var elements []crdt.Siblings
	for _, v := range s {
		if v.Kind != crdt.Insert {
			continue
		}
		one := crdt.Siblings{v}
		elements = slices.DeleteFunc(elements, func(o crdt.Siblings) bool {
			same := slices.ContainsFunc(o, func(w *crdt.Version) bool { return related(v, w) })
			if same {
				one = append(one, o...)
			}
			return same
		})
		elements = append(elements, one)
	}
	slices.SortFunc(elements, func(a, b crdt.Siblings) int {
		return a.Sorted()[0].Dot.Compare(b.Sorted()[0].Dot)
	})
	values := make([][]byte, len(elements))
	for i, e := range elements {
		values[i] = e.Sorted()[0].Value
	}
	return values
}

// related reports whether two versions of one key descend from a common one.
func related(a, b *crdt.Version) bool {
	return slices.ContainsFunc(a.Context, func(p crdt.Parent) bool { return b.Context.Seq(p.Replica) > 0 })
}
