package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// scrub runs one pass in steps of that size, mending what it finds, and returns
// the findings.
func (n *node) scrub(limit int) (found []Problem) {
	n.t.Helper()
	var p Pass
	for done := false; !done; {
		var problems []Problem
		var plan *Plan
		n.view(func(v *View) {
			var err error
			done, err = v.Scrub(&p, limit, func(p Problem) { problems = append(problems, p) })
			n.must(err)
			plan, err = v.Plan(problems)
			n.must(err)
		})
		stored, err := p.AppendBinary(nil) // as over a restart
		n.must(err)
		n.must(p.UnmarshalBinary(stored))
		found = append(found, problems...)
		for mended := len(problems) == 0; !mended; {
			n.must(n.batch(func(b *Batch) (err error) {
				mended, err = b.Mend(plan, limit)
				return err
			}))
		}
	}
	return found
}

// heal scrubs until nothing is found, three times at most. It returns how much
// was found at first.
func (n *node) heal(limit int) (found int) {
	n.t.Helper()
	for i := range 3 {
		left := len(n.scrub(limit))
		if i == 0 {
			found = left
		}
		if left == 0 {
			return found
		}
	}
	for _, p := range n.scrub(limit) {
		n.t.Errorf("still there after three passes: %s %q %s: %v", p.What, p.Key, p.Dot, p.Err)
	}
	return found
}

// state is what readers and peers see.
func (n *node) state(keys []string) (lines []string) {
	n.t.Helper()
	for _, k := range keys {
		for _, v := range n.siblings(k).Sorted() {
			lines = append(lines, fmt.Sprintf("%s %s %x", k, v.Dot, v.Digest()))
		}
	}
	n.view(func(v *View) {
		lines = append(lines, fmt.Sprintf("%+v", v.Counts()))
		var conflicts []string
		for k := range v.Conflicts(nil, nil) {
			conflicts = append(conflicts, string(k))
		}
		lines = append(lines, fmt.Sprint(conflicts))
	})
	return append(lines, fmt.Sprintf("%x %x", n.root(), n.clock().Append(nil)))
}

// writeFor writes a key with an expiry far away.
func (n *node) writeFor(key, value string, ms int64) *crdt.Version {
	n.t.Helper()
	var out *crdt.Version
	n.must(n.batch(func(b *Batch) error {
		s, err := b.Siblings([]byte(key))
		if err != nil {
			return err
		}
		attrs := []crdt.Attr{{Name: crdt.AttrExpiry, Value: binary.BigEndian.AppendUint64(nil, uint64(ms))}}
		vs, err := b.Commit([]Write{{Key: []byte(key), Kind: crdt.Put, Value: []byte(value), Attrs: attrs, Siblings: s}}, n.now)
		if err == nil {
			out = vs[0]
		}
		return err
	}))
	return out
}

// damage spoils one entry of a bucket, or all, in a way that sums or comparison
// must find.
func (n *node) damage(rng *rand.Rand, bucket string) {
	n.t.Helper()
	n.must(n.kv.Update(func(tx store.Tx) error {
		b := tx.Bucket("n1/" + bucket)
		if b == nil {
			return nil
		}
		var keys, values [][]byte
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
		}
		if len(keys) == 0 {
			return b.Put([]byte("junk"), []byte("junk of some length"))
		}
		i, j := rng.IntN(len(keys)), rng.IntN(len(keys))
		switch rng.IntN(5) {
		case 0:
			return b.Delete(keys[i])
		case 1:
			if len(values[i]) == 0 {
				return b.Delete(keys[i])
			}
			values[i][rng.IntN(len(values[i]))] ^= 1 << rng.IntN(8)
			return b.Put(keys[i], values[i])
		case 2:
			return errors.Join(b.Put(keys[i], values[j]), b.Put(keys[j], values[i]))
		case 3:
			return b.Put([]byte("junk"), []byte("junk of some length"))
		}
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestMendViews damages what is derived, in the middle of random histories with
// collection, and compares what readers and peers see with what they saw before.
func TestMendViews(t *testing.T) {
	t.Parallel()
	var found atomic.Int64
	t.Cleanup(func() { enough(t, &found) })
	for seed := range uint64(80) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			mendViews(t, seed, []string{"heads", "dots", "conflicts", "expiry", "tree", "sketch"}, true, &found)
		})
	}
}

// TestMendDeadView does the same to the dead view: what the journal proves comes
// back here, the rest from a peer.
func TestMendDeadView(t *testing.T) {
	t.Parallel()
	var found atomic.Int64
	t.Cleanup(func() { enough(t, &found) })
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			mendViews(t, seed, []string{"dead"}, false, &found)
		})
	}
}

func mendViews(t *testing.T, seed uint64, views []string, whole bool, found *atomic.Int64) {
	rng := rand.New(rand.NewPCG(seed, 21))
	nodes := []*node{newNode(t, 1), newNode(t, 2), newNode(t, 3)}
	keys := []string{"a", "b", "c", "d", "e", "f"}
	all := map[string][]*crdt.Version{}
	for range 120 {
		n := nodes[rng.IntN(len(nodes))]
		n.now += crdt.HLC(rng.IntN(5)) << 16
		key := keys[rng.IntN(len(keys))]
		switch rng.IntN(12) {
		case 0, 1, 2:
			all[key] = append(all[key], n.write(key, crdt.Put, fmt.Sprint(rng.Uint32())))
		case 3:
			all[key] = append(all[key], n.write(key, crdt.Delete, ""))
		case 4:
			all[key] = append(all[key], n.writeFor(key, fmt.Sprint(rng.Uint32()), 1<<41+rng.Int64N(9)))
		case 5:
			n.must(n.batch(func(b *Batch) error { return b.Finish(true) }))
			n.checkViews(true)
		case 6:
			if rng.IntN(3) == 0 {
				n.must(n.batch(func(b *Batch) error {
					_, err := b.Collect(nil, Retention{Versions: 1, Since: crdt.MaxHLC}, math.MaxUint64, 100)
					return err
				}))
			}
		case 7, 8:
			found.Add(int64(n.spoil(rng, views, keys, whole, nodes)))
		default:
			n.pull(nodes[rng.IntN(len(nodes))], 1<<20)
		}
	}
	for range 2 {
		for _, n := range nodes {
			for _, o := range nodes {
				n.pull(o, 1<<20)
			}
		}
	}
	for _, n := range nodes {
		n.heal(7)
		n.verify()
		for key, versions := range all {
			want, got := crdt.Maximal(versions).Sorted(), n.siblings(key).Sorted()
			if !slices.EqualFunc(want, got, func(a, b *crdt.Version) bool { return a.Digest() == b.Digest() }) {
				t.Fatalf("key %s: siblings %v, want %v", key, got, want)
			}
		}
	}
}

// spoil damages one or two views of a node and heals them. whole tells that
// nothing may be lost by that; else a peer helps.
func (n *node) spoil(rng *rand.Rand, views, keys []string, whole bool, peers []*node) (found int) {
	n.t.Helper()
	before := n.state(keys)
	for range 1 + rng.IntN(2) {
		n.damage(rng, views[rng.IntN(len(views))])
	}
	if rng.IntN(2) == 0 {
		n.reopen()
	}
	found = n.heal(1 + rng.IntN(40))
	if !whole {
		// What is unknown now comes back, live or dead, with a peer's clock, from
		// whoever has the versions; the author's own newest may be here alone.
		for _, o := range peers {
			if o != n {
				n.pull(o, 1<<20)
			}
		}
		n.heal(100)
		return found
	}
	n.verify()
	if after := n.state(keys); !slices.Equal(before, after) {
		n.t.Fatalf("before:\n%q\nafter:\n%q", before, after)
	}
	return found
}

// enough fails a test whose damage was hardly ever found: it tested nothing.
func enough(t *testing.T, found *atomic.Int64) {
	t.Logf("%d findings", found.Load())
	if found.Load() < 100 {
		t.Error("too few findings")
	}
}
