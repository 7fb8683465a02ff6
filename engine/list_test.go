package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
)

func TestListEdits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	l := db.List([]byte("l"))
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return l.Append(ctx) }, ""},
		{func() error { return l.Append(ctx, bs("b", "c")...) }, "b c"},
		{func() error { return l.Prepend(ctx, bs("a1", "a2")...) }, "a1 a2 b c"},
		{func() error { return l.Insert(ctx, 4, bs("d")...) }, "a1 a2 b c d"},
		{func() error { return l.Insert(ctx, 0, bs("0")...) }, "0 a1 a2 b c d"},
		{func() error { return l.Insert(ctx, 3, bs("x", "y")...) }, "0 a1 a2 x y b c d"},
		{func() error { return l.Set(ctx, 4, []byte("Y")) }, "0 a1 a2 x Y b c d"},
		{func() error { return l.Delete(ctx, 1, 2) }, "0 x Y b c d"},
		{func() error { return l.Delete(ctx, 3, 0) }, "0 x Y b c d"},
		{func() error { return l.Delete(ctx, 5, 1) }, "0 x Y b c"},
		{func() error { return l.Append(ctx, bs("e")...) }, "0 x Y b c e"},
		{func() error { return l.Delete(ctx, 0, 1) }, "x Y b c e"},
		{func() error { return l.Prepend(ctx, bs("1")...) }, "1 x Y b c e"},
		{func() error { return l.Clear(ctx) }, ""},
		{func() error { return l.Insert(ctx, 0, bs("again", "")...) }, "again "},
	} {
		must(t, step.do())
		if got := text(t, l.All(ctx)); got != step.want {
			t.Fatalf("got %q, want %q", got, step.want)
		}
	}
	if n := get[int](t)(l.Len(ctx)); n != 2 {
		t.Errorf("length %d, want 2", n)
	}
	if v := get[[]byte](t)(l.Get(ctx, 0)); string(v) != "again" {
		t.Errorf("element 0 is %q", v)
	}
}

func TestListIndexErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := nodes(t, 1)[0].List([]byte("l"))
	must(t, l.Append(ctx, bs("a", "b")...))
	for name, tc := range map[string]struct{ got, want error }{
		"insert behind the end":  {l.Insert(ctx, 3, []byte("x")), engine.ErrNotFound},
		"insert below 0":         {l.Insert(ctx, -1, []byte("x")), engine.ErrInvalid},
		"set at the end":         {l.Set(ctx, 2, []byte("x")), engine.ErrNotFound},
		"set below 0":            {l.Set(ctx, -1, []byte("x")), engine.ErrInvalid},
		"delete across the end":  {l.Delete(ctx, 1, 2), engine.ErrNotFound},
		"delete a negative span": {l.Delete(ctx, 1, -1), engine.ErrInvalid},
		"value too large":        {l.Append(ctx, make([]byte, crdt.MaxValue+1)), engine.ErrTooLarge},
	} {
		if !errors.Is(tc.got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, tc.got, tc.want)
		}
	}
	if _, err := l.Get(ctx, 2); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("get at the end: %v, want not found", err)
	}
	if got := text(t, l.All(ctx)); got != "a b" {
		t.Errorf("refused calls left %q", got)
	}
}

// TestListRunsDoNotInterleave: what two nodes type at one place at the same
// time, forwards or backwards, one by one or at once, stays in one piece each.
func TestListRunsDoNotInterleave(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, write := range map[string]func(l engine.List, tag string) error{
		"at once": func(l engine.List, tag string) error {
			return l.Insert(ctx, 1, bs(tag+"0", tag+"1", tag+"2", tag+"3")...)
		},
		"forwards": func(l engine.List, tag string) (err error) {
			for i := range 4 {
				err = errors.Join(err, l.Insert(ctx, 1+i, fmt.Appendf(nil, "%s%d", tag, i)))
			}
			return err
		},
		"backwards": func(l engine.List, tag string) (err error) {
			for i := range 4 {
				err = errors.Join(err, l.Insert(ctx, 1, fmt.Appendf(nil, "%s%d", tag, 3-i)))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbs := listNodes(t, 3)
			must(t, dbs[0].List([]byte("l")).Append(ctx, bs("<", ">")...))
			meet(t, dbs...)
			for i, db := range dbs {
				must(t, write(db.List([]byte("l")), string(rune('a'+i))))
			}
			meet(t, dbs...)
			want := text(t, dbs[0].List([]byte("l")).All(ctx))
			for _, db := range dbs {
				got := text(t, db.List([]byte("l")).All(ctx))
				if got != want {
					t.Errorf("order %q and %q", got, want)
				}
				for _, run := range []string{"a0 a1 a2 a3", "b0 b1 b2 b3", "c0 c1 c2 c3"} {
					if !strings.Contains(got, run) {
						t.Errorf("run %q is torn in %q", run, got)
					}
				}
			}
		})
	}
}

func TestListConcurrentChangesOfOneElement(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dbs := nodes(t, 2)
	l := func(i int) engine.List { return dbs[i].List([]byte("l")) }
	must(t, l(0).Append(ctx, bs("a", "b", "c", "d")...))
	meet(t, dbs...)
	must(t, l(0).Delete(ctx, 1, 1)) // b, which the other sets
	must(t, l(1).Set(ctx, 1, []byte("B")))
	must(t, l(0).Set(ctx, 1, []byte("C0"))) // c, set by both
	must(t, l(1).Set(ctx, 2, []byte("C1")))
	must(t, l(0).Delete(ctx, 2, 1)) // d, behind which the other inserts
	must(t, l(1).Insert(ctx, 4, []byte("e")))
	meet(t, dbs...)
	got := text(t, l(0).All(ctx))
	if got != "a B C0 e" && got != "a B C1 e" {
		t.Errorf("got %q", got)
	}
	if other := text(t, l(1).All(ctx)); other != got {
		t.Errorf("nodes show %q and %q", got, other)
	}
	must(t, l(0).Delete(ctx, 2, 1)) // has seen both
	meet(t, dbs...)
	if got := text(t, l(1).All(ctx)); got != "a B e" {
		t.Errorf("got %q", got)
	}
}

// listNodes returns stores whose replicas begin with different short ids in a
// list. Two that took the same one before they met may put two elements under
// one key (crdt.Between), and then there is no place between these; that is
// allowed, and happens once in a hundred times with three replicas.
func listNodes(t testing.TB, n int) []*engine.DB {
	t.Helper()
	for {
		dbs, taken := nodes(t, n), map[string]bool{}
		for _, db := range dbs {
			must(t, db.Put(context.Background(), []byte("first write"), nil))
			id, err := crdt.WriterID(db.ReplicaID(), func([]byte) bool { return false })
			must(t, err)
			taken[string(id)] = true
		}
		if len(taken) == n {
			return dbs
		}
	}
}

// TestListOrderIsStable: two elements that any node ever showed in one order
// are shown in that order by all nodes for ever.
func TestListOrderIsStable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			rng := rand.New(rand.NewPCG(seed, 1))
			dbs := listNodes(t, 3)
			var shown [][]string
			show := func(i int) []string {
				s := strings.Fields(text(t, dbs[i].List([]byte("l")).All(ctx)))
				shown = append(shown, s)
				return s
			}
			next := 0
			for range 60 {
				i := rng.IntN(len(dbs))
				l, now := dbs[i].List([]byte("l")), show(i)
				switch op := rng.IntN(10); {
				case op < 2:
					syncBoth(t, dbs[i], dbs[(i+1)%3])
				case op < 4 && len(now) > 0:
					at := rng.IntN(len(now))
					must(t, l.Delete(ctx, at, 1+rng.IntN(min(3, len(now)-at))))
				default:
					var values [][]byte
					for range 1 + rng.IntN(4) {
						values = append(values, fmt.Append(nil, next))
						next++
					}
					at := rng.IntN(len(now) + 1)
					switch op {
					case 8:
						at = len(now)
						must(t, l.Append(ctx, values...))
					case 9:
						at = 0
						must(t, l.Prepend(ctx, values...))
					default:
						must(t, l.Insert(ctx, at, values...))
					}
					want := slices.Clone(now)
					for k, v := range values {
						want = slices.Insert(want, at+k, string(v))
					}
					if got := show(i); !slices.Equal(got, want) {
						t.Fatalf("inserted at %d: %v, want %v", at, got, want)
					}
				}
			}
			meet(t, dbs...)
			final := show(0)
			if !slices.Equal(final, show(1)) || !slices.Equal(final, show(2)) {
				t.Fatal("nodes show different lists")
			}
			checkOneOrder(t, shown)
		})
	}
}

// checkOneOrder fails if the pairs of neighbours in all sequences have a cycle.
func checkOneOrder(t *testing.T, sequences [][]string) {
	t.Helper()
	behind := map[string]map[string]bool{}
	for _, s := range sequences {
		for i := range len(s) - 1 {
			if behind[s[i]] == nil {
				behind[s[i]] = map[string]bool{}
			}
			behind[s[i]][s[i+1]] = true
		}
	}
	state := map[string]int{} // 1 on the way down, 2 done
	var visit func(e string)
	visit = func(e string) {
		if state[e] == 1 {
			t.Fatalf("element %s was seen before and behind another", e)
		}
		if state[e] == 2 {
			return
		}
		state[e] = 1
		for next := range behind[e] {
			visit(next)
		}
		state[e] = 2
	}
	for e := range behind {
		visit(e)
	}
}

// TestListKeysStayShort: runs cost O(log n) bytes an element.
func TestListKeysStayShort(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	l := db.List([]byte("l"))
	var want []string
	for i := range 300 {
		v := fmt.Append(nil, i)
		must(t, l.Append(ctx, v))
		must(t, l.Prepend(ctx, v))
		want = append(want, string(v))
	}
	back := slices.Clone(want)
	slices.Reverse(back)
	if got := strings.Fields(text(t, l.All(ctx))); !slices.Equal(got, append(back, want...)) {
		t.Fatal("order of appends and prepends is wrong")
	}
	w := get[*engine.Watcher](t)(db.Watch(ctx, nil, ""))
	defer w.Close()
	must(t, l.Append(ctx, []byte("last")))
	e := get[engine.Event](t)(w.Next(ctx))
	if e.Mark != crdt.MarkList || len(e.Part) > 12 {
		t.Errorf("element 601 stands at %d bytes of mark %x", len(e.Part), e.Mark)
	}
}

func TestListSharesNothingWithItsNeighbours(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := nodes(t, 1)[0]
	for _, name := range bs("l", "l\x00", "l\x00\x14", "l\xff", "m") {
		must(t, db.List(name).Append(ctx, name))
		must(t, db.Map(name).List(name).Append(ctx, name, name))
		must(t, db.Put(ctx, name, name))
	}
	for _, name := range bs("l", "l\x00", "l\x00\x14", "l\xff", "m") {
		if v := get[[]byte](t)(db.List(name).Get(ctx, 0)); !bytes.Equal(v, name) {
			t.Errorf("list %q holds %q", name, v)
		}
		if n := get[int](t)(db.List(name).Len(ctx)); n != 1 {
			t.Errorf("list %q has %d elements, want 1", name, n)
		}
		if n := get[int](t)(db.Map(name).List(name).Len(ctx)); n != 2 {
			t.Errorf("nested list %q has %d elements, want 2", name, n)
		}
	}
}

// TestListInOneTxnMatchesASlice: within a transaction a list does what a slice
// does, whatever was there before.
func TestListInOneTxnMatchesASlice(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 4))
	db := nodes(t, 1)[0]
	var want []string
	for round := range 8 {
		must(t, db.Update(ctx, func(tx *engine.Txn) error {
			l := tx.List([]byte("l"))
			for i := range 40 {
				v := fmt.Sprintf("%d.%d", round, i)
				at := rng.IntN(len(want) + 1)
				switch op := rng.IntN(7); {
				case op == 0:
					must(t, l.Append(ctx, []byte(v)))
					want = append(want, v)
				case op == 1:
					must(t, l.Prepend(ctx, []byte(v)))
					want = slices.Insert(want, 0, v)
				case op == 2 && at < len(want):
					must(t, l.Set(ctx, at, []byte(v)))
					want[at] = v
				case op == 3 && at < len(want):
					n := 1 + rng.IntN(min(4, len(want)-at))
					must(t, l.Delete(ctx, at, n))
					want = slices.Delete(want, at, at+n)
				case op == 4 && rng.IntN(8) == 0:
					must(t, l.Clear(ctx))
					want = nil
				default:
					must(t, l.Insert(ctx, at, []byte(v)))
					want = slices.Insert(want, at, v)
				}
				if got := strings.Fields(text(t, l.All(ctx))); !slices.Equal(got, want) {
					t.Fatalf("round %d, step %d: %q\nwant %q", round, i, got, want)
				}
			}
			return nil
		}))
	}
	if got := strings.Fields(text(t, db.List([]byte("l")).All(ctx))); !slices.Equal(got, want) {
		t.Fatalf("committed %q\nwant %q", got, want)
	}
}
