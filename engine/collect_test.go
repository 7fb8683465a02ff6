package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
)

// keepNothing collects whatever can be collected.
var keepNothing = engine.Retention{Versions: -1, Age: -1, TombstoneAge: -1}

func TestCollectDeletes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	put(t, db, "k", 50)
	for i := range 49 {
		if err := db.Delete(ctx, fmt.Appendf(nil, "k%04d", i)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := db.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := db.Collect(ctx, engine.Retention{Versions: -1, Age: -1}); err != nil || r.Tombstones != 0 || r.Removed != 49 {
		t.Fatalf("collected %+v, %v, want the versions alone: the deletes are young", r, err)
	}
	e, err := db.Explain(ctx, keepNothing, nil)
	if err != nil || len(e) != 1 || e[0].Removable.Count != 49 || e[0].Values.Count != 1 {
		t.Fatalf("explained %+v, %v, want 49 deletes to go", e, err)
	}
	r, err := db.Collect(ctx, keepNothing)
	if err != nil || r.Tombstones != 49 || r.Removed != 49 || r.Bytes < e[0].Removable.Bytes {
		t.Fatalf("collected %+v, %v, want 49 deletes of %d bytes", r, err, e[0].Removable.Bytes)
	}
	if r, err = db.Collect(ctx, keepNothing); err != nil || r.Keys != 1 || r.Removed+r.Records != 0 {
		t.Fatalf("collected %+v, %v again, want nothing to do", r, err)
	}
	after, err := db.State(ctx)
	if err != nil || after.Root != before.Root || !after.Clock.Equal(before.Clock) {
		t.Fatalf("a collection changed what is agreed upon: %v", err)
	}
	s, err := db.Stats(ctx)
	if c := s.Namespaces[0]; err != nil || c.Keys != 1 || c.Tombstones != 0 {
		t.Fatalf("stats %+v, %v, want one key", c, err)
	}
	if v, err := db.Verify(ctx, nil); err != nil || len(v.Problems) > 0 {
		t.Fatalf("verify: %v, %v", v.Problems, err)
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", nil), open(t, "", nil)
	put(t, a, "a", 3)
	put(t, b, "b", 5)
	if err := b.Delete(ctx, []byte("b0001")); err != nil {
		t.Fatal(err)
	}
	syncBoth(t, a, b)
	list, err := a.Replicas(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("replicas %+v, %v, want 2", list, err)
	}
	for _, r := range list {
		want := engine.ReplicaInfo{Own: true, Versions: 3, Live: 3}
		if r.ID == b.ReplicaID().String() {
			want = engine.ReplicaInfo{Versions: 6, Live: 5}
		}
		if r.Own != want.Own || r.Versions != want.Versions || r.Live != want.Live || r.Gaps != 0 || r.Retired || len(r.Namespaces) != 1 {
			t.Errorf("replica %+v, want %+v", r, want)
		}
	}
	if names, err := a.RetireReplica(ctx, b.ReplicaID()); err != nil || len(names) != 1 {
		t.Fatalf("retired in %v, %v", names, err)
	}
	if _, err := a.RetireReplica(ctx, a.ReplicaID()); !errors.Is(err, engine.ErrInvalid) {
		t.Fatalf("retired itself: %v", err)
	}
	if _, err := a.RetireReplica(ctx, crdt.ReplicaID{1}); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("retired a stranger: %v", err)
	}
	list, err = a.Replicas(ctx)
	for _, r := range list {
		if r.Retired == r.Own || r.Retired == r.RetiredAt.IsZero() {
			t.Errorf("replica %+v, %v", r, err)
		}
	}
	if err := a.Put(ctx, []byte("still"), []byte("writes")); err != nil {
		t.Fatal(err)
	}
}
