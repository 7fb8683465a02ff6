package mem_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"bzzz/store"
	"bzzz/store/mem"
	"bzzz/store/storetest"
)

// reopened makes a store outlive its Close through its Image.
type reopened struct{ *mem.Store }

func (s reopened) Reopen(t testing.TB) store.KV {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return reopened{mem.FromImage(s.Image())}
}

func open(testing.TB) store.KV { return reopened{mem.New()} }

func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func FuzzHistory(f *testing.F) { storetest.Fuzz(f, open) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

func TestReservedName(t *testing.T) {
	t.Parallel()
	err := mem.New().Update(func(tx store.Tx) error {
		_, err := tx.CreateBucket("_bzzz", store.Ordered)
		return err
	})
	if !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("got %v, want %v", err, store.ErrInvalid)
	}
}

// Stores of one image share memory but no changes.
func TestImageIsSharedByManyWriters(t *testing.T) {
	t.Parallel()
	s := mem.New()
	write := func(s *mem.Store, value string) error {
		return s.Update(func(tx store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				b, _ = tx.CreateBucket("b", store.Ordered)
			}
			for i := range 500 {
				if err := b.Put(fmt.Appendf(nil, "%d", i), []byte(value)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := write(s, "base"); err != nil {
		t.Fatal(err)
	}
	img := s.Image()
	var wg sync.WaitGroup
	clones := make([]*mem.Store, 8)
	for i := range clones {
		clones[i] = mem.FromImage(img)
		wg.Go(func() {
			if err := write(clones[i], fmt.Sprint("clone ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	check := func(s *mem.Store, want string) {
		_ = s.View(func(tx store.Tx) error {
			for i := range 500 {
				if got := tx.Bucket("b").Get(fmt.Appendf(nil, "%d", i)); string(got) != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			return nil
		})
	}
	check(s, "base")
	check(mem.FromImage(img), "base")
	for i, c := range clones {
		check(c, fmt.Sprint("clone ", i))
	}
}
