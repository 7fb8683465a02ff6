package session

import (
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// fixOf replaces a FIX.
func fixOf(z *wire.Zstd, change func(m *wire.Fix)) func([]byte) []wire.Frame {
	return func(p []byte) []wire.Frame {
		m, err := wire.DecodeFix(p, z)
		must(err)
		change(&m)
		return frame1(wire.TypeFix, m.Append(nil, z))
	}
}

// live returns how many versions of a namespace are live, tombstones included.
func (n *node) live(name string) (count int) {
	snap, err := n.Snapshot(name)
	must(err)
	defer snap.Release()
	for _, err := range snap.Missing(crdt.NewClock(), func(crdt.Dot) {}) {
		must(err)
		count++
	}
	return count
}

// A peer that claims everything to be dead (FAILURES, mass erasure): the brake
// holds and no key is lost. Where it may drop so many, what was live is dropped
// and counted, no more; the claim touches nothing that was never seen.
func TestClaimOfEverything(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	for _, fromA := range []bool{true, false} {
		for _, brake := range []int{0, 5, 36, 1000} {
			a, b := base1.clone(), base2.clone()
			victim := a
			if fromA {
				victim = b
			}
			victim.brake = brake
			before, keys := victim.clock("ns"), victim.live("ns")
			claims := 0
			l := lie(a, b, fromA, wire.TypeFix, fixOf(a.w.zstd, func(m *wire.Fix) {
				claims++
				m.Dead, m.Rest = huge(before.Replicas()...), false
			}))
			r := l.a.s.Report().Namespaces[0]
			if fromA {
				r = l.b.s.Report().Namespaces[0]
			}
			name := fmt.Sprintf("liar is a: %v, brake %d", fromA, brake)
			if claims == 0 {
				t.Fatalf("%s: no FIX was sent", name)
			}
			left := victim.live("ns")
			if brake < keys {
				if r.Held == nil || r.Applied.Dropped != 0 || left < keys {
					t.Errorf("%s: %d of %d versions are left, report %+v", name, left, keys, r)
				}
			} else if r.Applied.Dropped == 0 || r.Applied.Dropped > keys || r.Applied.Dropped+left < keys {
				t.Errorf("%s: %d of %d are left, %d were counted", name, left, keys, r.Applied.Dropped)
			}
			if n := victim.clock("ns").Minus(before); n.Count() > 10 {
				t.Errorf("%s: the claim brought %d dots into the clock", name, n.Count())
			}
			if brake < keys {
				if _, err := together(a.clone(), b.clone()); err != nil {
					t.Errorf("%s: honest session: %v", name, err)
				}
			}
		}
	}
}

// What a FIX or an OFFER says of versions that nobody has changes nothing, and
// who wants everything gets what there is.
func TestClaimsOfStrangers(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	z := base1.w.zstd
	strangers := huge()
	few := crdt.NewClock()
	few.AddRange(crdt.ReplicaID{77, 1}, 5, 5000)
	lies := map[string]struct {
		typ wire.Type
		lie func([]byte) []wire.Frame
	}{
		"strangers are dead": {wire.TypeFix, fixOf(z, func(m *wire.Fix) { m.Dead.Merge(strangers) })},
		"strangers wanted":   {wire.TypeFix, fixOf(z, func(m *wire.Fix) { m.Want.Merge(strangers) })},
		"everything wanted":  {wire.TypeFix, fixOf(z, func(m *wire.Fix) { m.Want = huge(base1.clock("ns").Replicas()...) })},
		"strangers offered": {wire.TypeOffer, func(p []byte) []wire.Frame {
			m, err := wire.DecodeOffer(p, z)
			must(err)
			m.Dots.Merge(few)
			return frame1(wire.TypeOffer, m.Append(nil, z))
		}},
	}
	for name, tt := range lies {
		for _, fromA := range []bool{true, false} {
			a, b := base1.clone(), base2.clone()
			lied := 0
			l := lie(a, b, fromA, tt.typ, func(p []byte) []wire.Frame {
				lied++
				return tt.lie(p)
			})
			err := errors.Join(l.a.err, l.b.err)
			if errors.Is(err, errs.ErrInvalid) { // refused: an honest session makes up for it
				_, _, err = sync(a, b)
			}
			if err = errors.Join(err, keysOfApart(a, b), inSync(a, b, "ns")); err != nil || lied == 0 {
				t.Errorf("%s, from a %v, %d lies: %v", name, fromA, lied, err)
			}
			if a.clock("ns").Has(crdt.Dot{Replica: crdt.ReplicaID{77, 1}, Seq: 5}) {
				t.Errorf("%s: a stranger's dot is in the clock", name)
			}
		}
	}
}

// What a DONE of a comparison may bring into the clock: no jump beyond 2^40 of
// a clock or of gone marks. Dots of strangers are taken, since members are
// trusted (K5), and our own future makes us take another id (K2).
func TestAdoptionOfLies(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	z := base1.w.zstd
	self := crdt.ReplicaID{2, 1}
	set := func(id crdt.ReplicaID, lo, hi uint64) crdt.Clock {
		c := crdt.NewClock()
		c.AddRange(id, lo, hi)
		return c
	}
	stranger := crdt.ReplicaID{77, 1}
	lies := map[string]struct {
		adopt, gone crdt.Clock
		want        error
		forked      bool
	}{
		"of strangers":          {set(stranger, 1, 100), set(stranger, 1, 50), nil, false},
		"of our own future":     {set(self, 1, 60), crdt.NewClock(), nil, true},
		"beyond 2^40":           {set(stranger, 1<<41, 1<<41), crdt.NewClock(), errs.ErrInvalid, false},
		"more than 2^40":        {set(stranger, 1, 1<<41), crdt.NewClock(), errs.ErrInvalid, false},
		"gone marks beyond all": {crdt.NewClock(), set(self, 1, crdt.MaxSeq), errs.ErrInvalid, false},
		"everything":            {huge(self), huge(self), errs.ErrInvalid, false},
	}
	for name, tt := range lies {
		a, b := base1.clone(), base2.clone()
		before := b.clock("ns")
		repaired := false
		l := newLink(a, b, Config{})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			repaired = repaired || f.Type == wire.TypeFix
			if repaired && fromA && f.Type == wire.TypeDone {
				m, err := wire.DecodeDone(f.Payload, z)
				must(err)
				m.Adopt, m.Gone = tt.adopt, tt.gone
				f.Payload = m.Append(nil, z)
			}
			return []wire.Frame{f}
		}
		_ = l.start()
		l.close()
		if !repaired || !errors.Is(l.b.err, tt.want) || (l.b.err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", name, l.b.err, tt.want)
		}
		if got := b.spaces["ns"].Forked(); got != tt.forked {
			t.Errorf("%s: forked %v, want %v", name, got, tt.forked)
		}
		if tt.want != nil && b.clock("ns").Minus(before).Count() > 0 {
			t.Errorf("%s: refused and in the clock", name)
		}
		if err := noneLost(a, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a CHECK says costs comparisons, a bounded number of them, whatever comes
// of it: roots that differ for ever, flags, no root at all.
func TestLiesOfCheck(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	lies := map[string]func(m *wire.Check, n byte){
		"another root each time": func(m *wire.Check, n byte) { m.Root[3] = n },
		"a clock of nobody":      func(m *wire.Check, n byte) { m.Clock[3] = n },
		"always behind":          func(m *wire.Check, _ byte) { m.Behind = true },
		"always broken":          func(m *wire.Check, _ byte) { m.Broken = true },
		"no root":                func(m *wire.Check, _ byte) { m.Root = [32]byte{} },
		"all of it":              func(m *wire.Check, n byte) { m.Root[0], m.Clock[0], m.Behind, m.Broken = n, n, true, true },
	}
	for name, change := range lies {
		for _, fromA := range []bool{true, false} {
			a, b := base1.clone(), base2.clone()
			n := byte(0)
			l := lie(a, b, fromA, wire.TypeCheck, func(p []byte) []wire.Frame {
				m, err := wire.DecodeCheck(p)
				must(err)
				n++
				change(&m, n)
				return frame1(wire.TypeCheck, m.Append(nil))
			})
			what := fmt.Sprintf("%s, from a %v", name, fromA)
			for _, r := range []Report{l.a.s.Report(), l.b.s.Report()} {
				if r.Namespaces[0].Rounds > maxRounds {
					t.Errorf("%s: %d comparisons", what, r.Namespaces[0].Rounds)
				}
			}
			r := l.a.s.Report().Namespaces[0]
			if fromA {
				r = l.b.s.Report().Namespaces[0]
			}
			if e := inSync(a, b, "ns"); r.InSync && e != nil {
				t.Errorf("%s: taken for agreement: %v", what, e)
			}
			if err := noneLost(a, b); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := together(a.clone(), b.clone()); err != nil {
				t.Errorf("%s: honest session: %v", what, err)
			}
		}
	}
}
