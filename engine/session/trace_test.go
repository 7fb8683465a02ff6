package session

import (
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
)

// collect removes whatever can be removed of a namespace and returns how many
// tombstones that were.
func (n *node) collect(name string) (tombstones int) {
	keepNothing := replica.Retention{Since: crdt.MaxHLC, Tombstones: crdt.MaxHLC}
	var next []byte
	for first := true; first || next != nil; first = false {
		must(n.batch(name, func(b *replica.Batch) error {
			part, err := b.Collect(next, keepNothing, b.Lag()+1<<40, 100)
			tombstones += part.Tombstones
			next = part.Next
			return err
		}))
	}
	return tombstones
}

// partial runs a session that ends after the frames that pass lets through, and
// returns what is wrong with it.
func partial(a, b *node, pass func(fromA bool, n int, f wire.Frame) []wire.Frame) error {
	l := newLink(a, b, Config{})
	defer l.close()
	l.deliver = pass
	return l.start()
}

// noRepair lets nothing through from the first frame of a comparison on.
func noRepair() func(bool, int, wire.Frame) []wire.Frame {
	cut := false
	return func(_ bool, _ int, f wire.Frame) []wire.Frame {
		if cut = cut || f.Type == wire.TypeRepair; cut {
			return nil
		}
		return []wire.Frame{f}
	}
}

// KERNEL trace 3: what a deleted and collected is adopted by b only with the
// comparison that carries the effect. The session is cut before it and a's disk
// dies; what b passes on to c is what b shows.
func TestTraceAdoptionBeforeEffects(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
	a.write("ns", "x", "1")
	a.write("ns", "y", "stays")
	mustSync(t, a, b)
	mustSync(t, a, c)
	dead := a.remove("ns", "x")
	if a.collect("ns") != 1 {
		t.Fatal("the tombstone was not collected")
	}
	if err := partial(a, b, noRepair()); err != nil {
		t.Fatal(err)
	}
	if err := b.check("ns"); err != nil || b.clock("ns").Has(dead.Dot) {
		t.Fatalf("b has adopted the delete without its effect: %v", err)
	}
	mustSync(t, b, c)
	if r := mustSync(t, a, c).Namespaces[0]; r.Rounds != 1 || len(c.get("ns", "x")) != 0 {
		t.Errorf("report %+v, c shows %q", r, c.get("ns", "x"))
	}
	mustSync(t, c, b) // c forwards what a collected (K4)
	if got := b.get("ns", "x"); len(got) != 0 {
		t.Errorf("b shows %q, which was deleted", got)
	}
}

// KERNEL trace 4: a writes while its snapshot streams; what the snapshot does
// not hold is not adopted with it.
func TestTraceClockNewerThanTheListing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "k", "0")
	mustSync(t, a, b)
	a.grow("ns", "more", 8)
	l := newLink(a, b, Config{})
	defer l.close()
	l.hold, l.deliver = true, noRepair()
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if more, err := l.a.s.Pump(); err != nil || !more {
		t.Fatalf("a sends all at once: %v", err)
	}
	l.a.take()
	a.write("ns", "k", "1")
	a.write("ns", "k", "2")
	l.hold = false
	if err := l.run(); err != nil {
		t.Fatal(err)
	}
	if err := b.check("ns"); err != nil {
		t.Error(err)
	}
	mustSync(t, a, b)
}

// KERNEL K7: what a claim drops goes in the transaction that takes in what
// replaced it. Wherever the session is cut, the key shows the old value or the
// new one.
func TestTraceDropWithoutTheAdds(t *testing.T) {
	t.Parallel()
	for cut := 1; ; cut++ {
		a, b := pair(t, 20)
		a.forget("ns", "key 00001") // unequal roots at equal clocks: a comparison
		seen, wrote := 0, false
		l := newLink(a, b, Config{})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			if !fromA && f.Type == wire.TypeCheck && !wrote {
				wrote = true
				a.write("ns", "key 00005", "new") // the snapshot that is compared has it
			}
			if seen++; seen >= cut {
				return nil
			}
			return []wire.Frame{f}
		}
		err := l.start()
		done := l.a.s.Reconciled() && l.b.s.Reconciled()
		l.close()
		if err != nil {
			t.Fatal(err)
		}
		if got := b.get("ns", "key 00005"); len(got) != 1 {
			t.Fatalf("cut at frame %d: b shows %q", cut, got)
		}
		if done {
			if got := b.get("ns", "key 00005"); got[0] != "new" || cut < 10 {
				t.Errorf("whole session of %d frames: b shows %q", cut, got)
			}
			return
		}
	}
}

// KERNEL K7: while the brake holds back what a peer claims, its clock is not
// adopted either: it would stand for deletes that did not happen.
func TestTraceHeldClaim(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 30)
	for i := range 12 {
		a.remove("ns", fmt.Sprintf("key %05d", i))
	}
	if a.collect("ns") != 12 {
		t.Fatal("not collected")
	}
	before := b.clock("ns")
	b.brake = 5
	_, rb, err := sync(a, b)
	if n := rb.Namespaces[0]; err != nil || n.Held == nil || n.Held.Keys != 12 || !errors.Is(n.Err, n.Held) {
		t.Fatalf("report %+v, %v, want 12 keys held back", rb.Namespaces[0], err)
	}
	if err := b.check("ns"); err != nil || !b.clock("ns").Equal(before) {
		t.Fatalf("adopted what is held back: %v", err)
	}
	b.brake = 12
	mustSync(t, b, a)
}
