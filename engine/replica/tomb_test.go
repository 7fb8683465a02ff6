package replica

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// visible returns the values under a key that are no tombstones.
func (n *node) visible(key string) (out []string) {
	n.t.Helper()
	for _, v := range n.siblings(key).Live().Sorted() {
		out = append(out, string(v.Value))
	}
	return out
}

func (n *node) counts() (c Counts) {
	n.view(func(v *View) { c = v.Counts() })
	return c
}

// TestKernelTraces are the histories of docs/KERNEL.md that broke simpler rules
// about deletes. Each returns the nodes on which k must be deleted.
func TestKernelTraces(t *testing.T) {
	t.Parallel()
	a, b, c := 1, 2, 3
	traces := map[string]func(n map[int]*node) []*node{
		// Trace 1: a context without its own tombstone.
		"context holds the own tombstone": func(n map[int]*node) []*node {
			early := n[b].write("k", crdt.Put, "1")
			late := n[b].write("k", crdt.Put, "2")
			n[c].apply(late)
			n[c].write("k", crdt.Delete, "")
			n[c].collect(math.MaxUint64, 10)
			n[c].write("k", crdt.Put, "3")
			n[c].write("k", crdt.Delete, "")
			n[c].apply(early)
			return []*node{n[c]}
		},
		// Trace 2: only (b,2) is known when the delete is written.
		"collection over a gap": func(n map[int]*node) []*node {
			early := n[b].write("k", crdt.Put, "1")
			late := n[b].write("k", crdt.Put, "2")
			n[c].apply(late)
			n[c].write("k", crdt.Delete, "")
			if got := n[c].collect(math.MaxUint64, 10); got.Tombstones != 0 {
				n[c].t.Fatal("collected over a gap")
			}
			n[c].apply(early)
			if got := n[c].collect(math.MaxUint64, 10); got.Tombstones != 1 {
				n[c].t.Fatal("not collected once the gap is closed")
			}
			return []*node{n[c]}
		},
		// A delete that names nothing still covers its author's earlier writes.
		"collection over a gap of the author": func(n map[int]*node) []*node {
			early := n[b].write("k", crdt.Put, "1")
			n[b].write("k", crdt.Delete, "")
			n[b].collect(math.MaxUint64, 10)
			late := n[b].write("k", crdt.Delete, "")
			if len(late.Context) != 0 {
				n[b].t.Fatal("test is broken: the delete has a context")
			}
			n[c].apply(late)
			n[c].collect(math.MaxUint64, 10)
			n[c].apply(early)
			return []*node{n[b], n[c]}
		},
		// Trace 3: a clock adopted before its effects, the source lost after it.
		"adoption carries the effect": func(n map[int]*node) []*node {
			n[a].write("k", crdt.Put, "1")
			n[b].pull(n[a], 10)
			n[c].pull(n[a], 10)
			n[a].write("k", crdt.Delete, "")
			n[a].collect(math.MaxUint64, 10)
			x := n[b].ask(n[a], false)
			if len(x.stream) != 0 || !x.tier3 {
				n[a].t.Fatal("the delete is streamed, or its gone mark asks for nothing")
			}
			n[b].take(x)
			y := n[c].ask(n[b], false) // a is gone for good: b forwards what it proved
			if !y.tier3 {
				n[a].t.Fatal("b does not forward a's gone mark")
			}
			n[c].take(y)
			return []*node{n[a], n[b], n[c]}
		},
		// Facts that only collected journal records held.
		"facts outlive the journal": func(n map[int]*node) []*node {
			put := n[a].write("k", crdt.Put, "1")
			del := n[a].write("k", crdt.Delete, "")
			n[a].collect(math.MaxUint64, 10)
			n[a].collect(math.MaxUint64, 10) // and the record of the collection
			n[a].reopen()
			if got := n[a].apply(put, del); got.Known != 2 {
				n[a].t.Fatalf("forgot what it collected: %+v", got)
			}
			return []*node{n[a]}
		},
		// The bitmap alone lags behind what the journal says.
		"dead is the bitmap and its delta": func(n map[int]*node) []*node {
			put := n[a].write("k", crdt.Put, "1")
			n[b].pull(n[a], 10)
			n[a].write("k", crdt.Delete, "")
			n[a].collect(math.MaxUint64, 10)
			n[a].must(n[a].batch(func(bt *Batch) error { return bt.Finish(true) }))
			n[a].reopen()
			if !n[a].isDead(put.Dot) {
				n[a].t.Fatal("not dead after the views caught up")
			}
			n[b].take(n[b].ask(n[a], false)) // the drop is in b's delta only
			if n[b].r.Lag() == 0 || !n[b].isDead(put.Dot) {
				n[a].t.Fatal("the drop is not known before the views caught up")
			}
			n[b].reopen()
			n[b].apply(put)
			return []*node{n[a], n[b]}
		},
		// A head entry that vanished is not a delete: nothing claims its dot.
		"absence is no claim": func(n map[int]*node) []*node {
			put := n[a].write("j", crdt.Put, "kept")
			n[b].pull(n[a], 10)
			n[a].must(n[a].kv.Update(func(tx store.Tx) error { return tx.Bucket(n[a].r.names.heads).Delete([]byte("j")) }))
			x := n[b].ask(n[a], true)
			if !x.claim.IsEmpty() {
				n[a].t.Fatal("a claims what it lost")
			}
			n[b].take(x)
			if len(n[b].visible("j")) != 1 {
				n[a].t.Fatal("b lost what a lost")
			}
			n[a].must(n[a].batch(func(bt *Batch) error { return bt.MarkUnknown(dotsOf(put)) }))
			n[a].take(n[a].ask(n[b], false))
			if len(n[a].visible("j")) != 1 {
				n[a].t.Fatal("b did not bring it back to a")
			}
			return []*node{n[a], n[b]}
		},
	}
	for name, trace := range traces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range trace(map[int]*node{a: newNode(t, 1), b: newNode(t, 2), c: newNode(t, 3)}) {
				if got := n.visible("k"); len(got) > 0 {
					t.Errorf("node %s shows %q, which was deleted", n.r.Self().Short(), got)
				}
				n.verify()
				n.reopen()
				n.verify()
			}
		})
	}
}

// bytesIn returns what the keys and values of a bucket take.
func (n *node) bytesIn(bucket string) (size int) {
	n.t.Helper()
	n.must(n.kv.View(func(tx store.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			size += len(k) + len(v)
		}
		return nil
	}))
	return size
}

// TestNothingIsLeftOfDeletedKeys: once everything is deleted and collected, a
// key costs nothing but its bits in the dead view.
func TestNothingIsLeftOfDeletedKeys(t *testing.T) {
	t.Parallel()
	const keys = 500
	a, b := newNode(t, 1), newNode(t, 2)
	a.must(a.batch(func(bt *Batch) error {
		for i := range keys {
			expires := crdt.Attr{Name: crdt.AttrExpiry, Value: []byte{0x7f, 0, 0, 0, 0, 0, 0, byte(i + 1)}}
			w := Write{Key: fmt.Appendf(nil, "key%04d", i), Kind: crdt.Put, Value: []byte("v"), Attrs: []crdt.Attr{expires}}
			if _, err := bt.Commit([]Write{w}, a.now); err != nil {
				return err
			}
		}
		return nil
	}))
	b.pull(a, keys)
	for i := range keys {
		key := fmt.Sprintf("key%04d", i)
		b.write(key, crdt.Put, "concurrent")
		if i%2 == 0 {
			a.write(key, crdt.Put, "other")
		}
	}
	a.take(a.ask(b, false))
	for i := range keys {
		a.write(fmt.Sprintf("key%04d", i), crdt.Delete, "")
	}
	b.take(b.ask(a, false))
	b.collect(math.MaxUint64, 64)
	b.collect(math.MaxUint64, 64)
	a.take(a.ask(b, false)) // claims of b: a drops its tombstones
	a.collect(math.MaxUint64, 64)
	a.collect(math.MaxUint64, 64)
	for _, n := range []*node{a, b} {
		names := n.r.names
		for _, bucket := range []string{names.journal, names.heads, names.dots, names.conflicts, names.expiry} {
			if got := n.bytesIn(bucket); got != 0 {
				t.Errorf("%d bytes are left in %s", got, bucket)
			}
		}
		if got := n.bytesIn(names.dead); got == 0 || got > 2*64 {
			t.Errorf("the dead view takes %d bytes", got)
		}
		if c := n.counts(); c.Keys+c.Versions+c.Tombstones+c.Conflicts != 0 {
			t.Errorf("counts %+v, want none", c)
		}
		if got := n.clock().Count(); got != keys*5/2+keys {
			t.Errorf("the clock holds %d dots", got)
		}
		n.verify()
		n.reopen()
		n.verify()
	}
}

func TestCollectKeepsWhatRetentionKeeps(t *testing.T) {
	t.Parallel()
	const old, young = crdt.HLC(1) << 30, crdt.HLC(1) << 40
	setup := func(t *testing.T) (n *node, put, del *crdt.Version) {
		n = newNode(t, 1)
		put = n.write("k", crdt.Put, "v")
		del = n.write("k", crdt.Delete, "")
		return n, put, del
	}
	for name, tt := range map[string]struct {
		keep       Retention
		until      uint64
		tombstones int
	}{
		"no rule for tombstones":   {Retention{Since: crdt.MaxHLC}, math.MaxUint64, 0},
		"tombstone too young":      {Retention{Since: crdt.MaxHLC, Tombstones: old}, math.MaxUint64, 0},
		"history too young":        {Retention{Since: old, Tombstones: young}, math.MaxUint64, 0},
		"newest versions of a key": {Retention{Versions: 8, Since: young, Tombstones: young}, math.MaxUint64, 1},
		"not read by all views":    {Retention{Since: young, Tombstones: young}, 1, 0},
		"read by all views":        {Retention{Since: young, Tombstones: young}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			n, _, _ := setup(t)
			var got Collected
			n.must(n.batch(func(b *Batch) (err error) { got, err = b.Collect(nil, tt.keep, tt.until, 10); return err }))
			if got.Tombstones != tt.tombstones {
				t.Fatalf("collected %+v, want %d tombstones", got, tt.tombstones)
			}
			if left := len(n.siblings("k")); left != 1-tt.tombstones {
				t.Fatalf("%d siblings are left", left)
			}
			n.verify()
		})
	}
}

// TestCollectBesideOthers: a tombstone that stands beside a value leaves the
// siblings and becomes history, under the rules for history.
func TestCollectBesideOthers(t *testing.T) {
	t.Parallel()
	for _, keepVersions := range []int{8, 0} {
		a, b := newNode(t, 1), newNode(t, 2)
		first := a.write("k", crdt.Put, "first")
		b.pull(a, 10)
		a.write("k", crdt.Delete, "")
		b.write("k", crdt.Put, "stays")
		a.pull(b, 10)
		root := a.root()
		var got Collected
		keep := Retention{Versions: keepVersions, Since: crdt.MaxHLC, Tombstones: crdt.MaxHLC}
		a.must(a.batch(func(bt *Batch) (err error) { got, err = bt.Collect(nil, keep, math.MaxUint64, 10); return err }))
		if s := a.visible("k"); got.Tombstones != 1 || len(s) != 1 || s[0] != "stays" || a.root() != root {
			t.Fatalf("collected %+v, shows %q", got, s)
		}
		a.view(func(v *View) {
			h, err := v.History([]byte("k"))
			if want := min(3, 1+2*keepVersions); err != nil || len(h) != want {
				t.Fatalf("history of %d versions, %v, want %d", len(h), err, want)
			}
		})
		if got := a.apply(first); got.Known != 1 {
			t.Fatalf("what the tombstone covered came back: %+v", got)
		}
		a.verify()
		a.reopen()
		a.verify()
	}
}

// TestHistoryStaysReachable: a kept version that only a removed one led to is
// still found, and collected in the end.
func TestHistoryStaysReachable(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	b.now += 100 << 16
	first := b.write("k", crdt.Put, "covered, but young")
	second := b.write("k", crdt.Put, "covers it")
	old := c.write("k", crdt.Put, "old and concurrent")
	a.apply(second)
	a.apply(first) // dead on arrival: hangs on the head,
	a.apply(old)   // then on the record of the version that came next
	a.now = b.now
	a.write("k", crdt.Put, "covers all")
	length := func() (n int) {
		a.view(func(v *View) {
			h, err := v.History([]byte("k"))
			a.must(err)
			n = len(h)
		})
		return n
	}
	before := length()
	a.must(a.batch(func(bt *Batch) error {
		_, err := bt.Collect(nil, Retention{Since: old.Time + 1}, math.MaxUint64, 10)
		return err
	}))
	if before != 4 || length() != 3 {
		t.Fatalf("history of %d versions, then %d, want 4 and 3", before, length())
	}
	a.verify()
	a.collect(math.MaxUint64, 10)
	if got := a.bytesIn(a.r.names.journal); length() != 1 || got > 100 {
		t.Fatalf("history of %d versions, journal of %d bytes", length(), got)
	}
}

func TestCollectInParts(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 20 {
		n.write(fmt.Sprint("k", i), crdt.Put, "v")
		n.write(fmt.Sprint("k", i), crdt.Delete, "")
	}
	var next []byte
	parts := 0
	for first := true; first || next != nil; first = false {
		n.must(n.batch(func(b *Batch) error {
			got, err := b.Collect(next, Retention{Since: crdt.MaxHLC, Tombstones: crdt.MaxHLC}, math.MaxUint64, 3)
			if got.Keys > 3 || got.Tombstones > 3 || got.Records > 3 {
				t.Fatalf("a part did %+v, want at most 3 of each", got)
			}
			next = got.Next
			return err
		}))
		parts++
		n.verify()
	}
	if parts < 8 || n.counts().Tombstones != 0 {
		t.Fatalf("%d parts left %d tombstones", parts, n.counts().Tombstones)
	}
	err := n.batch(func(b *Batch) error { _, err := b.Collect(nil, Retention{}, 0, 0); return err })
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("a part of no keys: %v, want invalid", err)
	}
}

func TestRetire(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	early := b.write("k", crdt.Put, "1")
	a.apply(b.write("k", crdt.Put, "2"))
	a.write("k", crdt.Delete, "")
	if got := a.collect(math.MaxUint64, 10); got.Tombstones != 0 {
		t.Fatal("collected over a gap")
	}
	lost := b.r.Self()
	retire := func(id crdt.ReplicaID) error { return a.batch(func(bt *Batch) error { return bt.Retire(id) }) }
	if err := retire(crdt.ReplicaID{9}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("retired a replica that nobody knows: %v", err)
	}
	if err := retire(a.r.Self()); !errors.Is(err, ErrInvalid) {
		t.Fatalf("retired itself: %v", err)
	}
	a.must(retire(lost))
	a.must(retire(lost))
	a.reopen()
	a.view(func(v *View) {
		if got := v.Retired(); len(got) != 1 || got[0].Replica != lost || got[0].Last != 2 || got[0].Time != a.now {
			t.Fatalf("retired %+v", got)
		}
	})
	if got := a.collect(math.MaxUint64, 10); got.Tombstones != 1 {
		t.Fatal("the gap of a retired replica still blocks")
	}
	if got := a.apply(early); got.Late != 1 || got.New != 1 || len(a.visible("k")) != 1 {
		t.Fatalf("a late version: %+v, want it applied and counted", got)
	}
	if got := a.apply(early, b.write("k", crdt.Put, "3")); got.Late != 0 {
		t.Fatalf("%+v: what is known, or new, is not late", got)
	}
	a.verify()
}
