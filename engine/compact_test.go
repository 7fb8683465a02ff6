package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bzzz/engine"
)

// TestCompactAfterDropping: what is gone takes no room.
func TestCompactAfterDropping(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, nil)
	big, err := db.CreateNamespace(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	value := []byte(strings.Repeat("v", 1000))
	for i := 0; i < 10_000; i += 1000 {
		err := big.Update(ctx, func(tx *engine.Txn) error {
			for j := i; j < i+1000; j++ {
				if err := tx.Put(fmt.Appendf(nil, "k%06d", j), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Put(ctx, []byte("kept"), value), db.DropNamespace(ctx, "big")); err != nil {
		t.Fatal(err)
	}
	r, err := db.Compact(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, engine.DataFile))
	if err != nil || info.Size() != r.After || r.Before < 10_000_000 || r.After > r.Before/100 {
		t.Fatalf("%d bytes became %d, want a hundredth at most; %v", r.Before, r.After, err)
	}
	t.Logf("%d bytes became %d", r.Before, r.After)
	if v, err := db.Get(ctx, []byte("kept")); err != nil || string(v) != string(value) {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{engine.DataFile}) {
		t.Fatalf("left behind: %q", got)
	}
}

// TestCompactIsTheSameStore: the id goes on over a compaction, with commits
// before, beside and after it, and over the reopening; what the store answers
// does not change, nor what a snapshot or a watch from before sees.
func TestCompactIsTheSameStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, d := range []engine.Durability{engine.DurableAlways, engine.DurableInterval, engine.DurableNone} {
		t.Run(fmt.Sprint("durability=", d), func(t *testing.T) {
			t.Parallel()
			opts := &engine.Options{RuntimeDir: t.TempDir(), SweepInterval: -1, Durability: d, Logger: alarms(t)}
			dir := t.TempDir()
			db, err := engine.Open(dir, opts)
			if err != nil {
				t.Fatal(err)
			}
			w, err := db.Watch(ctx, []byte("after"), "")
			if err != nil {
				t.Fatal(err)
			}
			fillSample(t, db, open(t, "", &engine.Options{Memory: true}))
			id := db.ReplicaID()
			want := answers(db)
			snap, err := db.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Compact(ctx, nil); err != nil {
				t.Fatal(err)
			}
			if changed := compare(t, answers(db), want.lines); changed != "" {
				t.Fatalf("compacted, it answers otherwise: %s", changed)
			}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for j := range 25 {
						if err := db.Put(ctx, fmt.Appendf(nil, "after %d %d", i, j), nil); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for range 3 {
				if _, err := db.Compact(ctx, nil); err != nil {
					t.Fatal(err)
				}
			}
			wg.Wait()
			for i := range sampleKeys {
				if _, err := snap.Get(sampleKey(i)); err != nil && !errors.Is(err, engine.ErrNotFound) {
					t.Fatal(err)
				}
			}
			if _, err := snap.Get([]byte("after 0 0")); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("a snapshot sees what came after it: %v", err)
			}
			snap.Close()
			for range 100 {
				if _, err := w.Next(ctx); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if db, err = engine.Open(dir, opts); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Put(ctx, []byte("after all"), nil); err != nil || db.ReplicaID() != id {
				t.Fatalf("the id did not go on: %v", err)
			}
			for i := range 4 {
				for j := range 25 {
					if _, err := db.Get(ctx, fmt.Appendf(nil, "after %d %d", i, j)); err != nil {
						t.Fatalf("after %d %d: %v", i, j, err)
					}
				}
			}
			if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) > 0 {
				t.Fatal(err, r.Problems)
			}
		})
	}
}

// A copy of the directory from before a compaction is vouched for no more than
// any other old copy.
func TestOldCopyAfterCompact(t *testing.T) {
	t.Parallel()
	c := newCopies(t)
	c.open("a")
	old := c.put("a")
	c.copy("a", "b")
	if _, err := c.dbs["a"].Compact(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	c.same(c.put("a"), old)
	c.crash("a", nil, nil)
	c.open("b")
	c.fresh(c.put("b"), old)
	c.open("a")
	c.put("a")
	c.converge("a", "b")
}

func TestCompactIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Compact(ctx, nil); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
	if _, err := open(t, dir, &engine.Options{ReadOnly: true}).Compact(ctx, nil); !errors.Is(err, engine.ErrReadOnly) {
		t.Errorf("read-only: got %v", err)
	}
	if _, err := open(t, "", &engine.Options{Memory: true}).Compact(ctx, nil); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("memory: got %v", err)
	}
}

// TestKilledWhileCompacting kills processes that write and compact at random
// points: one whole store is left each time, with all that was acknowledged,
// and no dot is used twice.
func TestKilledWhileCompacting(t *testing.T) {
	t.Parallel()
	c := newCrashRig(t, engine.DurableAlways, 31)
	c.task.Compact = true
	n := kills(t, 20)
	for i := range n {
		c.round(5+c.rng.IntN(60), true)
		c.check(i%3 == 0)
		if left := names(t, c.task.Dir); !slices.Contains(left, engine.DataFile) {
			t.Fatalf("kill %d left %q", i, left)
		}
	}
	if c.ackNum < n || c.compactions < n/4 {
		t.Fatalf("%d acknowledgements and %d compactions in %d rounds", c.ackNum, c.compactions, n)
	}
	t.Logf("%d kills, %d acknowledged transactions, %d compactions, %d replica ids", n, c.ackNum, c.compactions, len(c.ids))
	db := open(t, c.task.Dir, &engine.Options{RuntimeDir: c.task.Run})
	if _, err := db.Compact(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if left := names(t, c.task.Dir); !slices.Equal(left, []string{engine.DataFile}) {
		t.Errorf("temporary files outlived a compaction: %q", left)
	}
}
