package mem

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/transport"
)

// Defaults of Options.
const (
	DefaultWindow       = 256 << 10             // bytes each way and end; about the initial socket buffers of Linux
	DefaultSegment      = 1400                  // bytes; an Ethernet frame less the headers of IP, TCP or QUIC
	DefaultRetries      = 8                     // retransmissions of one segment; TCP gives up after 15, too long for tests
	DefaultStallTimeout = 5 * time.Second       // of one segment without delivery
	DefaultDialTimeout  = 5 * time.Second       // of one Dial
	DefaultBacklog      = 128                   // streams not yet accepted, as SOMAXCONN was for long
	baseRTO             = 10 * time.Millisecond // added to two one-way trips; the smallest retransmission timeout
)

// Options of a Net. The zero value is a perfect network with the defaults;
// values below one mean the default.
type Options struct {
	Seed uint64      // of every fault and jitter
	Link LinkProfile // of every link direction until SetLink

	Window  int // bytes a stream direction holds at the sender, and again at the receiver
	Segment int // payload bytes of the largest segment, at most Window

	Retries      int           // failed retransmissions of one segment that break its stream
	StallTimeout time.Duration // how long a segment may stay undelivered before its stream breaks
	DialTimeout  time.Duration // after which Dial gives up
	Backlog      int           // streams that may wait for Accept; a Dial beyond tries again until its timeout
}

func (o *Options) ensureDefaults() {
	set(&o.Window, DefaultWindow)
	set(&o.Segment, DefaultSegment)
	set(&o.Retries, DefaultRetries)
	set(&o.StallTimeout, DefaultStallTimeout)
	set(&o.DialTimeout, DefaultDialTimeout)
	set(&o.Backlog, DefaultBacklog)
	o.Segment = min(o.Segment, o.Window)
}

func set[T int | time.Duration](v *T, def T) {
	if *v < 1 {
		*v = def
	}
}

// Net is one simulated network. Its methods may be called from several
// goroutines at once, also while streams are in use; what they change holds
// for every segment that arrives after they return.
type Net struct {
	o     Options
	epoch time.Time
	ids   atomic.Uint64 // of streams

	mu    sync.Mutex
	nodes map[transport.Addr]*Node
	links map[way]*link
	group map[transport.Addr]int // 0, also by absence: the rest
}

// way is one direction of a link.
type way struct{ from, to transport.Addr }

// New returns a network without nodes. It owns nothing that needs closing.
func New(o Options) *Net {
	o.ensureDefaults()
	return &Net{
		o:     o,
		epoch: time.Now(),
		nodes: make(map[transport.Addr]*Node),
		links: make(map[way]*link),
	}
}

// now is the time since the network was made; all events are kept in it.
func (n *Net) now() time.Duration { return time.Since(n.epoch) }

// Node returns the node at an address, a new one if there is none or if it was
// closed (a restart: streams of the old one stay broken).
func (n *Net) Node(addr transport.Addr) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.nodes[addr]; node != nil && !node.isClosed() {
		return node
	}
	node := newNode(n, addr)
	n.nodes[addr] = node
	return node
}

// lookup returns the node at an address, nil if there never was one.
func (n *Net) lookup(addr transport.Addr) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[addr]
}

// link returns one direction of a link; there is one between any two addresses.
func (n *Net) link(from, to transport.Addr) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := way{from, to}
	l := n.links[w]
	if l == nil {
		l = newLink(mix(n.o.Seed, hash(w)), n.o.Link)
		n.links[w] = l
		l.update(func() { l.parted = n.group[from] != n.group[to] })
	}
	return l
}

// SetLink sets the profile of the direction from -> to. Segments on the way
// keep their arrival time.
func (n *Net) SetLink(from, to transport.Addr, p LinkProfile) {
	l := n.link(from, to)
	l.update(func() { l.profile = p })
}

// Partition splits the network: segments between different groups are lost
// until Heal, also those on the way. Addresses in no group are together in one
// more. A partition replaces the one before. Streams across it break once
// something stays undelivered for the stall timeout; an end that only waits
// learns nothing, as with TCP.
func (n *Net) Partition(groups ...[]transport.Addr) {
	g := make(map[transport.Addr]int)
	for i, addrs := range groups {
		for _, a := range addrs {
			g[a] = i + 1
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.group = g
	for w, l := range n.links {
		l.update(func() { l.parted = g[w.from] != g[w.to] })
	}
}

// HalfOpen makes the direction from -> to swallow every segment until Heal.
// The other direction works, and so do its acknowledgements.
func (n *Net) HalfOpen(from, to transport.Addr) {
	l := n.link(from, to)
	l.update(func() { l.swallow = true })
}

// Heal lifts every partition and half-open direction. What is not yet given up
// arrives with its next retransmission.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.group = nil
	for _, l := range n.links {
		l.update(func() { l.parted, l.swallow = false, false })
	}
}

// Clog holds back what arrives in the direction from -> to until Unclog.
// Nothing is lost and no stream breaks by it.
func (n *Net) Clog(from, to transport.Addr) {
	l := n.link(from, to)
	l.update(func() { l.clogged = true })
}

// Unclog delivers what Clog held back, in the order of arrival.
func (n *Net) Unclog(from, to transport.Addr) {
	l := n.link(from, to)
	var held []*pipe
	l.update(func() {
		l.clogged = false
		held, l.held = l.held, nil
	})
	for _, p := range held {
		p.release()
	}
}

// Cut breaks every stream between two nodes at once: both ends return
// ErrUnavailable and what was not yet read is lost. New streams can be dialed.
func (n *Net) Cut(a, b transport.Addr) {
	for _, w := range []way{{a, b}, {b, a}} {
		node := n.lookup(w.from)
		if node == nil {
			continue
		}
		for _, s := range node.live() {
			if s.peer == w.to {
				s.c.cut()
			}
		}
	}
}

// Stats sums the counters of all links.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum Stats
	for _, l := range n.links {
		sum.add(l.count.stats())
	}
	return sum
}

// LinkStats returns the counters of the direction from -> to.
func (n *Net) LinkStats(from, to transport.Addr) Stats {
	return n.link(from, to).count.stats()
}

// hash of a link direction, the same in every process (maphash is not).
func hash(w way) uint64 {
	h := fnv.New64a()
	h.Write([]byte(w.from))
	h.Write([]byte{0})
	h.Write([]byte(w.to))
	return h.Sum64()
}

// mix derives a seed from two numbers.
func mix(a, b uint64) uint64 {
	r := rand.NewPCG(a, b)
	r.Uint64() // the first output of neighbouring seeds is the most alike
	return r.Uint64()
}
