package transporttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"bzzz/internal/errs"
	"bzzz/transport"
)

func testSelf(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 3)
	for _, from := range n {
		for _, to := range n {
			if from == to {
				continue
			}
			a, b := connect(ctx, t, from, to)
			must(t, transfer(a, b, []byte("x")))
		}
	}
}

func testDialGone(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	must(t, n[1].Close())
	_, err := n[0].Dial(ctx, n[1].Self())
	wantErr(t, "dial of a closed node", err, errs.ErrUnavailable)
}

func testDialContext(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := n[0].Dial(ctx, n[1].Self())
	wantErr(t, "dial with an ended context", err, context.Canceled)
}

func testAcceptEach(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	for i := range 5 {
		a, b := connect(ctx, t, n[0], n[1])
		must(t, transfer(a, b, []byte{byte(i)}))
	}
}

func testAcceptContext(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 1)
	ctx, cancel := context.WithCancel(ctx)
	var g group
	g.Go(func() error {
		_, err := n[0].Accept(ctx)
		return err
	})
	cancel()
	wantErr(t, "accept", g.Wait(), context.Canceled)
	_, err := n[0].Accept(ctx)
	wantErr(t, "accept with an ended context", err, context.Canceled)
}

func testNetworkClosed(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	var g group
	g.Go(func() error {
		_, err := n[0].Accept(ctx)
		return err
	})
	must(t, n[0].Close())
	wantErr(t, "pending accept", g.Wait(), errs.ErrClosed)
	_, err := n[0].Accept(ctx)
	wantErr(t, "accept", err, errs.ErrClosed)
	_, err = n[0].Dial(ctx, n[1].Self())
	wantErr(t, "dial", err, errs.ErrClosed)
	if err := n[0].Close(); err != nil {
		t.Errorf("second close: got %v, want nil", err)
	}
}

func testNodeCloseBreaks(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	a, b := connect(ctx, t, n[0], n[1])
	c, d := connect(ctx, t, n[1], n[0])
	var g group
	for _, s := range []transport.Stream{a, b, c, d} {
		g.Go(func() error {
			if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				return fmt.Errorf("pending read at the end of %s: got %v, want an error", s.Peer(), err)
			}
			return nil
		})
	}
	must(t, n[0].Close())
	must(t, g.Wait())
	for _, s := range []transport.Stream{a, d} {
		_, err := s.Write([]byte("x"))
		wantErr(t, "write at the closed node", err, errs.ErrClosed)
	}
	for _, s := range []transport.Stream{b, c} {
		_, err := s.Read(make([]byte, 1))
		wantErr(t, "read at the other node", err, errs.ErrUnavailable)
		_, err = s.Write([]byte("x"))
		wantErr(t, "write at the other node", err, errs.ErrUnavailable)
	}
}

func testConcurrentNetwork(t *testing.T, f Factory) {
	const dials = 16
	ctx, n := nodes(t, f, 3)
	var g group
	for i, node := range n {
		for range dials * (len(n) - 1) {
			g.Go(func() error { // an echo of one stream
				s, err := node.Accept(ctx)
				if err != nil {
					return err
				}
				b, err := readAll(s, 3)
				return errors.Join(err, writeAll(s, 4, b))
			})
		}
		for j, to := range n {
			for k := range dials {
				if i == j {
					break
				}
				g.Go(func() error {
					s, err := node.Dial(ctx, to.Self())
					if err != nil {
						return err
					}
					want := random(uint64(i<<8+j<<4+k), 3000)
					return errors.Join(writeAll(s, 1, want), expect(s, 2, want))
				})
			}
		}
	}
	must(t, g.Wait())
}

func testPeer(t *testing.T, f Factory) {
	ctx, n := nodes(t, f, 2)
	a, b := connect(ctx, t, n[0], n[1])
	if got, want := a.Peer(), n[1].Self(); got != want {
		t.Errorf("peer of the dialer: got %s, want %s", got, want)
	}
	if got, want := b.Peer(), n[0].Self(); got != want {
		t.Errorf("peer of the acceptor: got %s, want %s", got, want)
	}
}

func testManyStreams(t *testing.T, f Factory) {
	const streams, size = 64, 20_000
	ctx, n := nodes(t, f, 2)
	var mu sync.Mutex
	seen := make(map[byte]bool)
	var g group
	for i := range streams {
		g.Go(func() error {
			s, err := n[0].Dial(ctx, n[1].Self())
			if err != nil {
				return err
			}
			b := random(uint64(i), size)
			b[0] = byte(i)
			return errors.Join(writeAll(s, uint64(i), b), expect(s, 1, b[:1]))
		})
		g.Go(func() error {
			s, err := n[1].Accept(ctx)
			if err != nil {
				return err
			}
			got, err := readAll(s, 1)
			if err != nil || len(got) != size {
				return fmt.Errorf("got %d bytes and error %w, want %d", len(got), err, size)
			}
			want := random(uint64(got[0]), size)
			if want[0] = got[0]; string(got) != string(want) {
				return fmt.Errorf("stream %d mixed with another", got[0])
			}
			mu.Lock()
			seen[got[0]] = true
			mu.Unlock()
			return writeAll(s, 1, got[:1])
		})
	}
	must(t, g.Wait())
	if len(seen) != streams {
		t.Errorf("got %d different streams, want %d", len(seen), streams)
	}
}
