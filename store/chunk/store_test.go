package chunk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"bzzz/store"
	"bzzz/store/chunk"
	"bzzz/store/mem"
)

// eachBack runs a test on every kind of store.
func eachBack(t *testing.T, test func(t *testing.T, kv store.KV)) {
	t.Parallel()
	for name, open := range backs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func TestRanges(t *testing.T) {
	eachBack(t, func(t *testing.T, kv store.KV) {
		data := content(10, 3<<20)
		m, _ := ingest(t, kv, bytes.NewReader(data))
		wantContent(t, kv, m, data)
		rng := rand.New(rand.NewPCG(10, 1))
		read(t, kv, func(r *chunk.Reader) {
			b, err := r.Open(m.Digest())
			if err != nil {
				t.Fatal(err)
			}
			for range 500 {
				off, n := rng.IntN(len(data)+1), rng.IntN(300_000)
				p := make([]byte, n)
				got, err := b.ReadAt(p, int64(off))
				want := data[off:min(off+n, len(data))]
				if !bytes.Equal(p[:got], want) || (err == io.EOF) != (len(want) < n) || err != nil && err != io.EOF {
					t.Fatalf("%d bytes at %d: got %d, %v; want %d", n, off, got, err, len(want))
				}
			}
			var out bytes.Buffer
			if _, err := b.Seek(-100_001, io.SeekEnd); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(&out, b); n != 100_001 || err != nil || !bytes.Equal(out.Bytes(), data[len(data)-100_001:]) {
				t.Errorf("the end: %d bytes, %v", n, err)
			}
			_, err = b.Seek(-1, io.SeekStart)
			wantErr(t, "seek before the beginning", err, chunk.ErrInvalid)
			_, err = b.Seek(0, 9)
			wantErr(t, "seek from nowhere", err, chunk.ErrInvalid)
			_, err = b.ReadAt(make([]byte, 1), -1)
			wantErr(t, "read before the beginning", err, chunk.ErrInvalid)
			if n, err := b.ReadAt(make([]byte, 1), 1<<60); n != 0 || err != io.EOF {
				t.Errorf("read behind the end: %d, %v", n, err)
			}
		})
	})
}

// TestReaderContract runs the standard library's own checks of readers.
func TestReaderContract(t *testing.T) {
	eachBack(t, func(t *testing.T, kv store.KV) {
		for _, n := range []int{0, 1, chunk.MinChunk, 200_000} {
			data := content(11, n)
			m, _ := ingest(t, kv, bytes.NewReader(data))
			read(t, kv, func(r *chunk.Reader) {
				b, err := r.Open(m.Digest())
				if err != nil {
					t.Fatal(err)
				}
				if err := iotest.TestReader(b, data); err != nil {
					t.Errorf("%d bytes: %v", n, err)
				}
			})
		}
		wantClean(t, kv)
	})
}

func TestNothingStored(t *testing.T) {
	t.Parallel()
	kv := mem.New()
	_, m := cut(t, bytes.NewReader(content(12, 100_000)))
	read(t, kv, func(r *chunk.Reader) {
		_, err := r.Open(m.Digest())
		wantErr(t, "open", err, chunk.ErrNotFound)
		_, err = r.Chunk(m.Ref(0))
		wantErr(t, "chunk", err, chunk.ErrUnavailable)
		if missing, next := r.Missing(m, 0, 0); len(missing) != m.Len() || next != m.Len() {
			t.Errorf("%d of %d chunks missing", len(missing), m.Len())
		}
		r.Blobs(nil, func(chunk.Digest, chunk.Descriptor) bool { t.Error("a blob"); return true })
	})
	if got := stats(t, kv); got != (chunk.Stats{}) {
		t.Errorf("stats %+v", got)
	}
	wantClean(t, kv)
}

// TestResume: what an ingest that was cut has stored is found by the next, and
// a transfer asks for what is missing alone.
func TestResume(t *testing.T) {
	eachBack(t, func(t *testing.T, kv store.KV) {
		data := content(13, 10<<20)
		chunks, m := cut(t, bytes.NewReader(data))
		write(t, kv, func(w *chunk.Writer) error {
			if err := w.PutManifest(m); err != nil {
				return err
			}
			for _, c := range chunks[:len(chunks)/2] {
				if _, err := w.Put(c); err != nil {
					return err
				}
			}
			return nil
		})
		var missing []int
		read(t, kv, func(r *chunk.Reader) {
			for next := 0; next < m.Len(); {
				var part []int
				part, next = r.Missing(m, next, 7)
				if len(part) > 7 {
					t.Fatalf("%d at a time, want at most 7", len(part))
				}
				missing = append(missing, part...)
			}
			wantErr(t, "check", r.Check(m.Digest(), false), chunk.ErrUnavailable)
			b, err := r.Open(m.Digest())
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, b)
			if !errors.Is(err, chunk.ErrUnavailable) || n != m.Offset(len(chunks)/2) {
				t.Errorf("read %d bytes, %v", n, err)
			}
		})
		if len(missing) != len(chunks)-len(chunks)/2 || missing[0] != len(chunks)/2 {
			t.Fatalf("missing %d of %d chunks from %d on", len(missing), len(chunks), missing[0])
		}
		_, added := ingest(t, kv, bytes.NewReader(data))
		if added != len(missing) {
			t.Errorf("the second ingest stored %d chunks, want %d", added, len(missing))
		}
		wantContent(t, kv, m, data)
		wantClean(t, kv)
	})
}

// TestDamage: whatever bit flips in a stored chunk, reading it says so and
// names it, and writing the content again repairs it.
func TestDamage(t *testing.T) {
	eachBack(t, func(t *testing.T, kv store.KV) {
		data := content(14, 400_000)
		m, _ := ingest(t, kv, bytes.NewReader(data))
		rng := rand.New(rand.NewPCG(14, 1))
		for range 60 {
			at := rng.IntN(len(data))
			hit := m.At(int64(at))
			flip(t, kv, "blobs/data", 8, m.Ref(hit).Digest, func(v []byte) { v[at-int(m.Offset(hit))] ^= 1 << rng.IntN(8) })
			read(t, kv, func(r *chunk.Reader) {
				b, err := r.Open(m.Digest())
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, b)
				if !errors.Is(err, chunk.ErrCorrupt) || n != m.Offset(hit) {
					t.Fatalf("flip at %d: read %d bytes, %v", at, n, err)
				}
				wantErr(t, "deep check", r.Check(m.Digest(), true), chunk.ErrCorrupt)
				found := 0
				if err := r.Verify(func(chunk.Problem) { found++ }, func(int, int64) error { return nil }); err != nil || found != 1 {
					t.Fatalf("verify found %d, %v", found, err)
				}
			})
			if rng.IntN(2) == 0 {
				write(t, kv, func(w *chunk.Writer) error {
					for i := range m.Len() {
						if gone, err := w.Discard(m.Ref(i).Digest); gone != (i == hit) || err != nil {
							t.Errorf("chunk %d of which %d is damaged: discarded %v, %v", i, hit, gone, err)
						}
					}
					return nil
				})
				wantClean(t, kv)
			}
			ingest(t, kv, bytes.NewReader(data))
			wantContent(t, kv, m, data)
			wantClean(t, kv)
		}
	})
}

// flip changes the value that lies under a key with that digest behind skip
// bytes.
func flip(t *testing.T, kv store.KV, bucket string, skip int, d chunk.Digest, change func([]byte)) {
	t.Helper()
	if err := kv.Update(func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if bytes.Equal(k[skip:], d[:]) {
				k, v = bytes.Clone(k), bytes.Clone(v)
				change(v)
				return b.Put(k, v)
			}
		}
		return store.ErrNotFound
	}); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRows: a changed row of any bucket is found by verify, and never
// read as something else.
func TestDamagedRows(t *testing.T) {
	t.Parallel()
	kv := mem.New()
	data := content(15, 100_000)
	m, _ := ingest(t, kv, bytes.NewReader(data))
	base := kv.Image()
	for bucket, d := range map[string]chunk.Digest{
		"blobs/index": m.Ref(0).Digest, "blobs/manifests": m.Digest(), "blobs/lists": m.Digest(),
	} {
		size := 0
		flip(t, mem.FromImage(base), bucket, 0, d, func(v []byte) { size = len(v) })
		for at := range size {
			kv := mem.FromImage(base)
			flip(t, kv, bucket, 0, d, func(v []byte) { v[at] ^= 4 })
			found := 0
			read(t, kv, func(r *chunk.Reader) {
				if err := r.Verify(func(chunk.Problem) { found++ }, func(int, int64) error { return nil }); err != nil {
					t.Fatal(err)
				}
				err := r.Check(m.Digest(), true)
				if !errors.Is(err, chunk.ErrCorrupt) && !errors.Is(err, chunk.ErrUnavailable) {
					t.Errorf("%s byte %d: read as if nothing were: %v", bucket, at, err)
				}
			})
			if found == 0 {
				t.Errorf("%s byte %d: verify found nothing", bucket, at)
			}
			ingest(t, kv, bytes.NewReader(data))
			wantContent(t, kv, m, data)
		}
	}
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	kv := mem.New()
	ingest(t, kv, bytes.NewReader([]byte("x")))
	if err := kv.Update(func(tx store.Tx) error {
		return tx.Bucket("blobs/meta").Put([]byte("state"), []byte("nonsense"))
	}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "writer", tryWrite(kv, func(*chunk.Writer) error { return nil }), chunk.ErrCorrupt)
	read(t, kv, func(r *chunk.Reader) {
		_, err := r.Stats()
		wantErr(t, "stats", err, chunk.ErrCorrupt)
	})
	if err := kv.Update(func(tx store.Tx) error { return tx.DeleteBucket("blobs/index") }); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "writer", tryWrite(kv, func(*chunk.Writer) error { return nil }), chunk.ErrCorrupt)
	if err := kv.Update(func(tx store.Tx) error { return tx.DeleteBucket("blobs/meta") }); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "writer", tryWrite(kv, func(*chunk.Writer) error { return nil }), chunk.ErrCorrupt)
}

// TestLeasesEnd: a collection ends the leases that ran out, were given by a
// wrong clock, or are damaged, and no other.
func TestLeasesEnd(t *testing.T) {
	t.Parallel()
	kv := mem.New()
	now := time.UnixMilli(1_000_000)
	write(t, kv, func(w *chunk.Writer) error {
		for i, expiry := range []time.Duration{-time.Millisecond, 0, time.Hour, chunk.MaxLease, chunk.MaxLease + time.Millisecond, time.Hour} {
			if err := w.BeginLease(chunk.LeaseID{byte(i)}, now.Add(expiry)); err != nil {
				return err
			}
		}
		return nil
	})
	flipLease := func(tx store.Tx) error {
		id := chunk.LeaseID{5}
		b := tx.Bucket("blobs/leases")
		v := bytes.Clone(b.Get(id[:]))
		v[3] ^= 1
		return b.Put(id[:], v)
	}
	if err := kv.Update(flipLease); err != nil {
		t.Fatal(err)
	}
	write(t, kv, func(w *chunk.Writer) error {
		_, err := w.BeginCollection(now)
		return err
	})
	write(t, kv, func(w *chunk.Writer) error {
		for i, want := range []bool{false, true, true, true, false, false} {
			if held, err := w.RenewLease(chunk.LeaseID{byte(i)}, now); held != want || err != nil {
				t.Errorf("lease %d: held %v, %v; want %v", i, held, err, want)
			}
		}
		return nil
	})
}

// TestCounts: the sizes that are kept are those that are there.
func TestCounts(t *testing.T) {
	eachBack(t, func(t *testing.T, kv store.KV) {
		m, added := ingest(t, kv, bytes.NewReader(content(16, 1<<20)))
		ingest(t, kv, bytes.NewReader(content(16, 1<<20)))
		ingest(t, kv, bytes.NewReader(nil))
		write(t, kv, func(w *chunk.Writer) error {
			return w.BeginLease(chunk.LeaseID{1}, time.UnixMilli(5))
		})
		got := stats(t, kv)
		want := chunk.Stats{Blobs: 2, Chunks: uint64(added), Bytes: 1 << 20, ManifestBytes: got.ManifestBytes, Leases: 1, Epoch: 1}
		if got != want || got.ManifestBytes < uint64(33*m.Len()) {
			t.Errorf("stats %+v, want %+v", got, want)
		}
		var names []chunk.Digest
		read(t, kv, func(r *chunk.Reader) {
			r.Blobs(nil, func(d chunk.Digest, _ chunk.Descriptor) bool { names = append(names, d); return true })
			n := 0
			r.Blobs(&names[0], func(d chunk.Digest, desc chunk.Descriptor) bool {
				n++
				if d != names[1] || desc.Digest() != d {
					t.Errorf("after %x comes %x (%+v)", names[0], d, desc)
				}
				return true
			})
			if n != 1 {
				t.Errorf("%d blobs after the first, want 1", n)
			}
		})
	})
}
