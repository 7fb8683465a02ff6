// Package transporttest is the conformance suite of transport.Network and
// transport.Stream: each sentence of the contract is a case of its own.
//
// An implementation's test calls Run and, for its figures, Bench. Cases is the
// same list for callers that wrap each case, for example in a synctest bubble.
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"bzzz/transport"
)

// Factory makes n nodes that can reach each other. The suite closes them; what
// else they need is released by tb.Cleanup.
type Factory func(tb testing.TB, n int) []transport.Network

// MaxBuffered is the bound in bytes on what a stream direction may accept
// while nobody reads: far above any sensible window, far below memory.
const MaxBuffered = 64 << 20

// patience bounds waiting for what should come soon; it fails tests that hang
// and is no measurement.
const patience = 30 * time.Second

// Case is one sentence of the contract. Test may be called from any number of
// goroutines and calls neither t.Run nor t.Parallel.
type Case struct {
	Name string
	Test func(t *testing.T, f Factory)
}

// Cases returns the suite.
func Cases() []Case {
	return []Case{
		{"SelfIsWhereOthersReachTheNode", testSelf},
		{"DialOfAGoneNodeIsErrUnavailable", testDialGone},
		{"DialEndsWithItsContext", testDialContext},
		{"AcceptReturnsEachStreamOnce", testAcceptEach},
		{"AcceptEndsWithItsContext", testAcceptContext},
		{"AcceptAndDialAfterCloseAreErrClosed", testNetworkClosed},
		{"CloseOfANodeBreaksItsStreams", testNodeCloseBreaks},
		{"MethodsOfANetworkRunAtOnce", testConcurrentNetwork},
		{"PeerIsTheOtherEnd", testPeer},
		{"BytesArriveInOrder", testOrder},
		{"WriteDoesNotKeepItsBuffer", testWriteCopies},
		{"ReadAndWriteRunAtOnce", testDuplex},
		{"WriteBlocksAtABound", testBackPressure},
		{"CloseWriteIsEOFAfterTheData", testCloseWrite},
		{"ReadingGoesOnAfterCloseWrite", testHalfClosed},
		{"CloseAfterCloseWriteDelivers", testCloseDelivers},
		{"CloseBreaksBothEnds", testCloseBreaks},
		{"CloseEndsPendingCalls", testClosePending},
		{"DeadlineBoundsPendingCalls", testDeadlinePending},
		{"DeadlineBoundsLaterCalls", testDeadlineLater},
		{"ZeroDeadlineLifts", testDeadlineLifted},
		{"ManyStreamsDoNotMix", testManyStreams},
	}
}

// Run runs every case as a parallel subtest.
func Run(t *testing.T, f Factory) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Test(t, f)
		})
	}
}

// nodes makes n nodes and a context that ends with the test or its patience.
func nodes(tb testing.TB, f Factory, n int) (context.Context, []transport.Network) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	nets := f(tb, n)
	tb.Cleanup(func() {
		cancel()
		for _, n := range nets {
			if err := n.Close(); err != nil {
				tb.Errorf("close of %s: %v", n.Self(), err)
			}
		}
	})
	return ctx, nets
}

// pair makes two nodes and a stream between them, dialed by a.
func pair(tb testing.TB, f Factory) (a, b transport.Stream) {
	ctx, nets := nodes(tb, f, 2)
	return connect(ctx, tb, nets[0], nets[1])
}

// connect opens a stream from one node to another. Nothing else may be dialing
// the second one.
func connect(ctx context.Context, tb testing.TB, from, to transport.Network) (a, b transport.Stream) {
	tb.Helper()
	var g group
	g.Go(func() (err error) {
		b, err = to.Accept(ctx)
		return err
	})
	a, err := from.Dial(ctx, to.Self())
	if err = errors.Join(err, g.Wait()); err != nil {
		tb.Fatalf("connecting %s to %s: %v", from.Self(), to.Self(), err)
	}
	return a, b
}

// group waits for goroutines and joins their errors.
type group struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	err error
}

// Go runs f.
func (g *group) Go(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.err = errors.Join(g.err, err)
		}
	})
}

// Wait returns when all have.
func (g *group) Wait() error {
	g.wg.Wait()
	return g.err
}

// random returns n bytes that depend on the seed alone.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8)}).Read(b)
	return b
}

// writeAll writes b in pieces of changing size, then ends the direction.
func writeAll(s transport.Stream, seed uint64, b []byte) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for len(b) > 0 {
		n, err := s.Write(b[:min(len(b), 1+r.IntN(20_000))])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return s.CloseWrite()
}

// readAll reads in pieces of changing size until io.EOF.
func readAll(s transport.Stream, seed uint64) ([]byte, error) {
	r := rand.New(rand.NewPCG(seed, 2))
	var all []byte
	buf := make([]byte, 20_000)
	for {
		n, err := s.Read(buf[:1+r.IntN(len(buf))])
		all = append(all, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// expect reads to the end and compares.
func expect(s transport.Stream, seed uint64, want []byte) error {
	got, err := readAll(s, seed)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other bytes were read than written")
	}
	return nil
}

// transfer writes want at one end while it is read and compared at the other.
func transfer(from, to transport.Stream, want []byte) error {
	var g group
	g.Go(func() error { return writeAll(from, 1, want) })
	g.Go(func() error { return expect(to, 2, want) })
	return g.Wait()
}

// wantErr fails unless err matches target.
func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", what, err, target)
	}
}

// must fails the test at once on an error.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
