package replica

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// drop drops a claim in a batch of its own.
func (n *node) drop(claim crdt.Clock) Dropped {
	n.t.Helper()
	var sum Dropped
	n.must(n.batch(func(b *Batch) (err error) {
		sum, err = b.Drop(claim, crdt.ReplicaID{9})
		return err
	}))
	return sum
}

func dotsOf(versions ...*crdt.Version) crdt.Clock {
	out := crdt.NewClock()
	for _, v := range versions {
		out.Add(v.Dot)
	}
	return out
}

// tail returns the stored keys that Tail reports as dropped, and the dots it
// reports as known.
func (n *node) tail() (dropped []string, adopted crdt.Clock) {
	n.t.Helper()
	adopted = crdt.NewClock()
	n.view(func(v *View) {
		_, err := v.Tail(v.Collected(), 1<<20, func(c Change) error {
			if c.Version == nil {
				dropped = append(dropped, string(c.Dropped))
			}
			return nil
		}, func(crdt.Dot) {}, func(c crdt.Clock) { adopted.Merge(c) })
		n.must(err)
	})
	return dropped, adopted
}

func (n *node) isDead(d crdt.Dot) (dead bool) {
	n.t.Helper()
	n.view(func(v *View) {
		c, err := v.DeadWithin(crdt.ClockOf(d.Replica, crdt.NewSeqSet(crdt.Interval{Lo: d.Seq, Hi: d.Seq})))
		n.must(err)
		dead = c.Has(d)
	})
	return dead
}

func TestDropRemovesWhatIsLive(t *testing.T) {
	t.Parallel()
	for name, views := range map[string]bool{"in the delta": false, "in the views": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, 1)
			x := n.write("x", crdt.Put, "to go")
			old := n.write("y", crdt.Put, "superseded")
			y := n.write("y", crdt.Delete, "")
			z := n.write("z", crdt.Put, "stays")
			unseen := crdt.Dot{Replica: crdt.ReplicaID{7}, Seq: 3}
			n.must(n.batch(func(b *Batch) error { return b.Finish(views) }))

			claim := dotsOf(x, y, old)
			claim.Add(unseen)
			n.view(func(v *View) {
				keys, versions, size, err := v.ClaimSize(claim)
				if err != nil || keys != 2 || versions != 2 || size != int64(len("x"+"to go"+"y")) {
					t.Fatalf("claim of %d keys, %d versions, %d bytes, %v", keys, versions, size, err)
				}
			})
			if got := n.drop(claim); got.Keys != 2 || got.Versions != 2 || got.Bytes != 7 || got.Lost != 0 || !got.Held.IsEmpty() {
				t.Fatalf("dropped %+v, want 2 keys of 7 bytes", got)
			}
			if c := n.clock(); c.Has(unseen) || c.Count() != 4 {
				t.Fatal("a claim changed the clock")
			}
			if len(n.siblings("x"))+len(n.siblings("y")) > 0 || len(n.siblings("z")) != 1 {
				t.Fatal("siblings are not those that the claim left")
			}
			n.view(func(v *View) {
				if got, want := v.Counts(), (Counts{Keys: 1, Versions: 1, Journal: 6}); got != want {
					t.Fatalf("counts %+v, want %+v", got, want)
				}
				if v.Gone().Of(y.Dot.Replica).Max() != y.Dot.Seq {
					t.Fatal("the dropped tombstone left no gone mark")
				}
			})
			for range 2 { // once from memory, once from the journal
				if !n.isDead(x.Dot) || !n.isDead(y.Dot) || n.isDead(z.Dot) {
					t.Fatal("dead is not what was dropped")
				}
				n.verify()
				if got := n.apply(x, y, z); got.Known != 3 {
					t.Fatalf("what was dropped came back: %+v", got)
				}
				n.reopen()
			}
			if got, _ := n.tail(); !slices.Equal(got, []string{"x", "y"}) {
				t.Fatalf("dropped keys %q, want x and y", got)
			}
			if got := n.drop(claim); got.Keys+got.Versions+got.Lost > 0 {
				t.Fatalf("the same claim again dropped %+v", got)
			}
		})
	}
}

// apply takes versions in, in a batch of their own.
func (n *node) apply(versions ...*crdt.Version) (sum Applied) {
	n.t.Helper()
	n.must(n.batch(func(b *Batch) (err error) {
		sum, err = b.Apply(versions)
		return err
	}))
	return sum
}

func TestDropOfOneSiblingKeepsHistory(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	mine, theirs := a.write("k", crdt.Put, "a"), b.write("k", crdt.Put, "b")
	a.apply(theirs)
	a.drop(dotsOf(theirs))
	if s := a.siblings("k"); len(s) != 1 || s[0].Dot != mine.Dot {
		t.Fatalf("siblings %v, want the one that was not claimed", s)
	}
	a.view(func(v *View) {
		h, err := v.History([]byte("k"))
		if err != nil || len(h) != 2 {
			t.Fatalf("history of %d versions, %v, want 2", len(h), err)
		}
		if v.Counts().Conflicts != 0 {
			t.Fatal("still a conflict")
		}
	})
	a.verify()
}

// TestDropHoldsBackOverAGap: what a claim removes before the adoption must not
// let what it overwrote be shown.
func TestDropHoldsBackOverAGap(t *testing.T) {
	t.Parallel()
	for _, kind := range []crdt.Kind{crdt.Put, crdt.Delete} {
		a, b := newNode(t, 1), newNode(t, 2)
		early := b.write("k", crdt.Put, "overwritten")
		late := b.write("k", kind, "late")
		b.write("k", crdt.Delete, "")
		a.apply(late)
		b.collect(math.MaxUint64, 10)
		if got := a.drop(dotsOf(late)); got.Versions != 0 || !got.Held.Equal(dotsOf(late)) {
			t.Fatalf("%s: dropped %+v, want it held back", kind, got)
		}
		a.apply(early)
		if got := a.visible("k"); len(got) > 0 && got[0] == "overwritten" {
			t.Fatalf("%s: shows %q", kind, got)
		}
		a.take(a.ask(b, false))
		if got := a.visible("k"); len(got) > 0 {
			t.Fatalf("%s: shows %q after the adoption", kind, got)
		}
		a.verify()
	}
}

// damageRecord flips a byte of the journal record of a version.
func (n *node) damageRecord(v *crdt.Version) {
	n.t.Helper()
	n.must(n.kv.Update(func(tx store.Tx) error {
		journal := tx.Bucket(n.r.names.journal)
		c := journal.Cursor()
		for k, b := c.First(); k != nil; k, b = c.Next() {
			rec, err := decodeVersionRecord(b, binaryKey(k), n.r.ids)
			if err == nil && rec.version.Dot == v.Dot {
				b = slices.Clone(b)
				b[len(b)/2] ^= 1
				return journal.Put(slices.Clone(k), b)
			}
		}
		return errors.New("no such record")
	}))
}

func binaryKey(k []byte) (n uint64) {
	for _, x := range k {
		n = n<<8 | uint64(x)
	}
	return n
}

// TestDropOfDamagedVersions: what damage took is dead once a peer proves it,
// whether it was noted or not; a peer's adoption proves as much.
func TestDropOfDamagedVersions(t *testing.T) {
	t.Parallel()
	ways := map[string]func(n *node, lost crdt.Clock){
		"claimed, not noted": func(n *node, lost crdt.Clock) { n.drop(lost) },
		"claimed, noted": func(n *node, lost crdt.Clock) {
			n.must(n.batch(func(b *Batch) error { return b.MarkUnknown(lost) }))
			if got := n.drop(lost); got.Lost != 1 || got.Keys != 1 {
				n.t.Fatalf("dropped %+v, want one lost dot of one key", got)
			}
			if _, adopted := n.tail(); !adopted.Equal(lost) {
				n.t.Fatal("Tail does not tell that the lost dot is known now")
			}
		},
		"adopted": func(n *node, lost crdt.Clock) {
			n.must(n.batch(func(b *Batch) error { return b.MarkUnknown(lost) }))
			n.must(n.batch(func(b *Batch) error { _, err := b.Adopt(lost, crdt.NewClock()); return err }))
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, 1)
			lost := n.write("x", crdt.Put, "damaged")
			n.write("y", crdt.Put, "stays")
			n.damageRecord(lost)
			way(n, dotsOf(lost))
			if len(n.siblings("x")) != 0 || !n.isDead(lost.Dot) || !n.clock().Has(lost.Dot) {
				t.Fatal("the damaged version is not dead")
			}
			n.verify()
			n.reopen()
			n.verify()
		})
	}
}

// TestDropSurvivesALostHead: the head of a key that lost a sibling on a claim is
// derived again without it.
func TestDropSurvivesALostHead(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.write("k", crdt.Put, "a")
	theirs := b.write("k", crdt.Put, "b")
	a.apply(theirs)
	a.drop(dotsOf(theirs))
	a.must(a.kv.Update(func(tx store.Tx) error {
		return tx.Bucket(a.r.names.heads).Put([]byte("k"), []byte("damaged"))
	}))
	other := newNode(t, 3).write("k", crdt.Put, "c")
	a.apply(other)
	if s := a.siblings("k"); len(s) != 2 || slices.ContainsFunc(s, func(v *crdt.Version) bool { return v.Dot == theirs.Dot }) {
		t.Fatalf("siblings %v, want what was there without what was dropped", s)
	}
}

// TestClaimCostsWhatIsLive: a claim of everything costs memory in proportion to
// what is live, also where every other dot is dead, and one of many dots that
// nobody has next to nothing. It runs alone: it counts what is allocated.
func TestClaimCostsWhatIsLive(t *testing.T) {
	const keys = 16_000
	n := newNode(t, 1)
	for _, step := range []int{1, 2} { // every other one is written again
		n.must(n.batch(func(b *Batch) error {
			var writes []Write
			for i := 0; i < keys; i += step {
				key := fmt.Appendf(nil, "key %05d", i)
				s, err := b.Siblings(key)
				if err != nil {
					return err
				}
				writes = append(writes, Write{Key: key, Kind: crdt.Put, Value: []byte("v"), Siblings: s})
			}
			_, err := b.Commit(writes, n.now)
			return err
		}))
	}
	n.must(n.batch(func(b *Batch) error { return b.Finish(true) }))
	apart := crdt.NewClock()
	for i := range uint64(1 << 20) {
		apart.AddRange(n.r.Self(), 1<<20+2*i, 1<<20+2*i)
	}
	all := crdt.NewClock()
	all.AddRange(n.r.Self(), 1, crdt.MaxSeq)
	for name, tt := range map[string]struct {
		claim crdt.Clock
		live  int
		most  uint64 // bytes
	}{
		"everything":     {all, keys, keys * 16 << 10},
		"dots of nobody": {apart, 0, 128 << 20}, // what the claim itself takes, some times
	} {
		var before, after runtime.MemStats
		n.view(func(v *View) {
			runtime.ReadMemStats(&before)
			_, versions, _, err := v.ClaimSize(tt.claim)
			held, err2 := v.NotHeld(tt.claim)
			runtime.ReadMemStats(&after)
			n.must(errors.Join(err, err2))
			if versions != tt.live || held.Count() != tt.claim.Count()-uint64(tt.live) {
				t.Errorf("%s: %d live versions, %d dots not held, want %d live", name, versions, held.Count(), tt.live)
			}
		})
		if got := after.TotalAlloc - before.TotalAlloc; got > tt.most {
			t.Errorf("%s: %d bytes allocated, at most %d", name, got, tt.most)
		}
	}
}

// TestLostHeadOfAConflict: the conflict index forgets a key whose head damage
// took once something else stands there, or what stood there is known to be dead.
func TestLostHeadOfAConflict(t *testing.T) {
	t.Parallel()
	ways := map[string]func(a *node, newer *crdt.Version, old crdt.Clock){
		"written over": func(a *node, newer *crdt.Version, _ crdt.Clock) { a.apply(newer) },
		"claimed":      func(a *node, _ *crdt.Version, old crdt.Clock) { a.drop(old) },
		"adopted": func(a *node, _ *crdt.Version, old crdt.Clock) {
			a.noteLost(old)
			a.must(a.batch(func(b *Batch) error { _, err := b.Adopt(old, crdt.NewClock()); return err }))
		},
	}
	for name, way := range ways {
		a, b := newNode(t, 1), newNode(t, 2)
		mine := a.write("k", crdt.Put, "a")
		theirs := b.write("k", crdt.Put, "b")
		a.apply(theirs)
		b.pull(a, 10)
		newer := b.write("k", crdt.Put, "over both")
		a.must(a.kv.Update(func(tx store.Tx) error { return tx.Bucket(a.r.names.heads).Delete([]byte("k")) }))
		way(a, newer, dotsOf(mine, theirs))
		a.view(func(v *View) {
			for k := range v.Conflicts(nil, nil) {
				t.Errorf("%s: key %q is listed as a conflict", name, k)
			}
			if n := v.Counts().Conflicts; n != 0 {
				t.Errorf("%s: %d conflicts are counted", name, n)
			}
		})
	}
}
