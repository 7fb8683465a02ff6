package replica

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/crdt"
)

// exchange is one direction of a sync as KERNEL K3-K8 have it, in the test's
// own words: what n takes from one snapshot of o.
type exchange struct {
	stream []*crdt.Version
	adopt  crdt.Clock
	gone   crdt.Clock
	claim  crdt.Clock // what o knows to be dead of what is live at n
	tier3  bool
}

// liveDots lists what is live at n, tombstones included.
func (n *node) liveDots() crdt.Clock {
	n.t.Helper()
	out := crdt.NewClock()
	n.view(func(v *View) {
		for ver, err := range v.Missing(crdt.NewClock(), func(crdt.Dot) { n.t.Error("lost version") }) {
			n.must(err)
			out.Add(ver.Dot)
		}
	})
	return out
}

// ask prepares what n takes from o. check asks for tier 3 even where the gone
// marks do not: what unequal roots at equal clocks lead to.
func (n *node) ask(o *node, check bool) exchange {
	n.t.Helper()
	have, live := n.clock(), n.liveDots()
	x := exchange{tier3: check}
	o.view(func(v *View) {
		rest := v.Clock().Minus(have)
		for ver, err := range v.Missing(have, func(crdt.Dot) { n.t.Error("lost version") }) {
			n.must(err)
			c, err := crdt.DecodeCanonical(ver.AppendCanonical(nil))
			n.must(err)
			x.stream = append(x.stream, c)
		}
		rest = rest.Minus(dotsOf(x.stream...))
		var err error
		x.adopt, err = v.DeadWithin(rest)
		n.must(err)
		if !x.adopt.Equal(rest) {
			n.t.Fatal("dots that are neither live nor dead at an undamaged sender")
		}
		x.gone = v.Gone().Clone()
		for _, r := range x.gone.Replicas() {
			x.tier3 = x.tier3 || have.Base(r) < x.gone.Of(r).Max()
		}
		x.claim, err = v.DeadWithin(live)
		n.must(err)
	})
	return x
}

// take applies an exchange in one batch.
func (n *node) take(x exchange) (dropped Dropped) {
	n.t.Helper()
	n.must(n.batch(func(b *Batch) error {
		if _, err := b.Apply(x.stream); err != nil {
			return err
		}
		if _, err := b.Adopt(x.adopt, x.gone); err != nil || !x.tier3 {
			return err
		}
		var err error
		dropped, err = b.Drop(x.claim, crdt.ReplicaID{})
		return err
	}))
	return dropped
}

// collect runs a whole collection that keeps nothing.
func (n *node) collect(until uint64, limit int) (sum Collected) {
	n.t.Helper()
	keepNothing := Retention{Since: crdt.MaxHLC, Tombstones: crdt.MaxHLC}
	var next []byte
	for first := true; first || next != nil; first = false {
		n.must(n.batch(func(b *Batch) error {
			part, err := b.Collect(next, keepNothing, until, limit)
			sum.Keys += part.Keys
			sum.Tombstones += part.Tombstones
			sum.Removed += part.Removed
			sum.Records += part.Records
			sum.Bytes += part.Bytes
			next = part.Next
			return err
		}))
	}
	return sum
}

// model is a random history over some nodes, and every version written in it.
type model struct {
	t     *testing.T
	rng   *rand.Rand
	nodes []*node
	all   map[string][]*crdt.Version
	list  []*crdt.Version
	// exact: clocks move only together with the state they stand for, so that
	// the state is a function of the clock at every step. Else a session may be
	// cut between a drop and the adoption, which hides more, never less.
	exact  bool
	counts map[string]int
}

func newModel(t *testing.T, seed uint64, exact bool) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 11)), all: map[string][]*crdt.Version{}, exact: exact, counts: map[string]int{}}
	for i := range 2 + m.rng.IntN(3) {
		m.nodes = append(m.nodes, newNode(t, byte(i+1)))
	}
	return m
}

func (m *model) any() *node { return m.nodes[m.rng.IntN(len(m.nodes))] }

func (m *model) step() {
	n, rng := m.any(), m.rng
	n.now += crdt.HLC(rng.IntN(3)) << 16
	key := string(rune('a' + rng.IntN(3)))
	switch rng.IntN(12) {
	case 0, 1:
		m.wrote(n.write(key, crdt.Put, fmt.Sprint(len(m.list))))
	case 2, 3:
		m.wrote(n.write(key, crdt.Delete, ""))
	case 4, 5:
		got := n.collect(math.MaxUint64, 1+rng.IntN(3))
		m.counts["tombstones collected"] += got.Tombstones
		m.counts["records collected"] += got.Records
	case 6:
		if len(m.list) > 0 { // a push that arrives alone
			n.apply(m.list[rng.IntN(len(m.list))])
		}
	case 7: // a session that is cut
		x := n.ask(m.any(), false)
		rng.Shuffle(len(x.stream), func(i, j int) { x.stream[i], x.stream[j] = x.stream[j], x.stream[i] })
		if m.exact || rng.IntN(2) == 0 {
			n.apply(x.stream[:rng.IntN(len(x.stream)+1)]...)
			break
		}
		n.apply(x.stream...)
		part := n.drop(x.claim)
		m.counts["dropped before an adoption"] += part.Versions
		m.counts["held back"] += int(part.Held.Count())
	case 8:
		n.reopen()
	case 9:
		n.must(n.batch(func(b *Batch) error { return b.Finish(true) }))
	default:
		x := n.ask(m.any(), false)
		if x.tier3 {
			m.counts["tier 3"]++
		}
		m.counts["dropped"] += n.take(x).Versions
	}
	m.check(n)
}

func (m *model) wrote(v *crdt.Version) {
	m.all[string(v.Key)] = append(m.all[string(v.Key)], v)
	m.list = append(m.list, v)
}

// check compares a node with the fold of all versions in its clock.
func (m *model) check(n *node) {
	m.t.Helper()
	clock := n.clock()
	for key, versions := range m.all {
		var seen []*crdt.Version
		for _, v := range versions {
			if clock.Has(v.Dot) {
				seen = append(seen, v)
			}
		}
		want, got := crdt.Maximal(seen).Live().Sorted(), n.siblings(key).Live().Sorted()
		if m.exact && !slices.EqualFunc(want, got, sameDot) {
			m.t.Fatalf("node %s, key %s: shows %v, its clock stands for %v", n.r.Self().Short(), key, dotNames(got), dotNames(want))
		}
		for _, v := range got {
			if !slices.ContainsFunc(want, func(o *crdt.Version) bool { return sameDot(o, v) }) {
				m.t.Fatalf("node %s, key %s: shows %s, which its clock overwrote", n.r.Self().Short(), key, v.Dot)
			}
		}
	}
}

func sameDot(a, b *crdt.Version) bool { return a.Dot == b.Dot }

func dotNames(s crdt.Siblings) (out []string) {
	for _, v := range s {
		out = append(out, v.Dot.String())
	}
	return out
}

// settle syncs everybody with everybody and compares with the fold of all.
func (m *model) settle() {
	m.t.Helper()
	for round := range 3 {
		for _, n := range m.nodes {
			for _, o := range m.nodes {
				n.take(n.ask(o, round == 2 && n.root() != o.root()))
			}
		}
	}
	for _, n := range m.nodes {
		n.verify()
		n.explain(Retention{Versions: 1, Since: n.now, Tombstones: crdt.MaxHLC}, n.r.Arrival()/2)
		if n.root() != m.nodes[0].root() || !n.clock().Equal(m.nodes[0].clock()) {
			m.t.Fatal("roots or clocks differ after everybody met everybody")
		}
		for key, versions := range m.all {
			want, got := crdt.Maximal(versions).Live().Sorted(), n.siblings(key).Live().Sorted()
			if !slices.EqualFunc(want, got, sameDot) {
				m.t.Fatalf("key %s: shows %v, want %v", key, dotNames(got), dotNames(want))
			}
		}
	}
}

// TestCollectedDeletesNeverReturn runs random histories of writes, deletes,
// pushes alone, cut and whole sessions, collections and reopenings. Nothing
// that a node's clock overwrote is ever shown, nothing written is lost, and in
// the end all agree with the fold of everything that was written.
func TestCollectedDeletesNeverReturn(t *testing.T) {
	t.Parallel()
	histories := uint64(1500)
	if testing.Short() || raceEnabled {
		histories = 300
	}
	sum := map[string]int{}
	for seed := range histories {
		ok := t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			m := newModel(t, seed, seed%3 != 0)
			for range 40 {
				m.step()
			}
			m.settle()
			for what, n := range m.counts {
				sum[what] += n
			}
		})
		if !ok {
			return
		}
	}
	for _, what := range []string{"tombstones collected", "records collected", "dropped", "dropped before an adoption", "held back", "tier 3"} {
		if sum[what] < int(histories)/500 {
			t.Errorf("%d histories saw %s %d times: they test too little", histories, what, sum[what])
		}
	}
	t.Logf("%d histories: %v", histories, sum)
}
