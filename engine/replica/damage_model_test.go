package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// noteLost marks what a node finds it has lost, as verify and sessions do, and
// returns it.
func (n *node) noteLost(lost crdt.Clock) {
	n.t.Helper()
	if !lost.IsEmpty() {
		n.must(n.batch(func(b *Batch) error { return b.MarkUnknown(lost) }))
	}
}

// listLive is liveDots for a node that damage may have hit: what it cannot read
// it notes as lost.
func (n *node) listLive() crdt.Clock {
	n.t.Helper()
	live, lost := crdt.NewClock(), crdt.NewClock()
	n.view(func(v *View) {
		for ver, err := range v.Missing(crdt.NewClock(), lost.Add) {
			n.must(err)
			live.Add(ver.Dot)
		}
	})
	n.noteLost(lost)
	return live
}

// pullDamaged is a whole session between nodes that damage may have hit
// (KERNEL K3): what o lost is adopted by nobody, and where o finds that it lost
// what n holds, n adopts nothing.
func (m *model) pullDamaged(n, o *node, tier3 bool) {
	m.t.Helper()
	o.listLive()
	live := n.listLive()
	have := n.clock()
	x := exchange{tier3: tier3, adopt: crdt.NewClock(), gone: crdt.NewClock(), claim: crdt.NewClock()}
	lost := crdt.NewClock()
	o.view(func(v *View) {
		for ver, err := range v.Missing(have, lost.Add) {
			m.must(err)
			c, err := crdt.DecodeCanonical(ver.AppendCanonical(nil))
			m.must(err)
			x.stream = append(x.stream, c)
		}
		rest := v.Clock().Minus(have).Minus(dotsOf(x.stream...))
		adopt, err := v.DeadWithin(rest)
		m.must(err)
		lost.Merge(rest.Minus(adopt))
		for _, r := range v.Gone().Replicas() {
			x.tier3 = x.tier3 || have.Base(r) < v.Gone().Of(r).Max()
		}
		if !x.tier3 {
			x.adopt, x.gone = adopt, v.Gone().Clone()
			return
		}
		x.claim, err = v.DeadWithin(live)
		m.must(err)
		held := crdt.NewClock()
		for ver, err := range v.Missing(crdt.NewClock(), func(crdt.Dot) {}) {
			m.must(err)
			held.Add(ver.Dot)
		}
		missing := live.Meet(v.Clock()).Minus(x.claim).Minus(held)
		if lost.Merge(missing); missing.IsEmpty() {
			x.adopt, x.gone = adopt, v.Gone().Clone()
		}
	})
	o.noteLost(lost)
	n.take(x)
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// hit damages something of a live version that another node holds as well, so
// that nothing is lost for good. It reports whether it found one.
func (m *model) hit() bool {
	n := m.any()
	elsewhere := crdt.NewClock()
	for _, o := range m.nodes {
		if o != n {
			elsewhere.Merge(o.listLive())
		}
	}
	var found []*crdt.Version
	for _, v := range m.list {
		if elsewhere.Has(v.Dot) && n.listLive().Has(v.Dot) && v.Kind != crdt.Delete {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return false
	}
	v := found[m.rng.IntN(len(found))]
	if m.rng.IntN(2) == 0 {
		n.damageRecord(v)
		return true
	}
	n.must(n.kv.Update(func(tx store.Tx) error { return tx.Bucket(n.r.names.heads).Put(v.Key, []byte("damaged")) }))
	return true
}

// readable returns the live versions of a key, none and false if damage hides
// them.
func (n *node) readable(key string) (out crdt.Siblings, ok bool) {
	n.t.Helper()
	n.view(func(v *View) {
		s, err := v.Siblings([]byte(key))
		if ok = !errors.Is(err, ErrCorrupt); ok {
			n.must(err)
		}
		for _, ver := range s.Live() {
			c, err := crdt.DecodeCanonical(ver.AppendCanonical(nil))
			n.must(err)
			out = append(out, c)
		}
	})
	return out, ok
}

// TestDamageDeletesNothing runs random histories in which records and heads of
// live versions are damaged, with collections, claims and adoptions in between.
// Nothing that somebody holds is lost, and in the end all agree with the fold
// of everything that was written.
func TestDamageDeletesNothing(t *testing.T) {
	t.Parallel()
	histories := uint64(600)
	if testing.Short() || raceEnabled {
		histories = 60
	}
	hits := 0
	for seed := range histories {
		ok := t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			m := newModel(t, seed+1000, false)
			for range 30 {
				n := m.any()
				key := string(rune('a' + m.rng.IntN(3)))
				_, readable := n.readable(key)
				switch m.rng.IntN(8) {
				case 0, 1:
					if readable {
						m.wrote(n.write(key, crdt.Put, fmt.Sprint(len(m.list))))
					}
				case 2:
					if readable {
						m.wrote(n.write(key, crdt.Delete, ""))
					}
				case 3:
					n.collect(math.MaxUint64, 2)
				case 4:
					if m.hit() {
						hits++
					}
				case 5:
					n.reopen()
				default:
					m.pullDamaged(n, m.any(), m.rng.IntN(4) == 0)
				}
			}
			m.heal()
		})
		if !ok {
			return
		}
	}
	if hits < int(histories)/2 {
		t.Errorf("%d histories saw %d hits: they test too little", histories, hits)
	}
}

// heal lets everybody be scrubbed, verify and meet everybody, and compares with
// the fold of all versions.
func (m *model) heal() {
	m.t.Helper()
	for range 4 {
		for _, n := range m.nodes {
			n.scrub(1 + m.rng.IntN(50))
			lost := crdt.NewClock()
			n.view(func(v *View) {
				m.must(v.Verify(func(p Problem) {
					if p.Lost {
						lost.Add(p.Dot)
					}
				}, func(int) error { return nil }))
			})
			n.noteLost(lost)
		}
		for _, n := range m.nodes {
			for _, o := range m.nodes {
				m.pullDamaged(n, o, true)
			}
		}
	}
	for key, versions := range m.all {
		want := crdt.Maximal(versions).Live().Sorted()
		for _, n := range m.nodes {
			got, ok := n.readable(key)
			if !ok || !slices.EqualFunc(want, got.Sorted(), sameDot) {
				m.t.Fatalf("node %s, key %s: shows %v (readable: %t), want %v", n.r.Self().Short(), key, dotNames(got), ok, dotNames(want))
			}
		}
	}
	for _, n := range m.nodes {
		if n.root() != m.nodes[0].root() || !n.clock().Equal(m.nodes[0].clock()) {
			m.t.Fatal("roots or clocks differ after everything healed")
		}
	}
}
