package replica

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// history returns the values of a key's retained versions, newest first.
func (n *node) history(key string) (out []string) {
	n.t.Helper()
	n.view(func(v *View) {
		h, err := v.History([]byte(key))
		n.must(err)
		for _, r := range h {
			out = append(out, string(r.Value))
		}
	})
	return out
}

// offer lists what n offers of its history after an arrival, up to limit.
func (n *node) offer(after uint64, limit int) (out []*crdt.Version, next uint64) {
	n.t.Helper()
	n.view(func(v *View) {
		for r, err := range v.HistoryMissing(after) {
			n.must(err)
			if len(out) == limit {
				return
			}
			c, err := crdt.DecodeCanonical(r.AppendCanonical(nil))
			n.must(err)
			out, next = append(out, c), r.Arrival
		}
	})
	return out, next
}

func (n *node) backfill(versions ...*crdt.Version) (taken int) {
	n.t.Helper()
	n.must(n.batch(func(b *Batch) (err error) {
		taken, err = b.Backfill(versions)
		return err
	}))
	return taken
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for i := range 5 {
		a.write("k", crdt.Put, fmt.Sprint(i))
		a.write("deleted", crdt.Put, fmt.Sprint(i))
	}
	a.write("deleted", crdt.Delete, "")
	b.take(b.ask(a, false))
	if got := b.history("k"); len(got) != 1 {
		t.Fatalf("history %q before the backfill", got)
	}
	root, clock, counts := b.root(), b.clock().Clone(), b.counts()

	var after uint64
	taken := 0
	for { // in stretches, each resumed from the cursor before
		part, next := a.offer(after, 3)
		if len(part) == 0 {
			break
		}
		taken += b.backfill(part...)
		after = next
	}
	if taken != 9 { // 4 of k, 5 of deleted
		t.Fatalf("took %d versions, want 9", taken)
	}
	for range 2 {
		if got, want := b.history("k"), []string{"4", "3", "2", "1", "0"}; !slices.Equal(got, want) {
			t.Fatalf("history %q, want %q", got, want)
		}
		after := b.counts()
		after.Journal = counts.Journal
		if b.root() != root || !b.clock().Equal(clock) || after != counts {
			t.Fatal("a backfill changed more than history")
		}
		b.verify()
		b.reopen()
	}
	again, _ := a.offer(0, 100)
	if got := b.backfill(again...); got != 0 {
		t.Fatalf("took %d versions again", got)
	}
	b.view(func(v *View) {
		if _, err := v.Siblings([]byte("k")); err != nil || len(v.head.orphans) != 1 {
			t.Fatalf("%d records hang on the head, %v, want one that leads to the others", len(v.head.orphans), err)
		}
	})
	b.write("k", crdt.Put, "5") // the records hang on this one's now
	if got := b.history("k"); len(got) != 6 {
		t.Fatalf("history %q after another write", got)
	}
	if got, _ := b.offer(0, 100); len(got) != 10 {
		t.Fatalf("b offers %d versions, want 10", len(got))
	}
	b.collect(math.MaxUint64, 10)
	b.collect(math.MaxUint64, 10)
	if got := b.history("k"); !slices.Equal(got, []string{"5"}) {
		t.Fatalf("history %q after a collection that keeps nothing", got)
	}
	b.verify()
}

func TestBackfillPassesOver(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	old := a.write("k", crdt.Put, "old")
	now := a.write("k", crdt.Put, "now")
	gone := a.write("gone", crdt.Put, "v")
	a.write("gone", crdt.Delete, "")
	if got := b.backfill(old); got != 0 {
		t.Fatal("took a version that was not seen")
	}
	b.take(b.ask(a, false))
	if got := b.backfill(now); got != 0 {
		t.Fatal("took a live version")
	}
	b.collect(math.MaxUint64, 10)
	if got := b.backfill(gone); got != 0 {
		t.Fatal("took a version of a key that has no siblings")
	}
	bad := *old
	bad.Key = nil
	if err := b.batch(func(bt *Batch) error { _, err := bt.Backfill([]*crdt.Version{&bad}); return err }); err == nil {
		t.Fatal("took a version without a key")
	}
	if got := b.backfill(old, old); got != 1 {
		t.Fatalf("took %d of the same version twice, want 1", got)
	}
	b.verify()
}

// TestBackfillSurvivesALostHead: a head derived again from the journal leads to
// what was backfilled.
func TestBackfillSurvivesALostHead(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	old := a.write("k", crdt.Put, "old")
	a.write("k", crdt.Put, "now")
	b.take(b.ask(a, false))
	b.backfill(old)
	b.must(b.kv.Update(func(tx store.Tx) error {
		return tx.Bucket(b.r.names.heads).Put([]byte("k"), []byte("damaged"))
	}))
	b.apply(newNode(t, 3).write("k", crdt.Put, "concurrent"))
	if got := b.history("k"); len(got) != 3 {
		t.Fatalf("history %q, want 3 versions", got)
	}
}
