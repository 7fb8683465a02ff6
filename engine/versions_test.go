package engine_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
)

// versionsOf returns copies of the versions of a set, and its clock.
func versionsOf(t testing.TB, db *engine.DB, prefix string) ([]*crdt.Version, crdt.Clock) {
	t.Helper()
	ctx := context.Background()
	set, err := db.VersionSet(ctx, []byte(prefix))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Release()
	var out []*crdt.Version
	for v, err := range set.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		again, err := crdt.DecodeCanonical(v.AppendCanonical(nil))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, again)
	}
	if n := uint64(len(out)); n > set.Bound() || prefix == "" && n != set.Bound() {
		t.Fatalf("%d versions, at most %d", n, set.Bound())
	}
	return out, set.Clock()
}

// TestVersionSetTravels: a store that takes in another's live versions shows
// the same, deletes too, and nothing happens the second time.
func TestVersionSetTravels(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b, c := open(t, "", nil), open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	put(t, a, "k", 300)
	put(t, b, "k", 20) // concurrent with a's
	syncBoth(t, a, b)
	put(t, c, "old", 5)
	syncBoth(t, a, c)
	for _, key := range []string{"k0007", "old0001"} {
		if err := a.Delete(ctx, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(a.Set([]byte("tags")).Add(ctx, []byte("x")), a.Counter([]byte("n")).Add(ctx, 3)); err != nil {
		t.Fatal(err)
	}
	if err := a.SetResolver(ctx, []byte("k"), "mv"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "k000", 1) // newer there
	versions, clock := versionsOf(t, a, "")
	for _, v := range versions {
		if !clock.Has(v.Dot) {
			t.Fatalf("version %s is not in the clock", v.Dot)
		}
	}
	got, err := c.ApplyVersions(ctx, versions)
	if err != nil || got.New == 0 || got.Forks != 0 || got.New+got.Known != len(versions) {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err = c.ApplyVersions(ctx, versions)
	if err != nil || got != (engine.ApplyReport{Known: len(versions)}) {
		t.Errorf("the second time: %+v, %v", got, err)
	}
	if _, err := c.Get(ctx, []byte("old0001")); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("a deleted key: %v", err)
	}
	if n, err := c.Counter([]byte("n")).Value(ctx); err != nil || n != 3 {
		t.Errorf("counter %d, %v", n, err)
	}
	if r, err := c.GetAll(ctx, []byte("k0001")); err != nil || len(r.Shown) != 2 {
		t.Errorf("the namespace's rules did not travel: %d values shown, %v", len(r.Shown), err)
	}
	syncBoth(t, a, c)
}

// TestVersionSetOrder: the same versions in the same order on every node, by
// key and then by digest; a prefix takes its part.
func TestVersionSetOrder(t *testing.T) {
	t.Parallel()
	a, b := open(t, "", nil), open(t, "", &engine.Options{Memory: true})
	put(t, a, "k", 50)
	put(t, b, "k", 50)
	put(t, b, "l", 10)
	syncBoth(t, a, b)
	va, _ := versionsOf(t, a, "")
	vb, _ := versionsOf(t, b, "")
	order := func(x, y *crdt.Version) int {
		dx, dy := x.Digest(), y.Digest()
		if c := bytes.Compare(x.Key, y.Key); c != 0 {
			return c
		}
		return bytes.Compare(dx[:], dy[:])
	}
	if len(va) != 110 || !slices.IsSortedFunc(va, order) {
		t.Errorf("%d versions, in order: %v", len(va), slices.IsSortedFunc(va, order))
	}
	if !slices.EqualFunc(va, vb, func(x, y *crdt.Version) bool { return x.Digest() == y.Digest() }) {
		t.Error("two stores in sync have different sets")
	}
	if part, _ := versionsOf(t, a, "l"); len(part) != 10 {
		t.Errorf("%d versions below a prefix, want 10", len(part))
	}
}

// TestVersionSetStays: what is written later is not in it.
func TestVersionSetStays(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	put(t, db, "k", 5)
	set, err := db.VersionSet(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Release()
	put(t, db, "k", 9)
	for range 2 {
		n := 0
		for v, err := range set.All(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; !set.Clock().Has(v.Dot) {
				t.Errorf("version %s is newer than the set", v.Dot)
			}
		}
		if n != 5 {
			t.Errorf("%d versions, want 5", n)
		}
	}
	set.Release()
}

// TestApplyVersionsRefuses: a bad version fails them all.
func TestApplyVersionsRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", nil), open(t, "", &engine.Options{Memory: true})
	put(t, a, "k", 5)
	versions, _ := versionsOf(t, a, "")
	bad := *versions[4]
	bad.Time = crdt.MaxHLC
	if _, err := b.ApplyVersions(ctx, append(versions[:4:4], &bad)); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("a bad version: %v", err)
	}
	var big []*crdt.Version
	for i := range crdt.MaxBatch/crdt.MaxValue + 1 {
		v := *versions[0]
		v.Dot.Seq, v.First, v.Last = uint64(100+i), uint64(100+i), uint64(100+i)
		v.Value = make([]byte, crdt.MaxValue)
		big = append(big, &v)
	}
	if _, err := b.ApplyVersions(ctx, big); !errors.Is(err, engine.ErrTooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	if s, err := b.State(ctx); err != nil || !s.Clock.IsEmpty() {
		t.Errorf("clock %v, %v", s.Clock, err)
	}
	if got, err := b.ApplyVersions(ctx, nil); err != nil || got != (engine.ApplyReport{}) {
		t.Errorf("nothing: %+v, %v", got, err)
	}
}
