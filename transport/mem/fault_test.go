package mem_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/internal/errs"
	"bzzz/transport"
	"bzzz/transport/mem"

	"github.com/google/go-cmp/cmp"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Parallel()
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, f) })
}

// dial connects a to b, both on net.
func dial(t *testing.T, net *mem.Net) (a, b transport.Stream) {
	t.Helper()
	na, nb := net.Node("a"), net.Node("b")
	t.Cleanup(func() { na.Close(); nb.Close() })
	a, err := na.Dial(t.Context(), "b")
	must(t, err)
	b, err = nb.Accept(t.Context())
	must(t, err)
	return a, b
}

// random returns n bytes that depend on the seed alone.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// send writes b from another goroutine and ends the direction.
func send(t *testing.T, s transport.Stream, b []byte) {
	go func() {
		_, err := s.Write(b)
		if err = errors.Join(err, s.CloseWrite()); err != nil {
			t.Errorf("sending: %v", err)
		}
	}()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", what, err, target)
	}
}

// near fails unless got is within a fraction of want.
func near[T int64 | time.Duration](t *testing.T, what string, got, want T, fraction float64) {
	t.Helper()
	if d := float64(got - want); d > fraction*float64(want) || -d > fraction*float64(want) {
		t.Errorf("%s: got %v, want %v within %v %%", what, got, want, 100*fraction)
	}
}

func TestFaultyLinkDeliversExactly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Seed: 7, Link: mem.LinkProfile{
			Latency: 5 * time.Millisecond, Jitter: 3 * time.Millisecond,
			Loss: 0.2, Duplicate: 0.2, Reorder: 0.2,
		}})
		a, b := dial(t, net)
		want := random(1, 1<<20)
		send(t, a, want)
		got, err := io.ReadAll(b)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("other bytes were read than written")
		}
		s := net.LinkStats("a", "b")
		segments := int64(len(want)+mem.DefaultSegment-1) / mem.DefaultSegment
		near(t, "retransmitted", s.RetransmittedSegments, segments/4, 0.2) // sum of 0.2^i
		near(t, "duplicated", s.DuplicatedSegments, segments/5, 0.2)       // of those not lost
		near(t, "reordered", s.ReorderedSegments, segments*5/4/5, 0.2)
		if s.PayloadBytes != 1<<20 || s.DeliveredBytes != 1<<20 {
			t.Errorf("got %d bytes sent, %d delivered, want %d", s.PayloadBytes, s.DeliveredBytes, 1<<20)
		}
		if over := s.WireBytes - s.PayloadBytes; over < 1<<20/3 || over > 1<<20*2/3 {
			t.Errorf("got %d bytes of retransmissions and duplicates, want about half a MiB", over)
		}
	})
}

func TestSeedDeterminesFaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		run := func(seed uint64) mem.Stats {
			net := mem.New(mem.Options{Seed: seed, Link: mem.LinkProfile{
				Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.2, Duplicate: 0.2, Reorder: 0.2,
			}})
			a, b := dial(t, net)
			send(t, a, random(1, 300_000))
			_, err := io.ReadAll(b)
			must(t, err)
			time.Sleep(time.Second) // duplicates still on their way
			return net.Stats()
		}
		if diff := cmp.Diff(run(1), run(1)); diff != "" {
			t.Errorf("the same seed gave other counts:\n%s", diff)
		}
		if run(1) == run(2) {
			t.Error("another seed gave the same counts")
		}
	})
}

func TestLatencyAndTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: 50 * time.Millisecond}})
		start := time.Now()
		a, b := dial(t, net)
		near(t, "dial", time.Since(start), 100*time.Millisecond, 0)
		go io.Copy(b, b)
		for range 10 {
			start = time.Now()
			_, err := a.Write([]byte("ping"))
			must(t, err)
			_, err = io.ReadFull(a, make([]byte, 4))
			must(t, err)
			near(t, "round trip", time.Since(start), 100*time.Millisecond, 0)
		}
		if got := net.Stats().Turns; got != 20 {
			t.Errorf("got %d turns, want 20", got)
		}
		must(t, a.Close())
	})
}

func TestBandwidthIsExact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{})
		net.SetLink("a", "b", mem.LinkProfile{Latency: 20 * time.Millisecond, Bandwidth: 1 << 20})
		a, b := dial(t, net)
		start := time.Now()
		send(t, a, random(1, 10<<20))
		n, err := io.Copy(io.Discard, b)
		must(t, err)
		near(t, "bytes", n, 10<<20, 0)
		near(t, "time", time.Since(start), 10*time.Second, 0.05)
	})
}

func TestBandwidthIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Bandwidth: 1 << 20}})
		start := time.Now()
		done := make(chan time.Duration)
		for range 4 {
			a, b := dial(t, net)
			send(t, a, random(1, 1<<20))
			go func() {
				io.Copy(io.Discard, b)
				done <- time.Since(start)
			}()
		}
		for range 4 {
			near(t, "time of one of four streams", <-done, 4*time.Second, 0.3)
		}
		near(t, "time of all", time.Since(start), 4*time.Second, 0.05)
	})
}

func TestPartitionThenHeal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond}})
		a, b := dial(t, net)
		net.Partition([]transport.Addr{"a"})
		send(t, a, []byte("late"))
		must(t, b.SetDeadline(time.Now().Add(time.Second)))
		_, err := b.Read(make([]byte, 1))
		wantErr(t, "read across the partition", err, errs.ErrTimeout)
		wantErr(t, "read across the partition", err, os.ErrDeadlineExceeded)

		net.Heal()
		must(t, b.SetDeadline(time.Time{}))
		got, err := io.ReadAll(b)
		must(t, err)
		if string(got) != "late" {
			t.Errorf("got %q, want %q", got, "late")
		}
		if s := net.LinkStats("a", "b"); s.DroppedSegments < 2 || s.RetransmittedSegments < 2 {
			t.Errorf("got %+v, want drops and retransmissions", s)
		}
	})
}

func TestPartitionLosesWhatIsOnItsWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Second}})
		a, b := dial(t, net)
		_, err := a.Write([]byte("x"))
		must(t, err)
		time.Sleep(time.Second / 2)
		net.Partition([]transport.Addr{"a"}, []transport.Addr{"b"})
		must(t, b.SetDeadline(time.Now().Add(time.Minute)))
		_, err = b.Read(make([]byte, 1))
		wantErr(t, "read", err, errs.ErrTimeout)
	})
}

func TestLongPartitionBreaks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{StallTimeout: 3 * time.Second})
		a, b := dial(t, net)
		net.Partition([]transport.Addr{"a"}, []transport.Addr{"b"})
		start := time.Now()
		_, err := a.Write([]byte("x"))
		must(t, err)
		_, err = a.Read(make([]byte, 1))
		wantErr(t, "read at the writing end", err, errs.ErrUnavailable)
		near(t, "stall", time.Since(start), 3*time.Second, 0)

		start = time.Now()
		_, err = net.Node("a").Dial(t.Context(), "b")
		wantErr(t, "dial", err, errs.ErrUnavailable)
		near(t, "dial", time.Since(start), mem.DefaultDialTimeout, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = net.Node("a").Dial(ctx, "b")
		wantErr(t, "dial", err, errs.ErrUnavailable)
		wantErr(t, "dial", err, context.DeadlineExceeded)

		// The other end hears of it when it writes after the healing.
		net.Heal()
		_, err = b.Write([]byte("x"))
		must(t, err)
		_, err = b.Read(make([]byte, 1))
		wantErr(t, "read at the other end", err, errs.ErrUnavailable)
		dial(t, net)
	})
}

func TestRetriesBreak(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Retries: 2})
		a, _ := dial(t, net)
		net.SetLink("a", "b", mem.LinkProfile{Loss: 1})
		start := time.Now()
		_, err := a.Write([]byte("x"))
		must(t, err)
		_, err = a.Read(make([]byte, 1))
		wantErr(t, "read", err, errs.ErrUnavailable)
		near(t, "three tries", time.Since(start), (10+20+40)*time.Millisecond, 0)
	})
}

func TestHalfOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond}})
		a, b := dial(t, net)
		net.HalfOpen("a", "b")
		_, err := a.Write([]byte("lost"))
		must(t, err)
		_, err = b.Write([]byte("seen"))
		must(t, err)
		got := make([]byte, 4)
		_, err = io.ReadFull(a, got)
		must(t, err)
		if string(got) != "seen" {
			t.Errorf("got %q, want %q", got, "seen")
		}
		must(t, b.SetDeadline(time.Now().Add(time.Second)))
		_, err = b.Read(got)
		wantErr(t, "read in the dead direction", err, errs.ErrTimeout)
		for _, w := range [][2]transport.Addr{{"a", "b"}, {"b", "a"}} {
			_, err = net.Node(w[0]).Dial(t.Context(), w[1])
			wantErr(t, "dial", err, errs.ErrUnavailable)
		}
		net.Heal()
		dial(t, net)
	})
}

func TestClog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond, Jitter: time.Millisecond}})
		a, b := dial(t, net)
		want := random(1, 500_000)
		net.Clog("a", "b")
		send(t, a, want)
		time.Sleep(time.Hour)
		net.Unclog("a", "b")
		got, err := io.ReadAll(b)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("other bytes were read than written")
		}
		if s := net.Stats(); s.RetransmittedSegments != 0 {
			t.Errorf("got %d retransmissions, want none", s.RetransmittedSegments)
		}
	})
}

func TestCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Second}})
		a, b := dial(t, net)
		go net.Cut("b", "a")
		for _, s := range []transport.Stream{a, b} {
			start := time.Now()
			_, err := s.Read(make([]byte, 1))
			wantErr(t, "read", err, errs.ErrUnavailable)
			_, err = s.Write([]byte("x"))
			wantErr(t, "write", err, errs.ErrUnavailable)
			near(t, "cut", time.Since(start), 0, 0)
		}
		dial(t, net)
	})
}

func TestCorruptFlipsBits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Seed: 3, Link: mem.LinkProfile{Corrupt: 0.1, Loss: 0.1, Reorder: 0.5}})
		a, b := dial(t, net)
		want := random(1, 1<<20)
		send(t, a, want)
		got, err := io.ReadAll(b)
		must(t, err)
		if len(got) != len(want) {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
		var flipped int64
		for i := range got {
			flipped += int64(bits.OnesCount8(got[i] ^ want[i]))
		}
		if s := net.Stats(); flipped == 0 || flipped != s.CorruptSegments {
			t.Errorf("got %d flipped bits, want %d", flipped, s.CorruptSegments)
		}
		near(t, "flips", flipped, 1<<20/mem.DefaultSegment/10, 0.4)
	})
}

func TestRestartedNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond}})
		a, b := dial(t, net)
		net.Partition([]transport.Addr{"b"}) // a power failure: nobody hears of it
		must(t, net.Node("b").Close())
		time.Sleep(time.Minute)
		net.Heal()
		must(t, a.SetDeadline(time.Now().Add(time.Hour)))
		_, err := a.Read(make([]byte, 1))
		wantErr(t, "read of a silent end", err, errs.ErrTimeout)
		must(t, a.SetDeadline(time.Time{}))
		_, err = a.Write([]byte("x"))
		must(t, err)
		_, err = a.Read(make([]byte, 1))
		wantErr(t, "read after a write to the dead end", err, errs.ErrUnavailable)
		_, err = b.Write([]byte("x"))
		wantErr(t, "write at the dead end", err, errs.ErrClosed)
		dial(t, net)
	})
}

func TestProfileChangesKeepOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{})
		net.SetLink("b", "a", mem.LinkProfile{Latency: 2 * time.Millisecond}) // of acknowledgements
		a, b := dial(t, net)
		want := random(1, 4<<20)
		send(t, a, want)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for i := range 200 {
				net.SetLink("a", "b", mem.LinkProfile{Latency: time.Duration(i%3) * time.Millisecond, Bandwidth: int64(i%2) << 30})
				time.Sleep(time.Millisecond / 2)
			}
		})
		r := rand.New(rand.NewPCG(1, 1))
		var got []byte
		buf := make([]byte, 100_000)
		for {
			n, err := b.Read(buf[:1+r.IntN(len(buf))])
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			must(t, err)
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		}
		if !bytes.Equal(got, want) {
			t.Error("other bytes were read than written")
		}
	})
}

func TestPendingCallsWake(t *testing.T) {
	tests := map[string]struct {
		wake func(net *mem.Net, a, b transport.Stream)
		want error
	}{
		"deadline": {func(_ *mem.Net, a, _ transport.Stream) { a.SetDeadline(time.Now().Add(time.Second)) }, errs.ErrTimeout},
		"close":    {func(_ *mem.Net, a, _ transport.Stream) { a.Close() }, errs.ErrClosed},
		"reset":    {func(_ *mem.Net, _, b transport.Stream) { b.Close() }, errs.ErrUnavailable},
		"node":     {func(net *mem.Net, _, _ transport.Stream) { net.Node("a").Close() }, errs.ErrClosed},
		"cut":      {func(net *mem.Net, _, _ transport.Stream) { net.Cut("a", "b") }, errs.ErrUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				net := mem.New(mem.Options{})
				a, b := dial(t, net)
				done := make(chan error, 2)
				go func() {
					_, err := a.Read(make([]byte, 1))
					done <- err
				}()
				go func() {
					_, err := a.Write(make([]byte, 1<<20))
					done <- err
				}()
				synctest.Wait()
				test.wake(net, a, b)
				for range 2 {
					wantErr(t, "pending call", <-done, test.want)
				}
			})
		})
	}
}

func TestPendingAcceptAndDialWake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Second}})
		a := net.Node("a")
		done := make(chan error, 2)
		go func() {
			_, err := a.Accept(t.Context())
			done <- err
		}()
		go func() {
			_, err := a.Dial(t.Context(), "b")
			done <- err
		}()
		synctest.Wait()
		must(t, a.Close())
		for range 2 {
			wantErr(t, "pending call", <-done, errs.ErrClosed)
		}
	})
}

func TestWriteToAnEndThatFinished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond}})
		a, b := dial(t, net)
		done := make(chan error)
		go func() {
			_, err := b.Write(make([]byte, 1<<20))
			done <- err
		}()
		time.Sleep(time.Second)
		must(t, a.CloseWrite())
		must(t, a.Close())
		wantErr(t, "write blocked on a full window", <-done, errs.ErrUnavailable)
	})
}

func TestRefusalNeedsTheWayBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{})
		a, b := dial(t, net)
		net.Partition([]transport.Addr{"b"})
		must(t, b.Close())
		time.Sleep(time.Minute)
		net.Heal()
		net.HalfOpen("b", "a")
		start := time.Now()
		_, err := a.Write([]byte("x"))
		must(t, err)
		_, err = a.Read(make([]byte, 1))
		wantErr(t, "read", err, errs.ErrUnavailable)
		near(t, "stall", time.Since(start), mem.DefaultStallTimeout, 0)
	})
}

func TestEndToAnEndThatFinished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: time.Millisecond}})
		a, b := dial(t, net)
		_, err := a.Write([]byte("last words"))
		must(t, errors.Join(err, a.CloseWrite(), a.Close()))
		must(t, b.CloseWrite())
		time.Sleep(time.Second)
		got, err := io.ReadAll(b)
		must(t, err)
		if string(got) != "last words" {
			t.Errorf("got %q, want %q", got, "last words")
		}
	})
}

func TestBacklogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := mem.New(mem.Options{Backlog: 2})
		a, b := net.Node("a"), net.Node("b")
		for range 2 {
			_, err := a.Dial(t.Context(), "b")
			must(t, err)
		}
		_, err := a.Dial(t.Context(), "b")
		wantErr(t, "dial beyond the backlog", err, errs.ErrUnavailable)
		_, err = b.Accept(t.Context())
		must(t, err)
		_, err = a.Dial(t.Context(), "b")
		must(t, err)
	})
}

func TestPipeIsBounded(t *testing.T) {
	t.Parallel()
	a, b := mem.Pipe(mem.Options{Window: 1000})
	must(t, a.SetDeadline(time.Now().Add(time.Millisecond)))
	n, err := a.Write(make([]byte, 2000))
	wantErr(t, "write beyond the window", err, errs.ErrTimeout)
	if n != 1000 {
		t.Errorf("got %d bytes accepted, want 1000", n)
	}
	must(t, b.Close())
}
