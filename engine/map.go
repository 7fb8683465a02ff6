package engine

import (
	"context"
	"iter"

	"bzzz/crdt"
)

// Map is a handle on a map from fields to values. Fields are merged one by
// one, and each has its own type: Put and Get work on registers, the methods
// that return handles on whatever else the field holds, maps again included,
// to any depth that the cap on keys allows (ErrTooLarge). Fields are not empty
// (ErrInvalid).
type Map struct{ handle }

// Map returns the handle of the map of that name.
func (ns *Namespace) Map(name []byte) Map { return Map{newHandle(ns, nil, name)} }

// Map returns the handle of the map of that name in the transaction.
func (t *Txn) Map(name []byte) Map { return Map{newHandle(t, nil, name)} }

// Map returns the handle of a field's map.
func (m Map) Map(field []byte) Map { return Map{m.field(field)} }

// field returns the handle of a field.
func (m Map) field(field []byte) handle {
	h := newHandle(m.a, m.stem(crdt.MarkMap), field)
	if m.err != nil {
		h.err = m.err
	}
	return h
}

// Put writes a field's register; see Register.Set.
func (m Map) Put(ctx context.Context, field, value []byte, opts ...WriteOption) error {
	return m.Register(field).Set(ctx, value, opts...)
}

// Get returns the main value of a field's register; see Register.Get.
func (m Map) Get(ctx context.Context, field []byte) ([]byte, error) {
	return m.Register(field).Get(ctx)
}

// GetAll returns everything known of a field's register.
func (m Map) GetAll(ctx context.Context, field []byte) (Record, error) {
	return m.Register(field).GetAll(ctx)
}

// Delete removes a field with everything in it, whatever its types, in one
// transaction, as DeleteName does for a name. It is no error if there is
// nothing. O(keys in the field).
func (m Map) Delete(ctx context.Context, field []byte) error {
	h := m.field(field)
	return h.update(ctx, func(t *Txn) error {
		_, err := t.removeRange(exactly(h.name))
		return err
	})
}

// All yields the fields in byte order, registers and numbers with their values,
// composites with their type alone, as Scan does for names: from the state of
// one moment, up to the first error, which it yields. The loop body of a
// Namespace's map must not write to the DB and should be short. O(1) memory.
func (m Map) All(ctx context.Context) iter.Seq2[Entry, error] {
	return stream(ctx, m.handle, func(src source, yield func(Entry) bool) error {
		stem := m.stem(crdt.MarkMap)
		return scanNames(ctx, src, stem, stem, crdt.PrefixEnd(stem), 0, yield)
	})
}

// Len returns how many entries All yields: a field of several types counts
// once for each. O(n).
func (m Map) Len(ctx context.Context) (int, error) {
	n := 0
	for _, err := range m.All(ctx) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Clear removes all fields with everything in them, in one transaction
// (ErrTooLarge above 16 MiB of keys; DeleteName has no bound). O(keys).
func (m Map) Clear(ctx context.Context) error { return m.clear(ctx, crdt.MarkMap) }
