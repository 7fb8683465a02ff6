package ingest

import (
	"bytes"
	"io"
	"os"
	"testing"
)

func BenchmarkCSV(b *testing.B) {
	text, err := os.ReadFile("../../testdata/airports.csv")
	if err != nil {
		b.Fatal(err)
	}
	benchmarkRecords(b, text, FormatCSV)
}

func BenchmarkJSONL(b *testing.B) {
	var text bytes.Buffer
	w := NewWriter(&text)
	for rec, err := range File("../../testdata/airports.csv", Options{}) {
		if err != nil {
			b.Fatal(err)
		}
		_ = w.Write(rec.Key, rec.Value)
	}
	_ = w.Flush()
	benchmarkRecords(b, text.Bytes(), FormatJSONL)
}

func benchmarkRecords(b *testing.B, text []byte, f Format) {
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	w := NewWriter(io.Discard)
	for b.Loop() {
		for rec, err := range Records(bytes.NewReader(text), "bench", f, Options{}) {
			if err != nil {
				b.Fatal(err)
			}
			_ = w.Write(rec.Key, rec.Value)
		}
	}
}
