package engine

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"bzzz/crdt"
)

// VersionSet is the live versions of a namespace below a prefix at one moment:
// what a copy of that state is made of. It pins that state in the store until
// Release. Not safe for concurrent use.
type VersionSet struct {
	view   *syncView
	prefix []byte
}

// VersionSet returns the versions of the names that begin with prefix, of
// composites under them too; of the whole namespace, its own records included,
// if prefix is empty. What is in it is durable. O(replicas).
func (ns *Namespace) VersionSet(ctx context.Context, prefix []byte) (*VersionSet, error) {
	if err := ns.db.usable(ctx); err != nil {
		return nil, err
	}
	snap, err := (&host{db: ns.db, ctx: ctx}).Snapshot(ns.name)
	if err != nil {
		return nil, err
	}
	return &VersionSet{snap.(*syncView), crdt.AppendName(nil, prefix)}, nil
}

// Prefix returns what the stored keys in the set begin with.
func (s *VersionSet) Prefix() []byte { return s.prefix }

// Clock returns the versions that the namespace knew, live and dead, beyond
// the prefix too.
func (s *VersionSet) Clock() crdt.Clock { return s.view.Clock() }

// Bound returns how many versions the set has at most: those of the whole
// namespace. O(1).
func (s *VersionSet) Bound() uint64 {
	c := s.view.Counts()
	return c.Versions + c.Tombstones
}

// All yields the versions, tombstones included, by stored key and then by
// digest: the same ones in the same order each time, and on every node that has
// them. Each is verified; it stops at the first error, ErrCorrupt for a damaged
// version. Versions hold until Release and must not be changed. O(versions).
func (s *VersionSet) All(ctx context.Context) iter.Seq2[*crdt.Version, error] {
	return sequence(func(yield func(*crdt.Version) bool) error {
		looked := 0
		for _, e := range s.view.Heads(s.prefix, crdt.PrefixEnd(s.prefix)) {
			if looked++; looked%scanStride == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			siblings, err := e.Siblings()
			if err != nil {
				return err
			}
			if len(siblings) > 1 {
				siblings = byDigest(siblings)
			}
			for _, v := range siblings {
				if !yield(v) {
					return nil
				}
			}
		}
		return s.view.Err()
	})
}

// byDigest returns siblings by rising digest.
func byDigest(s crdt.Siblings) crdt.Siblings {
	digests := make(map[*crdt.Version][32]byte, len(s))
	for _, v := range s {
		digests[v] = v.Digest()
	}
	slices.SortFunc(s, func(a, b *crdt.Version) int {
		da, db := digests[a], digests[b]
		return bytes.Compare(da[:], db[:])
	})
	return s
}

// Release lets the state go. It is idempotent.
func (s *VersionSet) Release() { s.view.Release() }

// ApplyReport is what ApplyVersions did.
type ApplyReport struct {
	New       int `json:"new"`       // were not known
	Known     int `json:"known"`     // were known, live or superseded
	Repaired  int `json:"repaired"`  // had been taken by damage
	Conflicts int `json:"conflicts"` // stand beside others of their key now
	Forks     int `json:"forks"`     // had a dot that another version has: an alarm
}

// ApplyVersions takes in versions that were written elsewhere, as a peer's: in
// one durable transaction, under their own dots, ignoring what is known, merged
// with what is newer. No clock is adopted: of what the versions superseded
// elsewhere this node learns nothing. An invalid one fails them all, and so do
// keys and values of more than 16 MiB together (ErrTooLarge). Where many
// are to come, give them in the order of their dots: in another order the clock
// falls into as many runs as there are versions until the gaps close.
func (ns *Namespace) ApplyVersions(ctx context.Context, versions []*crdt.Version) (ApplyReport, error) {
	size := 0
	for _, v := range versions {
		if err := v.Validate(); err != nil {
			return ApplyReport{}, err
		}
		if size += len(v.Key) + len(v.Value); size > crdt.MaxBatch {
			return ApplyReport{}, fmt.Errorf("versions of more than %d bytes in one transaction: %w", crdt.MaxBatch, ErrTooLarge)
		}
	}
	sum, err := (&host{db: ns.db, ctx: ctx}).Apply(ns.name, versions, nil)
	if err != nil {
		return ApplyReport{}, err
	}
	return ApplyReport{New: sum.New, Known: sum.Known, Repaired: sum.Repaired, Conflicts: sum.Conflicts, Forks: sum.Forks}, nil
}
