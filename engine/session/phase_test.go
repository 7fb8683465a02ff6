package session

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// stage runs a session up to a point and returns the side that stands there.
type stage struct {
	name   string
	n, m   int // frames of the initiator and of the responder that arrive
	first  bool
	refuse bool
	may    []string // the frames that are accepted there
}

// stages are all phases of both roles. BYE, PING and types that may be ignored
// are accepted in each.
var stages = []stage{
	{name: "initiator, HELLO sent", first: true, may: []string{"WELCOME"}},
	{name: "initiator, STATE is due", n: 1, m: 1, first: true, may: []string{"STATE", "CREDIT"}},
	{name: "initiator, streams", n: 1, m: 2, first: true, may: []string{"BATCH 0", "DONE 0", "CREDIT"}},
	{name: "initiator, live", n: 1e6, m: 1e6, first: true, may: []string{"BATCH 1", "DONE 1", "CREDIT"}},
	{name: "initiator, refused", n: 1e6, m: 1e6, first: true, refuse: true, may: []string{"CREDIT"}},
	{name: "responder, HELLO is due", may: []string{"HELLO"}},
	{name: "responder, STATE is due", n: 1, may: []string{"STATE", "OPEN", "CREDIT"}},
	{name: "responder, streams", n: 2, m: 2, may: []string{"BATCH 0", "DONE 0", "OPEN", "CREDIT"}},
	{name: "responder, live", n: 1e6, m: 1e6, may: []string{"BATCH 1", "DONE 1", "OPEN", "CREDIT"}},
	{name: "responder, refused", n: 1e6, m: 1e6, refuse: true, may: []string{"OPEN", "CREDIT"}},
}

// reach returns the session at that stage, and its node.
func (st stage) reach(t *testing.T, a, b *node) (*Session, *node) {
	t.Helper()
	a, b = a.clone(), b.clone()
	if st.refuse {
		b.refuse = map[string]error{"ns": errs.ErrReadOnly}
	}
	l := newLink(a, b, Config{Live: true})
	t.Cleanup(l.close)
	l.hold = st.n == 1 && st.m == 2 || st.n == 2
	l.deliver = cutAfter(st.n, st.m)
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if st.first {
		return l.a.s, a
	}
	return l.b.s, b
}

// frames returns a well-formed frame of every type.
func frames(z *wire.Zstd) map[string]wire.Frame {
	batch := func(number uint64) []byte {
		e := wire.NewEncoder(z)
		e.Add(&crdt.Version{
			Key: []byte("sent"), Kind: crdt.Put, Dot: crdt.Dot{Replica: crdt.ReplicaID{7}, Seq: 1}, First: 1, Last: 1, Value: []byte("x"),
		})
		return bytes.Clone(e.Flush(0, number))
	}
	done := func(number uint64) []byte {
		return wire.Done{Number: number, Adopt: crdt.NewClock(), Gone: crdt.NewClock()}.Append(nil, z)
	}
	state := wire.State{Snapshot: wire.Snapshot{Node: crdt.ReplicaID{7}, Clock: crdt.NewClock(), Gone: crdt.NewClock()}}
	bundle := wire.Bundle{Namespace: "ns", Base: crdt.NewClock(), Snapshot: state.Snapshot}
	return map[string]wire.Frame{
		"HELLO":     {Type: wire.TypeHello, Payload: wire.Hello{MinProto: 1, MaxProto: 1, Entries: []wire.Entry{{Namespace: "ns"}}}.Append(nil)},
		"WELCOME":   {Type: wire.TypeWelcome, Payload: wire.Welcome{Proto: 1, Verdicts: []wire.Verdict{{Code: wire.Differs}}}.Append(nil)},
		"STATE":     {Type: wire.TypeState, Payload: state.Append(nil, z)},
		"BATCH 0":   {Type: wire.TypeBatch, Payload: batch(0)},
		"BATCH 1":   {Type: wire.TypeBatch, Payload: batch(1)},
		"BATCH 2":   {Type: wire.TypeBatch, Payload: batch(2)},
		"DONE 0":    {Type: wire.TypeDone, Payload: done(0)},
		"DONE 1":    {Type: wire.TypeDone, Payload: done(1)},
		"DONE 2":    {Type: wire.TypeDone, Payload: done(2)},
		"CHECK":     {Type: wire.TypeCheck, Payload: wire.Check{}.Append(nil)},
		"CREDIT":    {Type: wire.TypeCredit, Payload: wire.Credit{}.Append(nil)},
		"FIX rest":  {Type: wire.TypeFix, Payload: wire.Fix{Want: crdt.NewClock(), Rest: true}.Append(nil, z)},
		"OPEN":      {Type: wire.TypeOpen, Payload: wire.Open{Entries: []wire.Entry{{Namespace: "new"}}}.Append(nil)},
		"BUNDLE":    {Type: wire.TypeBundle, Payload: bundle.Append(nil, z)},
		"HISTORY":   {Type: wire.TypeHistory, Payload: batch(0)},
		"PING":      {Type: wire.TypePing},
		"type(63)":  {Type: 63},
		"type(255)": {Type: 255, Payload: []byte("whatever")},
	}
}

// Each frame in each phase: accepted where it belongs, elsewhere refused by
// name, with nothing changed.
func TestEveryFrameInEveryPhase(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.grow("ns", "a", 1)
	b.grow("ns", "b", 1)
	for _, st := range stages {
		for name, f := range frames(w.zstd) {
			s, n := st.reach(t, a, b)
			if strings.HasPrefix(name, "DONE") || strings.HasPrefix(name, "BATCH") {
				s.dec = wire.NewDecoder(s.cfg.Zstd) // the frame is the stream's first
			}
			before := n.clock("ns")
			err := s.Receive(f)
			if may := slices.Contains(append(st.may, "PING", "type(255)"), name); may != (err == nil) {
				t.Errorf("%s: %s: got %v, want accepted: %v", st.name, name, err, may)
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrUnsupported) || !strings.Contains(err.Error(), f.Type.String()) {
				t.Errorf("%s: %s: got %v, want an error that names it", st.name, name, err)
			}
			if !n.clock("ns").Equal(before) || n.spaces["new"] != nil {
				t.Errorf("%s: %s was refused and changed something", st.name, name)
			}
		}
		for kind, want := range map[errs.Kind]error{errs.KindOther: errs.ErrUnavailable, errs.KindPoisoned: errs.ErrPoisoned} {
			s, _ := st.reach(t, a, b)
			err := s.Receive(wire.Frame{Type: wire.TypeBye, Payload: wire.Bye{Kind: kind, Message: "so long"}.Append(nil)})
			var peer *PeerError
			if !errors.Is(err, want) || !errors.As(err, &peer) || peer.Message != "so long" || s.Bye() != nil {
				t.Errorf("%s: BYE: got %v", st.name, err)
			}
		}
	}
}

// Frames that are in turn and do not fit the session.
func TestFramesThatDoNotFit(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.grow("ns", "a", 1)
	z := w.zstd
	await, streams := stages[6], stages[7]
	tests := []struct {
		name  string
		stage stage
		frame wire.Frame
		text  string
	}{
		{"credit", streams, wire.Frame{Type: wire.TypeCredit, Payload: wire.Credit{Bytes: 1}.Append(nil)}, "CREDIT of 1 bytes, 0 were sent"},
		{"most credit", streams, wire.Frame{Type: wire.TypeCredit, Payload: wire.Credit{Bytes: 1<<64 - 1}.Append(nil)}, "were sent"},
		{"batches missing", streams, wire.Frame{Type: wire.TypeDone, Payload: wire.Done{Batches: 3, Adopt: crdt.NewClock(), Gone: crdt.NewClock()}.Append(nil, z)}, "after batch 3, 0 arrived"},
		{"index", streams, wire.Frame{Type: wire.TypeCheck, Payload: wire.Check{NS: 1}.Append(nil)}, "namespace index 1 of 1"},
		{"twice", await, wire.Frame{Type: wire.TypeOpen, Payload: wire.Open{Entries: []wire.Entry{{Namespace: "ns"}}}.Append(nil)}, `"ns" named twice`},
		{"malformed", await, wire.Frame{Type: wire.TypeState, Payload: []byte{0}}, "invalid"},
		{"no payload", streams, wire.Frame{Type: wire.TypeBatch}, "batch"},
	}
	for _, tt := range tests {
		s, n := tt.stage.reach(t, a, b)
		before := n.clock("ns")
		err := s.Receive(tt.frame)
		if !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), tt.text) || !n.clock("ns").Equal(before) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.text)
		}
	}
	s := New(Config{Zstd: z}, b.clone())
	double := wire.Hello{MinProto: 1, MaxProto: 1, Entries: []wire.Entry{{Namespace: "ns"}, {Namespace: "ns"}}}
	if err := s.Receive(wire.Frame{Type: wire.TypeHello, Payload: double.Append(nil)}); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("namespace twice in HELLO: got %v, want invalid", err)
	}
}
