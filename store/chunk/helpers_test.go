package chunk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/chunk"
	"bzzz/store/mem"
)

// backs are the stores that blobs are kept in.
var backs = map[string]func(testing.TB) store.KV{
	"mem": func(testing.TB) store.KV { return mem.New() },
	"bolt": func(t testing.TB) store.KV {
		kv, err := bolt.Open(filepath.Join(t.TempDir(), "s.db"), &bolt.Options{Durability: bolt.None})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { kv.Close() })
		return kv
	},
}

var space = chunk.New("blobs/")

// content returns n bytes that depend on the seed alone.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// write calls fn with a writer in a transaction.
func write(t testing.TB, kv store.KV, fn func(w *chunk.Writer) error) {
	t.Helper()
	if err := tryWrite(kv, fn); err != nil {
		t.Fatal(err)
	}
}

func tryWrite(kv store.KV, fn func(w *chunk.Writer) error) error {
	return kv.Update(func(tx store.Tx) error {
		w, err := space.Writer(tx)
		if err != nil {
			return err
		}
		if err := fn(w); err != nil {
			return err
		}
		return w.Finish()
	})
}

// read calls fn with a reader in a transaction.
func read(t testing.TB, kv store.KV, fn func(r *chunk.Reader)) {
	t.Helper()
	if err := kv.View(func(tx store.Tx) error {
		fn(space.Reader(tx))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// ingest stores a blob, a batch a transaction, and returns its manifest and
// how many chunks were new.
func ingest(t testing.TB, kv store.KV, r io.Reader) (*chunk.Manifest, int) {
	t.Helper()
	c := chunk.NewCutter(r)
	added := 0
	var b chunk.Batch
	for {
		err := c.Fill(&b)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, kv, func(w *chunk.Writer) error {
			for _, piece := range b.Chunks() {
				isNew, err := w.Put(piece)
				if err != nil {
					return err
				}
				if isNew {
					added++
				}
			}
			return nil
		})
	}
	m, err := c.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	write(t, kv, func(w *chunk.Writer) error { return w.PutManifest(m) })
	return m, added
}

// cut returns the chunks of a content and its manifest.
func cut(t testing.TB, r io.Reader) ([]chunk.Chunk, *chunk.Manifest) {
	t.Helper()
	c := chunk.NewCutter(r)
	var all []chunk.Chunk
	for {
		var b chunk.Batch
		if err := c.Fill(&b); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Chunks()...)
	}
	m, err := c.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return all, m
}

// wantClean fails unless everything in the store verifies.
func wantClean(t testing.TB, kv store.KV) {
	t.Helper()
	read(t, kv, func(r *chunk.Reader) {
		err := r.Verify(func(p chunk.Problem) { t.Errorf("%s: %v", p.What, p.Err) }, func(int, int64) error { return nil })
		if err != nil {
			t.Error(err)
		}
	})
}

func stats(t testing.TB, kv store.KV) (st chunk.Stats) {
	t.Helper()
	read(t, kv, func(r *chunk.Reader) {
		var err error
		if st, err = r.Stats(); err != nil {
			t.Fatal(err)
		}
	})
	return st
}

// wantContent fails unless the blob reads as want.
func wantContent(t testing.TB, kv store.KV, m *chunk.Manifest, want []byte) {
	t.Helper()
	read(t, kv, func(r *chunk.Reader) {
		b, err := r.Open(m.Digest())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
	})
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}
