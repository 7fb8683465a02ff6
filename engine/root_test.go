package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/engine"
)

// TestRootAfterEachChange asks for the root after every single change, over the
// times that tiles are stored and records are collected, and compares it with
// that of a fresh replica, which makes it from nothing, and of a reopened store.
func TestRootAfterEachChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := open(t, dir, &engine.Options{Durability: engine.DurableNone})
	rng := rand.New(rand.NewPCG(1, 5))
	var last engine.State
	for i := range 900 {
		key := fmt.Appendf(nil, "dir%d/%d", rng.IntN(3), rng.IntN(200))
		var err error
		if rng.IntN(4) == 0 {
			err = db.Delete(t.Context(), key)
		} else {
			err = db.Put(t.Context(), key, fmt.Append(nil, i))
		}
		if i == 500 {
			_, collected := db.Collect(t.Context(), engine.Retention{Versions: -1, Age: -1, TombstoneAge: -1})
			err = errors.Join(err, collected)
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err = db.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i%90 != 0 {
			continue
		}
		fresh := open(t, "", &engine.Options{Memory: true})
		if _, _, err := engine.SyncLocal(t.Context(), db, fresh, engine.SyncOptions{}); err != nil {
			t.Fatal(err)
		}
		want, err := fresh.State(t.Context())
		if err != nil || want.Root != last.Root {
			t.Fatalf("after %d changes: root %x, a fresh replica has %x (%v)", i+1, last.Root, want.Root, err)
		}
		here, err := db.PrefixRoot(t.Context(), []byte("dir1/"))
		if err != nil {
			t.Fatal(err)
		}
		if there, err := fresh.PrefixRoot(t.Context(), []byte("dir1/")); err != nil || here != there {
			t.Fatalf("after %d changes: %v under a prefix, a fresh replica has %v (%v)", i+1, here, there, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		again := open(t, dir, &engine.Options{ReadOnly: readOnly})
		if got, err := again.State(t.Context()); err != nil || got.Root != last.Root {
			t.Errorf("reopened, read only %v: root %x (%v), want %x", readOnly, got.Root, err, last.Root)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}
