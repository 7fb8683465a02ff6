package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
)

// Ties are broken by the versions alone, never by which of them arrived first:
// two nodes that hold the same show the same.
func TestTraceTieByArrival(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	for i := range 20 {
		key := fmt.Appendf(nil, "key %d", i)
		if err := errors.Join(a.Put(ctx, key, []byte("by a")), b.Put(ctx, key, []byte("by b"))); err != nil {
			t.Fatal(err)
		}
	}
	syncBoth(t, a, b)
	for i := range 20 {
		key := fmt.Appendf(nil, "key %d", i)
		ra, err := a.GetAll(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		rb, err := b.GetAll(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(ra.Siblings) != 2 || ra.Shown[0].CID != rb.Shown[0].CID {
			t.Errorf("%s: of %d values a shows %q and b %q", key, len(ra.Siblings), ra.Shown[0].Value, rb.Shown[0].Value)
		}
	}
}

// KERNEL K7: what a peer claims is dropped after its versions were taken in and
// its clock was adopted, in one transaction. Dropped before, a version with a
// gap below it has to be held back, and the key it stands under is shown on.
func TestTraceDropBeforeAdd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	for _, value := range []string{"1", "2"} {
		if err := a.Put(ctx, []byte("k"), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	versions, _ := versionsOf(t, a, "") // the second alone: the first is missing below it
	if _, err := b.ApplyVersions(ctx, []*crdt.Version{versions[0]}); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, []byte("k")); err != nil {
		t.Fatal(err)
	}
	if r, err := a.Collect(ctx, keepNothing); err != nil || r.Tombstones != 1 {
		t.Fatalf("collected %+v, %v", r, err)
	}
	r := syncBoth(t, a, b)
	if n := r.Namespaces[0]; n.Rounds != 1 {
		t.Errorf("report %+v, want one comparison", n)
	}
	if _, err := b.Get(ctx, []byte("k")); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("b shows what was deleted: %v", err)
	}
}
