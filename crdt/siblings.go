package crdt

import (
	"slices"
)

// Siblings are the versions of one key that no other seen version of it
// supersedes, tombstones included. Their order carries no meaning.
type Siblings []*Version

// Apply merges a version into the siblings (KERNEL rule K2, steps 2 and 3,
// for a dot that was not seen before): what v covers leaves, v joins unless a
// sibling covers it. It returns the new siblings and those that left; the
// receiver is not changed. O(siblings x context).
//
// Apply is commutative, associative and idempotent over the set of versions
// applied, in any order, as long as their contexts keep rule K1: package
// crdttest checks it against the definition. A context that leaves out what
// its parents cover, which only a liar writes, makes the result depend on the
// order.
func (s Siblings) Apply(v *Version) (next, superseded Siblings) {
	covered := false
	for _, o := range s {
		if o.Dot == v.Dot {
			return s, nil
		}
		covered = covered || o.Covers(v.Dot)
	}
	for _, o := range s {
		if v.Covers(o.Dot) {
			superseded = append(superseded, o)
		} else {
			next = append(next, o)
		}
	}
	if !covered {
		next = append(next, v)
	}
	return next, superseded
}

// Maximal returns the versions of one key that no other of them covers: what
// Apply leaves of them in any order. It is the definition, O(n^2).
func Maximal(versions []*Version) Siblings {
	var out Siblings
	for _, v := range versions {
		if slices.ContainsFunc(out, func(o *Version) bool { return o.Dot == v.Dot }) {
			continue
		}
		if !slices.ContainsFunc(versions, func(o *Version) bool { return o.Dot != v.Dot && o.Covers(v.Dot) }) {
			out = append(out, v)
		}
	}
	return out
}

// Sorted returns the siblings from the winner to the first loser: by kind,
// then by Before.
func (s Siblings) Sorted() Siblings {
	out := slices.Clone(s)
	slices.SortFunc(out, func(a, b *Version) int {
		switch {
		case a.Kind != b.Kind:
			return int(b.Kind) - int(a.Kind)
		case a.Dot == b.Dot:
			return 0
		case b.Before(a):
			return -1
		}
		return 1
	})
	return out
}

// Live returns the siblings that are not tombstones.
func (s Siblings) Live() Siblings {
	out := make(Siblings, 0, len(s))
	for _, v := range s {
		if v.Kind != Delete {
			out = append(out, v)
		}
	}
	return out
}
