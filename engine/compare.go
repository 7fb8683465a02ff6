package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session"
	"bzzz/engine/session/wire"
	"bzzz/merkle"
)

// Why says why one side does not hold a version that the other shows.
type Why string

// The reasons.
const (
	WhyUnseen     Why = "missing"    // it has not seen it: the next sync brings it
	WhySuperseded Why = "superseded" // it has a newer version that replaces it
	WhyDeleted    Why = "deleted"    // it holds a delete that replaces it
	WhyCollected  Why = "collected"  // it knows it to be dead and no longer why
	WhyLost       Why = "lost"       // it has seen it, and damage took it: a sync brings it back
)

// KeyDifference is a key that two stores do not show alike. A key may be listed
// with several reasons, since several versions may stand side by side.
type KeyDifference struct {
	Key        []byte // the name; of an element of a composite the composite's
	Stored     []byte // as stored
	OnlyA      []Why  // for each version that only a shows: why b does not
	OnlyB      []Why  // and the other way round
	Concurrent bool   // both show versions that the other has not seen: a conflict after a sync
}

// Comparison says whether two stores agree on a namespace.
type Comparison struct {
	A, B      State
	SameRoot  bool
	SameClock bool
	Agree     bool   // both: the two hold the same
	AtoB      int64  // bytes that a sync would send, without the differences of deletes
	BtoA      int64  //
	Keys      uint64 // stored keys that differ
}

// Compare compares this namespace with another store's, without changing
// either: which keys differ and why, and what a sync would move. each is called
// for every key that differs, in byte order; an error of it ends the comparison
// and is returned. O(differences log n), besides the cost of State.
func (ns *Namespace) Compare(ctx context.Context, other *Namespace, each func(KeyDifference) error) (Comparison, error) {
	if ns.name != other.name {
		return Comparison{}, fmt.Errorf("namespaces %q and %q: roots of different namespaces say nothing: %w", ns.name, other.name, ErrInvalid)
	}
	var out Comparison
	err := ns.withTree(ctx, func(va *replica.View, ta *replica.Tree) error {
		return other.withTree(ctx, func(vb *replica.View, tb *replica.Tree) error {
			out.A, out.B = State{ta.Root(), va.Clock()}, State{tb.Root(), vb.Clock()}
			out.SameRoot = out.A.Root == out.B.Root
			out.SameClock = out.A.Clock.Equal(out.B.Clock) && va.Gone().Equal(vb.Gone())
			out.Agree = out.SameRoot && out.SameClock
			for d, err := range merkle.Diff(ta.Index, tb.Index) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
				out.Keys++
				k, err := explain(bytes.Clone(d.Key), va, vb)
				if err == nil {
					err = each(k)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil || out.SameClock {
		return out, err
	}
	if out.AtoB, err = ns.sizeOfSync(ctx, out.B.Clock); err == nil {
		out.BtoA, err = other.sizeOfSync(ctx, out.A.Clock)
	}
	return out, err
}

// explain says why a stored key differs.
func explain(key []byte, va, vb *replica.View) (KeyDifference, error) {
	out := KeyDifference{Key: outerName(key), Stored: key}
	a, err := va.Siblings(key)
	if err != nil {
		return out, err
	}
	b, err := vb.Siblings(key)
	if err != nil {
		return out, err
	}
	if out.OnlyA, err = reasons(a, b, vb); err != nil {
		return out, err
	}
	if out.OnlyB, err = reasons(b, a, va); err != nil {
		return out, err
	}
	unseen := func(list []Why) bool {
		for _, w := range list {
			if w == WhyUnseen {
				return true
			}
		}
		return false
	}
	out.Concurrent = unseen(out.OnlyA) && unseen(out.OnlyB)
	return out, nil
}

// reasons says for each value among mine that theirs lacks why v, the view of
// theirs, does not show it.
func reasons(mine, theirs crdt.Siblings, v *replica.View) ([]Why, error) {
	var out []Why
	for _, m := range mine {
		if m.Kind == crdt.Delete || holdsDot(theirs, m.Dot) {
			continue
		}
		dot := crdt.ClockOf(m.Dot.Replica, crdt.NewSeqSet(crdt.Interval{Lo: m.Dot.Seq, Hi: m.Dot.Seq}))
		dead, err := v.DeadWithin(dot)
		switch {
		case err != nil:
			return nil, err
		case !dead.IsEmpty():
			out = append(out, whyDead(m, theirs))
		case v.Clock().Has(m.Dot) || v.Unknown().Has(m.Dot):
			out = append(out, WhyLost)
		default:
			out = append(out, WhyUnseen)
		}
	}
	return out, nil
}

func holdsDot(s crdt.Siblings, d crdt.Dot) bool {
	for _, v := range s {
		if v.Dot == d {
			return true
		}
	}
	return false
}

// whyDead says what made a version dead.
func whyDead(m *crdt.Version, theirs crdt.Siblings) Why {
	why := WhyCollected
	for _, t := range theirs {
		if t.Covers(m.Dot) {
			if t.Kind != crdt.Delete {
				return WhySuperseded
			}
			why = WhyDeleted
		}
	}
	return why
}

// sizeOfSync returns the bytes of what this namespace would send to a peer of
// that clock.
func (ns *Namespace) sizeOfSync(ctx context.Context, have crdt.Clock) (int64, error) {
	snap, err := (&host{db: ns.db, ctx: ctx}).Snapshot(ns.name)
	if err != nil {
		return 0, err
	}
	defer snap.Release()
	sum, _, err := session.WriteBundle(io.Discard, ns.name, snap, ns.db.epoch, have, wire.NewZstd())
	return sum.Bytes, err
}
