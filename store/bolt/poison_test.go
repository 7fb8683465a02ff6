package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bzzz/store"
	"bzzz/store/storetest"
)

// The commit fails because its file handle was closed under it.
func TestFailedCommitPoisons(t *testing.T) {
	t.Parallel()
	storetest.Poison(t, func(t testing.TB) (store.KV, func()) {
		s, err := Open(filepath.Join(t.TempDir(), "s.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return released{s}, func() { _ = s.now.Load().file.Close() }
	})
}

// released hides that the handle to release was closed by the test.
type released struct{ *Store }

func (r released) Close() error {
	_ = r.Store.Close()
	return nil
}

func TestFailedSyncPoisons(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), &Options{Durability: None})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.now.Load().file.Close()
	if err := s.Sync(); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("Sync: got %v, want ErrPoisoned", err)
	}
	if err := s.View(func(store.Tx) error { return nil }); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("View: got %v, want ErrPoisoned", err)
	}
	_ = s.Close()
}

// A View that runs while a commit fails must not report success.
func TestRunningViewOfAPoisonedStoreFails(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(tx store.Tx) error {
		_ = s.now.Load().poisonWith(errors.New("a failed commit"))
		return nil
	})
	if !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("got %v, want ErrPoisoned", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The file is cut off while it is open: reads meet a fault on the mapping.
func TestFileCutOffWhileOpen(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "s.db")
		s, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Update(func(tx store.Tx) error {
			b, err := tx.CreateBucket("b", store.Ordered)
			if err == nil {
				err = b.Put([]byte("k"), make([]byte, 64<<10))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(func(tx store.Tx) error {
			var v []byte
			if held {
				v = tx.Bucket("b").Get([]byte("k"))
			}
			if err := os.Truncate(path, 2*pageSize); err != nil {
				return err
			}
			if !held {
				v = tx.Bucket("b").Get([]byte("k"))
			}
			var sum byte
			for i := range 64 << 10 { // trips where the read was not answered
				sum += v[i]
			}
			if sum != 0 {
				t.Errorf("got %d", sum)
			}
			return nil
		})
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("held %v: got %v, want ErrCorrupt", held, err)
		}
		_ = s.Close()
	}
}
