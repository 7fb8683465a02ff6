package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"bzzz/crdt"
	"bzzz/engine"
)

// nodes opens n stores in memory.
func nodes(t testing.TB, n int) []*engine.DB {
	t.Helper()
	dbs := make([]*engine.DB, n)
	for i := range dbs {
		dbs[i] = open(t, "", &engine.Options{Memory: true})
	}
	return dbs
}

// meet brings all stores to one state.
func meet(t testing.TB, dbs ...*engine.DB) {
	t.Helper()
	for range 2 {
		for _, db := range dbs[1:] {
			syncBoth(t, dbs[0], db)
		}
	}
}

// must ends the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get returns a value and ends the test at an error.
func get[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// text joins what an iterator yields.
func text(t testing.TB, seq iter.Seq2[[]byte, error]) string {
	t.Helper()
	var out []string
	for e, err := range seq {
		must(t, err)
		out = append(out, string(e))
	}
	return strings.Join(out, " ")
}

// entries describes what a scan yields.
func entries(t testing.TB, seq iter.Seq2[engine.Entry, error]) string {
	t.Helper()
	var out []string
	for e, err := range seq {
		must(t, err)
		out = append(out, fmt.Sprintf("%s:%s", e.Key, e.Type))
	}
	return strings.Join(out, " ")
}

func bs(elems ...string) [][]byte {
	out := make([][]byte, len(elems))
	for i, e := range elems {
		out[i] = []byte(e)
	}
	return out
}

func TestRegisterHandle(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	r := db.Register([]byte("r"))
	if _, err := r.Get(ctx); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("absent: %v, want not found", err)
	}
	must(t, r.SetIf(ctx, []byte("1"), engine.NoToken))
	if v := get[[]byte](t)(db.Get(ctx, []byte("r"))); string(v) != "1" {
		t.Fatalf("Get sees %q, want what the handle wrote", v)
	}
	rec := get[engine.Record](t)(r.GetAll(ctx))
	if string(rec.Key) != "r" {
		t.Fatalf("record of %q", rec.Key)
	}
	must(t, r.Set(ctx, []byte("2"), engine.ContentType("text/plain")))
	var c *engine.Conflict
	if err := r.SetIf(ctx, []byte("3"), rec.Token); !errors.As(err, &c) {
		t.Fatalf("stale token: %v, want a conflict", err)
	}
	if err := r.DeleteIf(ctx, rec.Token); !errors.Is(err, engine.ErrConflict) {
		t.Fatalf("stale token: %v, want a conflict", err)
	}
	must(t, r.DeleteIf(ctx, c.Current.Token))
	must(t, r.Delete(ctx))
	if _, err := r.Get(ctx); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("deleted: %v, want not found", err)
	}
}

func TestHandlesRefuseBadNames(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	long := bytes.Repeat([]byte("x"), crdt.MaxKey)
	for name, tc := range map[string]struct {
		call func() error
		want error
	}{
		"empty name":          {func() error { return db.Counter(nil).Add(ctx, 1) }, engine.ErrInvalid},
		"empty field":         {func() error { return db.Map([]byte("m")).Put(ctx, nil, nil) }, engine.ErrInvalid},
		"field of no map":     {func() error { return db.Map(nil).Counter([]byte("f")).Add(ctx, 1) }, engine.ErrInvalid},
		"reading a bad name":  {func() error { _, err := db.List(nil).Len(ctx); return err }, engine.ErrInvalid},
		"streaming bad names": {func() error { return firstError(db.Set(nil).All(ctx)) }, engine.ErrInvalid},
		"name too long":       {func() error { return db.Register(append(long, 'x')).Set(ctx, nil) }, engine.ErrTooLarge},
		"element too long":    {func() error { return db.Set([]byte("s")).Add(ctx, long) }, engine.ErrTooLarge},
		"no room for slots":   {func() error { return db.Counter(long).Add(ctx, 1) }, engine.ErrTooLarge},
		"nested too deep":     {func() error { return db.Map(long[:600]).Map(long[:600]).Put(ctx, []byte("f"), nil) }, engine.ErrTooLarge},
	} {
		if err := tc.call(); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func firstError[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestMaxAndMin(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 2)
	hi, lo := []byte("hi"), []byte("lo")
	if _, err := dbs[0].Max(hi).Value(ctx); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("absent: %v, want not found", err)
	}
	for _, v := range []int64{-3, -7, 5, 5, 2} {
		must(t, dbs[0].Max(hi).Set(ctx, v))
		must(t, dbs[0].Min(lo).Set(ctx, v))
	}
	if h := get[[]engine.Version](t)(dbs[0].History(ctx, hi)); len(h) != 2 {
		t.Errorf("%d versions, want 2: only what raises is written", len(h))
	}
	must(t, dbs[1].Max(hi).Set(ctx, 9))
	must(t, dbs[1].Max(hi).Set(ctx, 4))
	must(t, dbs[1].Min(lo).Set(ctx, -9))
	meet(t, dbs...)
	for _, db := range dbs {
		if a, b := get[int64](t)(db.Max(hi).Value(ctx)), get[int64](t)(db.Min(lo).Value(ctx)); a != 9 || b != -9 {
			t.Errorf("max %d, min %d, want 9, -9", a, b)
		}
	}
	must(t, dbs[0].Max(hi).Delete(ctx))
	must(t, dbs[1].Max(hi).Set(ctx, 10)) // has not seen the delete
	meet(t, dbs...)
	if v := get[int64](t)(dbs[0].Max(hi).Value(ctx)); v != 10 {
		t.Errorf("max %d, want 10", v)
	}
	must(t, dbs[1].Max(hi).Delete(ctx))
	if _, err := dbs[1].Max(hi).Value(ctx); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("deleted: %v, want not found", err)
	}
	must(t, dbs[1].Max(hi).Set(ctx, 1))
	if v := get[int64](t)(dbs[1].Max(hi).Value(ctx)); v != 1 {
		t.Errorf("max %d after delete, want 1", v)
	}
}

func TestCounterCountsAndResets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 3)
	c := func(i int) engine.Counter { return dbs[i].Counter([]byte("c")) }
	want := func(n int64) {
		t.Helper()
		for i := range dbs {
			if v := get[int64](t)(c(i).Value(ctx)); v != n {
				t.Errorf("node %d counts %d, want %d", i, v, n)
			}
		}
	}
	want(0)
	must(t, c(0).Add(ctx, 0))
	if e := entries(t, dbs[0].Scan(ctx, engine.Range{})); e != "" {
		t.Errorf("counting nothing left %s", e)
	}
	for i := range dbs {
		must(t, c(i).Add(ctx, int64(10*i+5)))
		must(t, c(i).Add(ctx, -1))
	}
	meet(t, dbs...)
	want(4 + 14 + 24)
	must(t, c(0).Reset(ctx))
	must(t, c(1).Add(ctx, 3)) // has not seen the reset
	must(t, c(2).Reset(ctx))
	must(t, c(2).Add(ctx, 100))
	must(t, c(2).Add(ctx, -40))
	meet(t, dbs...)
	want(63)
	must(t, c(1).Add(ctx, 1)) // carries the floors on
	meet(t, dbs...)
	want(64)
	must(t, c(1).Reset(ctx))
	meet(t, dbs...)
	want(0)
	if e := entries(t, dbs[2].Scan(ctx, engine.Range{})); e != "" {
		t.Errorf("a reset counter shows as %s", e)
	}
	if err := c(0).Add(ctx, 1<<52); !errors.Is(err, engine.ErrTooLarge) {
		t.Errorf("overflow: %v, want too large", err)
	}
}

func TestCounterTotalsSurviveReopening(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	want := int64(0)
	for _, runtime := range []string{"", "-", t.TempDir()} { // the same id, and fresh ones
		for range 2 {
			db := get[*engine.DB](t)(engine.Open(dir, &engine.Options{RuntimeDir: runtime}))
			must(t, db.Counter([]byte("c")).Add(ctx, 5))
			want += 5
			if got := get[int64](t)(db.Counter([]byte("c")).Value(ctx)); got != want {
				t.Errorf("counts %d, want %d", got, want)
			}
			must(t, db.Close())
		}
	}
}

func TestTxnHandlesAreAtomic(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	boom := errors.New("boom")
	change := func(tx *engine.Txn) {
		must(t, tx.Counter([]byte("c")).Add(ctx, 2))
		must(t, tx.Counter([]byte("c")).Add(ctx, 3))
		must(t, tx.Set([]byte("s")).Add(ctx, bs("a", "b")...))
		must(t, tx.Set([]byte("s")).Remove(ctx, []byte("a")))
		must(t, tx.List([]byte("l")).Append(ctx, bs("x", "z")...))
		must(t, tx.List([]byte("l")).Insert(ctx, 1, []byte("y")))
		must(t, tx.List([]byte("l")).Prepend(ctx, []byte("w")))
		must(t, tx.List([]byte("l")).Delete(ctx, 1, 1))
		must(t, tx.Map([]byte("m")).Put(ctx, []byte("f"), []byte("v")))
		must(t, tx.Max([]byte("n")).Set(ctx, 7))
	}
	check := func(c int64, set, list, fields string) {
		t.Helper()
		if v := get[int64](t)(db.Counter([]byte("c")).Value(ctx)); v != c {
			t.Errorf("counter %d, want %d", v, c)
		}
		if v := text(t, db.Set([]byte("s")).All(ctx)); v != set {
			t.Errorf("set %q, want %q", v, set)
		}
		if v := text(t, db.List([]byte("l")).All(ctx)); v != list {
			t.Errorf("list %q, want %q", v, list)
		}
		if v := entries(t, db.Map([]byte("m")).All(ctx)); v != fields {
			t.Errorf("map %q, want %q", v, fields)
		}
	}
	err := db.Update(ctx, func(tx *engine.Txn) error { change(tx); return boom })
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	check(0, "", "", "")
	var kept engine.Counter
	must(t, db.Update(ctx, func(tx *engine.Txn) error {
		change(tx)
		kept = tx.Counter([]byte("c"))
		if v := get[int64](t)(kept.Value(ctx)); v != 5 {
			t.Errorf("the transaction sees %d, want 5", v)
		}
		if v := text(t, tx.List([]byte("l")).All(ctx)); v != "w y z" {
			t.Errorf("the transaction sees %q", v)
		}
		if err := db.Counter([]byte("c")).Add(tx.Context(), 1); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("call into the DB from inside: %v, want invalid", err)
		}
		return nil
	}))
	check(5, "b", "w y z", "f:register")
	if err := kept.Add(ctx, 1); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("handle of an ended transaction: %v, want closed", err)
	}
	if _, err := kept.Value(ctx); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("handle of an ended transaction: %v, want closed", err)
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, open := range map[string]func(db *engine.DB) engine.Set{
		"add-wins":    func(db *engine.DB) engine.Set { return db.Set([]byte("s")) },
		"remove-wins": func(db *engine.DB) engine.Set { return db.RemoveWinsSet([]byte("s")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbs := nodes(t, 2)
			a, b := open(dbs[0]), open(dbs[1])
			must(t, a.Add(ctx, bs("x", "", "b\x00c", "y\xff", "w")...))
			must(t, a.Remove(ctx, bs("w", "never there")...))
			if got := text(t, a.All(ctx)); got != " b\x00c x y\xff" {
				t.Fatalf("elements %q", got)
			}
			for e, want := range map[string]bool{"": true, "b\x00c": true, "b": false, "w": false} {
				if in := get[bool](t)(a.Has(ctx, []byte(e))); in != want {
					t.Errorf("has %q: %v, want %v", e, in, want)
				}
			}
			meet(t, dbs...)
			if n := get[int](t)(b.Len(ctx)); n != 4 {
				t.Errorf("length %d, want 4", n)
			}
			// Everybody acts on x and w without seeing the other.
			must(t, a.Add(ctx, bs("x", "w")...))
			must(t, b.Remove(ctx, bs("x", "w")...))
			meet(t, dbs...)
			for _, s := range []engine.Set{a, b} {
				x, w := get[bool](t)(s.Has(ctx, []byte("x"))), get[bool](t)(s.Has(ctx, []byte("w")))
				if want := name == "add-wins"; x != want || w != want {
					t.Errorf("added and removed at once: x %v, w %v, want both %v", x, w, want)
				}
			}
			must(t, a.Add(ctx, []byte("x"))) // has seen all
			meet(t, dbs...)
			if !get[bool](t)(b.Has(ctx, []byte("x"))) {
				t.Error("an add after a removal does not count")
			}
			must(t, b.Clear(ctx))
			meet(t, dbs...)
			if n := get[int](t)(a.Len(ctx)); n != 0 {
				t.Errorf("length %d after clear", n)
			}
			if e := entries(t, dbs[0].Scan(ctx, engine.Range{})); e != "" {
				t.Errorf("a cleared set shows as %s", e)
			}
		})
	}
}

func TestNestedMaps(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 2)
	user := func(i int) engine.Map { return dbs[i].Map([]byte("users")).Map([]byte("ada\x00")) }
	must(t, user(0).Put(ctx, []byte("name"), []byte("Ada")))
	must(t, user(0).Counter([]byte("logins")).Add(ctx, 2))
	must(t, user(0).List([]byte("todo")).Append(ctx, bs("one", "two")...))
	must(t, user(1).Counter([]byte("logins")).Add(ctx, 3))
	must(t, user(1).Set([]byte("tags")).Add(ctx, bs("red", "blue")...))
	must(t, user(1).RemoveWinsSet([]byte("banned")).Add(ctx, bs("eve")...))
	must(t, user(1).Max([]byte("score")).Set(ctx, 7))
	must(t, user(1).Min([]byte("age")).Set(ctx, 36))
	must(t, user(1).Map([]byte("deep")).Map([]byte("er")).Put(ctx, []byte("f"), []byte("v")))
	meet(t, dbs...)
	const all = "age:number banned:set deep:map logins:counter name:register score:number tags:set todo:list"
	if got := entries(t, user(0).All(ctx)); got != all {
		t.Fatalf("fields %s\nwant   %s", got, all)
	}
	if n := get[int](t)(user(1).Len(ctx)); n != 8 {
		t.Errorf("%d fields, want 8", n)
	}
	if n := get[int64](t)(user(0).Counter([]byte("logins")).Value(ctx)); n != 5 {
		t.Errorf("nested counter %d, want 5", n)
	}
	if got := text(t, user(1).List([]byte("todo")).All(ctx)); got != "one two" {
		t.Errorf("nested list %q", got)
	}
	// One deletes what the other changes.
	must(t, user(0).Delete(ctx, []byte("logins")))
	must(t, user(1).Counter([]byte("logins")).Add(ctx, 1))
	must(t, user(0).Delete(ctx, []byte("deep")))
	must(t, user(0).Delete(ctx, []byte("todo")))
	must(t, user(0).Delete(ctx, []byte("never there")))
	meet(t, dbs...)
	if n := get[int64](t)(user(0).Counter([]byte("logins")).Value(ctx)); n != 1 {
		t.Errorf("nested counter %d, want 1", n)
	}
	if got := entries(t, user(1).All(ctx)); got != "age:number banned:set logins:counter name:register score:number tags:set" {
		t.Errorf("fields %s", got)
	}
	must(t, dbs[0].Map([]byte("users")).Clear(ctx))
	meet(t, dbs...)
	if got := entries(t, dbs[1].Scan(ctx, engine.Range{})); got != "" {
		t.Errorf("a map of nothing shows as %s", got)
	}
}

func TestMapFieldsFoldByTheRulesOfTheName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 2)
	must(t, dbs[0].SetResolver(ctx, []byte("m"), "mv"))
	for i, db := range dbs {
		must(t, db.Map([]byte("mm")).Map([]byte("x")).Put(ctx, []byte("f"), fmt.Append(nil, i)))
	}
	meet(t, dbs...)
	r := get[engine.Record](t)(dbs[1].Map([]byte("mm")).Map([]byte("x")).GetAll(ctx, []byte("f")))
	if len(r.Shown) != 2 || !r.Conflict() || string(r.Key) != "f" {
		t.Errorf("record %q shows %d values, want f with 2", r.Key, len(r.Shown))
	}
	for e, err := range dbs[1].Map([]byte("mm")).Map([]byte("x")).All(ctx) {
		must(t, err)
		if !e.Conflict {
			t.Errorf("field %q shows no conflict", e.Key)
		}
	}
}

// fill writes one thing of every type under a prefix, counting keys that
// removal has to change.
func fill(t testing.TB, db *engine.DB, prefix string) (keys int) {
	t.Helper()
	ctx := context.Background()
	name := func(s string) []byte { return []byte(prefix + s) }
	must(t, db.Put(ctx, name(""), []byte("v")))
	must(t, db.Put(ctx, name("\x00"), []byte("v")))
	must(t, db.Max(name("max")).Set(ctx, 1))
	must(t, db.Counter(name("")).Add(ctx, 2))
	must(t, db.Set(name("")).Add(ctx, bs("a", "b")...))
	must(t, db.RemoveWinsSet(name("")).Add(ctx, bs("a", "b")...))
	must(t, db.RemoveWinsSet(name("")).Remove(ctx, bs("b", "c")...))
	must(t, db.List(name("")).Append(ctx, bs("1", "2")...)) // and a binding
	must(t, db.Map(name("")).Put(ctx, []byte("f"), nil))
	must(t, db.Map(name("")).Counter([]byte("f")).Add(ctx, 1))
	must(t, db.Map(name("")).RemoveWinsSet([]byte("f")).Add(ctx, bs("e")...))
	return 1 + 1 + 1 + 1 + 2 + 1 + 3 + 3
}

func TestDeletePrefixAndName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	keys := fill(t, db, "a")
	fill(t, db, "b")
	before := entries(t, db.Scan(ctx, engine.Range{Prefix: []byte("b")}))
	if n := get[int](t)(db.DeleteName(ctx, []byte("a"))); n != keys-2 { // without "a\x00" and "amax"
		t.Errorf("deleting the name changed %d keys, want %d", n, keys-2)
	}
	if got := entries(t, db.Scan(ctx, engine.Range{Prefix: []byte("a")})); got != "a\x00:register amax:number" {
		t.Errorf("left under a: %q", got)
	}
	fill(t, db, "a")
	if n := get[int](t)(db.DeletePrefix(ctx, []byte("a"))); n != keys {
		t.Errorf("deleting the prefix changed %d keys, want %d", n, keys)
	}
	if n := get[int](t)(db.DeletePrefix(ctx, []byte("a"))); n != 0 {
		t.Errorf("deleting it again changed %d keys", n)
	}
	if got := entries(t, db.Scan(ctx, engine.Range{})); got != before {
		t.Errorf("left %q, want %q", got, before)
	}
	boom := errors.New("boom")
	err := db.Update(ctx, func(tx *engine.Txn) error {
		must(t, tx.Put([]byte("c"), nil))
		if n := get[int](t)(tx.DeletePrefix(nil)); n != keys+1 {
			t.Errorf("deleting all changed %d keys, want %d", n, keys+1)
		}
		if got := entries(t, tx.Scan(engine.Range{})); got != "" {
			t.Errorf("the transaction still sees %q", got)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if got := entries(t, db.Scan(ctx, engine.Range{})); got != before {
		t.Errorf("a dropped transaction left %q, want %q", got, before)
	}
}

func TestDeletePrefixInBatches(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 2)
	var elems [][]byte
	for i := range 2500 {
		elems = append(elems, fmt.Append(nil, i))
	}
	must(t, dbs[0].Set([]byte("s")).Add(ctx, elems...))
	meet(t, dbs...)
	must(t, dbs[1].Set([]byte("s")).Add(ctx, []byte("7"))) // not seen by the delete
	if n := get[int](t)(dbs[0].DeletePrefix(ctx, []byte("s"))); n != 2500 {
		t.Errorf("changed %d keys, want 2500", n)
	}
	meet(t, dbs...)
	if got := text(t, dbs[0].Set([]byte("s")).All(ctx)); got != "7" {
		t.Errorf("left %q, want 7", got)
	}
	stop, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := dbs[0].DeletePrefix(stop, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestExpiredFieldsAreNotShown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	must(t, db.Update(ctx, func(tx *engine.Txn) error {
		tx.SetTime(time.Now().Add(-time.Hour))
		return tx.Map([]byte("m")).Put(ctx, []byte("f"), nil, engine.TTL(time.Minute))
	}))
	if got := entries(t, db.Scan(ctx, engine.Range{})); got != "" {
		t.Errorf("an expired field shows its map as %s", got)
	}
	if n := get[int](t)(db.Map([]byte("m")).Len(ctx)); n != 0 {
		t.Errorf("%d fields, want none", n)
	}
}

func TestTxnScanSeesWhatItsLoopWrites(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	s := []byte("s")
	must(t, db.Set(s).Add(ctx, bs("a", "b", "c", "d")...))
	must(t, db.Update(ctx, func(tx *engine.Txn) error {
		var seen []string
		for e, err := range tx.Set(s).All(ctx) {
			must(t, err)
			if seen = append(seen, string(e)); string(e) == "a" {
				must(t, tx.Set(s).Add(ctx, []byte("b")))
				must(t, tx.Set(s).Remove(ctx, []byte("c")))
			}
		}
		if !slices.Equal(seen, []string{"a", "b", "d"}) {
			t.Errorf("saw %q", seen)
		}
		return nil
	}))
}
