package engine

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
)

// Type is what stands under a name.
type Type string

// The types that Scan reports.
const (
	TypeRegister Type = "register"
	TypeNumber   Type = "number" // a max or min register
	TypeCounter  Type = "counter"
	TypeSet      Type = "set"
	TypeMap      Type = "map"
	TypeList     Type = "list"
)

// Entry is one line of a scan.
type Entry struct {
	Key      []byte    // the name
	Type     Type      //
	Value    []byte    // of a register: the main value; nil for composites and large values
	Blob     string    // CID of a large value, "" if it is in Value
	Size     int64     // of a register's value in bytes, -1 if it is a large one that is not here yet
	Time     time.Time // of the main version of a register
	Conflict bool      // more than one value stands side by side
}

// Range bounds a scan: keys that begin with Prefix, at or after Start, before
// End (nil = no bound), at most Limit (0 = all).
type Range struct {
	Prefix, Start, End []byte
	Limit              int
}

// Scan yields what stands under the names of a range in byte order, each
// verified, from a state of one moment: registers with their values, composites
// with their type alone. It stops at the first error, which it yields with an
// empty Entry. The loop body must not write to the DB and should be short: a
// scan pins the state it reads. Slices are the caller's. O(1) memory. With
// Options.VerifyMisses a scan that ran to the end of its range ends in ErrCorrupt
// if there are fewer keys than the Merkle index, where it is up to date, has
// there: about 0.3 us a key.
func (ns *Namespace) Scan(ctx context.Context, r Range) iter.Seq2[Entry, error] {
	return sequence(func(yield func(Entry) bool) error {
		return ns.view(ctx, func(src source) error { return scan(ctx, src, r, yield) })
	})
}

// Scan is Namespace.Scan within the transaction; the loop body may write.
func (t *Txn) Scan(r Range) iter.Seq2[Entry, error] {
	return sequence(func(yield func(Entry) bool) error {
		return t.view(t.ctx, func(src source) error { return scan(t.ctx, src, r, yield) })
	})
}

// sequence makes an iterator of a walk that calls yield for each element until
// that returns false. It ends with the walk's first error.
func sequence[T any](walk func(yield func(T) bool) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		err := walk(func(v T) bool {
			stopped = !yield(v, nil)
			return !stopped
		})
		if err != nil && !stopped {
			var none T
			yield(none, err)
		}
	}
}

// stored returns the bounds of a range in stored form.
func (r Range) stored() (start, end []byte) {
	start, end = rangeOf(r.Prefix)
	if s := crdt.AppendName(nil, r.Start); len(r.Start) > 0 && bytes.Compare(s, start) > 0 {
		start = s
	}
	if e := crdt.AppendName(nil, r.End); len(r.End) > 0 && (end == nil || bytes.Compare(e, end) < 0) {
		end = e
	}
	return start, end
}

// scanStride bounds how many keys a scan passes between looks at its context.
const scanStride = 1024

func scan(ctx context.Context, src source, r Range, yield func(Entry) bool) error {
	start, end := r.stored()
	n, stopped := 0, false
	err := scanNames(ctx, src, nil, start, end, r.Limit, func(e Entry) bool {
		n++
		stopped = !yield(e)
		return !stopped
	})
	if rd, ok := src.(*reading); ok && err == nil && !stopped && (r.Limit == 0 || n < r.Limit) {
		err = rd.checkRange(start, end)
	}
	return err
}

// scanNames yields what stands under the names that follow base in stored keys
// within [start, end): those of the namespace, or the fields of a map.
func scanNames(ctx context.Context, src source, base, start, end []byte, limit int, yield func(Entry) bool) error {
	n, looked := 0, 0
	for start != nil && (limit == 0 || n < limit) {
		var skip []byte // a composite was met: go on behind its last key
		for key, read := range src.heads(start, end) {
			if looked++; looked%scanStride == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			name, rest, err := crdt.SplitName(key[len(base):])
			if err != nil {
				return &replica.Damage{Err: fmt.Errorf("stored key: %w", ErrCorrupt)}
			}
			if _, _, composite := crdt.SplitMark(rest); composite {
				e, err := compositeEntry(src, key, name, rest)
				if err != nil {
					return err
				}
				skip = crdt.PrefixEnd(key[:len(key)-len(rest)+2])
				if e != nil {
					if n++; !yield(*e) {
						return nil
					}
				}
				break
			}
			e, err := registerEntry(src, key, name, read)
			if err != nil {
				return err
			}
			if e == nil {
				continue
			}
			if n++; !yield(*e) || n == limit {
				return nil
			}
		}
		start = skip
	}
	return nil
}

// registerEntry returns the entry of a register, nil if it is absent.
func registerEntry(src source, key, name []byte, read func() (crdt.Siblings, error)) (*Entry, error) {
	s, err := read()
	if err != nil {
		return nil, err
	}
	w := fold(src, outerName(key), s)
	if len(w.Shown) == 0 {
		return nil, nil
	}
	main := w.Shown[0]
	e := &Entry{
		Key: bytes.Clone(name), Type: TypeRegister, Value: bytes.Clone(main.Value),
		Blob: blobName(main), Size: src.sizeOf(main), Time: main.Time.Time(), Conflict: main.Kind == crdt.Put && w.Concurrent(),
	}
	if main.Kind == crdt.Max || main.Kind == crdt.Min {
		e.Type = TypeNumber
	}
	return e, nil
}

// compositeEntry returns the entry of the composite that begins at key, nil if
// nothing of it is present. It reads up to its first element that is.
func compositeEntry(src source, key, name, rest []byte) (*Entry, error) {
	mark, _, _ := crdt.SplitMark(rest)
	typ := typeOfMark(mark)
	if typ == "" {
		return nil, nil
	}
	stem := key[:len(key)-len(rest)+2]
	for k, read := range src.heads(stem, crdt.PrefixEnd(stem)) {
		s, err := read()
		if err != nil {
			return nil, err
		}
		if present(leafMark(k[len(stem)-2:]), s, src.millis()) {
			return &Entry{Key: bytes.Clone(name), Type: typ}, nil
		}
	}
	return nil, nil
}

// typeOfMark returns the type whose elements bear the mark, "" for records
// that are none's elements.
func typeOfMark(m crdt.Mark) Type {
	switch m {
	case crdt.MarkCounter:
		return TypeCounter
	case crdt.MarkAddSet, crdt.MarkRemSet:
		return TypeSet
	case crdt.MarkMap:
		return TypeMap
	case crdt.MarkList:
		return TypeList
	}
	return ""
}

// present reports whether an element of a composite, of that innermost mark, is
// there at a moment.
func present(m crdt.Mark, s crdt.Siblings, millis int64) bool {
	switch m {
	case crdt.MarkCounter:
		return !crdt.FoldSlot(s).IsFloored()
	case crdt.MarkAddSet:
		return crdt.InAddWins(s)
	case crdt.MarkRemSet:
		return crdt.InRemoveWins(s)
	case crdt.MarkList:
		return len(listValues(s)) > 0
	case crdt.MarkMap:
		_, ok := crdt.Fold(s, crdt.LWW, millis).Value()
		return ok
	}
	return false // records that are no elements
}

// Snapshot is the state of a namespace at one moment, to be read for as long
// as it is held. It keeps the room of what is deleted meanwhile. One goroutine
// at a time; Close ends it.
type Snapshot struct {
	reading
	snap store.Snapshot
	mark Mark
}

// Snapshot returns the current state. O(replicas).
func (ns *Namespace) Snapshot(ctx context.Context) (*Snapshot, error) {
	if err := ns.db.usable(ctx); err != nil {
		return nil, err
	}
	if ns.replica == nil || ns.dropped.Load() {
		return nil, fmt.Errorf("namespace %q: %w", ns.name, ErrNotFound)
	}
	snap, err := ns.db.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	v, err := ns.replica.View(snap)
	if err != nil {
		snap.Release()
		return nil, err
	}
	return &Snapshot{
		reading: reading{rd: v.Reader, ns: ns, now: time.Now().UnixMilli()}, snap: snap, mark: Mark{v.Clock()},
	}, nil
}

// Close ends the snapshot. It is idempotent.
func (s *Snapshot) Close() { s.snap.Release() }

// Mark names the snapshot's state, to be read again later for as long as
// history is retained.
func (s *Snapshot) Mark() Mark { return s.mark }

// Get is Namespace.Get on the snapshot.
func (s *Snapshot) Get(key []byte) ([]byte, error) {
	value, err := get(&s.reading, key)
	return value, s.judge(err)
}

// GetAll is Namespace.GetAll on the snapshot.
func (s *Snapshot) GetAll(key []byte) (Record, error) {
	r, err := getAll(&s.reading, key)
	return r, s.judge(err)
}

// judge returns err, or why the store could not answer, which then looked like
// an absent key: damage, poison, or the snapshot's end.
func (s *Snapshot) judge(err error) error {
	if why := s.snap.Err(); why != nil {
		return why
	}
	return err
}

// Scan is Namespace.Scan on the snapshot.
func (s *Snapshot) Scan(ctx context.Context, r Range) iter.Seq2[Entry, error] {
	return sequence(func(yield func(Entry) bool) error { return s.judge(scan(ctx, &s.reading, r, yield)) })
}
