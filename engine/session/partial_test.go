package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// newPartial returns a node that holds a part of namespace "ns".
func newPartial(w *world, id byte, scope replica.Scope) *node {
	n := newNode(w, id)
	n.scope = scope
	must(n.create("ns"))
	return n
}

func TestPartialReplicaHoldsItsScope(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/"))
	full.grow("ns", "a/", 20)
	full.grow("ns", "b/", 20)
	full.write("ns", "a/000", "again")
	for i, first := range []bool{true, false} { // whoever begins
		x, y := full, part
		if first {
			x, y = part, full
		}
		ra, rb, err := sync(x, y)
		if err != nil {
			t.Fatal(err)
		}
		if n := ra.Namespaces[0]; !n.InSync || !rb.Namespaces[0].InSync || n.Tier == "none" {
			t.Fatalf("report %+v", n)
		}
		if got := part.shown("ns"); len(got) != 20+i {
			t.Fatalf("%d keys, want %d", len(got), 20+i)
		}
		part.write("ns", "a/mine", "v")
		part.write("ns", "a/mine", "w")
	}
	if err := errors.Join(full.truthful("ns"), part.truthful("ns")); err != nil {
		t.Error(err)
	}
	err := part.batch("ns", func(b *replica.Batch) error {
		_, err := b.Commit([]replica.Write{{Key: []byte("b/mine"), Kind: crdt.Put, Value: []byte("v")}}, part.now)
		return err
	})
	if !errors.Is(err, replica.ErrInvalid) {
		t.Errorf("a write out of scope: got %v, want invalid", err)
	}
	v := *full.write("ns", "b/other", "v")
	sum, err := part.Apply("ns", []*crdt.Version{&v}, nil)
	if err != nil || sum.Outside != 1 || len(part.get("ns", "b/other")) != 0 {
		t.Errorf("a version out of scope: got %+v, %v, want it left out", sum, err)
	}
	if _, err := part.Apply("ns", nil, &Adoption{Dots: full.clock("ns"), Gone: crdt.NewClock()}); !errors.Is(err, replica.ErrInvalid) {
		t.Errorf("the namespace's clock for a partial replica: got %v, want invalid", err)
	}
	if _, err := full.Apply("ns", nil, &Adoption{Dots: full.clock("ns"), Gone: crdt.NewClock(), Scoped: true}); !errors.Is(err, replica.ErrInvalid) {
		t.Errorf("a scope's clock for a full replica: got %v, want invalid", err)
	}
}

// What a full replica has collected is dropped by a partial one, gaps or not,
// and does not come back through a third that missed it.
func TestPartialReplicaFollowsCollectedDeletes(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part, late := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/")), newPartial(w, 3, prefixes("a/", "c/"))
	for i := range 3 { // what the first two overwrote is not sent: a gap
		full.write("ns", "a/k", fmt.Sprint(i))
		full.write("ns", "b/k", fmt.Sprint(i))
	}
	sync(full, part)
	sync(full, late)
	full.remove("ns", "a/k")
	full.collect("ns")
	if _, rb, err := sync(full, part); err != nil || !rb.Namespaces[0].InSync || rb.Namespaces[0].Applied.Dropped != 1 {
		t.Fatalf("got %+v, %v, want the version dropped", rb.Namespaces, err)
	}
	for _, pair := range [][2]*node{{late, part}, {part, late}, {late, full}, {part, late}} {
		if _, _, err := sync(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(part.truthful("ns"), late.truthful("ns"), full.truthful("ns")); err != nil {
			t.Fatal(err)
		}
		if got := part.get("ns", "a/k"); len(got) != 0 {
			t.Fatalf("%q came back", got)
		}
	}
	if got := late.get("ns", "a/k"); len(got) != 0 {
		t.Errorf("%q is still there", got)
	}
}

// A partial replica keeps its tombstones: nothing else tells the others of what
// it deleted. A full one adopts nothing from it.
func TestPartialReplicaKeepsTombstones(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, other, part := newNode(w, 1, "ns"), newNode(w, 4, "ns"), newPartial(w, 2, prefixes("a/"))
	other.write("ns", "a/k", "of other")
	other.write("ns", "b/k", "of other")
	sync(other, part)
	part.write("ns", "a/mine", "1")
	part.write("ns", "a/mine", "2")
	sync(part, full)
	if c := full.clock("ns"); c.Count() != 2 {
		t.Errorf("%d dots in the clock, want those of the two versions", c.Count())
	}
	part.remove("ns", "a/mine")
	part.remove("ns", "a/k")
	part.collect("ns")
	sync(full, part)
	mustSyncAll(t, full, other)
	if got := append(full.get("ns", "a/mine"), full.get("ns", "a/k")...); len(got) != 0 {
		t.Errorf("%q is still there", got)
	}
	if got := full.get("ns", "b/k"); len(got) != 1 {
		t.Errorf("b/k: got %q, want what the other wrote", got)
	}
}

func TestPartialReplicasMeet(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newPartial(w, 1, prefixes("a/", "b/")), newPartial(w, 2, prefixes("b/", "c/"))
	none := newPartial(w, 3, prefixes("d/"))
	for key, n := range map[string]*node{"a/1": a, "b/1": a, "b/2": b, "c/1": b, "d/1": none} {
		n.write("ns", key, "v")
	}
	ra, rb, err := sync(a, b)
	if err != nil || !ra.Namespaces[0].InSync || !rb.Namespaces[0].InSync || ra.Namespaces[0].Received != 1 || rb.Namespaces[0].Received != 1 {
		t.Errorf("got %+v, %+v, %v, want one version each way", ra.Namespaces, rb.Namespaces, err)
	}
	if x, y := len(a.shown("ns")), len(b.shown("ns")); x != 3 || y != 3 {
		t.Errorf("%d and %d keys, want 3 and 3", x, y)
	}
	if ra, rb, err = sync(a, none); err != nil || ra.Namespaces[0].Tier != "none" || rb.Namespaces[0].Tier != "none" || ra.Namespaces[0].Sent+ra.Namespaces[0].Received > 0 {
		t.Errorf("nothing in common: got %+v, %+v, %v", ra.Namespaces, rb.Namespaces, err)
	}
	l := newLink(a, b, Config{Scope: prefixes("a/")})
	if err := l.start(); err != nil || l.a.s.Report().Namespaces[0].Tier != "none" {
		t.Errorf("nothing in common with what is asked for: %v, %+v", err, l.a.s.Report())
	}
	l.close()
	l = newLink(a, b, Config{Scope: prefixes("z/")})
	if err := l.start(); err != nil || !l.a.s.Reconciled() || len(l.a.s.Report().Namespaces) != 1 || l.a.s.Report().Namespaces[0].Tier != "none" {
		t.Errorf("nothing here of what is asked for: %v, %+v", err, l.a.s.Report())
	}
	l.close()
	late := newNode(w, 4)
	if _, _, err := sync(late, a); err != nil || len(late.shown("ns")) != 3 {
		t.Errorf("a namespace of which the peer holds a part: %v, %d keys, want 3", err, len(late.shown("ns")))
	}
	if err := errors.Join(a.truthful("ns"), b.truthful("ns"), none.truthful("ns"), late.truthful("ns")); err != nil {
		t.Error(err)
	}
}

// A responder that narrows to what was not asked for is refused.
func TestNarrowedToMore(t *testing.T) {
	t.Parallel()
	for _, forged := range [][][]byte{prefixes("a"), prefixes("b"), prefixes("ab")} {
		w := newWorld()
		l := newLink(newPartial(w, 1, prefixes("ab")), newNode(w, 2, "ns"), Config{})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			if f.Type == wire.TypeWelcome {
				f.Payload = wire.Welcome{Proto: 1, Verdicts: []wire.Verdict{{Code: wire.Narrowed, Prefixes: forged}}}.Append(nil)
			}
			return []wire.Frame{f}
		}
		if err := l.start(); !errors.Is(err, replica.ErrInvalid) {
			t.Errorf("%q: got %v, want invalid", forged, err)
		}
		l.close()
	}
}

// Damage in a partial replica is healed by a full one, dead or alive.
func TestPartialReplicaHeals(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/"))
	full.grow("ns", "a/", 20)
	full.grow("ns", "b/", 5)
	sync(part, full)
	part.catchUp("ns")
	part.damage("ns", "journal", flip(func(_, v []byte) bool { return strings.Contains(string(v), "a/007") }))
	part.damage("ns", "journal", flip(func(_, v []byte) bool { return strings.Contains(string(v), "a/003") }))
	part = part.clone()
	full.remove("ns", "a/003")
	full.collect("ns")
	for range 3 {
		if _, _, err := sync(part, full); err != nil {
			t.Fatal(err)
		}
	}
	if err := part.truthful("ns"); err != nil {
		t.Error(err)
	}
	if got := part.shown("ns"); len(got) != 19 || part.rootWithin("ns", prefixes("a/")) != full.rootWithin("ns", prefixes("a/")) {
		t.Errorf("%d keys, want 19, the same as the full replica's", len(got))
	}
}

// model is a random history of nodes with scopes, the first of which is full.
type model struct {
	w      *world
	random *rand.Rand
	nodes  []*node
	scopes []replica.Scope
	before []map[string][]string // what each node shows
	gone   []map[string]bool     // what each has shown and does not show any more

	writes, syncs, cuts, drops, collections int
}

var modelKeys = []string{"a/1", "a/2", "a/3", "b/1", "b/2", "c/1"}

func newModel(seed uint64) *model {
	m := &model{w: newWorld(), random: rand.New(rand.NewPCG(seed, 7)), scopes: []replica.Scope{nil}}
	choices := []replica.Scope{nil, prefixes("a/"), prefixes("b/"), prefixes("a/", "b/"), prefixes("a/1", "a/2", "c/"), prefixes("b/", "c/")}
	for len(m.scopes) < 2+m.random.IntN(3) {
		m.scopes = append(m.scopes, choices[m.random.IntN(len(choices))])
	}
	for i, scope := range m.scopes {
		m.nodes = append(m.nodes, newPartial(m.w, byte(i+1), scope))
		m.before = append(m.before, nil)
		m.gone = append(m.gone, map[string]bool{})
	}
	return m
}

// step does something at random and returns what is wrong then.
func (m *model) step() error {
	i := m.random.IntN(len(m.nodes))
	n := m.nodes[i]
	switch p := m.random.IntN(20); {
	case p < 9:
		key := modelKeys[m.random.IntN(len(modelKeys))]
		if !m.scopes[i].Has([]byte(key)) {
			return nil
		}
		m.writes++
		if m.random.IntN(3) == 0 {
			n.remove("ns", key)
		} else {
			n.write("ns", key, "v")
		}
	case p < 11:
		m.nodes[0].remove("ns", modelKeys[m.random.IntN(len(modelKeys))])
		m.nodes[0].collect("ns")
	case p < 12:
		m.collections++
		n.collect("ns")
	case p < 13:
		n.catchUp("ns")
	case p < 14:
		m.nodes[i] = n.clone()
	default:
		j := m.random.IntN(len(m.nodes))
		if i == j {
			return nil
		}
		return m.session(i, j, m.random.IntN(3) == 0)
	}
	return m.check()
}

// session syncs two nodes, sometimes only a part, sometimes cut, sometimes live.
func (m *model) session(i, j int, cut bool) error {
	cfg := Config{Live: m.random.IntN(4) == 0}
	if m.random.IntN(4) == 0 {
		cfg.Scope = prefixes([]string{"a/", "b/", "a/1"}[m.random.IntN(3)])
	}
	l := newLink(m.nodes[i], m.nodes[j], cfg)
	defer l.close()
	m.syncs++
	if cut {
		m.cuts++
		l.deliver = cutAfter(1+m.random.IntN(10), 1+m.random.IntN(10))
	}
	if err := l.start(); err != nil {
		return fmt.Errorf("session of %d and %d: %w", i+1, j+1, err)
	}
	if !cut && !(l.a.s.Reconciled() && l.b.s.Reconciled()) {
		return fmt.Errorf("session of %d and %d is stuck", i+1, j+1)
	}
	if cfg.Live {
		for range 3 {
			for _, x := range []int{i, j} {
				if key := modelKeys[m.random.IntN(len(modelKeys))]; m.scopes[x].Has([]byte(key)) {
					m.nodes[x].write("ns", key, "pushed")
				}
			}
			if err := l.notify(); err != nil {
				return fmt.Errorf("push between %d and %d: %w", i+1, j+1, err)
			}
		}
	}
	for _, s := range []*Session{l.a.s, l.b.s} {
		for _, r := range s.Report().Namespaces {
			m.drops += r.Applied.Dropped
			if r.InSync && r.Err != nil {
				return fmt.Errorf("in sync with %w", r.Err)
			}
		}
	}
	return m.check()
}

// check looks at every node: its clocks claim no more than it shows, and what it
// has once lost to another version does not come back.
func (m *model) check() error {
	for i, n := range m.nodes {
		if err := n.truthful("ns"); err != nil {
			return err
		}
		shown := n.shown("ns")
		for key, dots := range m.before[i] {
			for _, dot := range dots {
				if !slices.Contains(shown[key], dot) {
					m.gone[i][dot] = true
				}
			}
		}
		for key, dots := range shown {
			for _, dot := range dots {
				if m.gone[i][dot] {
					return fmt.Errorf("node %d: %s of %q came back", n.id, dot, key)
				}
			}
		}
		m.before[i] = shown
	}
	return nil
}

// settle syncs everybody with the full replica until nothing can be missing, and
// compares each node with the fold of all that was ever written.
func (m *model) settle() error {
	for range 4 {
		for i := 1; i < len(m.nodes); i++ {
			if _, _, err := sync(m.nodes[0], m.nodes[i]); err != nil {
				return err
			}
			if err := m.check(); err != nil {
				return err
			}
		}
	}
	want := m.w.fold("ns", func(*crdt.Version) bool { return true })
	for i, n := range m.nodes {
		got := n.shown("ns")
		for key := range m.w.versions["ns"] {
			expect := want[key]
			if !m.scopes[i].Has([]byte(key)) {
				expect = nil
			}
			if !slices.Equal(got[key], expect) {
				return fmt.Errorf("node %d shows %v of %q, all that was written makes %v", n.id, got[key], key, expect)
			}
		}
		ra, _, err := sync(n, m.nodes[0])
		if err != nil || i > 0 && !ra.Namespaces[0].InSync {
			return fmt.Errorf("node %d at last: %+v, %w", n.id, ra.Namespaces, err)
		}
	}
	return nil
}

// Random histories of full and partial replicas.
func TestScopesModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(150)
	if testing.Short() {
		seeds = 30
	}
	var sum model
	for seed := range seeds {
		m := newModel(seed)
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			err = m.step()
		}
		if err == nil {
			err = m.settle()
		}
		if err != nil {
			t.Fatalf("seed %d, scopes %q: %v", seed, m.scopes, err)
		}
		sum.writes += m.writes
		sum.syncs += m.syncs
		sum.cuts += m.cuts
		sum.drops += m.drops
		sum.collections += m.collections
	}
	if n := int(seeds); sum.writes < 10*n || sum.syncs < 3*n || sum.cuts < n || sum.drops < n/6 || sum.collections < n {
		t.Errorf("%d writes, %d syncs, %d cuts, %d drops, %d collections: too few to test anything",
			sum.writes, sum.syncs, sum.cuts, sum.drops, sum.collections)
	}
}

// What a partial replica adopts for its scope makes it know better than whoever
// comes late, and it says with its gone marks that others have to compare.
func TestPartialReplicaKnowsTheDead(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/"))
	dead := full.write("ns", "a/k", "v")
	full.write("ns", "a/other", "v")
	full.remove("ns", "a/k")
	full.collect("ns")
	if _, _, err := sync(part, full); err != nil {
		t.Fatal(err)
	}
	sum, err := part.Apply("ns", []*crdt.Version{dead}, nil)
	if err != nil || sum.Known != 1 || sum.New != 0 || len(part.get("ns", "a/k")) != 0 {
		t.Errorf("got %+v, %v, want the version known to be dead", sum, err)
	}
	part.view("ns", func(v *replica.View) {
		if !v.Seen().Has(dead.Dot) || v.Clock().Has(dead.Dot) {
			t.Error("the dot belongs into the scope's clock alone")
		}
		if v.Gone().Of(dead.Dot.Replica).Max() != 3 {
			t.Errorf("gone marks %v, want that of the tombstone", v.Gone())
		}
	})
}

// A full replica that follows a claim in a part takes the gone marks with it.
func TestScopedClaimsBringGoneMarks(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	v := a.write("ns", "a/k", "v")
	mustSync(t, a, b)
	a.remove("ns", "a/k")
	a.collect("ns")
	mustSyncScope(t, a, b, prefixes("a/"))
	b.view("ns", func(view *replica.View) {
		if view.Gone().Of(v.Dot.Replica).Max() != 2 || view.Clock().Of(v.Dot.Replica).Max() != 1 {
			t.Errorf("gone marks %v, want that of the tombstone, which was not seen", view.Gone())
		}
	})
}

// A version that the sender has lost is not dead for the receiver.
func TestPartialReplicaIsNotGivenDamage(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/"))
	full.grow("ns", "a/", 5)
	lost := full.write("ns", "a/lost", "v")
	full.catchUp("ns")
	full.damage("ns", "journal", flip(func(_, v []byte) bool { return strings.Contains(string(v), "a/lost") }))
	full.damage("ns", "heads", wipe(func(k, _ []byte) bool { return string(k) == "a/lost" })) // nor does the root tell
	if _, _, err := sync(part, full.clone()); err != nil {
		t.Fatal(err)
	}
	part.view("ns", func(v *replica.View) {
		if v.Seen().Has(lost.Dot) || len(part.shown("ns")) != 5 {
			t.Errorf("%d keys, and the lost dot is taken for dead: %v", len(part.shown("ns")), v.Seen().Has(lost.Dot))
		}
	})
	if sum, err := part.Apply("ns", []*crdt.Version{lost}, nil); err != nil || sum.New != 1 {
		t.Errorf("got %+v, %v, want the version taken in from who has it", sum, err)
	}
}

// What damage took from a partial replica is no more shown as seen, and is dead
// once a full replica says so, even if no head names it any more.
func TestPartialReplicaLosesAndLearns(t *testing.T) {
	t.Parallel()
	w := newWorld()
	full, part := newNode(w, 1, "ns"), newPartial(w, 2, prefixes("a/"))
	lost := full.write("ns", "a/k", "v")
	full.write("ns", "a/other", "v")
	sync(part, full)
	full.remove("ns", "a/k")
	full.collect("ns")
	full.write("ns", "a/new", "v")
	part.catchUp("ns")
	part.damage("ns", "heads", wipe(func(k, _ []byte) bool { return string(k) == "a/k" }))
	part.Lost("ns", crdt.ClockOf(lost.Dot.Replica, crdt.NewSeqSet(crdt.Interval{Lo: 1, Hi: 1})))
	part.view("ns", func(v *replica.View) {
		if v.Seen().Has(lost.Dot) {
			t.Error("a lost dot is shown as seen")
		}
	})
	if _, _, err := sync(part, full); err != nil {
		t.Fatal(err)
	}
	part.view("ns", func(v *replica.View) {
		if !v.Unknown().IsEmpty() || !v.Seen().Has(lost.Dot) {
			t.Errorf("unknown %v, want the dot known to be dead", v.Unknown())
		}
	})
}

// What two scopes have in common may be more than a message names.
func TestTooMuchInCommon(t *testing.T) {
	t.Parallel()
	x, y := [][]byte{[]byte("x/")}, [][]byte{[]byte("y/")}
	for i := range replica.MaxPrefixes - 1 {
		x, y = append(x, fmt.Appendf(nil, "y/%03d", i)), append(y, fmt.Appendf(nil, "x/%03d", i))
	}
	a, err := replica.NewScope(x...)
	must(err)
	b, err := replica.NewScope(y...)
	must(err)
	w := newWorld()
	if _, _, err := sync(newPartial(w, 1, a), newPartial(w, 2, b)); !errors.Is(err, errs.ErrTooLarge) {
		t.Errorf("got %v, want too large", err)
	}
}
