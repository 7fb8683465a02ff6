package bolt_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"bzzz/store"
	"bzzz/store/bolt"
)

func foreignBbolt(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: page})
	if err == nil {
		err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("users"))
			if err == nil {
				_, err = b.CreateBucket([]byte("nested"))
			}
			return err
		}), db.Close())
	}
	data, rerr := os.ReadFile(path)
	if err = errors.Join(err, rerr); err != nil {
		t.Fatal(err)
	}
	return data
}

func put(tx store.Tx, bucket, key, value string) error {
	b := tx.Bucket(bucket)
	if b == nil {
		var err error
		if b, err = tx.CreateBucket(bucket, store.Ordered); err != nil {
			return err
		}
	}
	return b.Put([]byte(key), []byte(value))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLockedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	s := openFile(t, path, bolt.Options{})
	for _, opts := range []bolt.Options{{LockTimeout: -1}, {LockTimeout: -1, ReadOnly: true}} {
		if _, err := bolt.Open(path, &opts); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("%+v: got %v, want ErrLocked with the path", opts, err)
		}
	}
	must(t, s.Close())
	one := openFile(t, path, bolt.Options{ReadOnly: true})
	two := openFile(t, path, bolt.Options{ReadOnly: true})
	if _, err := bolt.Open(path, &bolt.Options{LockTimeout: -1}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("writer beside readers: got %v, want ErrLocked", err)
	}
	must(t, errors.Join(one.Close(), two.Close()))
	must(t, openFile(t, path, bolt.Options{}).Close())
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	if _, err := bolt.Open(path, &bolt.Options{ReadOnly: true}); !errors.Is(err, store.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: got %v, want ErrNotFound", err)
	}
	s := openFile(t, path, bolt.Options{})
	must(t, s.Update(func(tx store.Tx) error { return put(tx, "b", "k", "v") }))
	must(t, s.Close())
	must(t, os.Chmod(path, 0o400))
	before, err := os.ReadFile(path)
	must(t, err)
	r := openFile(t, path, bolt.Options{ReadOnly: true})
	if err := r.Update(func(store.Tx) error { return nil }); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Update: got %v, want ErrReadOnly", err)
	}
	must(t, r.Sync())
	must(t, r.View(func(tx store.Tx) error {
		if got := tx.Bucket("b").Get([]byte("k")); string(got) != "v" {
			t.Errorf("got %q", got)
		}
		return nil
	}))
	must(t, r.Close())
	after, err := os.ReadFile(path)
	must(t, err)
	if !slices.Equal(before, after) {
		t.Error("a read-only store changed its file")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := bolt.Open(filepath.Join(t.TempDir(), "s.db"), &bolt.Options{Durability: 9}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestEveryDurabilityClassKeepsWhatWasClosed(t *testing.T) {
	t.Parallel()
	for _, d := range []bolt.Durability{bolt.Always, bolt.Interval, bolt.None} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s.db")
			s := openFile(t, path, bolt.Options{Durability: d})
			must(t, s.Update(func(tx store.Tx) error { return put(tx, "b", "k", "v") }))
			must(t, s.Sync())
			must(t, s.Close())
			must(t, bolt.Check(path))
			must(t, openFile(t, path, bolt.Options{}).Close())
		})
	}
}

// A crash in the creation leaves a temporary file and no store.
func TestCreationIsSafeFromCrashes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	for i, left := range [][]byte{nil, make([]byte, 100), make([]byte, 5*page), sample(t, true)} {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf(".s.db.%d.bzzz-new", i)), left, 0o600))
	}
	other := filepath.Join(dir, ".other.db.1.bzzz-new")
	must(t, os.WriteFile(other, nil, 0o600))
	s := openFile(t, path, bolt.Options{})
	must(t, s.View(func(tx store.Tx) error {
		for name := range tx.Buckets() {
			t.Errorf("a new store has bucket %q", name)
		}
		return nil
	}))
	must(t, s.Close())
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{filepath.Base(other), "s.db"}; !slices.Equal(names, want) {
		t.Errorf("got files %q, want %q", names, want)
	}
}

func TestManyCreatorsMakeOneStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	errc := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			s, err := bolt.Open(path, &bolt.Options{LockTimeout: 1 << 40})
			if err == nil {
				err = errors.Join(s.Update(func(tx store.Tx) error { return put(tx, "b", fmt.Sprint(i), "v") }), s.Close())
			}
			errc <- err
		}()
	}
	for range n {
		must(t, <-errc)
	}
	s := openFile(t, path, bolt.Options{})
	must(t, s.View(func(tx store.Tx) error {
		for i := range n {
			if tx.Bucket("b").Get(fmt.Append(nil, i)) == nil {
				t.Errorf("the write of creator %d is lost", i)
			}
		}
		return nil
	}))
	must(t, s.Close())
}

func TestReservedName(t *testing.T) {
	t.Parallel()
	s := openFile(t, filepath.Join(t.TempDir(), "s.db"), bolt.Options{})
	must(t, s.Update(func(tx store.Tx) error {
		if tx.Bucket("_bzzz") != nil {
			t.Error("the reserved bucket is visible")
		}
		if _, err := tx.CreateBucket("_bzzz", store.Ordered); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("CreateBucket: got %v, want ErrInvalid", err)
		}
		if err := tx.DeleteBucket("_bzzz"); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("DeleteBucket: got %v, want ErrInvalid", err)
		}
		return nil
	}))
	must(t, s.Close())
}

// load puts n keys of 13 bytes with values of 16 in batches of 1,000 into a
// store and returns its used bytes per key.
func load(t testing.TB, order store.Order, n int, key func(i int) uint64) float64 {
	t.Helper()
	s := openFile(t, filepath.Join(t.TempDir(), "s.db"), bolt.Options{Durability: bolt.None})
	defer s.Close()
	for i := 0; i < n; i += 1000 {
		must(t, s.Update(func(tx store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				var err error
				if b, err = tx.CreateBucket("b", order); err != nil {
					return err
				}
			}
			for j := i; j < i+1000; j++ {
				if err := b.Put(fmt.Appendf(nil, "%013d", key(j)), make([]byte, 16)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	// Free pages that the last commit left are not used ones.
	total, free, err := s.Size()
	must(t, err)
	return float64(total-free) / float64(n)
}

// A page entry of 16+13+16 = 45 bytes is the lower bound.
func TestRisingLoadsAreStoredDense(t *testing.T) {
	t.Parallel()
	const n = 30_000
	rising := func(i int) uint64 { return uint64(i) }
	rng := rand.New(rand.NewPCG(1, 1))
	random := func(int) uint64 { return rng.Uint64N(1e13) }
	for _, tt := range []struct {
		name  string
		order store.Order
		key   func(int) uint64
		max   float64 // bytes per key
	}{
		{"append-only rising", store.AppendOnly, rising, 47.5},
		{"ordered rising", store.Ordered, rising, 49.5},
		{"ordered random", store.Ordered, random, 75},
	} {
		got := load(t, tt.order, n, tt.key)
		t.Logf("%s: %.1f bytes per key", tt.name, got)
		if got > tt.max {
			t.Errorf("%s: got %.1f bytes per key, want at most %.1f", tt.name, got, tt.max)
		}
	}
}

func TestSmallStoreIsASmallFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	s := openFile(t, path, bolt.Options{})
	for i := range 100 {
		must(t, s.Update(func(tx store.Tx) error { return put(tx, "b", fmt.Sprint(i), "value") }))
	}
	must(t, s.Close())
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() > 256<<10 {
		t.Errorf("got a file of %d bytes", info.Size())
	}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src.db"), filepath.Join(dir, "dst.db")
	must(t, os.WriteFile(src, sample(t, false), 0o600))
	s := openFile(t, src, bolt.Options{})
	must(t, s.Update(func(tx store.Tx) error {
		for i := range 5000 {
			if err := put(tx, "more", fmt.Sprintf("%08d", i*7919%5000), strings.Repeat("v", i%100)); err != nil {
				return err
			}
		}
		return tx.DeleteBucket("tiny")
	}))
	want, id := dump(t, s)
	must(t, s.Close())
	must(t, bolt.Compact(src, dst))
	must(t, bolt.Check(dst))
	if err := bolt.Compact(src, dst); !errors.Is(err, store.ErrExists) {
		t.Errorf("onto a file: got %v, want ErrExists", err)
	}
	d := openFile(t, dst, bolt.Options{})
	got, newID := dump(t, d)
	if got != want {
		t.Error("the copy differs")
	}
	if newID < id {
		t.Errorf("ID fell from %d to %d", id, newID)
	}
	total, free, err := d.Size()
	must(t, err)
	if free*3 > total {
		t.Errorf("%d of %d bytes are free", free, total)
	}
	must(t, d.Update(func(tx store.Tx) error { return put(tx, "more", "k", "v") }))
	must(t, d.Close())
	must(t, bolt.Check(dst))
}

func dump(t testing.TB, kv store.KV) (out string, id uint64) {
	t.Helper()
	var b strings.Builder
	must(t, kv.View(func(tx store.Tx) error {
		id = tx.ID()
		for name := range tx.Buckets() {
			c := tx.Bucket(name).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				fmt.Fprintf(&b, "%q %q %x\n", name, k, v)
			}
		}
		return nil
	}))
	return b.String(), id
}

func TestCheck(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	for _, clean := range []bool{true, false} {
		data := sample(t, clean)
		must(t, os.WriteFile(path, data, 0o600))
		must(t, bolt.Check(path))
		rng := rand.New(rand.NewPCG(3, 3))
		found := 0
		for range 150 {
			b := slices.Clone(data)
			b[(2+rng.IntN(len(b)/page-2))*page+rng.IntN(160)] ^= 1 << rng.IntN(8)
			must(t, os.WriteFile(path, b, 0o600))
			if err := bolt.Check(path); err != nil {
				found++
				if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrUnsupported) {
					t.Errorf("got %v, want ErrCorrupt", err)
				}
			}
		}
		t.Logf("%s: %d of 150 flips in page headers found", cleanName(clean), found)
		if found == 0 {
			t.Error("no damage was found")
		}
	}
}
