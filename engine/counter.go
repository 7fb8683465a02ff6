package engine

import (
	"context"
	"fmt"

	"bzzz/crdt"
)

// Counter is a handle on a count that any node may raise and lower at any
// time: its value is the sum of all Adds that no Reset had seen. Each replica
// id that counts has a slot of its own, one small key, so an Add is one small
// write whatever the number of writers; slots stay, some 40 bytes each.
//
// A slot holds its owner's totals and the floors up to which resets swallowed
// them. The owner keeps its totals in a record of its own and never reads them
// out of the slot: what peers and backups hold of it may be older.
type Counter struct{ handle }

// Counter returns the handle of the counter of that name.
func (ns *Namespace) Counter(name []byte) Counter { return Counter{newHandle(ns, nil, name)} }

// Counter returns the handle of the counter of that name in the transaction.
func (t *Txn) Counter(name []byte) Counter { return Counter{newHandle(t, nil, name)} }

// Counter returns the handle of a field's counter.
func (m Map) Counter(field []byte) Counter { return Counter{m.field(field)} }

// Add counts delta, which may be negative. 0 writes nothing. ErrTooLarge once
// this replica has added, or taken away, 2^51 in all. O(1).
func (c Counter) Add(ctx context.Context, delta int64) error {
	return c.update(ctx, func(t *Txn) error {
		if delta == 0 {
			return nil
		}
		self := t.ns.replica.Self()
		slot := append(c.stem(crdt.MarkCounter), self[:]...)
		s, err := t.siblings(slot)
		if err != nil {
			return err
		}
		totals, err := t.totals(slot, s)
		if err != nil {
			return err
		}
		if totals, err = totals.Count(delta); err != nil {
			return err
		}
		if mutant("counter floor dropped") {
			s = nil
		}
		// What others wrote to the slot are floors: they must be carried on.
		if err := t.set(slot, crdt.Count, totals.Join(crdt.FoldSlot(s)).Append(nil), nil, false); err != nil {
			return err
		}
		t.setLocalRecord(slot, totals.Append(nil))
		return nil
	})
}

// totals returns what this replica has counted in a slot of its own, whose
// siblings are s. ErrCorrupt if its record is gone although it has counted.
func (t *Txn) totals(slot []byte, s crdt.Siblings) (crdt.Slot, error) {
	if mutant("totals out of siblings") {
		return crdt.FoldSlot(s), nil
	}
	b, err := t.localRecord(slot)
	if err != nil {
		return crdt.Slot{}, err
	}
	if b == nil {
		if shown := crdt.FoldSlot(s); shown.Plus > 0 || shown.Minus > 0 {
			return crdt.Slot{}, fmt.Errorf("the totals of a counter's own slot are missing: %w", ErrCorrupt)
		}
		return crdt.Slot{}, nil
	}
	return crdt.DecodeSlot(b)
}

// Value returns the count, 0 for a counter that was never counted or not since
// its last reset. O(slots).
func (c Counter) Value(ctx context.Context) (int64, error) {
	sum := int64(0)
	err := c.view(ctx, func(src source) error {
		return c.under(ctx, src, crdt.MarkCounter, func(_ []byte, s crdt.Siblings) bool {
			sum += crdt.FoldSlot(s).Value()
			return true
		})
	})
	return sum, err
}

// Reset sets the counter to nothing: everything counted that this node has
// seen is swallowed for good, here and everywhere; what others count without
// having seen the reset stays. One transaction, O(slots).
func (c Counter) Reset(ctx context.Context) error { return c.clear(ctx, crdt.MarkCounter) }
