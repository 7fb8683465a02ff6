package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/crdt"
	"bzzz/merkle/sketch"
	"bzzz/store"
)

// checkViews compares the tree and the sketch with their definitions, from
// whatever is stored, and then stores them if asked to.
func (n *node) checkViews(keep bool) {
	n.t.Helper()
	var update *TreeUpdate
	var sum *Sketch
	n.view(func(v *View) {
		tree, err := v.Tree()
		n.must(err)
		want, err := v.Subtree(nil)
		n.must(err)
		if got := tree.Subtree(); got != want {
			n.t.Fatalf("tree has %d keys and digest %x, the live keys give %d and %x", got.Count, got.Digest, want.Count, want.Digest)
		}
		sum, err = v.Sketch(nil)
		n.must(err)
		fresh, err := sketch.New(v.sketchHash(), sum.Cells())
		n.must(err)
		n.must(v.fillSketch(fresh))
		if !sum.Equal(fresh) {
			n.t.Fatal("sketch is not what the live versions give")
		}
		update = tree.Update()
	})
	if keep {
		n.must(n.batch(func(b *Batch) error {
			if err := b.StoreTree(update); err != nil {
				return err
			}
			return b.StoreSketch(sum)
		}))
		n.verify()
	}
}

func TestTreeOverManyKeys(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		n.must(n.batch(func(b *Batch) error {
			for range 300 {
				key := fmt.Appendf(nil, "dir%d/%d", rng.IntN(4), rng.IntN(1500))
				s, err := b.Siblings(key)
				if err != nil {
					return err
				}
				w := Write{Key: key, Kind: crdt.Put, Value: fmt.Append(nil, rng.Uint64()), Siblings: s}
				if rng.IntN(4) == 0 {
					w.Kind, w.Value = crdt.Delete, nil
				}
				if _, err := b.Commit([]Write{w}, n.now); err != nil {
					return err
				}
			}
			return nil
		}))
		n.checkViews(round%3 == 1)
	}
	n.view(func(v *View) {
		tree, err := v.Tree()
		n.must(err)
		if tree.rebuilt || tree.Behind() == 0 {
			t.Fatalf("rebuilt %v, behind %d: the stored tiles were not used", tree.rebuilt, tree.Behind())
		}
		for d := range 4 {
			prefix := fmt.Appendf(nil, "dir%d/", d)
			want, err := v.Subtree(prefix)
			n.must(err)
			if got, err := tree.Prefix(prefix); err != nil || got != want {
				t.Fatalf("prefix %s: %v (%v), want %v", prefix, got, err, want)
			}
		}
	})
}

// TestTreeAfterUpdate: a tree that goes on from an update that was not stored is
// the one that begins with the stored tiles, and its own update stores both; one
// of other tiles, or of a later state, is not used.
func TestTreeAfterUpdate(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 300 {
		n.write(fmt.Sprint("k", i), crdt.Put, "v")
	}
	n.checkViews(true)
	var u *TreeUpdate
	rng := rand.New(rand.NewPCG(1, 9))
	step := func() {
		for range 5 {
			kind := crdt.Put
			if rng.IntN(3) == 0 {
				kind = crdt.Delete
			}
			n.write(fmt.Sprint("k", rng.IntN(400)), kind, fmt.Sprint(rng.Uint64()))
		}
	}
	follow := func() {
		n.view(func(v *View) {
			tree, err := v.TreeAfter(u)
			n.must(err)
			plain, err := v.Tree()
			n.must(err)
			if tree.Subtree() != plain.Subtree() || tree.Behind() != plain.Behind() {
				t.Fatalf("after an update %v, %d behind; from the stored tiles %v, %d", tree.Subtree(), tree.Behind(), plain.Subtree(), plain.Behind())
			}
			u = tree.Update()
		})
	}
	for range 20 {
		step()
		follow()
	}
	late := u
	n.view(func(v *View) {
		tree, err := v.TreeAfter(&TreeUpdate{base: u.base, reached: v.Arrival() + 1, over: u.over})
		n.must(err)
		if tree.Watermark() != v.Arrival() {
			t.Fatalf("a tree of record %d, the journal ends at %d", tree.Watermark(), v.Arrival())
		}
	})
	n.must(n.batch(func(b *Batch) error { return b.StoreTree(u) }))
	n.checkViews(false)
	n.verify()
	u = late // of tiles that are not stored any more
	step()
	follow()
	n.checkViews(true)
	n.verify()
}

// TestStaleTreeUpdate: of two updates that began with the same tiles only the
// first may be written.
func TestStaleTreeUpdate(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 100 {
		n.write(fmt.Sprint("k", i), crdt.Put, "v")
	}
	n.checkViews(true)
	take := func() (u *TreeUpdate) {
		n.view(func(v *View) {
			tree, err := v.Tree()
			n.must(err)
			u = tree.Update()
		})
		return u
	}
	n.write("k1", crdt.Put, "w")
	first := take()
	n.write("k2", crdt.Delete, "")
	second := take()
	n.must(n.batch(func(b *Batch) error { return errors.Join(b.StoreTree(second), b.StoreTree(first)) }))
	n.checkViews(false)
	n.verify()
}

// TestDamagedTree: wrong tiles and sketches are found by Verify, and a tree
// that cannot be read is made anew without them.
func TestDamagedTree(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tree", "sketch"} {
		n := newNode(t, 1)
		for i := range 200 {
			n.write(fmt.Sprint("k", i), crdt.Put, "v")
		}
		n.checkViews(true)
		want := n.root()
		n.must(n.kv.Update(func(tx store.Tx) error {
			b := tx.Bucket("n1/" + name)
			var flipped [][2][]byte
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				w := append([]byte(nil), v...)
				w[len(w)/2] ^= 4
				flipped = append(flipped, [2][]byte{append([]byte(nil), k...), w})
			}
			for _, f := range flipped {
				if err := b.Put(f[0], f[1]); err != nil {
					return err
				}
			}
			return nil
		}))
		found := false
		n.view(func(v *View) {
			n.must(v.Verify(func(p Problem) { found = found || p.What == name && p.View }, func(int) error { return nil }))
		})
		if !found {
			t.Fatalf("Verify did not report the damaged %s", name)
		}
		if got := n.root(); got != want {
			t.Fatalf("root %x from damaged tiles, want %x", got, want)
		}
		n.write("more", crdt.Put, "v")
		n.checkViews(true)
	}
}
