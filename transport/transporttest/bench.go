package transporttest

import (
	"errors"
	"io"
	"testing"
)

// Bench measures a stream between two nodes: bulk throughput, round trips of
// small frames, one-way small frames, and opening a stream that the other end
// closes.
func Bench(b *testing.B, f Factory) {
	b.Run("Write64KiB", func(b *testing.B) { benchOneWay(b, f, 64<<10) })
	b.Run("Write64B", func(b *testing.B) { benchOneWay(b, f, 64) })
	b.Run("PingPong64B", func(b *testing.B) { benchPingPong(b, f) })
	b.Run("DialClose", func(b *testing.B) { benchDial(b, f) })
}

func benchOneWay(b *testing.B, f Factory, size int) {
	from, to := pair(b, f)
	var g group
	g.Go(func() error {
		buf := make([]byte, 64<<10)
		for {
			if _, err := to.Read(buf); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
	piece := random(1, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := from.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
	must(b, from.CloseWrite())
	must(b, g.Wait())
}

func benchPingPong(b *testing.B, f Factory) {
	from, to := pair(b, f)
	var g group
	g.Go(func() error {
		buf := make([]byte, 64)
		for {
			if _, err := io.ReadFull(to, buf); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if _, err := to.Write(buf); err != nil {
				return err
			}
		}
	})
	buf := random(1, 64)
	b.ReportAllocs()
	for b.Loop() {
		_, err := from.Write(buf)
		if err == nil {
			_, err = io.ReadFull(from, buf)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	must(b, from.CloseWrite())
	must(b, g.Wait())
}

func benchDial(b *testing.B, f Factory) {
	ctx, n := nodes(b, f, 2)
	var g group
	g.Go(func() error {
		for {
			s, err := n[1].Accept(ctx)
			if err != nil {
				return nil // the end of the benchmark
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		s, err := n[0].Dial(ctx, n[1].Self())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil {
			b.Fatal("read of a stream that the other end closes: got no error")
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	must(b, n[1].Close())
	must(b, g.Wait())
}
