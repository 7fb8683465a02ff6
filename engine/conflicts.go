package engine

import (
	"context"
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// Conflicts yields the registers under a prefix that hold more than one value
// side by side, in order, with all their siblings. It stops at the first error.
// O(conflicts): they are indexed. A Put, or a PutIf with the record's token,
// resolves a conflict on every replica.
func (ns *Namespace) Conflicts(ctx context.Context, prefix []byte) iter.Seq2[Record, error] {
	return sequence(func(yield func(Record) bool) error {
		return ns.view(ctx, func(src source) error {
			rd := src.(*reading).rd
			for key := range rd.Conflicts(rangeOf(prefix)) {
				name, rest, err := crdt.SplitName(key)
				if err != nil {
					return &replica.Damage{Err: fmt.Errorf("conflict index: %w", ErrCorrupt)}
				}
				if _, _, composite := crdt.SplitMark(rest); composite {
					continue // a map's field: its map shows it
				}
				s, err := rd.Siblings(key)
				if err != nil {
					return err
				}
				r := newRecord(src, name, s)
				if !r.Conflict() {
					return &replica.Damage{Err: fmt.Errorf("conflict index: key without conflict: %w", ErrCorrupt)}
				}
				if !yield(r) {
					return nil
				}
			}
			return nil
		})
	})
}
