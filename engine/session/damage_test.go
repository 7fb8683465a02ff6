package session

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/store"
)

func any1(_, _ []byte) bool { return true }

// KERNEL K3 and trace 5: what damage has taken from the sender is left out of
// its stream, noted as unknown there, not adopted as dead by the receiver, and
// brought back by a third node that has it.
func TestDamagedSender(t *testing.T) {
	t.Parallel()
	record := func(_, v []byte) bool { return bytes.Contains(v, []byte("treasure")) }
	tests := map[string]func(a *node){
		"record flipped": func(a *node) { a.damage("ns", "journal", flip(record)) },
		"record gone":    func(a *node) { a.damage("ns", "journal", wipe(record)) },
		"dots flipped":   func(a *node) { a.damage("ns", "dots", flip(any1)) },
		"dots gone":      func(a *node) { a.damage("ns", "dots", wipe(any1)) },
	}
	for name, harm := range tests {
		for _, caughtUp := range []bool{true, false} {
			if !caughtUp && name[0] == 'd' {
				continue // nothing lies there yet
			}
			for _, reopened := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/caught up %v/reopened %v", name, caughtUp, reopened), func(t *testing.T) {
					t.Parallel()
					damagedSender(t, harm, caughtUp, reopened)
				})
			}
		}
	}
}

func damagedSender(t *testing.T, harm func(*node), caughtUp, reopened bool) {
	w := newWorld()
	a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
	a.write("ns", "old", "1")
	a.write("ns", "old", "2")
	v := a.write("ns", "x", "treasure")
	a.write("ns", "y", "other")
	mustSync(t, a, c)
	if caughtUp {
		a.catchUp("ns")
	}
	harm(a)
	if reopened {
		a = a.clone()
	}
	ra, _, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if a.lost == 0 || ra.Namespaces[0].Lost != a.lost || ra.Namespaces[0].InSync {
		t.Errorf("%d lost, report %+v", a.lost, ra.Namespaces[0])
	}
	if b.clock("ns").Has(v.Dot) || a.clock("ns").Has(v.Dot) {
		t.Errorf("b took the lost version for dead: %v, a still shows it: %v", b.clock("ns").Has(v.Dot), a.clock("ns").Has(v.Dot))
	}
	if err := b.check("ns"); err != nil && a.lost == 1 { // else what is dead may have come without what killed it
		t.Error(err)
	}
	r, _, err := sync(a, c)
	if n := r.Namespaces[0]; err != nil || n.Applied.Repaired != a.lost || !n.InSync {
		t.Errorf("%d repaired, %d were lost, in sync %v, %v", n.Applied.Repaired, a.lost, n.InSync, err)
	}
	a.catchUp("ns") // writes the views anew
	mustSync(t, b, a)
	mustSync(t, c, b)
	if got := b.get("ns", "x"); len(got) != 1 || got[0] != "treasure" {
		t.Errorf("b has %q", got)
	}
	a = a.clone()
	a.catchUp("ns")
	if err := a.check("ns"); err != nil {
		t.Error(err)
	}
}

// A head that is gone costs nobody anything: the version still streams, and no
// peer hears that it is dead (FAILURES 7).
func TestLostHead(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	v := a.write("ns", "x", "treasure")
	a.write("ns", "y", "other")
	a.catchUp("ns")
	a.damage("ns", "heads", wipe(func(k, _ []byte) bool { return string(k) == "x" }))
	if _, _, err := sync(a, b); err != nil {
		t.Fatal(err)
	}
	if got := b.get("ns", "x"); len(got) != 1 || !b.clock("ns").Has(v.Dot) {
		t.Errorf("b has %q", got)
	}
}

// Damage that a newer version has meanwhile made unimportant is healed by the
// peer's knowledge that the lost version is dead.
func TestDamageOfWhatIsDeadElsewhere(t *testing.T) {
	t.Parallel()
	for _, reopened := range []bool{true, false} {
		w := newWorld()
		a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
		v := a.write("ns", "x", "treasure")
		a.write("ns", "y", "other")
		mustSync(t, a, c)
		c.write("ns", "x", "newer")
		a.damage("ns", "journal", flip(func(_, v []byte) bool { return bytes.Contains(v, []byte("treasure")) }))
		if _, _, err := sync(a, b); err != nil { // finds it
			t.Fatal(err)
		}
		if reopened {
			a = a.clone()
		}
		if a.clock("ns").Has(v.Dot) {
			t.Fatal("damage was not found")
		}
		if _, _, err := sync(a, c); err != nil {
			t.Fatal(err)
		}
		if !a.clock("ns").Equal(c.clock("ns")) || a.root("ns") != c.root("ns") {
			t.Errorf("reopened %v: a knows %v of c", reopened, a.clock("ns").Equal(c.clock("ns")))
		}
		mustSync(t, b, c)
		mustSync(t, a, b)
	}
}

// A damaged record among those that a push covers ends the session by name; the
// next one goes around it.
func TestDamageInALiveSession(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	l := liveLink(t, a, b)
	v := a.write("ns", "x", "treasure")
	a.write("ns", "y", "other")
	a.damage("ns", "journal", flip(func(_, v []byte) bool { return bytes.Contains(v, []byte("treasure")) }))
	if err := l.notify(); !errors.Is(l.a.err, errs.ErrCorrupt) {
		t.Errorf("got %v, want corrupt", err)
	}
	if _, _, err := sync(a, b); err != nil {
		t.Fatal(err)
	}
	if got := b.get("ns", "y"); len(got) != 1 || b.clock("ns").Has(v.Dot) || b.check("ns") != nil {
		t.Errorf("b has %q, and %v", got, b.check("ns"))
	}
}

// A node whose root cannot be computed is in sync with nobody, least of all
// with one that is damaged alike.
func TestTwoDamagedNodes(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "x", "treasure")
	mustSync(t, a, b)
	for _, n := range []*node{a, b} {
		n.damage("ns", "journal", flip(func(_, v []byte) bool { return bytes.Contains(v, []byte("treasure")) }))
	}
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Report{ra, rb} {
		if n := r.Namespaces[0]; n.InSync || !errors.Is(n.Err, errs.ErrCorrupt) || n.Root != [32]byte{} {
			t.Errorf("report %+v", n)
		}
	}
}

// A damaged chunk of the dead view proves nothing; a peer's clock heals it.
func TestDamagedDeadView(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
	v := a.write("ns", "x", "1")
	a.write("ns", "x", "2")
	mustSync(t, a, c)
	a.catchUp("ns")
	a.damage("ns", "dead", func(bucket store.Bucket) error { return flip(any1)(bucket) })
	if _, _, err := sync(a, b); err != nil {
		t.Fatal(err)
	}
	if b.clock("ns").Has(v.Dot) {
		t.Error("b adopted what nothing proves to be dead")
	}
	mustSync(t, c, b)
	a.write("ns", "x", "3")
	a.catchUp("ns") // overwrites the chunk
	if _, _, err := sync(a, c); err != nil {
		t.Fatal(err)
	}
	mustSync(t, a, c)
	if !a.clock("ns").Has(crdt.Dot{Replica: v.Dot.Replica, Seq: v.Dot.Seq}) {
		t.Error("c did not heal a")
	}
}
