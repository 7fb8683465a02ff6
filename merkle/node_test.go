package merkle_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// keysOf returns the keys of a node as the index reads them.
func keysOf(t *testing.T, x *merkle.Index, n merkle.Node) []string {
	t.Helper()
	var keys []string
	must(t, x.Keys(n, func(k []byte, _ merkle.Digest) error {
		keys = append(keys, string(k))
		return nil
	}))
	return keys
}

// inPlace returns the sorted keys that a node must have by its place alone.
func inPlace(set map[string]merkle.Digest, n merkle.Node) []string {
	want := nibbles(string(n.Path))[:n.Depth]
	var keys []string
	for k := range set {
		if n.End && k == string(n.Path) || !n.End && strings.HasPrefix(nibbles(k), want) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// checkNode compares a node, and all below it, with the set.
func checkNode(t *testing.T, x *merkle.Index, set map[string]merkle.Digest, n merkle.Node) {
	t.Helper()
	want := inPlace(set, n)
	m := simple{leaves: set}
	if got := (merkle.Subtree{Count: uint64(len(want)), Digest: m.digest(want)}); got != n.Subtree {
		t.Fatalf("node %x of %d nibbles, end %v: %v, want %v", n.Path, n.Depth, n.End, n.Subtree, got)
	}
	if got := keysOf(t, x, n); !slices.Equal(got, want) {
		t.Fatalf("node %x of %d nibbles has keys %q, want %q", n.Path, n.Depth, got, want)
	}
	if n.End || n.Count < 2 {
		return
	}
	var b merkle.Branch
	must(t, x.Branch(n, n.Depth, &b))
	var total uint64
	for s := range merkle.Fan {
		if b.Mask&(1<<s) == 0 {
			continue
		}
		c := b.Slots[s]
		if total += c.Count; c.End != (s == 0) || s > 0 && merkle.SlotAt(c.Path, n.Depth) != s {
			t.Fatalf("slot %d of %x holds %x", s, n.Path, c.Path)
		}
		checkNode(t, x, set, c.Clone())
	}
	if total != n.Count {
		t.Fatalf("slots of %x hold %d keys, want %d", n.Path, total, n.Count)
	}
}

// TestNodes: every node of a tree, at every place, has the keys and the digest
// of its place; what Within returns and sets aside is the node it was given.
func TestNodes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 21))
		set := map[string]merkle.Digest{}
		for range rng.IntN(2 << (2 * (seed%5 + 1))) {
			set[someKey(rng)] = someLeaf(rng)
		}
		kv := newStore(t, mem.New())
		change(t, kv, set, 1)
		with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
			checkNode(t, x, set, x.Top())
			for range 200 {
				key := someKey(rng)
				depth := rng.IntN(2*len(key) + 1)
				checkWithin(t, x, set, []byte(packed(nibbles(key)[:depth])), depth)
			}
			return nil
		})
	}
}

func checkWithin(t *testing.T, x *merkle.Index, set map[string]merkle.Digest, path []byte, depth int) {
	t.Helper()
	rest := maps.Clone(set)
	drop := func(n merkle.Node) {
		for _, k := range keysOf(t, x, n) {
			if _, there := rest[k]; !there {
				t.Fatalf("%q twice or not live", k)
			}
			delete(rest, k)
		}
	}
	n, err := x.Within(x.Top(), path, depth, drop)
	must(t, err)
	if want := inPlace(set, merkle.Node{Path: path, Depth: depth}); !slices.Equal(keysOf(t, x, n), want) || n.Count != uint64(len(want)) {
		t.Fatalf("within %x of %d nibbles: %d keys, want %q", path, depth, n.Count, want)
	}
	if n.Depth < depth || n.Count > 0 && !bytes.HasPrefix(n.Path, path[:depth/2]) {
		t.Fatalf("within %x of %d nibbles lies at %x of %d", path, depth, n.Path, n.Depth)
	}
	if drop(n); len(rest) > 0 {
		t.Fatalf("%d keys neither within nor aside", len(rest))
	}
}

// TestNodesFromStaleTiles: tiles of another moment than the leaves are damage
// where it shows, in small nodes at once.
func TestNodesFromStaleTiles(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	set := map[string]merkle.Digest{}
	for i := range 100 {
		set[fmt.Sprintf("key/%02d", i)] = someLeaf(rand.New(rand.NewPCG(1, uint64(i))))
	}
	change(t, kv, set, 1)
	with(t, kv, func(x *merkle.Index, tiles, h store.Bucket) error {
		must(t, h.Delete([]byte("key/55")))
		top := x.Top()
		if err := x.Keys(top, func([]byte, merkle.Digest) error { return nil }); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("a missing key: %v", err)
		}
		var b, below merkle.Branch
		must(t, x.Branch(top, top.Depth, &b))
		bad := 0
		for m := b.Mask; m != 0; m &= m - 1 {
			n := b.Slots[bits.TrailingZeros32(m)]
			if err := x.Branch(n, n.Depth, &below); errors.Is(err, errs.ErrCorrupt) {
				bad++
			}
		}
		if bad != 1 {
			t.Errorf("%d small nodes are damaged, want 1", bad)
		}
		for k := range dump(tiles) {
			must(t, tiles.Delete([]byte(k)))
		}
		if err := x.Branch(top, top.Depth, &b); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("a missing tile: %v", err)
		}
		if _, err := x.Within(top, []byte("key/5"), 10, nil); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("within a missing tile: %v", err)
		}
		return nil
	})
}
