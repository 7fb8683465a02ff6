package car

import (
	"io"
	"testing"
)

// BenchmarkWriteV2 writes 10,000 versions: two walks of the source.
func BenchmarkWriteV2(b *testing.B) {
	src := source(10_000)
	_, sum := written(b, WriteV2, src)
	b.SetBytes(int64(sum.Bytes))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WriteV2(io.Discard, src); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/version")
	b.ReportMetric(float64(sum.Bytes)/10_000, "B/version")
}

// BenchmarkOpen verifies 10,000 versions. Lower bound: one SHA-256 and one
// decoding a version.
func BenchmarkOpen(b *testing.B) {
	file, sum := written(b, WriteV1, source(10_000))
	b.SetBytes(int64(sum.Bytes))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := open(file); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/version")
}
