package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/chunk"
	"bzzz/store/mem"
)

// noise returns n bytes that depend on the seed alone.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// readAll returns what GetReader gives.
func readAll(db *engine.DB, key string) ([]byte, error) {
	r, err := db.GetReader(context.Background(), []byte(key))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	_, err = io.Copy(&out, r)
	return out.Bytes(), err
}

// wantValue fails unless a key reads as want, both ways.
func wantValue(t testing.TB, db *engine.DB, key string, want []byte) {
	t.Helper()
	if got, err := readAll(db, key); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: reader gives %d bytes, %v; want %d", key, len(got), err, len(want))
	}
	got, err := db.Get(context.Background(), []byte(key))
	if len(want) > engine.MaxInMemory {
		if !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("%s: get: %v, want too large", key, err)
		}
	} else if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: get gives %d bytes, %v; want %d", key, len(got), err, len(want))
	}
}

// wantNoProblem fails unless verify finds nothing.
func wantNoProblem(t testing.TB, db *engine.DB) {
	t.Helper()
	r, err := db.Verify(context.Background(), nil)
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("verify: %v, %v", err, r.Problems)
	}
}

func blobStats(t testing.TB, db *engine.DB) chunk.Stats {
	t.Helper()
	st, err := db.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st.Blobs
}

// forget collects everything that no live version needs.
func forget(t testing.TB, db *engine.DB) engine.CollectReport {
	t.Helper()
	r, err := db.Collect(context.Background(), engine.Retention{Versions: -1, Age: -1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLargeValues(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, nil)
	sizes := []int{0, 1, 64 << 10, 64<<10 + 1, 300_000, chunk.BatchBytes, chunk.BatchBytes + 1, 2*chunk.BatchBytes + 5, 17 << 20}
	for i, n := range sizes {
		key := fmt.Sprintf("k%d", n)
		if err := db.PutReader(ctx, []byte(key), iotest.HalfReader(bytes.NewReader(noise(byte(i), n))), engine.ContentType("x/y")); err != nil {
			t.Fatal(err)
		}
	}
	check := func(db *engine.DB) {
		for i, n := range sizes {
			key := fmt.Sprintf("k%d", n)
			wantValue(t, db, key, noise(byte(i), n))
			r, err := db.GetAll(ctx, []byte(key))
			if err != nil {
				t.Fatal(err)
			}
			v := r.Shown[0]
			if large := n > 64<<10; large != (v.Blob != "") || large != (v.Value == nil) || v.Size != int64(n) || v.ContentType != "x/y" {
				t.Errorf("%s: blob %q, %d bytes inline, size %d, type %q", key, v.Blob, len(v.Value), v.Size, v.ContentType)
			}
			if _, err := r.Value(); (err != nil) != (n > 64<<10) {
				t.Errorf("%s: value of the record: %v", key, err)
			}
		}
		for e, err := range db.Scan(ctx, engine.Range{}) {
			if err != nil || fmt.Sprintf("k%d", e.Size) != string(e.Key) || (e.Blob != "") != (e.Size > 64<<10) {
				t.Errorf("scan: %q has %d bytes, blob %q, %v", e.Key, e.Size, e.Blob, err)
			}
		}
		wantNoProblem(t, db)
	}
	check(db)
	if st := blobStats(t, db); st.Blobs != 6 || st.Leases != 0 {
		t.Errorf("stats %+v, want 6 blobs and no lease", st)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir, &engine.Options{ReadOnly: true}))
}

// TestContract runs the standard library's own checks of readers.
func TestValueReaderContract(t *testing.T) {
	t.Parallel()
	db := open(t, "", &engine.Options{Memory: true})
	for _, n := range []int{0, 10, 200_000} {
		if err := db.Put(context.Background(), []byte("k"), noise(1, n)); err != nil {
			t.Fatal(err)
		}
		r, err := db.GetReader(context.Background(), []byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, noise(1, n)); err != nil || r.Size() != int64(n) || r.Version().Size != int64(n) {
			t.Errorf("%d bytes: size %d, %v", n, r.Size(), err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if _, err := r.ReadAt(make([]byte, 1), 0); n > 64<<10 && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	}
	if _, err := db.GetReader(context.Background(), []byte("none")); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
}

// TestReaderKeepsItsMoment: what a reader was opened on stays readable though
// the key is replaced and everything is collected.
func TestReaderKeepsItsMoment(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	old := noise(2, 2<<20)
	if err := db.Put(ctx, []byte("k"), old); err != nil {
		t.Fatal(err)
	}
	r, err := db.GetReader(ctx, []byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := db.Put(ctx, []byte("k"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if c := forget(t, db); c.Chunks == 0 || c.Blobs != 1 || c.ChunkBytes != int64(len(old)) {
		t.Errorf("collected %+v", c)
	}
	if st := blobStats(t, db); st.Chunks != 0 || st.Bytes != 0 {
		t.Errorf("left %+v", st)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, old) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	wantValue(t, db, "k", []byte("new"))
}

func TestOneContentIsStoredOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	other, err := db.CreateNamespace(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	data := noise(3, 6<<20)
	if err := errors.Join(db.Put(ctx, []byte("a"), data), other.PutReader(ctx, []byte("b"), bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	st := blobStats(t, db)
	if st.Blobs != 1 || st.Bytes != uint64(len(data)) {
		t.Errorf("stats %+v, want the content once", st)
	}
	if err := db.Delete(ctx, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if c := forget(t, db); c.Chunks != 0 {
		t.Errorf("collected %+v while another namespace names it", c)
	}
	if got, err := other.Get(ctx, []byte("b")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := db.DropNamespace(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if c := forget(t, db); c.Blobs != 1 || blobStats(t, db).Chunks != 0 {
		t.Errorf("collected %+v after the last namespace that named it was dropped", c)
	}
}

func TestLargeValuesInATransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	a, b := noise(4, 100_000), noise(5, 3<<20)
	boom := errors.New("boom")
	write := func(end error) error {
		return db.Update(ctx, func(tx *engine.Txn) error {
			value := bytes.Clone(a)
			if err := errors.Join(tx.Put([]byte("a"), value), tx.Map([]byte("m")).Register([]byte("f")).Set(ctx, b)); err != nil {
				return err
			}
			clear(value) // the caller's again
			if got, err := tx.Get([]byte("a")); err != nil || !bytes.Equal(got, a) {
				t.Errorf("read back %d bytes, %v", len(got), err)
			}
			r, err := tx.GetAll([]byte("a"))
			if err != nil || r.Shown[0].Size != int64(len(a)) || r.Shown[0].Blob == "" {
				t.Errorf("record %+v, %v", r.Shown, err)
			}
			return end
		})
	}
	if err := write(boom); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if st := blobStats(t, db); st != (chunk.Stats{}) {
		t.Errorf("a transaction that failed left %+v", st)
	}
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	wantValue(t, db, "a", a)
	if got, err := db.Map([]byte("m")).Register([]byte("f")).Get(ctx); err != nil || !bytes.Equal(got, b) {
		t.Errorf("field: %d bytes, %v", len(got), err)
	}
	err := db.Update(ctx, func(tx *engine.Txn) error {
		for i := range 3 {
			if err := tx.Put([]byte("same"), noise(byte(i), 6<<20)); err != nil {
				return fmt.Errorf("replacing its own write: %w", err)
			}
		}
		if err := tx.Put([]byte("more"), noise(9, 11<<20)); !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("17 MiB in one transaction: %v", err)
		}
		_, err := tx.Delete([]byte("same"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNoProblem(t, db)
}

// TestHistoryOfLargeValues: old large values are there for as long as their
// versions are, can be read, compared and restored.
func TestHistoryOfLargeValues(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	key := []byte("k")
	one, two := noise(13, 200_000), noise(14, 300_000)
	var marks []engine.Mark
	for _, v := range [][]byte{one, two, nil} {
		if err := db.Put(ctx, key, v); err != nil {
			t.Fatal(err)
		}
		st, err := db.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, st.Mark())
		st.Close()
	}
	if c, err := db.Collect(ctx, engine.Retention{}); err != nil || c.Chunks != 0 {
		t.Errorf("collected %+v, %v of retained versions", c, err)
	}
	h, err := db.History(ctx, key)
	if err != nil || len(h) != 3 || h[2].Size != int64(len(one)) {
		t.Fatalf("history %+v, %v", h, err)
	}
	r, err := db.OpenBlob(ctx, h[2].Blob)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, one) {
		t.Errorf("old value: %d bytes, %v", len(got), err)
	}
	r.Close()
	n := 0
	for d, err := range db.Diff(ctx, nil, engine.AtMark(marks[0]), engine.AtMark(marks[1])) {
		n++
		if err != nil || d.BeforeBlob != h[2].Blob || d.AfterBlob != h[1].Blob || d.Before == nil || d.After == nil {
			t.Errorf("difference %+v, %v", d, err)
		}
	}
	for d, err := range db.Diff(ctx, nil, engine.AtMark(marks[1]), engine.AtMark(marks[2])) {
		n++
		if err != nil || d.BeforeBlob != h[1].Blob || d.AfterBlob != "" || d.After == nil {
			t.Errorf("difference %+v, %v", d, err)
		}
	}
	for range db.Diff(ctx, nil, engine.AtMark(marks[1]), engine.AtMark(marks[1])) {
		n = -1
	}
	if n != 2 {
		t.Errorf("%d differences, want 2", n)
	}
	if err := db.RestoreKey(ctx, key, engine.AtMark(marks[0])); err != nil {
		t.Fatal(err)
	}
	wantValue(t, db, "k", one)
	if n, err := db.Restore(ctx, nil, engine.AtMark(marks[1])); err != nil || n != 1 {
		t.Fatalf("restored %d, %v", n, err)
	}
	wantValue(t, db, "k", two)
	v := h[2]
	if err := db.PutVersionIf(ctx, key, v, token(db, key)); err != nil {
		t.Fatal(err)
	}
	wantValue(t, db, "k", one)
	if err := db.PutVersionIf(ctx, key, v, engine.NoToken); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("stale token: %v", err)
	}
	if err := db.Put(ctx, key, []byte("last")); err != nil {
		t.Fatal(err)
	}
	if c := forget(t, db); c.Blobs != 2 {
		t.Errorf("collected %+v, want both", c)
	}
	if err := db.PutVersionIf(ctx, key, v, token(db, key)); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a version that is gone: %v, want unavailable", err)
	}
	if _, err := db.OpenBlob(ctx, v.Blob); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a blob that is gone: %v, want unavailable", err)
	}
	for _, name := range []string{"", "nonsense", v.CID} {
		if _, err := db.OpenBlob(ctx, name); err == nil {
			t.Errorf("blob %q was opened", name)
		}
	}
}

// TestDamagedLargeValue: verify names the keys that damage belongs to.
func TestDamagedLargeValue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	kv := mem.New()
	db := open(t, "", &engine.Options{Store: kv})
	data := noise(15, 300_000)
	if err := errors.Join(db.Put(ctx, []byte("hit"), data), db.Put(ctx, []byte("fine"), noise(16, 70_000))); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b store.Bucket, k, v []byte) error{
		"flip": func(b store.Bucket, k, v []byte) error { v[len(v)/2] ^= 1; return b.Put(k, v) },
		"lost": func(b store.Bucket, k, v []byte) error { return b.Delete(k) },
	} {
		if err := kv.Update(func(tx store.Tx) error {
			b := tx.Bucket("blobs/data")
			k, v := b.Cursor().First()
			return change(b, bytes.Clone(k), bytes.Clone(v))
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Get(ctx, []byte("hit")); !errors.Is(err, engine.ErrCorrupt) && !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s: get: %v", name, err)
		}
		r, err := db.Verify(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, p := range r.Problems {
			if p.Key != nil {
				keys = append(keys, string(p.Key))
			}
		}
		if want := map[string]int{"flip": 1}[name]; r.Noted != want {
			t.Errorf("%s: noted %d, want %d", name, r.Noted, want)
		}
		wants, _, err := db.MissingBlobs(ctx, nil, 1, 10)
		if err != nil || len(wants) != 1 || len(wants[0].Chunks) != 1 || string(wants[0].Key) == "fine" {
			t.Errorf("%s: wants %+v, %v", name, wants, err)
		}
		if len(r.Problems) < 2 || !slices.Contains(keys, "hit") || slices.Contains(keys, "fine") {
			t.Errorf("%s: verify found %v", name, r.Problems)
		}
		if err := db.Put(ctx, []byte("again"), data); err != nil { // the same content heals it
			t.Fatal(err)
		}
		wantValue(t, db, "hit", data)
		wantNoProblem(t, db)
	}
}

// TestDamagedBlobState: a large value is refused then, and nobody else's write.
func TestDamagedBlobState(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	kv := mem.New()
	db := open(t, "", &engine.Options{Store: kv})
	if err := db.Put(ctx, []byte("k"), noise(18, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := kv.Update(func(tx store.Tx) error {
		return tx.Bucket("blobs/meta").Put([]byte("state"), []byte("nonsense"))
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := db.Put(ctx, fmt.Appendf(nil, "large %d", i), noise(19, 100_000)); !errors.Is(err, engine.ErrCorrupt) {
				t.Errorf("large: %v, want corrupt", err)
			}
		})
		wg.Go(func() {
			if err := db.Put(ctx, fmt.Appendf(nil, "small %d", i), []byte("v")); err != nil {
				t.Errorf("small: %v", err)
			}
		})
	}
	wg.Wait()
	wantValue(t, db, "k", noise(18, 100_000))
	if _, err := db.Collect(ctx, engine.Retention{}); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("collect: %v, want corrupt", err)
	}
	if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) == 0 {
		t.Errorf("verify: %v, %v", r.Problems, err)
	}
	n := 0
	for range db.Scan(ctx, engine.Range{}) {
		n++
	}
	if n != 21 {
		t.Errorf("%d keys, want 21", n)
	}
}

// TestTransfer: a peer that got the record brings the rest, cut at any point.
func TestTransfer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	data := noise(17, 3<<20)
	if err := errors.Join(a.Put(ctx, []byte("k"), data), a.Put(ctx, []byte("small"), []byte("s"))); err != nil {
		t.Fatal(err)
	}
	var records bytes.Buffer // a bundle carries no large values
	if _, err := a.WriteBundle(ctx, &records, engine.Mark{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadBundle(ctx, &records); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(ctx, []byte("k")); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("get before the transfer: %v", err)
	}
	if _, err := b.GetReader(ctx, []byte("k")); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("reader before the transfer: %v", err)
	}
	if r, err := b.GetAll(ctx, []byte("k")); err != nil || r.Shown[0].Size != -1 {
		t.Errorf("record %+v, %v", r, err)
	}
	if r, err := b.Verify(ctx, nil); err != nil || len(r.Problems) != 1 || !errors.Is(r.Problems[0].Err, engine.ErrUnavailable) {
		t.Errorf("verify: %v, %v", r.Problems, err)
	}
	steps := 0
	for {
		wants, next, err := b.MissingBlobs(ctx, nil, 10, 7)
		if err != nil || next != nil {
			t.Fatalf("next %q, %v", next, err)
		}
		if len(wants) == 0 {
			break
		}
		steps++
		w := wants[0]
		if len(wants) != 1 || string(w.Key) != "k" || w.Manifest != (steps == 1) || len(w.Chunks) > 7 {
			t.Fatalf("step %d: wants %+v", steps, wants)
		}
		if w.Manifest {
			m, err := a.BlobManifest(ctx, w.Blob)
			if err != nil {
				t.Fatal(err)
			}
			m[len(m)-1] ^= 1
			if err := b.PutBlobManifest(ctx, w.Blob, m); !errors.Is(err, engine.ErrCorrupt) {
				t.Errorf("forged manifest: %v", err)
			}
			m[len(m)-1] ^= 1
			if err := b.PutBlobManifest(ctx, w.Blob, m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var parts [][]byte
		for _, ref := range w.Chunks {
			c, err := a.ReadChunk(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, c)
		}
		parts[0][0] ^= 1
		if err := b.PutChunks(ctx, w.Chunks, parts); !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("forged chunk: %v", err)
		}
		parts[0][0] ^= 1
		if have, err := b.HaveChunks(ctx, w.Chunks); err != nil || have[0] {
			t.Errorf("have %v, %v", have, err)
		}
		if err := b.PutChunks(ctx, w.Chunks, parts); err != nil {
			t.Fatal(err)
		}
		if have, err := b.HaveChunks(ctx, w.Chunks); err != nil || !have[0] {
			t.Errorf("have %v, %v", have, err)
		}
		if c := forget(t, b); c.Chunks != 0 {
			t.Fatalf("collected %+v in the middle of a transfer", c)
		}
	}
	if steps < 4 {
		t.Errorf("only %d steps", steps)
	}
	wantValue(t, b, "k", data)
	wantNoProblem(t, b)
	if err := b.PutChunks(ctx, nil, [][]byte{{1}}); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("chunk without a name: %v", err)
	}
	if _, err := a.ReadChunk(ctx, chunk.Ref{Size: 1}); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("unknown chunk: %v", err)
	}
}

// TestDamagedRecordKeepsItsBlob: of a record that cannot be read it is not
// known what it names, so whatever it may name is kept.
func TestDamagedRecordKeepsItsBlob(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	kv := mem.New()
	db := open(t, "", &engine.Options{Store: kv})
	if err := errors.Join(db.Put(ctx, []byte("k"), noise(24, 200_000)), db.Put(ctx, []byte("gone"), noise(25, 200_000)), db.Delete(ctx, []byte("gone"))); err != nil {
		t.Fatal(err)
	}
	if err := kv.Update(func(tx store.Tx) error {
		for name := range tx.Buckets() {
			if !bytes.HasSuffix([]byte(name), []byte("/journal")) {
				continue
			}
			b := tx.Bucket(name)
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if bytes.Contains(v, []byte("k")) && bytes.Contains(v, []byte{1, 0x55, 0x12, 0x20}) && !bytes.Contains(v, []byte("gone")) {
					k, v = bytes.Clone(k), bytes.Clone(v)
					v[5] ^= 1
					return b.Put(k, v)
				}
			}
		}
		return errors.New("no record to damage")
	}); err != nil {
		t.Fatal(err)
	}
	c := forget(t, db)
	if c.Blobs != 1 || blobStats(t, db).Blobs != 1 {
		t.Errorf("collected %+v, want the deleted one alone", c)
	}
}
