package engine

import (
	"context"

	"bzzz/crdt"
)

// Number is a handle on a number that only rises (Max) or only falls (Min),
// whoever writes it and in whatever order: the greatest, or least, of all that
// was set and not deleted. It shares the name's key with the register of that
// name, and looks only at versions of its own kind; Register.GetAll shows all.
type Number struct {
	handle
	kind crdt.Kind
}

// Max returns the handle of the number of that name that only rises.
func (ns *Namespace) Max(name []byte) Number { return Number{newHandle(ns, nil, name), crdt.Max} }

// Max returns the handle of the number of that name in the transaction.
func (t *Txn) Max(name []byte) Number { return Number{newHandle(t, nil, name), crdt.Max} }

// Max returns the handle of a field's number that only rises.
func (m Map) Max(field []byte) Number { return Number{m.field(field), crdt.Max} }

// Min returns the handle of the number of that name that only falls.
func (ns *Namespace) Min(name []byte) Number { return Number{newHandle(ns, nil, name), crdt.Min} }

// Min returns the handle of the number of that name in the transaction.
func (t *Txn) Min(name []byte) Number { return Number{newHandle(t, nil, name), crdt.Min} }

// Min returns the handle of a field's number that only falls.
func (m Map) Min(field []byte) Number { return Number{m.field(field), crdt.Min} }

// Set raises (Max) or lowers (Min) the number to v. A number that is at v or
// beyond stays, and nothing is written then: such a Set does not outlive a
// concurrent Delete of what it saw.
func (n Number) Set(ctx context.Context, v int64) error {
	return n.update(ctx, func(t *Txn) error {
		s, err := t.siblings(n.name)
		if err != nil {
			return err
		}
		old, err := n.fold(t, s)
		if err == nil && (old == v || (old > v) == (n.kind == crdt.Max)) {
			return nil
		}
		return t.set(n.name, n.kind, crdt.AppendNumber(nil, v), nil, false)
	})
}

// Value returns the number; ErrNotFound if it was never set or is deleted.
func (n Number) Value(ctx context.Context) (int64, error) {
	var out int64
	err := n.view(ctx, func(src source) error {
		s, err := src.siblings(n.name)
		if err == nil {
			out, err = n.fold(src, s)
		}
		return err
	})
	return out, err
}

// fold returns the number of the siblings of n's kind.
func (n Number) fold(src source, s crdt.Siblings) (int64, error) {
	var own crdt.Siblings
	for _, v := range s {
		if v.Kind == n.kind {
			own = append(own, v)
		}
	}
	value, ok := crdt.Fold(own, crdt.LWW, src.millis()).Value()
	if !ok {
		return 0, ErrNotFound
	}
	return crdt.DecodeNumber(value)
}

// Delete removes the number, as Register.Delete does: what others raise or
// lower without having seen it stays.
func (n Number) Delete(ctx context.Context) error { return Register{n.handle}.Delete(ctx) }
