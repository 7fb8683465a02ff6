package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bzzz/store"
	"bzzz/store/bolt"
)

// filled returns a store of n keys in each of a few buckets.
func filled(t testing.TB, opts bolt.Options, n int) file {
	t.Helper()
	s := openFile(t, filepath.Join(t.TempDir(), "s.db"), opts)
	for from := 0; from < n; from += 1000 {
		must(t, s.Update(func(tx store.Tx) error {
			for i := from; i < min(n, from+1000); i++ {
				for _, bucket := range []string{"a", "b", "journal"} {
					if err := put(tx, bucket, fmt.Sprintf("%08d", i*7919%n), strings.Repeat("v", i%200)); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	return s
}

// files returns the names in the directory of a store.
func files(t testing.TB, s file) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.path))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCompactGivesRoomBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := filled(t, bolt.Options{}, 20_000)
	full, _, err := s.Size()
	must(t, err)
	must(t, s.Update(func(tx store.Tx) error {
		return errors.Join(tx.DeleteBucket("a"), tx.DeleteBucket("b"), tx.DeleteBucket("journal"), put(tx, "c", "k", "v"))
	}))
	want, id := dump(t, s)
	told := int64(-1)
	before, after, err := s.Compact(ctx, func(n int64) { told = n })
	must(t, err)
	t.Logf("%d bytes, of which nearly all free, became %d", before, after)
	if before < full || after > before/100 || told != 2 {
		t.Errorf("got %d bytes from %d and %d copied, want at most a hundredth and 2", after, before, told)
	}
	got, newID := dump(t, s)
	if got != want || newID < id {
		t.Errorf("compacting changed what is there, or the ID fell from %d to %d", id, newID)
	}
	must(t, s.Update(func(tx store.Tx) error { return put(tx, "c", "k2", "v2") }))
	if _, next := dump(t, s); next <= newID {
		t.Errorf("the ID went from %d to %d", newID, next)
	}
	again := s.Reopen(t)
	if got, _ := dump(t, again); got != want+"\"c\" \"k2\" 7632\n" {
		t.Errorf("got %q after reopening", got)
	}
	must(t, again.Close())
	must(t, bolt.Check(s.path))
	if names := files(t, s); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
}

// Writers go on while the store is compacted, again and again; nothing that
// they were told of is lost, and readers see one moment each.
func TestCompactBesideWriters(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := filled(t, bolt.Options{Durability: bolt.None}, 5_000)
	var commits atomic.Int64
	stop, done := make(chan struct{}), make(chan error)
	model := map[string]string{}
	go func() {
		rng := rand.New(rand.NewPCG(8, 8))
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			err := s.Update(func(tx store.Tx) error {
				for range 20 {
					k, v := fmt.Sprintf("%08d", rng.IntN(5000)), strings.Repeat("w", rng.IntN(300))+fmt.Sprint(n)
					if err := errors.Join(put(tx, "a", k, v), tx.Bucket("b").Delete([]byte(k)), put(tx, "n", "n", fmt.Sprint(n))); err != nil {
						return err
					}
					model[k] = v
				}
				return nil
			})
			if err != nil {
				done <- err
				return
			}
			commits.Add(1)
		}
	}()
	const rounds = 8
	for range rounds {
		for start := commits.Load(); commits.Load() < start+20; {
			must(t, s.View(func(store.Tx) error { return nil }))
		}
		if _, _, err := s.Compact(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	must(t, <-done)
	check := func(kv store.KV) {
		must(t, kv.View(func(tx store.Tx) error {
			if got := string(tx.Bucket("n").Get([]byte("n"))); got != fmt.Sprint(commits.Load()-1) {
				t.Errorf("the last commit is %s, want %d", got, commits.Load()-1)
			}
			for k, v := range model {
				if got := tx.Bucket("a").Get([]byte(k)); string(got) != v {
					t.Fatalf("%s: got %q, want %q", k, got, v)
				}
				if tx.Bucket("b").Get([]byte(k)) != nil {
					t.Fatalf("%s: a removed key is back", k)
				}
			}
			return nil
		}))
	}
	check(s)
	t.Logf("%d commits beside %d compactions", commits.Load(), rounds)
	again := s.Reopen(t)
	check(again)
	must(t, again.Close())
	must(t, bolt.Check(s.path))
}

func TestSnapshotsOutliveCompact(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{}, 3000)
	want, _ := dump(t, s)
	snap, err := s.Snapshot()
	must(t, err)
	for range 2 {
		must(t, s.Update(func(tx store.Tx) error { return tx.Bucket("a").Delete([]byte("00000001")) }))
		_, _, err = s.Compact(context.Background(), nil)
		must(t, err)
	}
	if got, _ := dump(t, inSnapshot{s, snap}); got != want {
		t.Error("a snapshot changed under its reader")
	}
	must(t, snap.Err())
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Error("Close did not wait for the snapshot of a replaced file")
	case <-time.After(10 * time.Millisecond):
	}
	snap.Release()
	must(t, <-closed)
	must(t, bolt.Check(s.path))
}

// inSnapshot reads a snapshot through dump.
type inSnapshot struct {
	store.KV
	tx store.Tx
}

func (s inSnapshot) View(fn func(store.Tx) error) error { return fn(s.tx) }

// Whoever waits for the lock of a store that is compacted meanwhile must get
// the new file: what he wrote to the old one would be gone.
func TestWaiterGetsTheCompactedFile(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{}, 100)
	for i := range 5 {
		got := make(chan error)
		go func() {
			next, err := bolt.Open(s.path, &bolt.Options{LockTimeout: time.Minute})
			if err == nil {
				err = errors.Join(next.Update(func(tx store.Tx) error { return put(tx, "w", fmt.Sprint(i), "v") }), next.Close())
			}
			got <- err
		}()
		_, _, err := s.Compact(context.Background(), nil)
		must(t, errors.Join(err, s.Close()))
		must(t, <-got)
		s = openFile(t, s.path, bolt.Options{})
		must(t, s.View(func(tx store.Tx) error {
			if b := tx.Bucket("w"); b == nil || b.Get([]byte(fmt.Sprint(i))) == nil {
				t.Errorf("the write of waiter %d is lost", i)
			}
			return nil
		}))
	}
	must(t, s.Close())
}

// Whatever stops Compact leaves the store as it was, open and usable, and no
// temporary file.
func TestCompactThatFails(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		harm    func(t *testing.T, s file)
		restore func(t *testing.T, s file)
		want    error
	}{
		{"cancelled", cancelled, nil, nil, context.Canceled},
		{"no directory any more", context.Background(),
			func(t *testing.T, s file) { must(t, os.Rename(filepath.Dir(s.path), filepath.Dir(s.path)+".away")) },
			func(t *testing.T, s file) { must(t, os.Rename(filepath.Dir(s.path)+".away", filepath.Dir(s.path))) },
			os.ErrNotExist},
		{"the name cannot be taken", context.Background(),
			func(t *testing.T, s file) {
				must(t, os.Rename(s.path, s.path+".away"))
				must(t, os.MkdirAll(filepath.Join(s.path, "not empty"), 0o755))
			},
			func(t *testing.T, s file) {
				must(t, os.RemoveAll(s.path))
				must(t, os.Rename(s.path+".away", s.path))
			}, os.ErrExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := filled(t, bolt.Options{}, 500)
			want, _ := dump(t, s)
			if tt.harm != nil {
				tt.harm(t, s)
			}
			if _, _, err := s.Compact(tt.ctx, nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tt.restore != nil {
				tt.restore(t, s)
			}
			if got, _ := dump(t, s); got != want {
				t.Error("the store changed")
			}
			if names := files(t, s); len(names) != 1 {
				t.Errorf("left behind: %q", names)
			}
			must(t, s.Update(func(tx store.Tx) error { return put(tx, "a", "later", "v") }))
			_, _, err := s.Compact(context.Background(), nil)
			must(t, err)
			must(t, s.Close())
			must(t, bolt.Check(s.path))
		})
	}
}

func TestCompactIsRefused(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{}, 10)
	must(t, s.Close())
	if _, _, err := s.Compact(context.Background(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: got %v, want ErrClosed", err)
	}
	r := openFile(t, s.path, bolt.Options{ReadOnly: true})
	if _, _, err := r.Compact(context.Background(), nil); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only: got %v, want ErrReadOnly", err)
	}
	must(t, r.Close())
}

// Close does not wait for a long copy.
func TestCloseStopsCompact(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{Durability: bolt.None}, 2000)
	closed := make(chan error, 1)
	_, _, err := s.Compact(context.Background(), func(int64) {
		go func() { closed <- s.Close() }()
		for s.View(func(store.Tx) error { return nil }) == nil && !bolt.Ending(s.Store) {
		}
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	must(t, <-closed)
	must(t, bolt.Check(s.path))
	if names := files(t, s); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
}

// What a crash left of a compaction goes with the next one.
func TestCompactRemovesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{}, 10)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(s.path), ".s.db.123.bzzz-new"), make([]byte, 1000), 0o600))
	_, _, err := s.Compact(context.Background(), nil)
	must(t, err)
	if names := files(t, s); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
	must(t, s.Close())
}
