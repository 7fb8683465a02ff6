package replica

import (
	"fmt"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// flipRecord damages the record of a version in the journal.
func (n *node) flipRecord(dot crdt.Dot) {
	n.t.Helper()
	n.must(n.kv.Update(func(tx store.Tx) error {
		b := tx.Bucket("n1/journal")
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if rec, err := decodeVersionRecord(v, uint64(k[7]), n.r.ids); err == nil && rec.version.Dot == dot {
				w := slices.Clone(v)
				w[len(w)/2] ^= 1
				return b.Put(slices.Clone(k), w)
			}
		}
		return fmt.Errorf("no record of %s: %w", dot, ErrNotFound)
	}))
}

// TestMendJournal: a damaged record of a live version is asked for, one of the
// past is let go, and neither is found again.
func TestMendJournal(t *testing.T) {
	t.Parallel()
	for _, views := range []bool{true, false} {
		n, peer := newNode(t, 1), newNode(t, 2)
		old := n.write("x", crdt.Put, "old")
		live := n.write("x", crdt.Put, "new")
		n.write("y", crdt.Put, "other")
		n.must(n.batch(func(b *Batch) error { return b.Finish(views) }))
		peer.pull(n, 100)
		n.flipRecord(old.Dot)
		n.flipRecord(live.Dot)
		n.reopen()
		var lost, records int
		for _, p := range n.scrub(3) {
			if p.Lost && p.Dot == live.Dot {
				lost++
			}
			if p.What == "journal record" && p.Mendable() {
				records++
			}
		}
		if lost != 1 || records != 2 {
			t.Errorf("views %v: %d live ones asked for and %d records found, want 1 and 2", views, lost, records)
		}
		if n.clock().Has(live.Dot) {
			t.Error("the lost version is still in the advertised clock")
		}
		n.view(func(v *View) {
			if v.Collected() == 0 {
				t.Error("cursors below the removed record are still good")
			}
		})
		n.pull(peer, 100)
		n.heal(100)
		n.verify()
		if s := n.siblings("x"); len(s) != 1 || string(s[0].Value) != "new" {
			t.Errorf("views %v: x has %v, want new alone", views, s)
		}
		if n.root() != peer.root() {
			t.Error("roots differ")
		}
	}
}

// TestMendMissingRecords: records that vanished are reported once.
func TestMendMissingRecords(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 5 {
		n.write("k", crdt.Put, fmt.Sprint(i))
	}
	n.must(n.kv.Update(func(tx store.Tx) error { return tx.Bucket("n1/journal").Delete(arrivalKey(2)) }))
	// What the record superseded seems to be live again, until its key is derived.
	var found []string
	for _, p := range n.scrub(2) {
		found = append(found, p.What)
	}
	if !slices.Equal(found, []string{"head", "journal"}) {
		t.Fatalf("found %q, want a head and the missing record", found)
	}
	n.verify()
	n.view(func(v *View) {
		if v.Collected() != 2 {
			t.Errorf("collected up to %d, want 2", v.Collected())
		}
	})
}

// TestMendWholeViews: each view comes back after all of it was lost.
func TestMendWholeViews(t *testing.T) {
	t.Parallel()
	for _, view := range []string{"heads", "dots", "conflicts", "expiry", "dead", "tree", "sketch"} {
		t.Run(view, func(t *testing.T) {
			t.Parallel()
			a, b := newNode(t, 1), newNode(t, 2)
			var keys []string
			for i := range 700 {
				key := fmt.Sprint("key ", i)
				keys = append(keys, key)
				a.write(key, crdt.Put, "one")
				switch i % 7 {
				case 0:
					b.write(key, crdt.Put, "beside")
				case 1:
					a.write(key, crdt.Delete, "")
				case 2:
					a.write(key, crdt.Put, "two")
				case 3:
					a.writeFor(key, "for a while", 1<<41)
				}
			}
			a.pull(b, 1<<20)
			a.must(a.batch(func(b *Batch) error { return b.Finish(true) }))
			a.checkViews(true)
			a.write("behind the views", crdt.Put, "v")
			before := a.state(keys)
			a.must(a.kv.Update(func(tx store.Tx) error {
				bucket := tx.Bucket("n1/" + view)
				var all [][]byte
				c := bucket.Cursor()
				for k, _ := c.First(); k != nil; k, _ = c.Next() {
					all = append(all, slices.Clone(k))
				}
				for _, k := range all {
					if err := bucket.Delete(k); err != nil {
						return err
					}
				}
				return nil
			}))
			a.reopen()
			found := a.heal(64)
			if found == 0 && view != "tree" && view != "sketch" && view != "dead" {
				t.Error("nothing was found")
			}
			a.verify()
			if after := a.state(keys); !slices.Equal(before, after) {
				t.Errorf("before:\n%.2000q\nafter:\n%.2000q", before, after)
			}
		})
	}
}

// TestMendCounts: counters that say something else than the heads are set right.
func TestMendCounts(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.write("a", crdt.Put, "1")
	n.write("b", crdt.Delete, "")
	n.r.state.keys, n.r.state.tombs = 7, 0
	n.write("c", crdt.Put, "2")
	if found := n.scrub(100); len(found) != 1 || found[0].What != "counts" || !found[0].View {
		t.Fatalf("found %v, want the counts", found)
	}
	n.view(func(v *View) {
		if got, want := v.Counts(), (Counts{Keys: 2, Versions: 2, Tombstones: 1, Journal: 3}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
	})
	n.verify()
}

func FuzzPass(f *testing.F) {
	for _, p := range []Pass{{}, {phase: phaseHeads, at: []byte("key"), checked: 3}, {phase: phaseJournal, at: arrivalKey(9), records: 8, removed: 1}} {
		b, err := p.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	n := newNode(f, 1)
	for i := range 20 {
		n.write(fmt.Sprint("k", i%9), crdt.Put, "v")
	}
	n.must(n.batch(func(b *Batch) error { return b.Finish(true) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Pass
		if p.UnmarshalBinary(b) != nil {
			return
		}
		if again, err := p.AppendBinary(nil); err != nil || p.UnmarshalBinary(again) != nil {
			t.Fatalf("%x does not survive: %v", b, err)
		}
		n := *n
		n.t = t
		for range 200 {
			done := false
			n.view(func(v *View) {
				var err error
				done, err = v.Scrub(&p, 10, func(p Problem) {
					if p.What != "journal" { // a count that began elsewhere
						t.Errorf("found %s in a sound namespace: %v", p.What, p.Err)
					}
				})
				n.must(err)
			})
			if done {
				return
			}
		}
		t.Error("the pass does not end")
	})
}

// TestExpireTrustsTheVersion: a damaged entry of the expiry index deletes nothing
// before its time.
func TestExpireTrustsTheVersion(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.writeFor("later", "v", 1<<40)
	n.write("never", crdt.Put, "v")
	n.must(n.kv.Update(func(tx store.Tx) error {
		b := tx.Bucket("n1/expiry")
		if err := b.Put(expiryKey(5, 1), []byte("later")); err != nil {
			return err
		}
		return b.Put(expiryKey(6, 2), []byte("never"))
	}))
	n.must(n.batch(func(b *Batch) error {
		deleted, _, err := b.Expire(1<<39, 10)
		if deleted != 0 {
			t.Errorf("deleted %d versions that are not due", deleted)
		}
		return err
	}))
	n.verify()
	n.must(n.batch(func(b *Batch) error {
		deleted, _, err := b.Expire(1<<40, 10)
		if deleted != 1 {
			t.Errorf("deleted %d versions, want the one that is due", deleted)
		}
		return err
	}))
}
