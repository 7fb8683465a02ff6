package session

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// prefixes returns a scope; it is nil without prefixes.
func prefixes(list ...string) replica.Scope {
	if len(list) == 0 {
		return nil
	}
	var b [][]byte
	for _, p := range list {
		b = append(b, []byte(p))
	}
	s, err := replica.NewScope(b...)
	must(err)
	return s
}

// syncScope runs a whole session about a part of the namespaces.
func syncScope(a, b *node, scope replica.Scope) (ra, rb Report, err error) {
	l := newLink(a, b, Config{Scope: scope})
	defer l.close()
	err = l.start()
	if err == nil && !(l.a.s.Reconciled() && l.b.s.Reconciled()) {
		err = errors.New("session is stuck")
	}
	return l.a.s.Report(), l.b.s.Report(), err
}

// mustSyncScope runs a session about a part that has to end in proven agreement.
func mustSyncScope(t testing.TB, a, b *node, scope replica.Scope) NamespaceReport {
	t.Helper()
	ra, rb, err := syncScope(a, b, scope)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Report{ra, rb} {
		if n := r.Namespaces[0]; !n.InSync || n.Err != nil {
			t.Fatalf("in sync %v, error %v", n.InSync, n.Err)
		}
	}
	if a.rootWithin("ns", scope) != b.rootWithin("ns", scope) {
		t.Fatal("reported in sync, but the roots of the scope differ")
	}
	if err := errors.Join(a.truthful("ns"), b.truthful("ns")); err != nil {
		t.Fatal(err)
	}
	return ra.Namespaces[0]
}

// mustSyncAll is mustSync for nodes that have collected tombstones.
func mustSyncAll(t testing.TB, a, b *node) {
	t.Helper()
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if x, y := ra.Namespaces[0], rb.Namespaces[0]; !x.InSync || !y.InSync || a.root("ns") != b.root("ns") || !a.clock("ns").Equal(b.clock("ns")) {
		t.Fatalf("not in sync: %+v, %+v", x, y)
	}
	if err := errors.Join(a.truthful("ns"), b.truthful("ns")); err != nil {
		t.Fatal(err)
	}
}

func (n *node) rootWithin(name string, scope replica.Scope) (root [32]byte) {
	n.view(name, func(v *replica.View) {
		var err error
		root, _, err = v.RootWithin(scope)
		must(err)
	})
	return root
}

// shown returns what a node shows: of each key the digests of its live versions.
func (n *node) shown(name string) map[string][]string {
	out := map[string][]string{}
	n.view(name, func(v *replica.View) {
		for key, e := range v.Heads(nil, nil) {
			s, err := e.Siblings()
			must(err)
			for _, x := range s.Live() {
				out[string(key)] = append(out[string(key)], x.Dot.String())
			}
			slices.Sort(out[string(key)])
		}
	})
	return out
}

// fold returns what a replica shows that has seen those versions that seen says.
func (w *world) fold(name string, seen func(v *crdt.Version) bool) map[string][]string {
	out := map[string][]string{}
	for key, all := range w.versions[name] {
		known := slices.DeleteFunc(slices.Clone(all), func(v *crdt.Version) bool { return !seen(v) })
		for _, v := range crdt.Maximal(known).Live() {
			out[key] = append(out[key], v.Dot.String())
		}
		slices.Sort(out[key])
	}
	return out
}

// truthful returns where a node's clock claims what its state does not show: it
// must show, of its scope, the fold of the versions that it claims to have seen.
// Only what other versions have replaced may be missing, as a peer's claim can
// make it dead.
func (n *node) truthful(name string) (err error) {
	var seen crdt.Clock
	var scope replica.Scope
	n.view(name, func(v *replica.View) {
		seen, scope = v.Seen().Clone(), v.Scope()
		err = v.Verify(func(p replica.Problem) {
			err = errors.Join(err, fmt.Errorf("node %d: verify: %s %q %s: %w", n.id, p.What, p.Key, p.Dot, p.Err))
		}, func(int) error { return nil })
	})
	if err != nil {
		return err
	}
	want, got := n.w.fold(name, func(v *crdt.Version) bool { return seen.Has(v.Dot) }), n.shown(name)
	for key := range n.w.versions[name] {
		if !scope.Has([]byte(key)) {
			want[key] = nil
		}
		for _, dot := range got[key] {
			if !slices.Contains(want[key], dot) {
				err = errors.Join(err, fmt.Errorf("node %d: %q shows %s, which its clock knows to be replaced", n.id, key, dot))
			}
		}
		for _, dot := range want[key] {
			if !slices.Contains(got[key], dot) && !n.w.replaced(name, key, dot) {
				err = errors.Join(err, fmt.Errorf("node %d: %q lacks %s, which its clock claims to have", n.id, key, dot))
			}
		}
	}
	return err
}

// replaced reports whether any version covers that of a dot.
func (w *world) replaced(name, key, dot string) bool {
	all := w.versions[name][key]
	i := slices.IndexFunc(all, func(v *crdt.Version) bool { return v.Dot.String() == dot })
	return slices.ContainsFunc(all, func(v *crdt.Version) bool { return v.Covers(all[i].Dot) })
}

// outside returns what of a map's keys is out of scope.
func outside(scope replica.Scope, m map[string][]string) map[string][]string {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(key string, _ []string) bool { return scope.Has([]byte(key)) })
	return out
}

func sameShown(a, b map[string][]string) bool { return maps.EqualFunc(a, b, slices.Equal) }

func TestScopedSync(t *testing.T) {
	t.Parallel()
	for _, scope := range []replica.Scope{prefixes("old"), prefixes("only-a", "shared"), prefixes("only-a", "only-b", "tx"), prefixes("none")} {
		a, b := history(t)
		beforeA, beforeB := a.shown("ns"), b.shown("ns")
		mustSyncScope(t, a, b, scope)
		for n, before := range map[*node]map[string][]string{a: beforeA, b: beforeB} {
			if after := n.shown("ns"); !sameShown(outside(scope, before), outside(scope, after)) {
				t.Errorf("%q: node %d: what is out of scope has changed", scope, n.id)
			}
		}
		if a.agreed+b.agreed != 2 { // of history's own session
			t.Errorf("%q: agreement on a part was noted as one on everything", scope)
		}
		if r := mustSyncScope(t, a, b, scope); r.Tier != "equal" || r.Sent+r.Received != 0 {
			t.Errorf("%q: again: report %+v", scope, r)
		}
		mustSync(t, a, b) // and nothing has been lost
	}
}

func TestScopedSyncBringsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2)
	a.grow("ns", "photos/", 20)
	a.grow("ns", "notes/", 50)
	a.write("ns", "photos/000", "again")
	r := mustSyncScope(t, a, b, prefixes("photos/"))
	if r.Sent != 20 || r.Received != 0 || r.Tier != "clocks" || r.Rounds != 0 {
		t.Errorf("report %+v, want 20 versions by clocks", r)
	}
	if n := b.clock("ns").Count(); n != 20 {
		t.Errorf("%d dots in the receiver's clock, want those of the 20 versions", n)
	}
	a.remove("ns", "photos/001")
	b.write("ns", "photos/new", "v")
	b.write("ns", "notes/new", "v")
	if r := mustSyncScope(t, b, a, prefixes("photos/")); r.Sent != 1 || r.Received != 1 {
		t.Errorf("report %+v, want one version each way", r)
	}
	if got := len(b.shown("ns")); got != 21 {
		t.Errorf("%d keys, want 19 + 1 photos and a note", got)
	}
	if r := mustSync(t, b, a); r.Namespaces[0].Received != 50 {
		t.Errorf("report %+v, want the 50 notes", r.Namespaces[0])
	}
}

// What the session's scope is must be kept by the peer too.
func TestScopeIsEnforced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	b.write("ns", "b/k", "v")
	e := wire.NewEncoder(w.zstd)
	e.Add(&crdt.Version{Key: []byte("b/x"), Kind: crdt.Put, Dot: crdt.Dot{Replica: crdt.ReplicaID{7}, Seq: 1}, First: 1, Last: 1, Value: []byte("x")})
	batch := bytes.Clone(e.Flush(0, 0))
	claim := crdt.ClockOf(crdt.ReplicaID{2, 1}, crdt.NewSeqSet(crdt.Interval{Lo: 1, Hi: 1}))
	for name, forge := range map[string]func(f wire.Frame) wire.Frame{
		"a version out of scope": func(f wire.Frame) wire.Frame {
			if f.Type == wire.TypeDone {
				return wire.Frame{Type: wire.TypeBatch, Payload: batch}
			}
			return f
		},
		"a claim out of scope": func(f wire.Frame) wire.Frame {
			if f.Type == wire.TypeFix {
				f.Payload = wire.Fix{Want: crdt.NewClock(), Dead: claim}.Append(nil, w.zstd)
			}
			return f
		},
		"by sketch": func(f wire.Frame) wire.Frame {
			if f.Type == wire.TypeRepair {
				f.Payload = wire.Repair{Mode: wire.ModeSketch, Cells: 4}.Append(nil)
			}
			return f
		},
	} {
		x, y := a.clone(), b.clone()
		x.write("ns", "a/k", "v")
		y.spaces["ns"].SetSelf(crdt.ReplicaID{2, 1})
		sync(x, y)
		x.forget("ns", "a/k")
		l := newLink(x, y, Config{Scope: prefixes("a/")})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			if fromA {
				f = forge(f)
			}
			return []wire.Frame{f}
		}
		before := y.shown("ns")
		err := l.start()
		l.close()
		if !errors.Is(err, errs.ErrInvalid) || !sameShown(before, y.shown("ns")) {
			t.Errorf("%s: got %v, want invalid and nothing changed", name, err)
		}
	}
}

// What a session is about is what both sides were told to sync.
func TestScopeOffered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ offers, asks, want replica.Scope }{
		{nil, nil, prefixes("a", "b", "c")},
		{nil, prefixes("a"), prefixes("a")},
		{prefixes("a"), prefixes("a"), prefixes("a")},
		{prefixes("a"), prefixes("ab", "ac"), prefixes("ab", "ac")},
		{prefixes("a"), nil, prefixes("a")},
		{prefixes("a", "c"), prefixes("a", "b"), prefixes("a")},
		{prefixes("ab", "b"), prefixes("a", "c"), prefixes("ab")},
		{prefixes("a"), prefixes("b"), prefixes("none")},
	} {
		w := newWorld()
		a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns", "more")
		for _, key := range []string{"aa", "ab", "ac", "b", "c"} {
			a.write("ns", key, "v")
			b.write("more", key, "v")
		}
		l := newLink(a, b, Config{Scope: tt.asks})
		l.b.s.cfg.Scope = tt.offers
		err := l.start()
		l.close()
		for _, s := range []*Session{l.a.s, l.b.s} {
			for _, n := range s.Report().Namespaces {
				if err != nil || n.Err != nil || !n.InSync || (n.Tier == "none") != tt.want.Equal(prefixes("none")) {
					t.Errorf("%q of %q: %v, report %+v", tt.asks, tt.offers, err, n)
				}
			}
		}
		for n, name := range map[*node]string{b: "ns", a: "more"} {
			if n.spaces[name] == nil {
				if !tt.want.Equal(prefixes("none")) {
					t.Errorf("%q of %q: %q was not made", tt.asks, tt.offers, name)
				}
				continue
			}
			for _, key := range []string{"aa", "ab", "ac", "b", "c"} {
				if got, want := len(n.get(name, key)), tt.want.Has([]byte(key)); (got == 1) != want {
					t.Errorf("%q of %q: %q has %d values, want some: %v", tt.asks, tt.offers, key, got, want)
				}
			}
		}
	}
}

// Deletes that one side has collected are followed by comparing the trees below
// the prefixes (KERNEL K3, K7), and nothing out of scope is touched by it.
func TestScopedClaims(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	for _, p := range []string{"a/", "b/", "c/"} {
		a.grow("ns", p, 40)
		b.grow("ns", p+"of b", 40)
	}
	mustSync(t, a, b)
	for _, key := range []string{"a/001", "a/of b002", "b/003", "c/004"} {
		a.remove("ns", key)
	}
	b.remove("ns", "c/of b005")
	a.collect("ns")
	b.collect("ns")
	a.write("ns", "c/new", "v")
	r := mustSyncScope(t, b, a, prefixes("a/", "c/"))
	if r.Tier != "tree" || r.Rounds != 1 || r.Applied.Dropped != 3 {
		t.Errorf("report %+v, want one walk and 3 versions dropped", r)
	}
	for key, want := range map[string]int{"a/001": 0, "a/of b002": 0, "b/003": 1, "c/004": 0, "c/of b005": 0, "c/new": 1} {
		if got := len(b.get("ns", key)); got != want {
			t.Errorf("%s: %d values, want %d", key, got, want)
		}
	}
	if got := a.get("ns", "c/of b005"); len(got) != 0 {
		t.Errorf("the other way round: %q is still there", got)
	}
	mustSyncAll(t, a, b)
	if got := b.get("ns", "b/003"); len(got) != 0 {
		t.Errorf("after a sync of everything %q is still there", got)
	}
}

// Removals above the brake are held back in a scope too.
func TestScopedBrake(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 60)
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("key %05d", i))
		a.remove("ns", keys[i])
	}
	a.collect("ns")
	b.brake = 5
	_, rb, err := syncScope(a, b, prefixes("key 0000", "key 0001"))
	if err != nil {
		t.Fatal(err)
	}
	if n := rb.Namespaces[0]; n.Held == nil || n.Held.Keys != 20 || n.InSync || n.Applied.Dropped != 0 || !errors.Is(n.Err, errs.ErrConflict) {
		t.Errorf("report %+v, want 20 keys held back", n)
	}
	b.brake = 20
	mustSyncScope(t, a, b, prefixes("key 0000", "key 0001"))
}

// A version with a gap below it cannot be dropped without the clock that closes
// it: the report says so, and a sync of everything settles it.
func TestScopedGap(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "a/k", "v1")
	a.write("ns", "a/k", "v2")
	mustSyncScope(t, a, b, prefixes("a/"))
	a.remove("ns", "a/k")
	a.collect("ns")
	ra, _, err := syncScope(b, a, prefixes("a/"))
	if err != nil {
		t.Fatal(err)
	}
	n := ra.Namespaces[0]
	if n.InSync || !errors.Is(n.Err, errs.ErrUnsupported) || len(b.get("ns", "a/k")) != 1 {
		t.Errorf("report %+v, want the version kept, and told why", n)
	}
	mustSyncAll(t, a, b)
	if got := b.get("ns", "a/k"); len(got) != 0 {
		t.Errorf("after a sync of everything %q is still there", got)
	}
}

func TestScopedPush(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "a/0", "v")
	a.write("ns", "b/0", "v")
	l := newLink(a, b, Config{Live: true, Scope: prefixes("a/")})
	t.Cleanup(l.close)
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		a.put("ns", map[string][]byte{fmt.Sprint("a/", i): []byte("new"), fmt.Sprint("b/", i): []byte("new")})
		a.remove("ns", "a/0")
		b.write("ns", fmt.Sprint("b/of b", i), "v")
		if i%3 == 0 {
			b.write("ns", fmt.Sprint("a/of b", i), "v")
		}
		settle(t, l)
		if a.rootWithin("ns", prefixes("a/")) != b.rootWithin("ns", prefixes("a/")) {
			t.Fatalf("round %d: the scope differs after pushes", i)
		}
	}
	for n, foreign := range map[*node]string{a: "b/of b", b: "b/0"} {
		for key := range n.shown("ns") {
			if strings.HasPrefix(key, foreign) {
				t.Errorf("node %d got %s", n.id, key)
			}
		}
	}
	if err := errors.Join(a.truthful("ns"), b.truthful("ns")); err != nil {
		t.Error(err)
	}
	mustSync(t, a, b)
}

// A session about a part may be cut at any frame.
func TestScopedCut(t *testing.T) {
	t.Parallel()
	scope := prefixes("old", "only-", "shared")
	whole := func() *link {
		a, b := history(t)
		a.collect("ns")
		return newLink(a, b, Config{Scope: scope})
	}
	l := whole()
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	l.close()
	n, m := len(l.a.log), len(l.b.log)
	if n < 8 || m < 8 {
		t.Fatalf("%d and %d frames: too few to test anything", n, m)
	}
	for i := range n + 1 {
		for j := range m + 1 {
			l := whole()
			a, b := l.a.s.host.(*node), l.b.s.host.(*node)
			l.deliver = cutAfter(i, j)
			if err := l.start(); err != nil {
				t.Fatal(err)
			}
			l.close()
			a, b = a.clone(), b.clone()
			if err := errors.Join(a.truthful("ns"), b.truthful("ns")); err != nil {
				t.Fatalf("cut after %d and %d frames: %v", i, j, err)
			}
			mustSyncScope(t, a, b, scope)
		}
	}
}

// The mutant that adopts the sender's clock after a stream of a part claims to
// have seen what it has not: the check must find it.
func TestScopeClockInNamespaceClockIsCaught(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "a/k", "v")
	a.write("ns", "b/k", "v")
	b.adopt = func(_ string, versions []*crdt.Version, _ *Adoption) (*Adoption, error) {
		return &Adoption{Dots: a.clock("ns"), Gone: crdt.NewClock()}, nil
	}
	if _, _, err := syncScope(a, b, prefixes("a/")); err != nil {
		t.Fatal(err)
	}
	if err := b.truthful("ns"); err == nil || !strings.Contains(err.Error(), "claims to have") {
		t.Errorf("got %v, want the clock found out", err)
	}
}
