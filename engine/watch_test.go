package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"bzzz/engine"
)

// drain returns the next n events, as "type key=value".
func drain(t testing.TB, w *engine.Watcher, n int) []string {
	t.Helper()
	var out []string
	for range n {
		e, err := w.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s=%s", e.Type, e.Key, e.Version.Value))
	}
	return out
}

func TestWatchReportsEachChangeOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	w, err := db.Watch(ctx, []byte("a"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 3 {
		if err := db.Put(ctx, []byte("a1"), fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		if err := db.Put(ctx, []byte("b1"), []byte("other prefix")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Delete(ctx, []byte("a1")); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(drain(t, w, 4))
	if want := "[put a1=0 put a1=1 put a1=2 delete a1=]"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestWatchResumesFromCursor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := engine.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := db.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, db, "k", 5)
	first := drain(t, w, 2)
	cursor := w.Cursor()
	w.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, nil)
	if w, err = db.Watch(ctx, nil, cursor); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	all := append(first, drain(t, w, 3)...)
	for i, e := range all {
		if want := fmt.Sprintf("put k%04d=value %d", i, i); e != want {
			t.Fatalf("event %d is %q, want %q", i, e, want)
		}
	}
}

func TestWatchOnAnotherNodeResetsAndSendsWhatIsMissing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", nil), open(t, "", nil)
	w, err := a.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, a, "k", 3)
	drain(t, w, 3)
	cursor := w.Cursor()
	w.Close()
	put(t, a, "l", 2)
	if err := a.Delete(ctx, []byte("k0000")); err != nil {
		t.Fatal(err)
	}
	syncBoth(t, a, b)
	if w, err = b.Watch(ctx, nil, cursor); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got := fmt.Sprint(drain(t, w, 4))
	if want := "[reset = put l0000=value 0 put l0001=value 1 delete k0000=]"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if err := b.Put(ctx, []byte("m"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, w, 1)[0]; got != "put m=new" {
		t.Fatalf("got %q after the catch-up", got)
	}
}

func TestWatchResetsBelowRetention(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	w, err := db.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 20 {
		if err := db.Put(ctx, []byte("k"), fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := db.Collect(ctx, engine.Retention{Versions: 1, Age: -1}); err != nil || r.Removed != 19 {
		t.Fatalf("collected %+v, %v, want 19", r, err)
	}
	got := fmt.Sprint(drain(t, w, 2))
	if want := "[reset = put k=19]"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestWatchRefusesBadCursors(t *testing.T) {
	t.Parallel()
	db := open(t, "", nil)
	for _, c := range []string{"x", "AAAA", "!!!!", "AQ"} {
		if _, err := db.Watch(context.Background(), nil, c); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("cursor %q: %v, want invalid", c, err)
		}
	}
}

// carry takes from's bundle to to.
func carry(t testing.TB, from, to *engine.DB, base engine.Mark) engine.BundleReport {
	t.Helper()
	var file bytes.Buffer
	if _, err := from.WriteBundle(context.Background(), &file, base); err != nil {
		t.Fatal(err)
	}
	r, err := to.ReadBundle(context.Background(), &file)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBundles(t *testing.T) {
	t.Parallel()
	a, b := open(t, "", nil), open(t, "", nil)
	put(t, a, "k", 100)
	put(t, b, "k", 3)
	r := carry(t, a, b, engine.Mark{})
	if r.New != 100 || !r.Complete {
		t.Fatalf("took in %+v, want 100, complete", r)
	}
	if r = carry(t, b, a, r.Author); r.Versions != 3 || !r.Complete {
		t.Fatalf("answer %+v, want the 3 that a lacks, complete", r)
	}
	if got := syncBoth(t, a, b); got.RoundTrips != 1 {
		t.Fatal("bundles both ways left a difference")
	}
}

func TestBundleWithUnknownBaseIsNotAdopted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b, c := open(t, "", nil), open(t, "", nil), open(t, "", nil)
	put(t, a, "k", 10)
	syncBoth(t, a, b)
	snap, err := b.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mark := snap.Mark()
	snap.Close()
	put(t, a, "l", 5)
	if r := carry(t, a, c, mark); r.Complete || r.New != 5 { // c never saw what b has
		t.Fatalf("got %+v, want 5 versions and no adoption", r)
	}
	syncBoth(t, a, c)
	if _, err := c.Get(ctx, []byte("k0003")); err != nil {
		t.Fatalf("what the bundle left out was taken for dead: %v", err)
	}
}
