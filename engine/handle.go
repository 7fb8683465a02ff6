package engine

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"bzzz/crdt"
)

// handle is what every typed handle is made of: where its value lives, and
// through what it is read and changed. Handles are small values; making one
// touches nothing. A handle of a Namespace may be used from many goroutines,
// and each of its changing methods is one atomic, durable Update. The methods
// of a Txn's handle join that transaction: they see its writes, wait for
// nothing, and return ErrClosed once it has ended.
type handle struct {
	a    access
	key  []byte // the name, or the field of a map, as the user gave it
	name []byte // the same as stored, behind that of the maps it is nested in
	err  error  // of the name: every method returns it
}

// newHandle returns the handle of a name behind base, which is empty or ends in
// a map's mark.
func newHandle(a access, base, key []byte) handle {
	stored, err := storedName(key)
	if err == nil && len(base)+len(stored) > crdt.MaxKey {
		err = fmt.Errorf("key of %d bytes as stored (at most %d): %w", len(base)+len(stored), crdt.MaxKey, ErrTooLarge)
	}
	return handle{a: a, key: bytes.Clone(key), name: slices.Concat(base, stored), err: err}
}

func (h handle) update(ctx context.Context, fn func(*Txn) error) error {
	if h.err != nil {
		return h.err
	}
	return h.a.update(ctx, fn)
}

func (h handle) view(ctx context.Context, fn func(source) error) error {
	if h.err != nil {
		return h.err
	}
	return h.a.view(ctx, fn)
}

// stem returns what the stored keys of the composite's elements begin with.
func (h handle) stem(m crdt.Mark) []byte {
	return crdt.AppendMark(append(make([]byte, 0, len(h.name)+2), h.name...), m)
}

// element returns the stored key of an element that bears a name.
func (h handle) element(m crdt.Mark, name []byte) []byte { return crdt.AppendName(h.stem(m), name) }

// under calls visit with the elements of the composite and their siblings.
func (h handle) under(ctx context.Context, src source, m crdt.Mark, visit func(key []byte, s crdt.Siblings) bool) error {
	stem := h.stem(m)
	return each(ctx, src, stem, crdt.PrefixEnd(stem), visit)
}

// clear removes all elements of the composite in one transaction.
func (h handle) clear(ctx context.Context, m crdt.Mark) error {
	return h.update(ctx, func(t *Txn) error {
		stem := h.stem(m)
		_, err := t.removeRange(stem, crdt.PrefixEnd(stem))
		return err
	})
}

// each calls visit with the stored keys of a range and their siblings, in
// order, until it returns false. What it is given is valid until it returns.
func each(ctx context.Context, src source, start, end []byte, visit func(key []byte, s crdt.Siblings) bool) error {
	looked := 0
	for key, read := range src.heads(start, end) {
		if looked++; looked%scanStride == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		s, err := read()
		if err != nil {
			return err
		}
		if !visit(key, s) {
			return nil
		}
	}
	return nil
}

// stream makes an iterator of a walk over what h sees. It ends with the walk's
// first error.
func stream[T any](ctx context.Context, h handle, walk func(src source, yield func(T) bool) error) iter.Seq2[T, error] {
	return sequence(func(yield func(T) bool) error {
		return h.view(ctx, func(src source) error { return walk(src, yield) })
	})
}

// outerName returns the name that a stored key begins with, whose prefixes
// decide the resolver of every register within it.
func outerName(stored []byte) []byte {
	name, _, err := crdt.SplitName(stored)
	if err != nil {
		return stored // no handle makes such a key
	}
	return name
}

// leafMark returns the mark of the innermost composite that a stored key is an
// element of, given what lies behind its name: fields of maps may be composites
// themselves. 0 for a register that is in none.
func leafMark(rest []byte) crdt.Mark {
	m, component, ok := crdt.SplitMark(rest)
	for ok && m == crdt.MarkMap {
		var inner crdt.Mark
		_, behind, err := crdt.SplitName(component)
		if inner, component, ok = crdt.SplitMark(behind); err == nil && ok {
			m = inner
		}
	}
	return m
}

// localRecord returns a record of this node alone as the transaction sees it,
// nil if there is none. Types key them by stored keys of their own.
func (t *Txn) localRecord(key []byte) ([]byte, error) {
	if v, ok := t.local[string(key)]; ok {
		return v, nil
	}
	return t.batch.Local(key)
}

// setLocalRecord writes such a record with the transaction, which must write a
// version too.
func (t *Txn) setLocalRecord(key, value []byte) {
	if t.local == nil {
		t.local = map[string][]byte{}
	}
	t.local[string(key)] = value
}
