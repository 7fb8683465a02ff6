package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bzzz/engine"
)

func scope(prefixes ...string) [][]byte {
	var out [][]byte
	for _, p := range prefixes {
		out = append(out, []byte(p))
	}
	return out
}

// syncScope syncs a part of two stores and checks what their reports say.
func syncScope(t testing.TB, a, b *engine.DB, prefixes ...string) engine.NamespaceSync {
	t.Helper()
	ctx := context.Background()
	ra, rb, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{Scope: scope(prefixes...)})
	if err != nil {
		t.Fatal(err)
	}
	if !ra.InSync || !rb.InSync {
		t.Fatalf("not in sync: %+v / %+v", ra.Namespaces, rb.Namespaces)
	}
	for _, p := range prefixes {
		x, err := a.PrefixRoot(ctx, []byte(p))
		if err != nil {
			t.Fatal(err)
		}
		if y, err := b.PrefixRoot(ctx, []byte(p)); err != nil || x != y {
			t.Fatalf("reported in sync, but %q differs (%v)", p, err)
		}
	}
	return ra.Namespaces[0]
}

// keys counts the names that begin with a prefix.
func keys(t testing.TB, db *engine.DB, prefix string) (n int) {
	t.Helper()
	for _, err := range db.Scan(context.Background(), engine.Range{Prefix: []byte(prefix)}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestSyncScope(t *testing.T) {
	t.Parallel()
	a, b := open(t, "", nil), open(t, "", &engine.Options{Memory: true})
	put(t, a, "photos/", 300)
	put(t, a, "notes/", 100)
	put(t, a, "other/", 200)
	put(t, b, "photos/of b", 10)
	put(t, b, "other/of b", 20)
	if n := syncScope(t, a, b, "photos/", "notes/"); n.Sent != 400 || n.Received != 10 {
		t.Errorf("report %+v, want 400 and 10 versions", n)
	}
	if x, y := keys(t, a, "other/"), keys(t, b, "other/"); x != 200 || y != 20 {
		t.Errorf("%d and %d keys out of scope, want 200 and 20 as before", x, y)
	}
	if n := syncScope(t, a, b, "notes/", "photos/"); n.Tier != "equal" {
		t.Errorf("again: report %+v", n)
	}
	syncBoth(t, a, b)
	if n := keys(t, b, "other/"); n != 220 {
		t.Errorf("%d keys after a sync of everything, want 220", n)
	}
}

// Composites belong to the scope of their names, and the rules that say how
// values are shown belong to every scope.
func TestSyncScopeOfTypes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", nil), open(t, "", nil)
	for i := range 3 {
		if err := a.Set(fmt.Append(nil, "in/set")).Add(ctx, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if err := a.Counter([]byte("out/count")).Add(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetResolver(ctx, []byte("in/"), "mv"); err != nil {
		t.Fatal(err)
	}
	if err := a.Put(ctx, []byte("in/\x00zero"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	syncScope(t, a, b, "in/")
	if n, err := b.Set([]byte("in/set")).Len(ctx); err != nil || n != 3 {
		t.Errorf("set: got %d, %v, want 3 members", n, err)
	}
	if v, err := b.Get(ctx, []byte("in/\x00zero")); err != nil || string(v) != "v" {
		t.Errorf("key with a zero byte: got %q, %v", v, err)
	}
	if n := keys(t, b, "out/"); n != 0 {
		t.Errorf("%d keys out of scope", n)
	}
	if rules := b.Resolvers(); len(rules) != 1 {
		t.Errorf("rules: got %v, want one", rules)
	}
}

func TestSyncScopeRefuses(t *testing.T) {
	t.Parallel()
	a, b := open(t, "", nil), open(t, "", nil)
	many := make([][]byte, engine.MaxScope+1)
	for i := range many {
		many[i] = fmt.Appendf(nil, "%04d", i)
	}
	for name, prefixes := range map[string][][]byte{
		"overlapping":        scope("photos/", "photos/2024/"),
		"twice":              scope("a", "a"),
		"empty":              scope("a", ""),
		"too long":           scope(strings.Repeat("x", 1025)),
		"too long as stored": scope(strings.Repeat("\x00", 600)),
		"too many":           many,
	} {
		if err := engine.CheckScope(prefixes); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		if _, _, err := engine.SyncLocal(context.Background(), a, b, engine.SyncOptions{Scope: prefixes}); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: sync: got %v, want invalid", name, err)
		}
	}
	if err := engine.CheckScope(many[:engine.MaxScope]); err != nil {
		t.Errorf("%d prefixes: %v", engine.MaxScope, err)
	}
	put(t, a, "k", 600)
	put(t, b, "k", 1)
	syncScope(t, a, b, "k000", "k001", "k0599")
	if n := keys(t, b, "k"); n != 21 {
		t.Errorf("%d keys, want 21", n)
	}
}

func TestPartialNamespace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	full, part := open(t, "", nil), open(t, dir, nil)
	all, err := full.CreateNamespace(ctx, "media")
	if err != nil {
		t.Fatal(err)
	}
	some, err := part.CreatePartial(ctx, "media", scope("photos/", "no\x00tes/"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		for _, p := range []string{"photos/", "films/", "no\x00tes/"} {
			if err := all.Put(ctx, fmt.Appendf(nil, "%s%d", p, i), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		ra, rb, err := engine.SyncLocal(ctx, full, part, engine.SyncOptions{Namespaces: []string{"media"}})
		if err != nil || !ra.InSync || !rb.InSync {
			t.Fatalf("got %+v, %+v, %v", ra, rb, err)
		}
	}
	count := func(ns *engine.Namespace) (n int) {
		for _, err := range ns.Scan(ctx, engine.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if n := count(some); n != 100 {
		t.Errorf("%d keys, want 100", n)
	}
	if err := some.Put(ctx, []byte("films/x"), []byte("v")); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("a write out of scope: got %v, want invalid", err)
	}
	if err := some.Counter([]byte("films/seen")).Add(ctx, 1); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("a count out of scope: got %v, want invalid", err)
	}
	if err := some.Delete(ctx, []byte("photos/7")); err != nil {
		t.Fatal(err)
	}
	if err := some.Counter([]byte("photos/seen")).Add(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
	part = open(t, dir, nil)
	if some, err = part.CreatePartial(ctx, "media", scope("no\x00tes/", "photos/")); err != nil {
		t.Fatal(err)
	}
	if got := some.Scope(); len(got) != 2 || string(got[0]) != "no\x00tes/" || string(got[1]) != "photos/" || all.Scope() != nil {
		t.Errorf("scope %q and %q", got, all.Scope())
	}
	if _, err := part.CreatePartial(ctx, "media", scope("photos/")); !errors.Is(err, engine.ErrExists) {
		t.Errorf("another scope: got %v, want exists", err)
	}
	for _, bad := range [][][]byte{nil, scope(""), scope("a", "ab")} {
		if _, err := part.CreatePartial(ctx, "bad", bad); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%q: got %v, want invalid", bad, err)
		}
	}
	if ra, _, err := engine.SyncLocal(ctx, part, full, engine.SyncOptions{Namespaces: []string{"media"}}); err != nil || !ra.InSync {
		t.Fatalf("got %+v, %v", ra, err)
	}
	if n := count(all); n != 150 { // a photo less, a counter more
		t.Errorf("%d keys, want 150", n)
	}
	if ra, _, err := engine.SyncLocal(ctx, part, full, engine.SyncOptions{Namespaces: []string{"media"}, Scope: scope("films/")}); err != nil || !ra.InSync {
		t.Fatalf("nothing in common but the namespace's own records: got %+v, %v", ra, err)
	}
	late := open(t, "", nil)
	if _, _, err := engine.SyncLocal(ctx, late, part, engine.SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	if ns, err := late.OpenNamespace(ctx, "media"); err != nil || count(ns) != 100 || ns.Scope() != nil {
		t.Errorf("a namespace of which the peer holds a part: %v", err)
	}
}

// A bundle brings a partial namespace what is in scope, and never its author's
// clock.
func TestPartialNamespaceBundle(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	full, part := open(t, "", nil), open(t, "", nil)
	all, err := full.CreateNamespace(ctx, "media")
	if err != nil {
		t.Fatal(err)
	}
	some, err := part.CreatePartial(ctx, "media", scope("photos/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"photos/1", "films/1", "photos/1"} {
		if err := all.Put(ctx, []byte(key), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if _, err := all.WriteBundle(ctx, &file, engine.Mark{}); err != nil {
		t.Fatal(err)
	}
	report, err := part.ReadBundle(ctx, &file)
	if err != nil || report.Complete || report.New != 1 {
		t.Errorf("got %+v, %v, want one version and no clock", report, err)
	}
	if _, err := some.Get(ctx, []byte("films/1")); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("out of scope: got %v, want not found", err)
	}
	if st, err := some.State(ctx); err != nil || st.Clock.Count() != 1 {
		t.Errorf("clock of %d dots, %v, want that of one version", st.Clock.Count(), err)
	}
}
