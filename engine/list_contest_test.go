package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"bzzz/crdt"
)

// TestContestedWriterID: two replicas that bound one short id apart from each
// other and made one key each show both elements; either can be deleted or
// replaced alone, and the loser of the binding takes another id.
func TestContestedWriterID(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := contest(t)
	shown := listOf(t, a)
	if len(shown) != 2 || !slices.Equal(shown, listOf(t, b)) {
		t.Fatalf("nodes show %q and %q, want both elements", shown, listOf(t, b))
	}
	for _, db := range []*DB{a, b} {
		if err := db.List([]byte("l")).Append(ctx, []byte("more")); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, a, b)
	// a, whose binding was the earlier, took a longer prefix of its digest.
	var bound [][]byte
	err := a.view(ctx, func(src source) error {
		l := a.List([]byte("l"))
		stem := l.stem(crdt.MarkListBind)
		return l.under(ctx, src, crdt.MarkListBind, func(key []byte, s crdt.Siblings) bool {
			if self := a.replica.Self(); bytes.Equal(boundTo(s), self[:]) {
				bound = append(bound, bytes.Clone(key[len(stem):]))
			}
			return true
		})
	})
	if err != nil || len(bound) != 1 || len(bound[0]) != crdt.MinWriterID+1 {
		t.Fatalf("bindings of a: %x, %v: want one longer than usual", bound, err)
	}
	if got := listOf(t, a); len(got) != 4 || !slices.Equal(got, listOf(t, b)) {
		t.Fatalf("nodes show %q and %q", got, listOf(t, b))
	}
}

func TestContestedElementsAreChangedAlone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	change := map[string]func(l List, i int) error{
		"delete": func(l List, i int) error { return l.Delete(ctx, i, 1) },
		"set":    func(l List, i int) error { return l.Set(ctx, i, []byte("new")) },
	}
	for name, do := range change {
		for i := range 2 {
			a, b := contest(t)
			want := listOf(t, a)
			if err := do(a.List([]byte("l")), i); err != nil {
				t.Fatal(err)
			}
			if name == "delete" {
				want = slices.Delete(want, i, i+1)
			} else {
				want[i] = "new"
			}
			exchange(t, a, b)
			if x, y := listOf(t, a), listOf(t, b); !slices.Equal(x, want) || !slices.Equal(y, want) {
				t.Errorf("%s of element %d: nodes show %q and %q, want %q", name, i, x, y, want)
			}
		}
	}
}

func TestListOutlivesMalformedPositions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := openMemory(t)
	l := db.List([]byte("l"))
	err := db.Update(ctx, func(t *Txn) error {
		for _, tail := range []string{"\x00", "\xff\xff"} {
			key := append(l.stem(crdt.MarkList), tail...)
			if err := t.set(key, crdt.Insert, []byte("bad"), nil, false); err != nil {
				return err
			}
		}
		return nil
	})
	err = errors.Join(err, l.Append(ctx, []byte("b")), l.Prepend(ctx, []byte("a")), l.Append(ctx, []byte("c")))
	if err != nil {
		t.Fatal(err)
	}
	if got := listOf(t, db); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q", got)
	}
}

// contest returns two stores in one state whose replicas share a's writer id and
// a position in the list l, which they filled apart from each other. The
// binding of b is the later one.
func contest(t *testing.T) (a, b *DB) {
	t.Helper()
	ctx := context.Background()
	a, b = openMemory(t), openMemory(t)
	var id []byte
	for i, db := range []*DB{a, b} {
		l := db.List([]byte("l"))
		err := db.Update(ctx, func(t *Txn) error {
			t.SetTime(time.UnixMilli(int64(1 + i)))
			self := t.ns.replica.Self()
			if id == nil {
				id, _ = crdt.WriterID(self, func([]byte) bool { return false })
			}
			if err := t.set(append(l.stem(crdt.MarkListBind), id...), crdt.Bind, self[:], nil, false); err != nil {
				return err
			}
			p, err := crdt.Between(nil, nil, id, 1)
			if err != nil {
				return err
			}
			return t.set(append(l.stem(crdt.MarkList), p...), crdt.Insert, []byte{byte('a' + i)}, nil, false)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, a, b)
	return a, b
}

func exchange(t *testing.T, a, b *DB) {
	t.Helper()
	ra, rb, err := SyncLocal(context.Background(), a, b, SyncOptions{})
	if err != nil || !ra.InSync || !rb.InSync {
		t.Fatalf("not in sync: %v", err)
	}
}

func openMemory(t *testing.T) *DB {
	t.Helper()
	db, err := Open("", &Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func listOf(t *testing.T, db *DB) (out []string) {
	t.Helper()
	for v, err := range db.List([]byte("l")).All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(v))
	}
	return out
}
