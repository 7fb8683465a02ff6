package session

import (
	"bytes"
	"errors"
	"iter"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
)

type versionSeq = iter.Seq2[*crdt.Version, error]

// link joins two sessions frame by frame, in one goroutine: the same sessions
// give the same run.
type link struct {
	a, b end // a is the initiator
	// deliver, if not nil, decides what arrives in the place of a frame. n
	// counts the frames that a sent, or b.
	deliver func(fromA bool, n int, f wire.Frame) []wire.Frame
	hold    bool // nothing is pumped: what there is to answer is answered
}

// end is one side of a link.
type end struct {
	s     *Session
	err   error
	sent  int          // frames taken off the session
	queue []wire.Frame // taken and not delivered
	log   []wire.Frame // all of them
}

// small makes batches of three versions, applied four at a time.
var small = sizes{
	batch: 400, apply: 900, applyMemory: 4 << 20, records: 4, memory: tailMemory, push: crdt.MaxBatch, pushMemory: 16 << 20,
}

func newLink(a, b *node, cfg Config) *link {
	cfg.Zstd, cfg.Salt = a.w.zstd, [8]byte{1, 2, 3}
	other := cfg
	cfg.Initiator, other.Namespaces = true, nil
	l := &link{a: end{s: New(cfg, a)}, b: end{s: New(other, b)}}
	l.a.s.sizes, l.b.s.sizes = small, small
	return l
}

// take moves the session's output into the queue.
func (e *end) take() (any bool) {
	r := wire.NewReader(bytes.NewReader(e.s.Output()))
	for {
		f, err := r.Next()
		if err != nil {
			return any
		}
		f.Payload = bytes.Clone(f.Payload)
		e.queue, e.log = append(e.queue, f), append(e.log, f)
		any = true
	}
}

// pump makes all the output there is to make.
func (e *end) pump() (any bool) {
	for e.err == nil {
		more, err := e.s.Pump()
		e.fail(err)
		any = e.take() || any
		if !more {
			break
		}
	}
	return any
}

func (e *end) fail(err error) {
	if err != nil && e.err == nil {
		e.err = err
		if bye := e.s.Bye(); bye != nil {
			e.take()
			f, _ := wire.NewReader(bytes.NewReader(bye)).Next()
			e.queue = append(e.queue, wire.Frame{Type: f.Type, Payload: bytes.Clone(f.Payload)})
		}
	}
}

// receive hands the frames of from to e.
func (l *link) receive(e, from *end) (any bool) {
	for len(from.queue) > 0 {
		f := from.queue[0]
		from.queue = from.queue[1:]
		frames := []wire.Frame{f}
		if l.deliver != nil {
			frames = l.deliver(from == &l.a, from.sent, f)
		}
		from.sent++
		any = true
		for _, f := range frames {
			if e.err == nil {
				e.fail(e.s.Receive(f))
				e.take()
			}
		}
	}
	return any
}

// run moves frames until nothing moves any more, and returns the first error.
func (l *link) run() error {
	for progress := true; progress; {
		progress = l.receive(&l.b, &l.a)
		progress = l.receive(&l.a, &l.b) || progress
		if !l.hold {
			progress = l.a.pump() || progress
			progress = l.b.pump() || progress
		}
	}
	return errors.Join(l.a.err, l.b.err)
}

// start begins the session and runs it.
func (l *link) start() error {
	l.a.fail(l.a.s.Start())
	l.a.take()
	return l.run()
}

// notify tells both sides that their journals have grown, and runs.
func (l *link) notify() error {
	l.a.s.Notify("")
	l.b.s.Notify("")
	return l.run()
}

func (l *link) close() {
	l.a.s.Close()
	l.b.s.Close()
}

// sync runs a whole session and returns the reports of both sides.
func sync(a, b *node) (ra, rb Report, err error) {
	l := newLink(a, b, Config{})
	defer l.close()
	err = l.start()
	if err == nil && !(l.a.s.Reconciled() && l.b.s.Reconciled()) {
		err = errors.New("session is stuck")
	}
	return l.a.s.Report(), l.b.s.Report(), err
}

// mustSync runs a session that has to end in proven agreement.
func mustSync(t testing.TB, a, b *node) Report {
	t.Helper()
	ra, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Report{ra, rb} {
		for _, n := range r.Namespaces {
			if !n.InSync || n.Err != nil {
				t.Fatalf("namespace %q: in sync %v, error %v", n.Name, n.InSync, n.Err)
			}
		}
	}
	for name := range a.spaces {
		if err := inSync(a, b, name); err != nil {
			t.Fatal(err)
		}
	}
	return ra
}

// liveLink opens a live session that has reconciled.
func liveLink(t testing.TB, a, b *node) *link {
	t.Helper()
	l := newLink(a, b, Config{Live: true})
	t.Cleanup(l.close)
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if !l.a.s.Reconciled() || !l.b.s.Reconciled() {
		t.Fatal("session is stuck")
	}
	return l
}
