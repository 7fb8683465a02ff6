package mem_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/transport"
	"bzzz/transport/mem"
	"bzzz/transport/transporttest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// factory makes nodes n0, n1, ... of one network.
func factory(o mem.Options) transporttest.Factory {
	return func(_ testing.TB, n int) []transport.Network {
		net := mem.New(o)
		var nodes []transport.Network
		for i := range n {
			nodes = append(nodes, net.Node(transport.Addr(fmt.Sprintf("n%d", i))))
		}
		return nodes
	}
}

// lossy is a bad link whose timeouts are short in real time.
var lossy = mem.LinkProfile{Jitter: time.Millisecond, Loss: 0.05, Duplicate: 0.2, Reorder: 0.2}

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, factory(mem.Options{}))
}

func TestConformanceLossy(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, factory(mem.Options{Seed: 1, Link: lossy}))
}

func TestConformanceSmallWindow(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, factory(mem.Options{Window: 1000, Segment: 300}))
}

func TestConformanceInBubble(t *testing.T) {
	t.Parallel()
	far := mem.LinkProfile{
		Latency: 40 * time.Millisecond, Jitter: 10 * time.Millisecond, Bandwidth: 10 << 20,
		Loss: 0.1, Duplicate: 0.1, Reorder: 0.1,
	}
	for _, c := range transporttest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.Test(t, factory(mem.Options{Seed: 2, Link: far}))
			})
		})
	}
}

func BenchmarkStream(b *testing.B) { transporttest.Bench(b, factory(mem.Options{})) }

func BenchmarkFaultyStream(b *testing.B) {
	transporttest.Bench(b, factory(mem.Options{Link: mem.LinkProfile{Duplicate: 0.01}}))
}
