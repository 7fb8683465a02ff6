package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/engine"
	"bzzz/engine/session/wire"
	"bzzz/transport/mem"
)

// serve answers a session in the background; the result comes on the channel.
func serve(ctx context.Context, db *engine.DB, stream io.ReadWriteCloser, opts engine.SyncOptions) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := db.ServeSync(ctx, stream, opts)
		out <- err
	}()
	return out
}

// A session over a stream that breaks when one end closes ends in good order
// on both sides, every time, whoever has something to send.
func TestSyncEndsOnBothSides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
		for i := range 150 {
			switch i % 4 {
			case 0:
				put(t, a, fmt.Sprint("a", i), 3)
			case 1:
				put(t, b, fmt.Sprint("b", i), 3)
			case 2:
				put(t, a, fmt.Sprint("a", i), 3)
				put(t, b, fmt.Sprint("b", i), 3)
			}
			x, y := mem.Pipe(mem.Options{Link: mem.LinkProfile{Latency: time.Duration(i%3) * time.Millisecond}})
			served := serve(ctx, b, y, engine.SyncOptions{})
			started := time.Now()
			r, err := a.Sync(ctx, x, engine.SyncOptions{})
			if err != nil || !r.InSync {
				t.Fatalf("round %d: in sync %v, %v", i, r.InSync, err)
			}
			if err := <-served; err != nil {
				t.Fatalf("round %d: the other side: %v", i, err)
			}
			if took := time.Since(started); took > time.Second {
				t.Fatalf("round %d took %v", i, took)
			}
		}
	})
}

// A stream that ends before its time is an error that says so.
func TestSyncOverAStreamThatEnds(t *testing.T) {
	t.Parallel()
	a := open(t, "", &engine.Options{Memory: true})
	for name, stream := range map[string]io.Reader{
		"at once": bytes.NewReader(nil), "within a frame": bytes.NewReader([]byte{2, 40, 1}), "zeros": bytes.NewReader(make([]byte, 100)),
	} {
		_, err := a.Sync(context.Background(), &halfStream{Reader: stream}, engine.SyncOptions{})
		want := engine.ErrUnavailable
		if name == "zeros" {
			want = engine.ErrInvalid
		}
		if !errors.Is(err, want) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

type halfStream struct{ io.Reader }

func (s *halfStream) Write(b []byte) (int, error) { return len(b), nil }
func (s *halfStream) Close() error                { return nil }

// The end of a stream is noticed also if it comes together with the last frame
// while this side is busy.
func TestEndWithTheLastFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, "", &engine.Options{Memory: true})
		started := time.Now()
		if _, err := a.ServeSync(context.Background(), &busyStream{}, engine.SyncOptions{}); err != nil {
			t.Fatal(err) // nothing was named: nothing is left to do
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("the session hung for %v", took)
		}
	})
}

// busyStream brings a HELLO, then, while the answer is being written, a PING
// and the end.
type busyStream struct{ reads int }

func (s *busyStream) Read(b []byte) (int, error) {
	s.reads++
	switch s.reads {
	case 1:
		hello := wire.Hello{MinProto: 1, MaxProto: 1}
		return copy(b, wire.AppendFrame(nil, wire.TypeHello, hello.Append(nil))), nil
	case 2:
		time.Sleep(time.Second)
		return copy(b, wire.AppendFrame(nil, wire.TypePing, nil)), nil
	}
	return 0, io.EOF
}

func (s *busyStream) Write(b []byte) (int, error) {
	time.Sleep(2 * time.Second)
	return len(b), nil
}

func (s *busyStream) Close() error { return nil }

// A peer that falls silent in the middle of a session does not hold it for ever.
func TestSilentPeerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, "", &engine.Options{Memory: true})
		x, _ := mem.Pipe(mem.Options{})
		started := time.Now()
		_, err := a.Sync(context.Background(), x, engine.SyncOptions{})
		if took := time.Since(started); !errors.Is(err, engine.ErrUnavailable) || took > 2*time.Minute {
			t.Errorf("after %v: got %v, want unavailable after a minute", took, err)
		}
	})
}

// Commits are pushed whatever else the session is busy with: none waits for
// the next commit to be noticed.
func TestNoCommitGoesUnnoticed(t *testing.T) {
	t.Parallel()
	for round := range 5 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
			quiet, err := a.CreateNamespace(ctx, "quiet")
			if err != nil {
				t.Fatal(err)
			}
			x, y := mem.Pipe(mem.Options{})
			served := serve(ctx, b, y, engine.SyncOptions{Live: true})
			var syncing sync.WaitGroup
			syncing.Go(func() { a.Sync(ctx, x, engine.SyncOptions{Live: true}) })
			for i := range 20 {
				var writers sync.WaitGroup
				writers.Go(func() { // pushes of more than one part
					err := a.Update(ctx, func(tx *engine.Txn) error {
						for k := range 40 {
							if err := tx.Put(fmt.Append(nil, "busy", k), bytes.Repeat([]byte{byte(i), byte(k), byte(round)}, 20_000)); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					put(t, a, fmt.Sprint("more", i), 10)
				})
				writers.Go(func() {
					if err := quiet.Put(ctx, fmt.Append(nil, i), []byte("v")); err != nil {
						t.Error(err)
					}
				})
				writers.Wait()
				synctest.Wait()
				sa, err := a.State(ctx)
				if err != nil {
					t.Fatal(err)
				}
				sb, err := b.State(ctx)
				if err != nil || !sa.Clock.Equal(sb.Clock) {
					t.Fatalf("round %d.%d: clocks differ, %v", round, i, err)
				}
				ns, err := b.OpenNamespace(ctx, "quiet")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ns.Get(ctx, fmt.Append(nil, i)); err != nil {
					t.Fatalf("round %d.%d: quiet write: %v", round, i, err)
				}
			}
			cancel()
			syncing.Wait()
			<-served
		})
	}
}

// A commit that comes together with a frame, while the session is busy, is
// pushed too.
func TestCommitTogetherWithAFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
		x, y := mem.Pipe(mem.Options{})
		served := serve(ctx, b, y, engine.SyncOptions{Live: true})
		var syncing sync.WaitGroup
		syncing.Go(func() { a.Sync(ctx, slowWriter{x}, engine.SyncOptions{Live: true}) })
		time.Sleep(5 * time.Second)
		for i := range 20 {
			time.Sleep(9*time.Second + 500*time.Millisecond)
			put(t, a, fmt.Sprint("first", i), 1) // a writes it for a second
			time.Sleep(700 * time.Millisecond)   // a PING arrives meanwhile
			put(t, a, fmt.Sprint("second", i), 1)
			time.Sleep(4*time.Second + 800*time.Millisecond)
			if _, err := b.Get(ctx, fmt.Appendf(nil, "second%d0000", i)); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		cancel()
		syncing.Wait()
		<-served
	})
}

// slowWriter takes a second for a write.
type slowWriter struct{ *mem.Stream }

func (s slowWriter) Write(b []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Stream.Write(b)
}

// Close ends running sessions, also one that is stuck in a write.
func TestCloseEndsSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, "", &engine.Options{Memory: true})
		for i := range 100 {
			if err := a.Put(context.Background(), fmt.Append(nil, i), bytes.Repeat([]byte{byte(i), byte(i * 7)}, 30_000)); err != nil {
				t.Fatal(err)
			}
		}
		x, _ := mem.Pipe(mem.Options{Window: 10})
		served := make(chan error, 1)
		go func() {
			_, err := a.Sync(context.Background(), x, engine.SyncOptions{}) // HELLO does not fit into the window
			served <- err
		}()
		synctest.Wait()
		started := time.Now()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-served; !errors.Is(err, engine.ErrClosed) {
			t.Errorf("got %v, want closed", err)
		}
		if took := time.Since(started); took > time.Second {
			t.Errorf("close took %v", took)
		}
	})
}
