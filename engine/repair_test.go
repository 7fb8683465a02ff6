package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"bzzz/engine"
)

// drained returns options under which everything that can be collected is.
func drained() *engine.Options {
	return &engine.Options{Memory: true, SweepInterval: -1, Retention: engine.Retention{Versions: -1, Age: -1, TombstoneAge: -1}}
}

// Several sessions at once between the same two stores, both ways, beside writes,
// deletes and collections: nothing is lost, nothing comes back, and they agree
// in the end.
func TestSessionsSideBySide(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", drained()), open(t, "", drained())
	for i := range 300 {
		if err := a.Put(ctx, fmt.Appendf(nil, "k%03d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	fail := make(chan error, 100)
	for pair := range 4 {
		wg.Go(func() {
			from, to := a, b
			if pair%2 == 1 {
				from, to = b, a
			}
			for range 8 {
				if _, _, err := engine.SyncLocal(ctx, from, to, engine.SyncOptions{}); err != nil && !errors.Is(err, engine.ErrNotRetained) {
					fail <- err
				}
			}
		})
	}
	for side, db := range []*engine.DB{a, b} {
		wg.Go(func() {
			for i := range 60 {
				key := fmt.Appendf(nil, "k%03d", 2*i+side)
				err := db.Delete(ctx, key)
				if i%10 == 9 {
					_, e := db.Collect(ctx, engine.Retention{})
					err = errors.Join(err, e, db.Put(ctx, fmt.Appendf(nil, "new %d %d", side, i), []byte("n")))
				}
				if err != nil && !errors.Is(err, engine.ErrNotFound) {
					fail <- err
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
	var last engine.SyncReport
	for range 3 {
		var err error
		if last, _, err = engine.SyncLocal(ctx, a, b, engine.SyncOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if !last.InSync {
		t.Fatalf("not in sync: %+v", last.Namespaces)
	}
	for _, db := range []*engine.DB{a, b} {
		for side := range 2 {
			for i := 9; i < 60; i += 10 {
				if _, err := db.Get(ctx, fmt.Appendf(nil, "new %d %d", side, i)); err != nil {
					t.Errorf("written beside the sessions: %v", err)
				}
			}
		}
		if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) > 0 {
			t.Errorf("verify: %v %v", r.Problems, err)
		}
	}
}

// A store that was away while deletes were made and collected: they reach it,
// what it wrote stays, and nothing comes back (FAILURES 6).
func TestReturnAfterRetention(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b, c := open(t, "", drained()), open(t, "", drained()), open(t, "", drained())
	for i := range 50 {
		if err := a.Put(ctx, fmt.Appendf(nil, "k%02d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	syncBoth(t, a, b)
	syncBoth(t, a, c)
	for i := range 25 {
		if err := a.Delete(ctx, fmt.Appendf(nil, "k%02d", i)); err != nil {
			t.Fatal(err)
		}
	}
	syncBoth(t, a, c)
	for _, db := range []*engine.DB{a, c} {
		if r, err := db.Collect(ctx, engine.Retention{}); err != nil || r.Tombstones != 25 {
			t.Fatalf("%+v, %v; want 25 deletes collected", r, err)
		}
	}
	if err := errors.Join(b.Put(ctx, []byte("k03"), []byte("written while away")), b.Put(ctx, []byte("own"), []byte("v"))); err != nil {
		t.Fatal(err)
	}
	rc, rb, err := engine.SyncLocal(ctx, c, b, engine.SyncOptions{})
	if err != nil || !rc.InSync || rb.Namespaces[0].Dropped != 24 || rb.Namespaces[0].Tier != "sketch" || rc.Namespaces[0].Diverged != 24 {
		t.Fatalf("%v, %+v", err, rb.Namespaces)
	}
	syncBoth(t, a, c)
	for name, db := range map[string]*engine.DB{"a": a, "b": b, "c": c} {
		n := 0
		for _, err := range db.Scan(ctx, engine.Range{}) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		v, err := db.Get(ctx, []byte("k03"))
		if n != 27 || err != nil || string(v) != "written while away" {
			t.Errorf("%s has %d keys, want 27; k03 is %q (%v)", name, n, v, err)
		}
	}
	if got, err := a.Agreements(ctx); err != nil || len(got) != 2 {
		t.Errorf("agreements %+v, %v", got, err)
	}
}

// The brake: one store that lost everything to a wrong command does not take the
// others with it; two that say the same do, and so does an operator.
func TestBrake(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	opts := drained()
	opts.MaxAbsentDrop = 10
	a, b, c := open(t, "", opts), open(t, "", opts), open(t, "", opts)
	for i := range 100 {
		if err := a.Put(ctx, fmt.Appendf(nil, "k%02d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	syncBoth(t, a, b)
	syncBoth(t, a, c)
	if _, err := a.DeletePrefix(ctx, []byte("k")); err != nil {
		t.Fatal(err)
	}
	syncBoth(t, a, c)
	for _, db := range []*engine.DB{a, c} {
		if _, err := db.Collect(ctx, engine.Retention{}); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() (n int) {
		for range b.Scan(ctx, engine.Range{}) {
			n++
		}
		return n
	}
	_, rb, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	if held := rb.Namespaces[0].Held; err != nil || held == nil || held.Keys != 100 || rb.InSync || keys() != 100 {
		t.Fatalf("%v, held %+v, %d keys are left; want all held back", err, held, keys())
	}
	if s, err := b.Stats(ctx); err != nil || len(s.Namespaces[0].DropPending) != 1 || s.Namespaces[0].DropPending[0].Keys != 100 {
		t.Fatalf("pending %+v, %v", s.Namespaces, err)
	}
	again, rb, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{}) // the same store twice is one witness
	if err != nil || again.InSync || rb.InSync || keys() != 100 {
		t.Fatalf("%v, in sync %v; %d keys are left", err, rb.InSync, keys())
	}
	rc, rb, err := engine.SyncLocal(ctx, c, b, engine.SyncOptions{}) // the second
	if err != nil || !rc.InSync || !rb.InSync || keys() != 0 {
		t.Fatalf("%v, %+v; %d keys are left", err, rb.Namespaces, keys())
	}
}
