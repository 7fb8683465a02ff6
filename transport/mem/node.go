package mem

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"bzzz/internal/errs"
	"bzzz/transport"
)

// Node is one node of a Net. It implements transport.Network.
type Node struct {
	net   *Net
	addr  transport.Addr
	queue chan *Stream  // dialed by others, not yet accepted
	done  chan struct{} // closed with the node

	mu      sync.Mutex // a leaf lock
	closed  bool
	streams map[*Stream]struct{} // not yet over, or with something left to send
}

var _ transport.Network = (*Node)(nil)

func newNode(net *Net, addr transport.Addr) *Node {
	return &Node{
		net:     net,
		addr:    addr,
		queue:   make(chan *Stream, net.o.Backlog),
		done:    make(chan struct{}),
		streams: make(map[*Stream]struct{}),
	}
}

// Self returns the node's address.
func (n *Node) Self() transport.Addr { return n.addr }

// Dial opens a stream: it takes one round trip, at once on a link without
// latency. Lost requests are tried again. It returns ErrUnavailable when
// nobody lives at the address, after the dial timeout, and when ctx ends
// (together with its error); ErrClosed when this node is closed.
func (n *Node) Dial(ctx context.Context, to transport.Addr) (transport.Stream, error) {
	s, err := n.dial(ctx, to)
	if err != nil {
		return nil, errs.Wrap("mem.Dial", string(to), err)
	}
	return s, nil
}

func (n *Node) dial(ctx context.Context, to transport.Addr) (*Stream, error) {
	out, back := n.net.link(n.addr, to), n.net.link(to, n.addr)
	c := newConn(n.net, n.addr, to, out.number())
	end := time.Now().Add(n.net.o.DialTimeout)
	for try := 0; ; try++ {
		if err := n.ended(ctx); err != nil {
			return nil, err
		}
		there, ok := out.handshake(c.ends[0].out.seed, try)
		if ok {
			var again time.Duration
			if again, ok = back.handshake(c.ends[1].out.seed, try); ok {
				if err := n.pause(ctx, there+again, end); err != nil {
					return nil, err
				}
				if ok, err := n.connect(c, to); ok || err != nil {
					return c.ends[0], err
				}
			}
		}
		p, _ := out.state()
		if err := n.pause(ctx, backoff(p.rto(), try), end); err != nil {
			return nil, err
		}
	}
}

// connect makes both ends of a new connection known to their nodes. It is not
// ok if the link broke during the round trip or the other's backlog is full.
func (n *Node) connect(c *conn, to transport.Addr) (ok bool, err error) {
	a, b := c.ends[0], c.ends[1]
	if _, blocked := a.out.link.state(); blocked {
		return false, nil
	}
	if _, blocked := b.out.link.state(); blocked {
		return false, nil
	}
	peer := n.net.lookup(to)
	if peer == nil {
		return false, unavailable("nobody lives there")
	}
	a.node, b.node = n, peer
	if !n.add(a) {
		return false, errs.ErrClosed
	}
	ok, err = peer.offer(b)
	if !ok {
		n.remove(a)
		return false, err
	}
	a.out.link.count.dials.Add(1)
	return true, nil
}

// ended returns why no more waiting makes sense, nil if it does.
func (n *Node) ended(ctx context.Context) error {
	if n.isClosed() {
		return errs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
	}
	return nil
}

// pause waits for d, and returns an error if the node, ctx or the dial ends
// before.
func (n *Node) pause(ctx context.Context, d time.Duration, end time.Time) error {
	if d <= 0 {
		return nil
	}
	left := time.Until(end)
	timer := time.NewTimer(min(d, left))
	defer timer.Stop()
	select {
	case <-timer.C:
		if left < d {
			return unavailable("dial timed out")
		}
		return nil
	case <-ctx.Done():
	case <-n.done:
	}
	return n.ended(ctx)
}

// Accept returns the oldest stream dialed to this node and not yet accepted.
// It returns ctx's error when ctx ends, ErrClosed when the node is closed.
func (n *Node) Accept(ctx context.Context) (transport.Stream, error) {
	if n.isClosed() {
		return nil, errs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s := <-n.queue:
		return s, nil
	case <-n.done:
		return nil, errs.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the node: Dial and Accept return ErrClosed, and its streams are
// closed, so that their other ends return ErrUnavailable once the news gets
// through. To simulate a power failure, of which nobody hears, partition the
// node first. Close is idempotent and leaves nothing running.
func (n *Node) Close() error {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.done)
	}
	n.mu.Unlock()
	for _, s := range n.live() {
		s.Close()
	}
	return nil
}

func (n *Node) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// live returns the node's streams in the order they were made.
func (n *Node) live() []*Stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Keys(n.streams), func(a, b *Stream) int {
		return cmp.Compare(a.id, b.id)
	})
}

func (n *Node) add(s *Stream) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.streams[s] = struct{}{}
	}
	return !n.closed
}

func (n *Node) remove(s *Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.streams, s)
}

// offer queues a stream for Accept. It is not ok while the backlog is full.
func (n *Node) offer(s *Stream) (ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false, unavailable("node closed")
	}
	select {
	case n.queue <- s:
		n.streams[s] = struct{}{}
		return true, nil
	default:
		return false, nil
	}
}
