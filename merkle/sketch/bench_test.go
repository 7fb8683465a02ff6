package sketch_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"bzzz/merkle/sketch"
)

// fast returns different digests without hashing.
func fast(i uint64) (d [32]byte) {
	binary.LittleEndian.PutUint64(d[:], i*0x9e3779b97f4a7c15)
	return d
}

func BenchmarkAdd(b *testing.B) {
	for _, cells := range []int{1 << 10, 1 << 16} {
		b.Run(fmt.Sprint(cells), func(b *testing.B) {
			s := newSketch(b, cells)
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				s.Add(fast(i))
			}
		})
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	s := newSketch(b, sketch.MaxCells)
	for i := range uint64(200_000) {
		s.Add(fast(i))
	}
	buf, _ := s.AppendBinary(nil)
	b.Run("append", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			buf, _ = s.AppendBinary(buf[:0])
		}
		b.ReportMetric(float64(len(buf)), "bytes/sketch")
	})
	b.Run("load", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := sketch.Load(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReconcile encodes, decodes and peels d differences, half on each
// side, of sets of 100 k and 1 M. Lower bound on the bytes: 16 a difference.
func BenchmarkReconcile(b *testing.B) {
	base := newSketch(b, sketch.MaxCells)
	have := uint64(0)
	for _, n := range []uint64{100_000, 1_000_000} {
		for ; have < n; have++ {
			base.Add(fast(have))
		}
		for _, d := range []int{1, 10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("n=%d/d=%d", n, d), func(b *testing.B) {
				total, cells, runs := 0, 0, 0
				for b.Loop() {
					b.StopTimer()
					x, y, _, _ := pair(base, fmt.Sprint("bench", runs), d)
					b.StartTimer()
					dec, bytes, err := stream(b, x, y, uint64(runs)+1, 0, max(1, d/50))
					if err != nil {
						b.Fatal(err)
					}
					total, cells, runs = total+bytes, cells+dec.Received(), runs+1
				}
				b.ReportMetric(float64(total)/float64(runs), "bytes/run")
				b.ReportMetric(float64(total)/float64(runs)/float64(d), "bytes/diff")
				b.ReportMetric(float64(cells)/float64(runs)/float64(d), "cells/diff")
			})
		}
	}
}
