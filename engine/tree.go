package engine

import (
	"bytes"
	"context"
	"errors"

	"bzzz/crdt"
)

// removeBatch is how many keys one transaction of DeletePrefix changes: enough
// to amortise its commit, few enough to hold the writer for milliseconds only.
const removeBatch = 1000

// DeletePrefix removes everything whose name begins with prefix, all names if
// it is empty: registers, numbers, elements of sets, maps and lists are
// deleted, counters reset, elements of remove-wins sets removed. What others
// write without having seen it stays, and so may what is written here
// meanwhile; resolvers of the prefix stay too. It returns how many keys it
// changed, also with an error.
//
// It works in transactions of at most 1,000 keys: atomic are only these. For
// all or nothing use it on a Txn. O(keys under the prefix); finding them does
// not hold up writers.
func (ns *Namespace) DeletePrefix(ctx context.Context, prefix []byte) (int, error) {
	start, end := rangeOf(prefix)
	return ns.removeRange(ctx, start, end)
}

// DeletePrefix is Namespace.DeletePrefix in one transaction: ErrTooLarge above
// 16 MiB of keys.
func (t *Txn) DeletePrefix(prefix []byte) (int, error) {
	start, end := rangeOf(prefix)
	return t.removeRange(start, end)
}

// DeleteName removes everything of exactly that name, whatever its types: the
// register, and the counter, sets, map and list. For the rest it is as
// DeletePrefix.
func (ns *Namespace) DeleteName(ctx context.Context, name []byte) (int, error) {
	stored, err := storedName(name)
	if err != nil {
		return 0, err
	}
	start, end := exactly(stored)
	return ns.removeRange(ctx, start, end)
}

// DeleteName is Namespace.DeleteName in one transaction: ErrTooLarge above
// 16 MiB of keys.
func (t *Txn) DeleteName(name []byte) (int, error) {
	stored, err := storedName(name)
	if err != nil {
		return 0, err
	}
	return t.removeRange(exactly(stored))
}

// exactly returns the range of what lies under one stored name: itself and
// whatever follows it behind a mark, but no longer names.
func exactly(stored []byte) (start, end []byte) {
	return stored, append(bytes.Clone(stored), 0x00, 0xFF)
}

// removeRange removes what lies in a range of stored keys, in batches.
func (ns *Namespace) removeRange(ctx context.Context, start, end []byte) (changed int, err error) {
	for {
		keys, err := ns.removable(ctx, start, end)
		if err != nil || len(keys) == 0 {
			return changed, err
		}
		n := 0
		err = ns.Update(ctx, func(t *Txn) error {
			for _, key := range keys {
				s, err := t.siblings(key)
				if err != nil {
					return err
				}
				removed, err := t.remove(key, s)
				if err != nil {
					return err
				}
				if removed {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return changed, err
		}
		changed += n
		start = append(keys[len(keys)-1], 0)
	}
}

// removable returns the first keys of a range that hold something to remove.
func (ns *Namespace) removable(ctx context.Context, start, end []byte) (keys [][]byte, err error) {
	err = ns.view(ctx, func(src source) error {
		return each(ctx, src, start, end, func(key []byte, s crdt.Siblings) bool {
			if _, _, ok := removal(key, s); ok {
				keys = append(keys, bytes.Clone(key))
			}
			return len(keys) < removeBatch
		})
	})
	return keys, err
}

// removeRange removes what lies in a range of stored keys.
func (t *Txn) removeRange(start, end []byte) (changed int, err error) {
	err = t.update(t.ctx, func(*Txn) error {
		var failed error
		err := each(t.ctx, t, start, end, func(key []byte, s crdt.Siblings) bool {
			var removed bool
			if removed, failed = t.remove(key, s); removed {
				changed++
			}
			return failed == nil
		})
		return errors.Join(err, failed)
	})
	return changed, err
}

// remove takes away what a stored key with these siblings holds.
func (t *Txn) remove(key []byte, s crdt.Siblings) (removed bool, err error) {
	kind, value, ok := removal(key, s)
	if !ok {
		return false, nil
	}
	return true, t.set(key, kind, value, nil, false)
}

// removal returns the write that takes away what a stored key holds, and
// whether there is anything.
func removal(key []byte, s crdt.Siblings) (kind crdt.Kind, value []byte, ok bool) {
	_, rest, _ := crdt.SplitName(key) // nothing behind a malformed name
	switch leafMark(rest) {
	case crdt.MarkCounter:
		if mutant("plain delete of counters") {
			return crdt.Delete, nil, len(s.Live()) > 0
		}
		slot := crdt.FoldSlot(s)
		return crdt.Count, slot.Reset().Append(nil), !slot.IsFloored()
	case crdt.MarkRemSet:
		return crdt.Remove, nil, crdt.InRemoveWins(s)
	}
	return crdt.Delete, nil, len(s.Live()) > 0
}
