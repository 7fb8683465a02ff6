package bolt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bzzz/internal/errs"
	"bzzz/store"
)

// Ending reports whether Close has begun.
func Ending(s *Store) bool { return s.ending.Load() }

// content is what a transaction sees, by bucket and key.
func content(tx store.Tx) map[string]string {
	out := map[string]string{}
	for name := range tx.Buckets() {
		out[name] = "bucket"
		c := tx.Bucket(name).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			out[name+"\x00"+string(k)] = string(v)
		}
	}
	return out
}

// mutate does random things to random buckets: few or many puts and removals,
// empty values and values of several pages, buckets made, removed and made
// again, small ones that grow and large ones that shrink.
func mutate(rng *rand.Rand, tx store.Tx) error {
	for range 1 + rng.IntN(3) {
		name := fmt.Sprint("b", rng.IntN(4))
		b := tx.Bucket(name)
		if b != nil && rng.IntN(12) == 0 {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
			b = nil
		}
		if b == nil {
			if rng.IntN(3) == 0 {
				continue
			}
			var err error
			if b, err = tx.CreateBucket(name, store.Order(rng.IntN(2))); err != nil {
				return err
			}
		}
		keys := 1 << (3 + rng.IntN(9))
		for range 1 + rng.IntN(keys) {
			key := fmt.Appendf(nil, "%06d", rng.IntN(keys))
			var err error
			switch rng.IntN(5) {
			case 0, 1:
				err = b.Delete(key)
			case 2:
				err = b.Put(key, nil)
			default:
				err = b.Put(key, []byte(strings.Repeat("x", rng.IntN(1<<rng.IntN(14)))))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// TestApplyChanges: a copy follows its original through random histories by
// the pages that changed.
func TestApplyChanges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 77))
			from, err := Open(filepath.Join(t.TempDir(), "from.db"), &Options{Durability: None})
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			to, err := Open(filepath.Join(t.TempDir(), "to.db"), &Options{Durability: None})
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			seen, err := from.snapshot()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { seen.Release() }()
			if err := copyAll(context.Background(), to, seen, nil); err != nil {
				t.Fatal(err)
			}
			written := int64(0)
			for round := range 40 {
				for range rng.IntN(4) {
					if err := from.Update(func(tx store.Tx) error { return mutate(rng, tx) }); err != nil {
						t.Fatal(err)
					}
				}
				now, err := from.snapshot()
				if err != nil {
					t.Fatal(err)
				}
				n, err := applyChanges(to, seen, now)
				if err != nil {
					t.Fatal(err)
				}
				written += n
				want := content(now)
				seen.Release()
				seen = now
				if err := to.View(func(tx store.Tx) error {
					if got := content(tx); !maps.Equal(got, want) {
						t.Fatalf("round %d: the copy has %d keys and buckets, the original %d", round, len(got), len(want))
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if written == 0 {
				t.Error("nothing changed")
			}
		})
	}
}

// A small change of a large store is found by looking at little of it.
func TestChangesAreFew(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), &Options{Durability: None})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(func(tx store.Tx) error {
		b, err := tx.CreateBucket("b", store.Ordered)
		for i := 0; i < 50_000 && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, 50))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	old, err := s.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Release()
	if err := s.Update(func(tx store.Tx) error {
		b := tx.Bucket("b")
		if err := b.Delete([]byte("040000")); err != nil {
			return err
		}
		return b.Put([]byte("010000"), nil)
	}); err != nil {
		t.Fatal(err)
	}
	now, err := s.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer now.Release()
	var got []string
	for c := range changes(old, now, "b") {
		got = append(got, fmt.Sprintf("%s %v %v", c.key, c.value == nil, c.err))
	}
	if want := []string{"010000 false <nil>", "040000 true <nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	before, after, err := bothTrees(old, now, "b")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for range after.entries(before) {
		looked++
	}
	if looked == 0 || looked > 500 {
		t.Errorf("%d of 50,000 entries were looked at", looked)
	}
}

// A store without spare mapping is compacted while Updates wait, and does not
// lock up.
func TestCompactWithoutSpareMapping(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), &Options{Durability: None, InitialMmap: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	grow := func(n int) error {
		return s.Update(func(tx store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				var err error
				if b, err = tx.CreateBucket("b", store.Ordered); err != nil {
					return err
				}
			}
			return b.Put(fmt.Appendf(nil, "%d", n), make([]byte, 100_000))
		})
	}
	if err := grow(0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		for n := range 100 {
			if err := grow(n); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for range 5 {
		if _, _, err := s.Compact(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := s.View(func(tx store.Tx) error {
		for n := range 100 {
			if len(tx.Bucket("b").Get(fmt.Appendf(nil, "%d", n))) != 100_000 {
				t.Errorf("value %d is lost", n)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// An Update that outgrows the mapping during the copy waits for Compact's
// snapshot; Compact gives way.
func TestCompactGivesWay(t *testing.T) {
	t.Parallel()
	const mapping = 8 << 20
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), &Options{Durability: None, InitialMmap: mapping})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.patience = time.Millisecond
	put := func(size int) error {
		return s.Update(func(tx store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				var err error
				if b, err = tx.CreateBucket("b", store.Ordered); err != nil {
					return err
				}
			}
			return b.Put([]byte("k"), make([]byte, size))
		})
	}
	if err := put(1000); err != nil {
		t.Fatal(err)
	}
	grown := make(chan error, 1)
	_, _, err = s.Compact(context.Background(), func(int64) {
		go func() { grown <- put(4 * mapping) }()
		for len(s.writer) == 0 { // until it has begun; only Compact's end lets it end
			runtime.Gosched()
		}
	})
	if !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := <-grown; err != nil {
		t.Error(err)
	}
	s.patience = time.Minute
	if _, _, err := s.Compact(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if err := put(10); err != nil {
		t.Error(err)
	}
}
