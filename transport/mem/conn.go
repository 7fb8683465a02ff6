package mem

import (
	"sync"
	"time"

	"bzzz/transport"
)

// conn joins two streams by two pipes and runs the events of both, under one
// lock that is never held across a wait. It has no goroutine: due events run
// in whoever writes, reads or closes, the others in a timer's callback.
type conn struct {
	net  *Net
	ends [2]*Stream // the dialer's first

	mu    sync.Mutex
	queue []event // a heap
	seq   uint64
	timer *time.Timer
	wake  time.Duration // when the timer fires; 0: not set
	last  *pipe         // that was written to most recently
}

// newConn makes the number-th connection dialed over from -> to.
func newConn(n *Net, from, to transport.Addr, number uint64) *conn {
	c := &conn{net: n}
	id := n.ids.Add(2)
	out, back := n.link(from, to), n.link(to, from)
	a := &Stream{c: c, id: id, peer: to}
	b := &Stream{c: c, id: id + 1, peer: from}
	c.ends = [2]*Stream{a, b}
	a.out = newPipe(a, b, out, back, mix(out.seed, number<<1))
	b.out = newPipe(b, a, back, out, mix(back.seed, number<<1|1))
	a.in, b.in = b.out, a.out
	return c
}

// cut breaks both ends.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.ends {
		s.fail(unavailable("stream cut"))
		s.out.drop()
	}
}

// event is something that happens to a pipe at a time.
type event struct {
	at   time.Duration
	seq  uint64 // breaks ties in the order of scheduling
	pipe *pipe
	kind eventKind
	no   uint64 // the segment's number; of an acknowledgement the offset

	depart time.Duration // of an arrival: when the segment left
	lost   bool          // of an arrival: it does not arrive
	extra  bool          // of an arrival: the second copy
}

type eventKind byte

const (
	arrival         eventKind = iota // of a segment at the receiver, unless it is lost
	retransmission                   // the sender's timeout for a lost segment
	acknowledgement                  // of everything before an offset, at the sender
	refusal                          // data came to a closed end: news of it at the sender
)

// schedule adds an event.
func (c *conn) schedule(e event) {
	c.seq++
	e.seq = c.seq
	q := append(c.queue, e)
	i := len(q) - 1
	for i > 0 && q[i].before(&q[(i-1)/2]) {
		q[i], q[(i-1)/2] = q[(i-1)/2], q[i]
		i = (i - 1) / 2
	}
	c.queue = q
}

// next removes the first event.
func (c *conn) next() event {
	q := c.queue
	e := q[0]
	n := len(q) - 1
	q[0], q[n] = q[n], event{}
	q = q[:n]
	for i := 0; ; {
		k := 2*i + 1
		if k >= n {
			break
		}
		if k+1 < n && q[k+1].before(&q[k]) {
			k++
		}
		if !q[k].before(&q[i]) {
			break
		}
		q[i], q[k] = q[k], q[i]
		i = k
	}
	c.queue = q
	return e
}

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

// run handles what is due and sets the timer for the rest.
func (c *conn) run(now time.Duration) {
	for len(c.queue) > 0 && c.queue[0].at <= now {
		e := c.next()
		e.pipe.handle(&e)
	}
	if len(c.queue) == 0 {
		return
	}
	at := c.queue[0].at
	switch {
	case c.wake == at:
		return
	case c.timer == nil:
		c.timer = time.AfterFunc(at-now, c.tick)
	default:
		c.timer.Reset(at - now)
	}
	c.wake = at
}

// tick is the timer's callback.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = 0
	c.run(c.net.now())
}
