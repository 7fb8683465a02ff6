package engine

import (
	"bytes"
	"context"
	"iter"

	"bzzz/crdt"
)

// Set is a handle on a set of byte strings, each element a key of its own: it
// syncs element by element and may hold millions. An element may be empty; name
// and element together are bounded by the cap on keys (ErrTooLarge).
//
// The two sorts differ in what an Add and a Remove of one element do that did
// not see each other. In an add-wins set the element is in. In a remove-wins
// set it is not, until it is added by somebody who has seen the removal; a
// removal there is a record that stays for ever. They are different sets, even
// under one name.
type Set struct {
	handle
	mark crdt.Mark
}

// Set returns the handle of the add-wins set of that name.
func (ns *Namespace) Set(name []byte) Set { return Set{newHandle(ns, nil, name), crdt.MarkAddSet} }

// Set returns the handle of the add-wins set of that name in the transaction.
func (t *Txn) Set(name []byte) Set { return Set{newHandle(t, nil, name), crdt.MarkAddSet} }

// Set returns the handle of a field's add-wins set.
func (m Map) Set(field []byte) Set { return Set{m.field(field), crdt.MarkAddSet} }

// RemoveWinsSet returns the handle of the remove-wins set of that name.
func (ns *Namespace) RemoveWinsSet(name []byte) Set {
	return Set{newHandle(ns, nil, name), crdt.MarkRemSet}
}

// RemoveWinsSet returns the handle of the remove-wins set of that name in the
// transaction.
func (t *Txn) RemoveWinsSet(name []byte) Set { return Set{newHandle(t, nil, name), crdt.MarkRemSet} }

// RemoveWinsSet returns the handle of a field's remove-wins set.
func (m Map) RemoveWinsSet(field []byte) Set { return Set{m.field(field), crdt.MarkRemSet} }

// Add puts elements into the set, all or none. An element that is in is added
// again all the same: somebody may be removing it elsewhere, and a removal
// takes away only the adds that it saw. One small write an element.
func (s Set) Add(ctx context.Context, elems ...[]byte) error {
	return s.update(ctx, func(t *Txn) error {
		for _, e := range elems {
			if err := t.set(s.element(s.mark, e), crdt.Add, nil, nil, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove takes elements out of the set, all or none. In an add-wins set one
// that is not in writes nothing; in a remove-wins set it does, since it beats
// the adds that are on their way.
func (s Set) Remove(ctx context.Context, elems ...[]byte) error {
	return s.update(ctx, func(t *Txn) error {
		for _, e := range elems {
			var err error
			if key := s.element(s.mark, e); s.mark == crdt.MarkRemSet {
				err = t.set(key, crdt.Remove, nil, nil, false)
			} else {
				_, err = t.unset(key)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Has reports whether an element is in the set. O(log n).
func (s Set) Has(ctx context.Context, elem []byte) (bool, error) {
	in := false
	err := s.view(ctx, func(src source) error {
		siblings, err := src.siblings(s.element(s.mark, elem))
		in = present(s.mark, siblings, src.millis())
		return err
	})
	return in, err
}

// All yields the elements in byte order, from the state of one moment, and
// stops at the first error, which it yields. The loop body of a Namespace's
// set must not write to the DB and should be short. Elements are the caller's.
// O(1) memory.
func (s Set) All(ctx context.Context) iter.Seq2[[]byte, error] {
	return stream(ctx, s.handle, func(src source, yield func([]byte) bool) error {
		return s.each(ctx, src, func(elem []byte) bool { return yield(append([]byte{}, elem...)) })
	})
}

// Len returns how many elements are in the set. O(n).
func (s Set) Len(ctx context.Context) (int, error) {
	n := 0
	err := s.view(ctx, func(src source) error {
		return s.each(ctx, src, func([]byte) bool { n++; return true })
	})
	return n, err
}

func (s Set) each(ctx context.Context, src source, visit func(elem []byte) bool) error {
	stem := s.stem(s.mark)
	return s.under(ctx, src, s.mark, func(key []byte, siblings crdt.Siblings) bool {
		elem, rest, err := crdt.SplitName(bytes.TrimPrefix(key, stem))
		if err != nil || len(rest) > 0 || !present(s.mark, siblings, src.millis()) {
			return true
		}
		return visit(elem)
	})
}

// Clear removes the elements that are in, in one transaction (ErrTooLarge above
// 16 MiB of keys; DeleteName has no bound). O(n).
func (s Set) Clear(ctx context.Context) error { return s.clear(ctx, s.mark) }
