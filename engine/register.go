package engine

import (
	"bytes"
	"context"
)

// Register is a handle on one value that the last writer sets: what Put and
// Get work on, by name or as a field of a Map. Concurrent values stand side by
// side; the resolver of the name's prefix decides what is shown.
type Register struct{ handle }

// Register returns the handle of the register of that name; its methods return
// ErrInvalid if the name is empty, ErrTooLarge if it is above the cap.
func (ns *Namespace) Register(name []byte) Register { return Register{newHandle(ns, nil, name)} }

// Register returns the handle of the register of that name in the transaction.
func (t *Txn) Register(name []byte) Register { return Register{newHandle(t, nil, name)} }

// Register returns the handle of a field's register.
func (m Map) Register(field []byte) Register { return Register{m.field(field)} }

// Get returns the main value, which is the caller's. ErrNotFound if the
// register is absent, deleted or expired.
func (r Register) Get(ctx context.Context) ([]byte, error) {
	var out []byte
	err := r.view(ctx, func(src source) error {
		s, err := src.siblings(r.name)
		if err != nil {
			return err
		}
		w := fold(src, outerName(r.name), s)
		if len(w.Shown) == 0 {
			return ErrNotFound
		}
		out, err = src.content(w.Shown[0])
		return err
	})
	return out, err
}

// GetAll returns everything known of the register: what is shown, all siblings
// and the token for SetIf. Absence is no error.
func (r Register) GetAll(ctx context.Context) (Record, error) {
	var out Record
	err := r.view(ctx, func(src source) (err error) {
		out, err = r.record(src)
		return err
	})
	return out, err
}

func (r Register) record(src source) (Record, error) {
	s, err := src.siblings(r.name)
	if err != nil {
		return Record{}, err
	}
	out := newRecord(src, outerName(r.name), s)
	out.Key = bytes.Clone(r.key)
	return out, nil
}

// Set replaces everything this node holds of the register by value, at most
// 16 MiB (ErrTooLarge). See Namespace.Put.
func (r Register) Set(ctx context.Context, value []byte, opts ...WriteOption) error {
	return r.update(ctx, func(t *Txn) error { return t.put(r.name, value, opts, false) })
}

// SetIf is Set only if the register is still in the state that a reader saw
// (Record.Token); else it returns a *Conflict, which matches ErrConflict, with
// the current state. See Namespace.PutIf.
func (r Register) SetIf(ctx context.Context, value []byte, seen Token, opts ...WriteOption) error {
	return r.update(ctx, func(t *Txn) error {
		if err := r.check(t, seen); err != nil {
			return err
		}
		return t.put(r.name, value, opts, true)
	})
}

// Delete removes what this node holds of the register. It is no error if there
// is nothing. What others write without having seen it stays.
func (r Register) Delete(ctx context.Context) error {
	return r.update(ctx, func(t *Txn) error {
		_, err := t.unset(r.name)
		return err
	})
}

// DeleteIf is Delete only if the register is still in the state that a reader
// saw; see SetIf.
func (r Register) DeleteIf(ctx context.Context, seen Token) error {
	return r.update(ctx, func(t *Txn) error {
		if err := r.check(t, seen); err != nil {
			return err
		}
		_, err := t.unset(r.name)
		return err
	})
}

func (r Register) check(t *Txn, seen Token) error {
	now, err := r.record(t)
	if err == nil && now.Token != seen {
		err = &Conflict{now}
	}
	return err
}
