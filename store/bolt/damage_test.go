package bolt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bzzz/store"
	"bzzz/store/bolt"
)

const page = 4096

// sample returns the bytes of a small store, closed cleanly or as a crash
// leaves it: small and large buckets, free pages, a value over several pages.
func sample(t testing.TB, clean bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	s := openFile(t, path, bolt.Options{})
	for round := range 3 {
		err := s.Update(func(tx store.Tx) error {
			for i, name := range []string{"heads", "journal", "tiny", "empty"} {
				b := tx.Bucket(name)
				if b == nil {
					var err error
					if b, err = tx.CreateBucket(name, store.Order(i%2)); err != nil {
						return err
					}
				}
				for j := range []int{200, 100, 3, 0}[i] {
					if err := b.Put(fmt.Appendf(nil, "key-%06d", j*(round+1)), make([]byte, 40)); err != nil {
						return err
					}
				}
			}
			return tx.Bucket("journal").Put([]byte("large"), make([]byte, 3*page))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !clean {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// outcomes counts how damaged files were met.
type outcomes struct{ refused, failed, served int }

func (o *outcomes) String() string {
	return fmt.Sprintf("%d refused by Open, %d failed in use, %d served", o.refused, o.failed, o.served)
}

// use opens the file, reads all of it in three ways and, if writable, changes
// it. It may fail, with the right errors, and must come back.
func (o *outcomes) use(t *testing.T, path string, writable bool) {
	t.Helper()
	s, err := bolt.Open(path, &bolt.Options{ReadOnly: !writable, Durability: bolt.None})
	if err != nil {
		o.refused++
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open: got %v, want ErrCorrupt or ErrUnsupported with the path", err)
		}
		return
	}
	err = s.View(func(tx store.Tx) error { read(tx); return nil })
	if snap, serr := s.Snapshot(); serr == nil {
		read(snap)
		err = errors.Join(err, snap.Err())
		snap.Release()
	} else {
		err = errors.Join(err, serr)
	}
	if writable {
		err = errors.Join(err, s.Update(change), s.Update(change))
	}
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	switch {
	case err == nil:
		o.served++
	case errors.Is(err, store.ErrCorrupt):
		o.failed++
	default:
		t.Errorf("in use: got %v, want ErrCorrupt", err)
	}
}

// read touches every byte of every bucket.
func read(tx store.Tx) (sum byte) {
	for name := range tx.Buckets() {
		b := tx.Bucket(name)
		if b == nil {
			continue
		}
		c := b.Cursor()
		n := 0
		for k, v := c.First(); k != nil && n < 5000; k, v = c.Next() {
			for _, x := range [][]byte{k, v, b.Get(k)} {
				for _, y := range x {
					sum += y
				}
			}
			n++
		}
		for k, _ := c.Last(); k != nil && n > 0; k, _ = c.Prev() {
			n--
		}
		for i := range 20 {
			b.Get(fmt.Appendf(nil, "key-%06d", i*17))
		}
	}
	return sum
}

// change writes, deletes and makes pages split and merge.
func change(tx store.Tx) error {
	for name := range tx.Buckets() {
		b := tx.Bucket(name)
		if b == nil {
			continue
		}
		for i := range 60 {
			if err := b.Put(fmt.Appendf(nil, "key-%06d", i*11), make([]byte, 90)); err != nil {
				return err
			}
			if err := b.Delete(fmt.Appendf(nil, "key-%06d", i*7)); err != nil {
				return err
			}
		}
	}
	return nil
}

// damagedCopies runs use on n copies of data changed by damage.
func damagedCopies(t *testing.T, data []byte, n int, writable func(i int) bool, damage func(i int, b []byte) []byte) *outcomes {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	buf, o := make([]byte, len(data)), &outcomes{}
	for i := range n {
		copy(buf, data)
		if err := os.WriteFile(path, damage(i, buf), 0o600); err != nil {
			t.Fatal(err)
		}
		o.use(t, path, writable(i))
	}
	t.Log(o)
	return o
}

func never(int) bool    { return false }
func always(int) bool   { return true }
func tenth(i int) bool  { return i%10 == 0 }
func fourth(i int) bool { return i%4 == 0 }
func cleanName(b bool) string {
	if b {
		return "clean"
	}
	return "unclean"
}

// damageTests runs fn for a file that was closed cleanly and one that was not.
func damageTests(t *testing.T, fn func(t *testing.T, data []byte)) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		t.Run(cleanName(clean), func(t *testing.T) {
			t.Parallel()
			fn(t, sample(t, clean))
		})
	}
}

func TestTruncatedFile(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		pages := len(data) / page
		o := damagedCopies(t, data, 2*pages, always, func(i int, b []byte) []byte { return b[:i*page/2] })
		if o.refused == 0 || o.failed > 0 {
			t.Errorf("%v: every file that is too short must be refused by Open", o)
		}
	})
}

func TestEveryByteOfTheMetaPages(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		// The bytes behind the meta data mean nothing: sixteen of each page a run.
		rest := damagedCopies(t, data, (page-80)/16, never, func(i int, b []byte) []byte {
			for j := 80 + 16*i; j < 80+16*(i+1); j++ {
				b[j], b[page+j] = b[j]^1<<(i%8), b[page+j]^0xff
			}
			return b
		})
		if rest.served != (page-80)/16 {
			t.Errorf("%v, want all served", rest)
		}
		meta := damagedCopies(t, data, 2*80, fourth, func(i int, b []byte) []byte {
			b[i/80*page+i%80] ^= 0xff
			return b
		})
		// The page header means nothing. Of the older page all bytes but the magic
		// number and the transaction id are made up for by the other page; nothing
		// is that of the newer one, which is the last commit.
		if meta.served != 16+(80-4-8) || meta.refused != 4+8+64 {
			t.Errorf("%v, want the newer page's damage refused, and the older one's served", meta)
		}
	})
}

func TestZeroedPage(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		o := damagedCopies(t, data, 2*(len(data)/page), fourth, func(i int, b []byte) []byte {
			clear(b[i/2*page:][:page])
			return b
		})
		if o.refused == 0 || o.served == 0 {
			t.Errorf("%v: want some refused, and some zeroed pages that were free", o)
		}
	})
}

func TestRandomBitFlips(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		rng := rand.New(rand.NewPCG(4, 4))
		used := data[2*page:]
		damagedCopies(t, data, 300, tenth, func(_ int, b []byte) []byte {
			b[2*page+rng.IntN(len(used))] ^= 1 << rng.IntN(8)
			return b
		})
	})
}

// Page headers, entry headers and the free list: where a wrong bit is a wrong
// pointer.
func TestBitFlipsInPageHeaders(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		rng := rand.New(rand.NewPCG(5, 5))
		pages := len(data)/page - 2
		o := damagedCopies(t, data, 300, fourth, func(_ int, b []byte) []byte {
			b[(2+rng.IntN(pages))*page+rng.IntN(160)] ^= 1 << rng.IntN(8)
			return b
		})
		if o.refused == 0 || o.served == 0 {
			t.Errorf("%v", o)
		}
	})
}

func TestGarbagePages(t *testing.T) {
	damageTests(t, func(t *testing.T, data []byte) {
		rng := rand.New(rand.NewPCG(6, 6))
		damagedCopies(t, data, 100, fourth, func(i int, b []byte) []byte {
			at := (2 + i%(len(b)/page-2)) * page
			for j := range page {
				if i%2 == 0 || j >= 16 { // with and without a sound header
					b[at+j] = byte(rng.Uint32())
				}
			}
			return b
		})
	})
}

func TestFileOfAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"text":    []byte(strings.Repeat("not a store\n", 5000)),
		"short":   []byte("x"),
		"sqlite":  append([]byte("SQLite format 3\x00"), make([]byte, 3*page)...),
		"zeros":   make([]byte, 8*page),
		"foreign": foreignBbolt(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, ro := range []bool{true, false} {
				_, err := bolt.Open(path, &bolt.Options{ReadOnly: ro})
				if !errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, want ErrUnsupported with the path", err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != string(data) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
	if _, err := bolt.Open(t.TempDir(), nil); !errors.Is(err, store.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) && err == nil {
		t.Error("a directory was opened")
	}
}

// TestGoOnWithCommitBefore: what the refusal of a damaged newest meta page says
// to do opens the file as the commit before left it.
func TestGoOnWithCommitBefore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	s := openFile(t, path, bolt.Options{})
	for i, v := range []string{"before", "last"} {
		err := s.Update(func(tx store.Tx) error {
			if i == 0 {
				if _, err := tx.CreateBucket("b", store.Ordered); err != nil {
					return err
				}
			}
			return tx.Bucket("b").Put([]byte("k"), []byte(v))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path) // before Close commits the free list
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	served := 0
	for newest := range 2 {
		bad := append([]byte(nil), data...)
		bad[newest*page+16+20] ^= 1
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := bolt.Open(path, nil); err == nil {
			served++
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue // that was the older page
		} else if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "newest commit") {
			t.Fatalf("got %v, want corrupt and what to do", err)
		}
		copy(bad[newest*page:][:page], data[(1-newest)*page:][:page])
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openFile(t, path, bolt.Options{})
		err := s.View(func(tx store.Tx) error {
			if got := string(tx.Bucket("b").Get([]byte("k"))); got != "before" {
				t.Errorf("got %q, want the commit before", got)
			}
			return nil
		})
		if err = errors.Join(err, s.Close()); err != nil {
			t.Error(err)
		}
	}
	if served != 1 {
		t.Errorf("%d damaged meta pages served, want the older one alone", served)
	}
}
