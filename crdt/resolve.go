package crdt

import (
	"fmt"
	"maps"
	"slices"
)

// A Resolver folds the concurrent values of a register to what a reader sees.
// It gets at least one version, all of kind Put, from the winner of Before to
// the first loser, and returns those whose values are shown, the main one
// first. It must be pure and deterministic: every replica runs it on the same
// siblings and must show the same. It returns elements of its input, or
// versions made up from them (a merge), which then have no dot. Of a large value
// it gets the link (Blob) alone: Value is nil.
type Resolver func(concurrent Siblings) Siblings

// LWW shows the last writer's value: the greatest time, then replica, then
// digest. The others stay readable as conflicts.
func LWW(concurrent Siblings) Siblings { return concurrent[:1] }

// MV shows all concurrent values.
func MV(concurrent Siblings) Siblings { return concurrent }

// Resolvers maps names, as they stand in a namespace's replicated records, to
// resolvers. An unknown name shows MV, so that nothing is hidden.
type Resolvers map[string]Resolver

// BuiltinResolvers returns "lww" and "mv".
func BuiltinResolvers() Resolvers { return Resolvers{"lww": LWW, "mv": MV} }

// With returns the resolvers joined with others; ErrInvalid for a name that is
// taken or empty.
func (r Resolvers) With(others Resolvers) (Resolvers, error) {
	out := maps.Clone(r)
	for name, f := range others {
		if _, taken := out[name]; taken || name == "" || f == nil {
			return nil, fmt.Errorf("resolver %q: %w: name taken or empty", name, ErrInvalid)
		}
		out[name] = f
	}
	return out, nil
}

// Get returns the resolver of that name, MV if it is unknown.
func (r Resolvers) Get(name string) Resolver {
	if f := r[name]; f != nil {
		return f
	}
	return MV
}

// View is what a reader sees of one key.
type View struct {
	// Shown are the versions whose values are shown, the main one first; empty
	// if the key is absent.
	Shown Siblings
	// Siblings are all of them, tombstones included, winner first.
	Siblings Siblings
	// Mixed reports that values of several kinds stand side by side, of which
	// only the highest kind is folded.
	Mixed bool

	values int // siblings that are neither tombstones nor expired
}

// Value returns the main value and whether the key is present.
func (w View) Value() ([]byte, bool) {
	if len(w.Shown) == 0 {
		return nil, false
	}
	return w.Shown[0].Value, true
}

// Concurrent reports whether more than one value stands side by side, expired
// ones aside.
func (w View) Concurrent() bool { return w.values > 1 }

// Fold returns what a reader sees at a moment (milliseconds since 1970), which
// hides versions that expired before it. A concurrent put beats a delete: a
// tombstone is never shown and hides nothing it does not cover.
func Fold(s Siblings, resolve Resolver, nowMillis int64) View {
	w := View{Siblings: s.Sorted()}
	live := slices.DeleteFunc(w.Siblings.Live(), func(v *Version) bool {
		e := v.Expiry()
		return e != 0 && e <= nowMillis
	})
	if len(live) == 0 {
		return w
	}
	top := live[0].Kind
	n := len(live)
	w.values = n
	for i, v := range live {
		if v.Kind != top {
			w.Mixed, n = true, i
			break
		}
	}
	live = live[:n:n]
	switch top {
	case Put:
		w.Shown = resolve(live)
	case Max, Min:
		w.Shown = Siblings{extreme(live, top)}
	default:
		w.Shown = live
	}
	return w
}

// Token is the digest of a set of siblings that a conditional write compares:
// the SHA-256 of their sorted digests, of nothing for an absent key.
func (s Siblings) Token() [32]byte {
	digests := make([][32]byte, len(s))
	for i, v := range s {
		digests[i] = v.Digest()
	}
	return TokenOf(digests)
}
