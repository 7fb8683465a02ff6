package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

func TestReconcile(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	r := mustSync(t, a, b)
	if n := r.Namespaces[0]; n.Tier != "clocks" || n.Sent == 0 || n.Received == 0 || n.Applied.Adopted == 0 || n.Peer != (crdt.ReplicaID{2, 1}) {
		t.Errorf("report %+v", n)
	}
	if r.Turns != 2 {
		t.Errorf("%d round trips, want 2", r.Turns)
	}
}

func TestEqualAtOnce(t *testing.T) {
	t.Parallel()
	a, b := newNode(newWorld(), 1, "default"), newNode(newWorld(), 2, "default")
	a.w = b.w
	a.grow("default", "k", 3)
	mustSync(t, a, b)
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if ra.Turns != 1 || ra.BytesIn+ra.BytesOut > 64 {
		t.Errorf("%d round trips and %d bytes, want 1 and at most 64", ra.Turns, ra.BytesIn+ra.BytesOut)
	}
	for _, r := range []Report{ra, rb} {
		if n := r.Namespaces[0]; n.Tier != "equal" || !n.InSync || n.Root != a.root("default") {
			t.Errorf("report %+v", n)
		}
	}
}

func TestFreshReplica(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "x", "y"), newNode(w, 2, "z")
	a.grow("x", "k", 20)
	b.grow("z", "k", 20)
	if r := mustSync(t, a, b); len(r.Namespaces) != 3 {
		t.Errorf("%d namespaces, want 3", len(r.Namespaces))
	}
	if len(b.spaces) != 3 || len(a.spaces) != 3 {
		t.Errorf("a has %d namespaces and b %d, want 3", len(a.spaces), len(b.spaces))
	}
}

// Named namespaces are made where they are not, the others stay as they are.
func TestNamedNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "x"), newNode(w, 2, "y", "z")
	b.write("y", "k", "v")
	l := newLink(a, b, Config{Namespaces: []string{"y"}})
	defer l.close()
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if err := inSync(a, b, "y"); err != nil || a.spaces["z"] != nil || b.spaces["x"] != nil {
		t.Errorf("got %v and more namespaces than named", err)
	}
}

func TestRefusedNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "open", "secret"), newNode(w, 2, "hidden")
	a.write("open", "k", "v")
	a.write("secret", "k", "v")
	b.refuse = map[string]error{"secret": fmt.Errorf("not yours: %w", errs.ErrReadOnly)}
	a.refuse = map[string]error{"hidden": errs.ErrInvalid}
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Report{ra, rb} {
		if len(r.Namespaces) != 2 || !r.Namespaces[0].InSync || r.Namespaces[1].InSync || !errors.Is(r.Namespaces[1].Err, errs.ErrReadOnly) {
			t.Errorf("report %+v", r.Namespaces)
		}
	}
	if err := inSync(a, b, "open"); err != nil {
		t.Error(err)
	}
	if b.spaces["secret"] != nil || a.spaces["hidden"] != nil {
		t.Error("a refused namespace was made")
	}
}

func TestProtocolVersion(t *testing.T) {
	t.Parallel()
	a, b := newNode(newWorld(), 1, "ns"), newNode(newWorld(), 2, "ns")
	l := newLink(a, b, Config{})
	defer l.close()
	l.deliver = func(_ bool, _ int, f wire.Frame) []wire.Frame {
		if f.Type == wire.TypeHello {
			m, err := wire.DecodeHello(f.Payload)
			must(err)
			m.MinProto, m.MaxProto = 5, 9
			f.Payload = m.Append(nil)
		}
		return []wire.Frame{f}
	}
	l.start()
	for _, err := range []error{l.a.err, l.b.err} {
		if !errors.Is(err, errs.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "protocol 5 to 9, this node 1 to 1") {
			t.Errorf("got %v, want unsupported with both ranges", err)
		}
	}
	var peer *PeerError
	if !errors.As(l.a.err, &peer) || l.a.s.Bye() != nil {
		t.Errorf("got %v, want the peer's reason, and no answer to it", l.a.err)
	}
	s := New(Config{Initiator: true, Zstd: wire.NewZstd()}, a)
	must(s.Start())
	err := s.Receive(wire.Frame{Type: wire.TypeWelcome, Payload: wire.Welcome{Proto: 7}.Append(nil)})
	if !errors.Is(err, errs.ErrUnsupported) || !strings.Contains(err.Error(), "protocol 7, offered 1 to 1") {
		t.Errorf("got %v, want unsupported with both", err)
	}
}

func TestEqualityNeedsProof(t *testing.T) {
	t.Parallel()
	a := newNode(newWorld(), 1, "ns")
	for _, verdicts := range [][]wire.Verdict{
		{{Code: wire.Equal, Proof: [8]byte{1}}}, {}, {{Code: wire.Differs}, {Code: wire.Differs}},
	} {
		s := New(Config{Initiator: true, Zstd: wire.NewZstd()}, a)
		must(s.Start())
		err := s.Receive(wire.Frame{Type: wire.TypeWelcome, Payload: wire.Welcome{Proto: 1, Verdicts: verdicts}.Append(nil)})
		if !errors.Is(err, errs.ErrInvalid) || s.Reconciled() {
			t.Errorf("%v: got %v, want invalid", verdicts, err)
		}
	}
}

// Two versions under one dot, which no honest store writes: clocks are equal,
// contents are not. The comparison finds it, one of the two keeps the dot and
// the other is written again (KERNEL K2 (1)), so that nothing is lost.
func TestUnequalRootsAtEqualClocks(t *testing.T) {
	t.Parallel()
	a, b := newNode(newWorld(), 1, "ns"), newNode(newWorld(), 1, "ns")
	a.write("ns", "k", "one")
	b.write("ns", "k", "two")
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Report{ra, rb} {
		if n := r.Namespaces[0]; n.InSync || n.Tier != "sketch" || n.Applied.Forks != 1 {
			t.Errorf("report %+v, want one fork found by the sketch", n)
		}
	}
	if _, _, err := sync(a, b); err != nil {
		t.Fatal(err)
	}
	if a.root("ns") != b.root("ns") || len(a.get("ns", "k")) != 2 {
		t.Errorf("a has %q, b %q, want both values on both", a.get("ns", "k"), b.get("ns", "k"))
	}
}

// The peer has collected tombstones that this node has not seen: its clock is
// taken only after a comparison (KERNEL K4), which ends at once where the roots
// are equal.
func TestGoneBeyondTheClock(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.write("ns", "k", "v")
	dead := a.write("ns", "x", "1").Dot
	a.remove("ns", "x")
	gone := crdt.NewClock()
	gone.AddRange(crdt.ReplicaID{9}, 1, 3)
	must(a.batch("ns", func(bt *replica.Batch) error { _, err := bt.Adopt(gone, gone); return err }))
	b.adopt = func(_ string, versions []*crdt.Version, adopt *Adoption) (*Adoption, error) {
		if len(versions) > 0 && adopt != nil {
			t.Error("adopted with the stream, before anything was compared")
		}
		return adopt, nil
	}
	l := liveLink(t, a, b)
	n := l.b.s.Report().Namespaces[0]
	if !n.InSync || n.Rounds != 1 || n.Tier != "clocks" || n.Applied.New != 2 || n.Applied.Adopted != 4 {
		t.Errorf("report %+v", n)
	}
	if !b.clock("ns").Has(dead) || !b.clock("ns").Has(crdt.Dot{Replica: crdt.ReplicaID{9}, Seq: 1}) {
		t.Error("not adopted although the roots are equal")
	}
	b.view("ns", func(v *replica.View) {
		if !v.Gone().Equal(gone) {
			t.Errorf("gone marks %v, want those of the peer", v.Gone())
		}
	})
}

// A peer whose DONE lies.
func TestLiar(t *testing.T) {
	t.Parallel()
	self := crdt.ReplicaID{2, 1}
	future := crdt.NewClock()
	future.AddRange(self, 1, 50)
	jump := crdt.NewClock()
	jump.AddRange(crdt.ReplicaID{3, 1}, 1<<41, 1<<41)
	tests := map[string]struct {
		adopt  crdt.Clock
		want   error
		forked bool
	}{
		"our own future": {future, nil, true},
		"beyond 2^40":    {jump, errs.ErrInvalid, false},
	}
	for name, tt := range tests {
		w := newWorld()
		a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
		a.write("ns", "k", "v")
		mine := b.write("ns", "mine", "kept")
		before := b.clock("ns")
		l := newLink(a, b, Config{})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			if fromA && f.Type == wire.TypeDone {
				m, err := wire.DecodeDone(f.Payload, l.b.s.cfg.Zstd)
				must(err)
				m.Adopt = tt.adopt
				f.Payload = m.Append(nil, l.b.s.cfg.Zstd)
			}
			return []wire.Frame{f}
		}
		l.start()
		l.close()
		if !errors.Is(l.b.err, tt.want) || (l.b.err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", name, l.b.err, tt.want)
		}
		if got := b.spaces["ns"].Forked(); got != tt.forked {
			t.Errorf("%s: forked %v, want %v", name, got, tt.forked)
		}
		if tt.want != nil && !b.clock("ns").Equal(before) {
			t.Errorf("%s: the clock moved", name)
		}
		if got := b.get("ns", "mine"); len(got) != 1 || got[0] != "kept" || !b.clock("ns").Has(mine.Dot) {
			t.Errorf("%s: own write is %q", name, got)
		}
	}
}

// What was committed between the digest and the answer is pushed, although
// nobody says so again.
func TestWriteWhileOpening(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	l := newLink(a, b, Config{Live: true})
	defer l.close()
	must(l.a.s.Start())
	a.write("ns", "k", "by a")
	l.a.take()
	if err := l.run(); err != nil {
		t.Fatal(err)
	}
	if err := inSync(a, b, "ns"); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsStay(t *testing.T) {
	t.Parallel()
	s := New(Config{Zstd: wire.NewZstd()}, newNode(newWorld(), 1, "ns"))
	first := s.Receive(wire.Frame{Type: wire.TypeCheck})
	_, pump := s.Pump()
	if again := s.Receive(wire.Frame{Type: wire.TypePing}); first == nil || again != first || pump != first {
		t.Errorf("got %v, then %v and %v", first, again, pump)
	}
	m, err := wire.DecodeBye(s.Bye()[2 : len(s.Bye())-4])
	if err != nil || m.Kind != errs.KindInvalid || !strings.Contains(m.Message, "CHECK") {
		t.Errorf("BYE says %+v, %v", m, err)
	}
}
