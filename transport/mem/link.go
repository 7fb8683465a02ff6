package mem

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// LinkProfile is how one direction of a link behaves. The zero value is
// perfect: no delay, no limit, no fault. Probabilities are per segment
// transmitted and lie in [0, 1].
type LinkProfile struct {
	Latency   time.Duration // of one way
	Jitter    time.Duration // up to so much is added to Latency, uniformly; it reorders too
	Bandwidth int64         // bytes per second, shared by all streams; 0 = unlimited

	Loss      float64 // the segment does not arrive
	Duplicate float64 // it arrives twice
	Reorder   float64 // it is late by up to Latency + Jitter + 1 ms, so that later ones overtake it
	Corrupt   float64 // one bit of its payload flips, unseen by the stream
}

// rto is the first retransmission timeout.
func (p LinkProfile) rto() time.Duration { return 2*(p.Latency+p.Jitter) + baseRTO }

// backoff doubles a timeout per try.
func backoff(rto time.Duration, try int) time.Duration { return rto << min(try, 16) }

// link is one direction between two addresses.
type link struct {
	seed  uint64
	ideal atomic.Bool // no delay, no fault, no blockade: the fast path
	count counters

	mu      sync.Mutex // a leaf lock
	profile LinkProfile
	parted  bool          // between two partitions
	swallow bool          // half-open
	clogged bool          // arrivals wait
	held    []*pipe       // with arrivals waiting
	free    time.Duration // when the last byte handed to a limited link has left
	streams uint64        // dialed over this direction
}

func newLink(seed uint64, p LinkProfile) *link { return &link{seed: seed, profile: p} }

// update changes the link's state.
func (l *link) update(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.ideal.Store(l.profile == LinkProfile{} && !l.parted && !l.swallow && !l.clogged)
}

// state returns the profile and whether segments are swallowed.
func (l *link) state() (p LinkProfile, blocked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.profile, l.parted || l.swallow
}

// number returns the next stream's number on this link.
func (l *link) number() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams++
	return l.streams
}

// depart queues n bytes at time at and returns when the last one has left,
// with the profile that applies.
func (l *link) depart(at time.Duration, n int) (time.Duration, LinkProfile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bw := l.profile.Bandwidth; bw > 0 {
		at = max(at, l.free) + time.Duration(float64(n)/float64(bw)*float64(time.Second))
		l.free = at
	}
	return at, l.profile
}

// hold says whether arrivals wait for Unclog, and then notes whose.
func (l *link) hold(p *pipe) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clogged && len(p.held) == 0 {
		l.held = append(l.held, p)
	}
	return l.clogged
}

// handshake sends the try-th connection request or answer: how long it takes,
// and whether it arrives.
func (l *link) handshake(seed uint64, try int) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := roll(seed, ^uint64(0), try)
	l.count.segments.Add(1)
	if d.loss < l.profile.Loss || l.parted || l.swallow || l.clogged {
		l.count.dropped.Add(1)
		return 0, false
	}
	return l.profile.Latency + d.upTo(l.profile.Jitter), true
}

// dice are the draws that decide the fate of one transmission.
type dice struct {
	loss, duplicate, reorder, corrupt float64
	bit                               uint64
	pcg                               rand.PCG // for delays
}

// roll draws for the try-th transmission of the segment at an offset; the
// same arguments give the same draws.
func roll(seed, off uint64, try int) dice {
	var d dice
	d.pcg.Seed(seed, off<<8|uint64(try&0xff))
	d.pcg.Uint64()
	d.loss, d.duplicate, d.reorder, d.corrupt = d.unit(), d.unit(), d.unit(), d.unit()
	d.bit = d.pcg.Uint64()
	return d
}

// unit draws from [0, 1).
func (d *dice) unit() float64 { return float64(d.pcg.Uint64()>>11) / (1 << 53) }

// upTo draws a duration below limit.
func (d *dice) upTo(limit time.Duration) time.Duration {
	return time.Duration(d.unit() * float64(limit))
}

// Stats counts what one link direction, or a whole network, carried since it
// was made. Opening and ending a stream costs segments without bytes.
type Stats struct {
	Dials                 int64 // streams opened over this direction
	Segments              int64 // put on the wire, retransmissions and duplicates included
	RetransmittedSegments int64
	DuplicatedSegments    int64 // second copies
	DroppedSegments       int64 // lost by chance, partition or half-open link
	ReorderedSegments     int64 // made late on purpose
	CorruptSegments       int64 // with a flipped bit, counted on delivery
	PayloadBytes          int64 // accepted from writers and transmitted, each byte once
	WireBytes             int64 // put on the wire, each time they were
	DeliveredBytes        int64 // arrived in order at the receiver, each byte once
	// Turns counts how often data went this way on a stream after it had gone
	// the other way, or first. Request and answer are two turns, so the sum of
	// both directions halved is the number of round trips.
	Turns int64
}

func (s *Stats) add(t Stats) {
	s.Dials += t.Dials
	s.Segments += t.Segments
	s.RetransmittedSegments += t.RetransmittedSegments
	s.DuplicatedSegments += t.DuplicatedSegments
	s.DroppedSegments += t.DroppedSegments
	s.ReorderedSegments += t.ReorderedSegments
	s.CorruptSegments += t.CorruptSegments
	s.PayloadBytes += t.PayloadBytes
	s.WireBytes += t.WireBytes
	s.DeliveredBytes += t.DeliveredBytes
	s.Turns += t.Turns
}

// counters are the live form of Stats.
type counters struct {
	dials, segments, retransmitted, duplicated, dropped, reordered, corrupt atomic.Int64
	payload, wire, delivered, turns                                         atomic.Int64
}

// transmitted counts one segment of n bytes on the wire.
func (c *counters) transmitted(n int) {
	c.segments.Add(1)
	c.wire.Add(int64(n))
}

// passed counts n bytes that arrived as they were written.
func (c *counters) passed(n, segment int) {
	c.segments.Add(int64((n + segment - 1) / segment))
	c.payload.Add(int64(n))
	c.wire.Add(int64(n))
	c.delivered.Add(int64(n))
}

func (c *counters) stats() Stats {
	return Stats{
		Dials:                 c.dials.Load(),
		Segments:              c.segments.Load(),
		RetransmittedSegments: c.retransmitted.Load(),
		DuplicatedSegments:    c.duplicated.Load(),
		DroppedSegments:       c.dropped.Load(),
		ReorderedSegments:     c.reordered.Load(),
		CorruptSegments:       c.corrupt.Load(),
		PayloadBytes:          c.payload.Load(),
		WireBytes:             c.wire.Load(),
		DeliveredBytes:        c.delivered.Load(),
		Turns:                 c.turns.Load(),
	}
}
