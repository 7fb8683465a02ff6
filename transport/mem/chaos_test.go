package mem_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bzzz/transport"
	"bzzz/transport/mem"
)

// chaos sends numbered random streams between nodes while faults come and go.
type chaos struct {
	net   *mem.Net
	addrs []transport.Addr
	sent  [][]byte
	until time.Time
	wg    sync.WaitGroup

	whole, broken, refused atomic.Int64 // streams
}

// TestChaosReadsOnlyPrefixes checks that under all faults but bit flips
// whatever is read is a prefix of what was written, and io.EOF comes only
// after all of it.
func TestChaosReadsOnlyPrefixes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for seed := range uint64(3) {
			runChaos(t, seed)
		}
	})
}

func runChaos(t *testing.T, seed uint64) {
	c := &chaos{
		net:   mem.New(mem.Options{Seed: seed, Window: 20_000, StallTimeout: time.Second, DialTimeout: time.Second}),
		addrs: []transport.Addr{"a", "b", "c"},
		until: time.Now().Add(20 * time.Second),
	}
	for i := range 10 {
		c.sent = append(c.sent, append([]byte{byte(i)}, random(byte(i), i*8000)...))
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i, addr := range c.addrs {
		node := c.net.Node(addr)
		c.wg.Go(func() { c.accept(ctx, t, node) })
		for k := range 3 {
			r := rand.New(rand.NewPCG(seed, uint64(i*3+k)))
			c.wg.Go(func() { c.dial(ctx, node, r) })
		}
	}
	c.disturb(rand.New(rand.NewPCG(seed, 99)))
	cancel()
	c.wg.Wait()
	for _, addr := range c.addrs {
		must(t, c.net.Node(addr).Close())
	}
	s := c.net.Stats()
	for what, n := range map[string]int64{
		"whole streams": c.whole.Load(), "broken streams": c.broken.Load(), "refused dials": c.refused.Load(),
		"dropped": s.DroppedSegments, "duplicated": s.DuplicatedSegments,
		"retransmitted": s.RetransmittedSegments, "reordered": s.ReorderedSegments,
	} {
		if n == 0 {
			t.Errorf("seed %d: no %s: the test tests nothing", seed, what)
		}
	}
}

// disturb draws a fault every few milliseconds, then heals the network.
func (c *chaos) disturb(r *rand.Rand) {
	profiles := []mem.LinkProfile{
		{},
		{Latency: 3 * time.Millisecond, Jitter: 3 * time.Millisecond},
		{Loss: 0.2, Duplicate: 0.2, Reorder: 0.2},
		{Latency: time.Millisecond, Bandwidth: 1 << 20, Loss: 0.01, Duplicate: 0.1},
	}
	for time.Now().Before(c.until) {
		a, b := c.addrs[r.IntN(3)], c.addrs[r.IntN(3)]
		switch r.IntN(12) {
		case 0:
			c.net.Partition([]transport.Addr{a})
		case 1, 2, 3:
			c.net.Heal()
		case 4:
			c.net.HalfOpen(a, b)
		case 5:
			c.net.Cut(a, b)
		case 6:
			c.net.Clog(a, b)
		case 7, 8:
			c.net.Unclog(a, b)
		default:
			c.net.SetLink(a, b, profiles[r.IntN(len(profiles))])
		}
		time.Sleep(time.Duration(r.IntN(250)) * time.Millisecond)
	}
	c.net.Heal()
	for _, a := range c.addrs {
		for _, b := range c.addrs {
			c.net.Unclog(a, b)
		}
	}
}

// dial sends streams until the end.
func (c *chaos) dial(ctx context.Context, node *mem.Node, r *rand.Rand) {
	for ctx.Err() == nil {
		s, err := node.Dial(ctx, c.addrs[r.IntN(3)])
		if err != nil {
			c.refused.Add(1)
			continue
		}
		s.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Write(c.sent[r.IntN(len(c.sent))]); err == nil && r.IntN(8) > 0 {
			s.CloseWrite()
		}
		s.Close()
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	}
}

// accept reads streams until the end.
func (c *chaos) accept(ctx context.Context, t *testing.T, node *mem.Node) {
	for {
		s, err := node.Accept(ctx)
		if err != nil {
			return
		}
		c.wg.Go(func() {
			defer s.Close()
			s.SetDeadline(time.Now().Add(20 * time.Second))
			if err := c.read(s); err != nil {
				t.Error(err)
			}
		})
	}
}

func (c *chaos) read(s transport.Stream) error {
	got, err := io.ReadAll(s)
	if len(got) > 0 {
		want := c.sent[got[0]]
		if !bytes.HasPrefix(want, got) {
			return fmt.Errorf("stream %d: read what was not written", got[0])
		}
		if err == nil && len(got) < len(want) {
			return fmt.Errorf("stream %d: got io.EOF after %d bytes of %d", got[0], len(got), len(want))
		}
	}
	if err != nil {
		c.broken.Add(1)
	} else {
		c.whole.Add(1)
	}
	return nil
}
