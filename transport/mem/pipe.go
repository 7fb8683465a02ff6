package mem

import "time"

// pipe is one direction of a connection: what its source writes, its
// destination reads. Its fields are guarded by the connection's lock.
//
// On an ideal link a Write copies into rbuf. Otherwise it copies into sbuf and
// cuts segments; a segment's bytes stay in sbuf until they are acknowledged,
// so segments on the way, lost or waiting for predecessors are only numbers.
type pipe struct {
	c        *conn
	src, dst *Stream
	link     *link // from src to dst
	back     *link // from dst to src, for acknowledgements
	seed     uint64

	sbuf     ring
	acked    uint64    // offset of sbuf's first byte in the stream
	end      uint64    // offset behind the last byte accepted
	segs     []segment // not yet delivered, in order
	base     uint64    // number of segs[0]
	unsent   uint64    // number of the first segment never transmitted
	flight   int       // bytes transmitted and not delivered
	held     []event   // arrivals kept back by a clogged link
	ended    bool      // nothing more will be written
	writable signal

	rbuf     ring
	eof      bool // the source ended after rbuf
	readable signal
}

// segment is a piece of the stream on its way.
type segment struct {
	kind    segmentKind
	arrived bool
	tries   int // transmissions so far
	n       int // bytes
	off     uint64
	first   time.Duration // when its first transmission left
}

type segmentKind byte

const (
	data segmentKind = iota
	fin              // the end of the data
	rst              // the source is closed
)

func newPipe(src, dst *Stream, to, back *link, seed uint64) *pipe {
	w := src.c.net.o.Window
	return &pipe{
		c: src.c, src: src, dst: dst, link: to, back: back, seed: seed,
		sbuf: ring{max: w}, writable: newSignal(),
		rbuf: ring{max: w}, readable: newSignal(),
	}
}

// accept takes what fits of b and sends it.
func (p *pipe) accept(b []byte) (n int) {
	o := &p.c.net.o
	if p.link.ideal.Load() && p.dst.err == nil && len(p.segs) == 0 && p.sbuf.n == 0 {
		if n = p.rbuf.write(b); n > 0 {
			p.end += uint64(n)
			p.acked = p.end
			p.link.count.passed(n, o.Segment)
			p.readable.set()
		}
	} else {
		for n < len(b) {
			m := min(len(b)-n, o.Segment)
			if p.sbuf.free() < m {
				break // whole segments only: their borders depend on nothing but the writes
			}
			p.sbuf.write(b[n : n+m])
			p.enqueue(data, m)
			n += m
		}
		p.flush()
	}
	if n > 0 && p.c.last != p {
		p.c.last = p
		p.link.count.turns.Add(1)
	}
	return n
}

// fetch moves what has arrived to b.
func (p *pipe) fetch(b []byte) int {
	n := p.rbuf.read(b)
	if len(p.segs) > 0 {
		p.flush() // the window has opened
	} else {
		p.writable.set()
	}
	return n
}

// finish ends the data.
func (p *pipe) finish() {
	p.ended = true
	p.writable.set()
	p.enqueue(fin, 0)
	p.flush()
}

// reset gives up what was not delivered and tells the other end.
func (p *pipe) reset() {
	p.drop()
	p.ended = true
	p.enqueue(rst, 0)
}

// drop forgets everything not delivered; its events find nothing.
func (p *pipe) drop() {
	p.base += uint64(len(p.segs))
	p.unsent = p.base
	p.segs, p.held, p.flight = nil, nil, 0
	p.sbuf.reset()
	p.acked = p.end
	p.settle()
}

// settle lets the source's node forget a stream that is over.
func (p *pipe) settle() {
	if len(p.segs) == 0 && p.src.err != nil && p.src.node != nil {
		p.src.node.remove(p.src)
	}
}

func (p *pipe) enqueue(kind segmentKind, n int) {
	p.segs = append(p.segs, segment{kind: kind, off: p.end, n: n})
	p.end += uint64(n)
}

// flush transmits what the window allows and runs what is due.
func (p *pipe) flush() {
	now := p.c.net.now()
	p.pump(now)
	p.c.run(now)
}

// pump transmits what the window allows.
func (p *pipe) pump(now time.Duration) {
	for p.unsent < p.base+uint64(len(p.segs)) {
		s := &p.segs[p.unsent-p.base]
		if p.flight+p.rbuf.n+s.n > p.rbuf.max {
			return
		}
		p.flight += s.n
		p.link.count.payload.Add(int64(s.n))
		p.transmit(p.unsent, now)
		p.unsent++
	}
}

// transmit puts a segment on the wire.
func (p *pipe) transmit(no uint64, now time.Duration) {
	s := &p.segs[no-p.base]
	d := roll(p.seed, s.off, s.tries)
	depart, l := p.link.depart(now, s.n)
	if s.tries == 0 {
		s.first = depart
	} else {
		p.link.count.retransmitted.Add(1)
	}
	s.tries++
	p.link.count.transmitted(s.n)

	e := event{pipe: p, kind: arrival, no: no, depart: depart, lost: d.loss < l.Loss}
	e.at = depart + l.Latency + d.upTo(l.Jitter)
	if d.reorder < l.Reorder {
		e.at += d.upTo(l.Latency + l.Jitter + time.Millisecond)
		p.link.count.reordered.Add(1)
	}
	p.c.schedule(e)
	if !e.lost && d.duplicate < l.Duplicate {
		p.link.count.duplicated.Add(1)
		p.link.count.transmitted(s.n)
		depart, l = p.link.depart(depart, s.n)
		e.at, e.extra = depart+l.Latency+d.upTo(l.Jitter), true
		p.c.schedule(e)
	}
}

func (p *pipe) handle(e *event) {
	switch e.kind {
	case arrival:
		p.arrive(e)
	case retransmission:
		p.retransmit(e)
	case acknowledgement:
		if e.no > p.acked {
			p.sbuf.discard(int(e.no - p.acked))
			p.acked = e.no
			p.writable.set()
		}
	case refusal:
		p.src.fail(unavailable("the other end is closed"))
		p.drop()
	}
}

// pending returns a segment by its number, nil if it was delivered, has
// arrived or was dropped.
func (p *pipe) pending(no uint64) *segment {
	if no < p.base || p.segs[no-p.base].arrived {
		return nil
	}
	return &p.segs[no-p.base]
}

// arrive handles a segment's arrival at the far end of the link.
func (p *pipe) arrive(e *event) {
	l, blocked := p.link.state()
	s := p.pending(e.no)
	refused := p.dst.err != nil && s != nil && s.kind == data
	back, deaf := p.back.state()
	switch {
	case e.lost || blocked:
		p.link.count.dropped.Add(1)
		if s != nil && !e.extra {
			p.giveTime(s, e, l)
		}
	case p.link.hold(p):
		p.held = append(p.held, *e)
	case s == nil: // a duplicate
	case refused && deaf:
		p.giveTime(s, e, l)
	case refused:
		p.c.schedule(event{at: e.at + back.Latency, pipe: p, kind: refusal})
	default:
		s.arrived = true
		if d := roll(p.seed, s.off, s.tries-1); s.n > 0 && d.corrupt < l.Corrupt {
			p.flip(s, d.bit)
		}
		p.deliver(e.at + back.Latency)
		p.pump(e.at)
	}
}

// giveTime schedules the retransmission of a segment that did not arrive, at
// the latest for the end of the stall timeout.
func (p *pipe) giveTime(s *segment, e *event, l LinkProfile) {
	at := min(e.depart+backoff(l.rto(), s.tries-1), s.first+p.c.net.o.StallTimeout)
	p.c.schedule(event{at: max(at, e.at), pipe: p, kind: retransmission, no: e.no})
}

// retransmit sends a segment again or gives up the stream.
func (p *pipe) retransmit(e *event) {
	o := &p.c.net.o
	s := p.pending(e.no)
	switch {
	case s == nil:
	case s.tries <= o.Retries && e.at < s.first+o.StallTimeout:
		p.transmit(e.no, e.at)
	case s.kind == rst:
		p.drop()
	default:
		p.src.fail(unavailable("link stalled"))
		p.reset()
		p.pump(e.at)
	}
}

// flip changes one bit of a segment that waits in sbuf.
func (p *pipe) flip(s *segment, bit uint64) {
	bit %= uint64(s.n) * 8
	x, _ := p.sbuf.view(int(s.off-p.acked+bit/8), 1)
	x[0] ^= 1 << (bit % 8)
	p.link.count.corrupt.Add(1)
}

// deliver hands over the segments that arrived in order. They are
// acknowledged at time ack.
func (p *pipe) deliver(ack time.Duration) {
	for len(p.segs) > 0 && p.segs[0].arrived {
		s := p.segs[0]
		p.segs = p.segs[1:]
		p.base++
		switch s.kind {
		case data:
			x, y := p.sbuf.view(int(s.off-p.acked), s.n)
			p.rbuf.write(x)
			p.rbuf.write(y)
			p.flight -= s.n
			p.link.count.delivered.Add(int64(s.n))
			p.c.schedule(event{at: ack, pipe: p, kind: acknowledgement, no: s.off + uint64(s.n)})
		case fin:
			p.eof = true
		case rst:
			p.dst.fail(unavailable("reset by the other end"))
			p.dst.out.drop()
		}
	}
	p.readable.set()
	p.settle()
}

// release lets through what a clogged link held back.
func (p *pipe) release() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	now := p.c.net.now()
	held := p.held
	p.held = nil
	for _, e := range held {
		e.at = now
		p.c.schedule(e)
	}
	p.c.run(now)
}
