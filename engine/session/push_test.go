package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// settle runs live links until none of them moves a frame.
func settle(t testing.TB, links ...*link) {
	t.Helper()
	for moved := true; moved; {
		moved = false
		for _, l := range links {
			before := len(l.a.log) + len(l.b.log)
			if err := l.notify(); err != nil {
				t.Fatal(err)
			}
			moved = moved || len(l.a.log)+len(l.b.log) > before
		}
	}
}

// count returns how many frames of a type a side sent.
func (e *end) count(typ wire.Type) (n int) {
	for _, f := range e.log {
		if f.Type == typ {
			n++
		}
	}
	return n
}

// transaction is a write of n keys with one value; who sees some of them with
// it sees all of them.
func transaction(n *node, keys, round int) {
	values := map[string][]byte{}
	for i := range keys {
		values[fmt.Sprintf("tx%03d", i)] = append(fmt.Appendf(nil, "round %d ", round), noise(100, byte(i), byte(round))...)
	}
	n.put("ns", values)
}

// torn returns why a node shows a part of a transaction.
func torn(n *node, keys int) (err error) {
	n.view("ns", func(v *replica.View) {
		seen := map[string]int{}
		for i := range keys {
			s, e := v.Siblings(fmt.Appendf(nil, "tx%03d", i))
			must(e)
			round := "nothing"
			if len(s) > 0 {
				round = string(s[0].Value[:8])
			}
			seen[round]++
		}
		if len(seen) > 1 {
			err = fmt.Errorf("node %d shows parts: %v", n.id, seen)
		}
	})
	return err
}

// A transaction of many batches becomes visible at once on every node that it
// is forwarded to, with pushes that gather several of them and pushes that end
// within their records.
func TestPushIsAtomic(t *testing.T) {
	t.Parallel()
	const keys = 40
	w := newWorld()
	a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
	ab, bc := liveLink(t, a, b), liveLink(t, b, c)
	for _, n := range []*node{b, c} {
		n.after = func() {
			if err := torn(n, keys); err != nil {
				t.Error(err)
			}
		}
	}
	for round := range 5 {
		for range round {
			transaction(a, keys, round)
			a.write("ns", "between", fmt.Sprint(round))
		}
		settle(t, ab, bc)
	}
	if n := ab.a.count(wire.TypeBatch); n < 100 {
		t.Errorf("%d batches for 10 transactions: none was cut", n)
	}
	for _, l := range []*link{ab, bc} {
		if n := l.a.s.Report().Namespaces[0].Pushes; n < 8 {
			t.Errorf("%d pushes: too few to test anything", n)
		}
	}
	if err := errors.Join(inSync(a, b, "ns"), inSync(b, c, "ns")); err != nil {
		t.Error(err)
	}
}

// Nothing is sent back to where it came from, and a push costs one DONE.
func TestPushesDoNotEcho(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b, c := newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns")
	ab, bc, ca := liveLink(t, a, b), liveLink(t, b, c), liveLink(t, c, a)
	a.write("ns", "k", "v1")
	settle(t, ab, bc)
	if n := ab.b.count(wire.TypeBatch) + bc.b.count(wire.TypeBatch); n != 0 {
		t.Errorf("%d batches went back", n)
	}
	if n, m := bc.a.count(wire.TypeBatch), bc.a.count(wire.TypeDone); n != 1 || m != 1 {
		t.Errorf("forwarded with %d batches and %d DONE, want 1 and 1", n, m)
	}
	a.write("ns", "k", "v2") // in one stretch of b's journal with what it wrote itself
	b.after = func() { b.write("ns", "mine", "v") }
	settle(t, ab)
	b.after = nil
	if n := ab.b.s.Report().Namespaces[0].Sent; n != 1 {
		t.Errorf("b sent %d versions, want its own", n)
	}
	// A ring: what c got from b it may send to a, which has it; the ring comes
	// to rest all the same.
	settle(t, ab, bc, ca)
	sent := ca.a.count(wire.TypeBatch) + ca.b.count(wire.TypeBatch)
	if sent > 2 {
		t.Errorf("%d batches closed the ring", sent)
	}
	if err := errors.Join(inSync(a, b, "ns"), inSync(b, c, "ns")); err != nil {
		t.Error(err)
	}
}

// Deletes and superseded versions travel with pushes too: clocks stay equal
// without another reconcile.
func TestPushesKeepClocksEqual(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWorld()
	nodes := []*node{newNode(w, 1, "ns"), newNode(w, 2, "ns"), newNode(w, 3, "ns"), newNode(w, 4, "ns")}
	var links []*link
	for i := range nodes[1:] {
		links = append(links, liveLink(t, nodes[i], nodes[i+1]))
	}
	for range 60 {
		for range rng.IntN(6) {
			n, key := nodes[rng.IntN(4)], fmt.Sprint("k", rng.IntN(8))
			if rng.IntN(3) == 0 {
				n.remove("ns", key)
			} else {
				n.write("ns", key, fmt.Sprint(rng.Uint64()))
			}
			for _, l := range links {
				if rng.IntN(3) == 0 { // some of the pushes cross each other
					l.a.s.Notify("ns")
					if err := l.run(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if rng.IntN(5) == 0 {
			nodes[rng.IntN(4)].catchUp("ns")
		}
		settle(t, links...)
		for _, n := range nodes[1:] {
			if err := inSync(nodes[0], n, "ns"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What a node takes in by a reconcile it pushes on while that goes on, and
// what it adopts at its end.
func TestPushWhileReconciling(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	c := newNode(a.w, 3, "ns")
	bc := liveLink(t, b, c)
	ab := newLink(a, b, Config{Live: true})
	defer ab.close()
	steps := 0
	b.after = func() {
		steps++
		b.write("ns", fmt.Sprint("during", steps), "by b")
		if err := bc.notify(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(b.check("ns"), c.check("ns")); err != nil {
			t.Errorf("step %d: %v", steps, err)
		}
	}
	if err := ab.start(); err != nil {
		t.Fatal(err)
	}
	if steps < 3 {
		t.Errorf("%d transactions: too few to test anything", steps)
	}
	settle(t, ab, bc)
	if err := errors.Join(inSync(a, b, "ns"), inSync(b, c, "ns")); err != nil {
		t.Error(err)
	}
}

// A transaction above the largest frame is pushed, and applied as one.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	l := liveLink(t, a, b)
	l.a.s.sizes, l.b.s.sizes = defaultSizes(), defaultSizes()
	values := map[string][]byte{}
	const keys = 160
	for i := range keys {
		values[fmt.Sprint("k", i)] = noise(crdt.MaxValue, byte(i))
	}
	b.applies = 0
	a.put("ns", values)
	if err := l.notify(); err != nil {
		t.Fatal(err)
	}
	if b.applies != 1 || l.a.count(wire.TypeBatch) < keys*crdt.MaxValue/wire.MaxData {
		t.Errorf("%d transactions, %d batches", b.applies, l.a.count(wire.TypeBatch))
	}
	if err := inSync(a, b, "ns"); err != nil {
		t.Error(err)
	}
	if l.a.s.credit < window/2 {
		t.Errorf("%d bytes of credit left, want nearly %d", l.a.s.credit, window)
	}
}

// stuff puts versions of a transaction without end into a session, batch by
// batch, until it refuses.
func stuff(s *Session, number uint64, value []byte, most int) (sent int, err error) {
	e := wire.NewEncoder(s.cfg.Zstd)
	for i := range uint64(most) {
		e.Add(&crdt.Version{
			Key: fmt.Appendf(nil, "k%d", i), Kind: crdt.Put, Value: value, Dot: crdt.Dot{Replica: crdt.ReplicaID{9}, Seq: i + 1},
			First: 1, Last: crdt.MaxSeq,
		})
		if e.Len() >= batchBytes {
			p := e.Flush(0, number)
			sent += len(p)
			if err := s.Receive(wire.Frame{Type: wire.TypeBatch, Payload: p}); err != nil {
				return sent, err
			}
		}
	}
	return sent, nil
}

// What a peer can make this node hold is bounded, however well it compresses.
func TestMemoryOfAReceiver(t *testing.T) {
	t.Parallel()
	for name, value := range map[string][]byte{"noise": noise(crdt.MaxValue), "zeros": make([]byte, crdt.MaxValue), "small": []byte("x")} {
		w := newWorld()
		a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
		l := liveLink(t, a, b)
		l.b.s.sizes = defaultSizes()
		l.b.s.sizes.push, l.b.s.sizes.pushMemory = 4<<20, 16<<20
		if _, err := stuff(l.b.s, 1, value, 200_000); !errors.Is(err, errs.ErrTooLarge) {
			t.Errorf("%s: got %v, want too large", name, err)
		}
		held := l.b.s.spaces[0].held
		if held.content > 5<<20 || held.memory > 24<<20 {
			t.Errorf("%s: %+v held", name, held)
		}
		if b.clock("ns").Count() != 0 {
			t.Errorf("%s: a part was applied", name)
		}
	}
}

// In a reconcile the receiver applies what it holds, and the sender stops when
// nobody confirms.
func TestFlowControl(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	for i := range 12 {
		values := map[string][]byte{}
		for k := range 10 {
			values[fmt.Sprintf("k%d-%d", i, k)] = noise(crdt.MaxValue, byte(i), byte(k))
		}
		a.put("ns", values)
	}
	l := newLink(a, b, Config{})
	defer l.close()
	l.a.s.sizes, l.b.s.sizes = defaultSizes(), defaultSizes()
	under, most := 0, 0 // way
	var held int64
	l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
		switch {
		case f.Type == wire.TypeBatch:
			under += len(f.Payload)
		case f.Type == wire.TypeCredit:
			m, err := wire.DecodeCredit(f.Payload)
			must(err)
			under -= int(m.Bytes)
		}
		most = max(most, under)
		if len(l.b.s.spaces) > 0 {
			held = max(held, l.b.s.spaces[0].held.memory)
		}
		return []wire.Frame{f}
	}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if err := inSync(a, b, "ns"); err != nil {
		t.Fatal(err)
	}
	if most > window+2*batchBytes || most < window || held > 2*window {
		t.Errorf("%d bytes under way (at most %d), %d held", most, window+2*batchBytes, held)
	}
	// And if the receiver never answers:
	c := newNode(w, 3, "ns")
	l = newLink(a, c, Config{})
	l.a.s.sizes = defaultSizes()
	silent := 0
	l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
		if f.Type == wire.TypeBatch && fromA {
			silent += len(f.Payload)
			return nil
		}
		return []wire.Frame{f}
	}
	l.start()
	l.close()
	if silent > window+2*batchBytes {
		t.Errorf("%d bytes to a silent peer, at most %d", silent, window+2*batchBytes)
	}
}
