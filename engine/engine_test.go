package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/mem"
)

// open opens a DB in a temporary directory, or in memory.
func open(t testing.TB, dir string, opts *engine.Options) *engine.DB {
	t.Helper()
	if opts == nil {
		opts = &engine.Options{}
	}
	if opts.RuntimeDir == "" {
		opts.RuntimeDir = "-" // what is tested of it has tests of its own
	}
	if dir == "" {
		dir = t.TempDir()
	}
	db, err := engine.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestPutGetDelete(t *testing.T) {
	t.Parallel()
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprint("memory=", memory), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			db := open(t, "", &engine.Options{Memory: memory})
			if _, err := db.Get(ctx, []byte("k")); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("got %v, want not found", err)
			}
			if err := db.Put(ctx, []byte("k"), []byte("v")); err != nil {
				t.Fatal(err)
			}
			if got, err := db.Get(ctx, []byte("k")); err != nil || string(got) != "v" {
				t.Fatalf("got %q, %v", got, err)
			}
			if err := db.Delete(ctx, []byte("k")); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Get(ctx, []byte("k")); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("got %v, want not found", err)
			}
			h, err := db.History(ctx, []byte("k"))
			if err != nil || len(h) != 2 {
				t.Fatalf("history %v, %v", h, err)
			}
		})
	}
}

func TestReopenKeepsData(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: "-"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := db.Put(ctx, fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "v%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := db.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, nil)
	after, err := db.State(ctx)
	if err != nil || after.Root != before.Root || !after.Clock.Equal(before.Clock) {
		t.Fatalf("state changed by reopening: %v", err)
	}
	n := 0
	for e, err := range db.Scan(ctx, engine.Range{Prefix: []byte("k")}) {
		if err != nil || string(e.Value) != fmt.Sprintf("v%d", n) {
			t.Fatalf("entry %d: %q %v", n, e.Value, err)
		}
		n++
	}
	if n != 100 {
		t.Fatalf("scan gave %d entries, want 100", n)
	}
}

func TestConcurrentWritersShareCommits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := range 20 {
				if err := db.Put(ctx, fmt.Appendf(nil, "w%02d-%02d", w, i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range db.Scan(ctx, engine.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 640 {
		t.Fatalf("scan gave %d entries, want 640", n)
	}
}

func TestUpdateIsAtomic(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	boom := errors.New("boom")
	err := db.Update(ctx, func(tx *engine.Txn) error {
		if err := tx.Put([]byte("a"), []byte("1")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	if _, err := db.Get(ctx, []byte("a")); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("a failed update left a value: %v", err)
	}
	err = db.Update(ctx, func(tx *engine.Txn) error {
		if err := db.Put(tx.Context(), []byte("x"), nil); !errors.Is(err, engine.ErrInvalid) {
			return fmt.Errorf("call into the DB from inside: %v, want invalid", err)
		}
		if err := tx.Put([]byte("a"), []byte("1")); err != nil {
			return err
		}
		if v, err := tx.Get([]byte("a")); err != nil || string(v) != "1" {
			return fmt.Errorf("own write not seen: %q %v", v, err)
		}
		return tx.Put([]byte("b"), []byte("2"))
	})
	if err != nil {
		t.Fatal(err)
	}
	ha, _ := db.History(ctx, []byte("a"))
	hb, _ := db.History(ctx, []byte("b"))
	if len(ha) != 1 || len(hb) != 1 || ha[0].Seq+1 != hb[0].Seq {
		t.Fatalf("versions %v %v", ha, hb)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic in Update must reach its caller")
			}
		}()
		db.Update(ctx, func(tx *engine.Txn) error { panic("ouch") })
	}()
	if err := db.Put(ctx, []byte("c"), nil); err != nil {
		t.Fatalf("the DB must go on after a panic in Update: %v", err)
	}
}

func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	k := []byte("k")
	if err := db.PutIf(ctx, k, []byte("1"), engine.NoToken); err != nil {
		t.Fatal(err)
	}
	r, err := db.GetAll(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PutIf(ctx, k, []byte("2"), r.Token); err != nil {
		t.Fatal(err)
	}
	err = db.PutIf(ctx, k, []byte("3"), r.Token)
	var c *engine.Conflict
	if !errors.Is(err, engine.ErrConflict) || !errors.As(err, &c) || string(c.Current.Siblings[0].Value) != "2" {
		t.Fatalf("got %v, want a conflict that carries the current value", err)
	}
	if err := db.DeleteIf(ctx, k, r.Token); !errors.Is(err, engine.ErrConflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if err := db.DeleteIf(ctx, k, c.Current.Token); err != nil {
		t.Fatal(err)
	}
}

func TestWritingNothingCostsNoCommit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	kv := mem.New()
	db := open(t, "", &engine.Options{Store: kv})
	if err := db.Put(ctx, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	last := func() (id uint64) {
		if err := kv.View(func(tx store.Tx) error { id = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := last()
	if err := db.Delete(ctx, []byte("absent")); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(ctx, func(tx *engine.Txn) error { _, err := tx.Get([]byte("k")); return err }); err != nil {
		t.Fatal(err)
	}
	if after := last(); after != before {
		t.Fatalf("commit %d after writing nothing, want still %d", after, before)
	}
	if err := db.Put(ctx, []byte("k"), []byte("w")); err != nil {
		t.Fatal(err)
	}
	if h, err := db.History(ctx, []byte("k")); err != nil || len(h) != 2 || h[0].Seq != 2 {
		t.Fatalf("history %v %v, want two versions without a gap", h, err)
	}
}

func TestRestoreKeepsKindAndType(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	if err := db.Max([]byte("n")).Set(ctx, 7); err != nil {
		t.Fatal(err)
	}
	if err := db.Put(ctx, []byte("t"), []byte("x"), engine.ContentType("text/plain")); err != nil {
		t.Fatal(err)
	}
	snap, err := db.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mark := engine.AtMark(snap.Mark())
	snap.Close()
	if err := db.Max([]byte("n")).Set(ctx, 9); err != nil {
		t.Fatal(err)
	}
	if err := db.Put(ctx, []byte("t"), []byte("y")); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Restore(ctx, nil, mark); err != nil || n != 2 {
		t.Fatalf("restored %d, %v, want 2", n, err)
	}
	if n, err := db.Max([]byte("n")).Value(ctx); err != nil || n != 7 {
		t.Fatalf("number %d %v, want 7", n, err)
	}
	r, err := db.GetAll(ctx, []byte("t"))
	if err != nil || string(r.Shown[0].Value) != "x" || r.Shown[0].ContentType != "text/plain" {
		t.Fatalf("got %+v %v", r.Shown, err)
	}
}
