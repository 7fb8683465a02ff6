package engine_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"bzzz/engine"
)

// BenchmarkPutReader stores 64 MiB in a fresh file, durably, while the next
// batch is cut beside the commit.
func BenchmarkPutReader(b *testing.B) {
	data := noise(40, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		db, err := engine.Open(b.TempDir(), &engine.Options{RuntimeDir: "-"})
		if err != nil {
			b.Fatal(err)
		}
		if err := db.PutReader(context.Background(), []byte("k"), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGetReader reads 64 MiB, verified.
func BenchmarkGetReader(b *testing.B) {
	db := open(b, "", nil)
	data := noise(41, 64<<20)
	if err := db.PutReader(context.Background(), []byte("k"), bytes.NewReader(data)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := db.GetReader(context.Background(), []byte("k"))
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != int64(len(data)) || err != nil {
			b.Fatal(n, err)
		}
		r.Close()
	}
}
