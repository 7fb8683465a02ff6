package merkle

import (
	"bytes"
	"math/bits"
)

// GroupKeys is the most keys that a node holds without branches of its own in
// the index: they are read from the leaves.
const GroupKeys = tileAbove

// Fan is the number of slots in which a node branches: slot 0 is the key that
// ends at the node's place, slot 1+j the keys that go on with nibble j.
const Fan = 17

// Node is a subtree of an Index and where it lies. Its keys are exactly the
// live keys that begin with the first Depth nibbles of Path, or if End is set
// the one key Path. It is a plain value: whoever keeps one that a Branch gave
// clones it.
type Node struct {
	Subtree
	Depth int    // in nibbles; all keys share at least these
	Path  []byte // packed: (Depth+1)/2 bytes, an unused low nibble zero
	End   bool
}

// Clone returns a node with a path of its own.
func (n Node) Clone() Node {
	n.Path = bytes.Clone(n.Path)
	return n
}

// Bounds returns the range [start, end) of the node's keys; nil is no bound.
// start is n.Path.
func (n Node) Bounds() (start, end []byte) {
	if n.End {
		return n.Path, append(bytes.Clone(n.Path), 0)
	}
	return region(n.Path, n.Depth, nil)
}

// Branch is a node by what follows in its keys after Depth nibbles.
type Branch struct {
	Mask  uint32    // bit i is set if slot i holds keys
	Slots [Fan]Node // valid where Mask is set; slot 0 is an End

	bufs [Fan][]byte
	sums [Fan]Builder
}

// set stores a child and copies its path.
func (b *Branch) set(slot int, n Node) {
	b.bufs[slot] = append(b.bufs[slot][:0], n.Path...)
	n.Path = b.bufs[slot]
	b.Mask |= 1 << slot
	b.Slots[slot] = n
}

// AppendChild appends the packed path of a slot above 0 of a place, the first nd
// nibbles of path. The new path has nd+1.
func AppendChild(b, path []byte, nd, slot int) []byte {
	b = appendPacked(b, path, nd)
	if nd&1 != 0 {
		b[len(b)-1] |= byte(slot - 1)
		return b
	}
	return append(b, byte(slot-1)<<4)
}

// SlotAt returns the slot in which a path of more than nd nibbles goes on.
func SlotAt(path []byte, nd int) int {
	if nd&1 != 0 {
		return 1 + int(path[nd/2]&0x0F)
	}
	return 1 + int(path[nd/2]>>4)
}

// Top returns the node of the whole tree. O(1).
func (x *Index) Top() Node {
	n := Node{Subtree: x.root.Subtree}
	if n.Count > tileAbove {
		n.Depth, n.Path = x.root.nd, bytes.Clone(x.root.prefix)
	}
	return n
}

// Branch fills b with what n holds after its first depth nibbles; depth is at
// most n.Depth. Where it is less there is one slot, n itself. What b held before
// is lost, its paths with it, so n must not be one of b's own. Cost: nothing, one tile, or at most 32 keys.
// Tiles and leaves that disagree are errs.ErrCorrupt.
func (x *Index) Branch(n Node, depth int, b *Branch) error {
	b.Mask = 0
	switch {
	case n.Count == 0:
		return nil
	case depth < n.Depth:
		b.set(SlotAt(n.Path, depth), n)
		return nil
	case n.End:
		b.set(0, n)
		return nil
	case n.Count <= tileAbove:
		return x.branchKeys(n, b)
	}
	t := x.take()
	defer x.give(t)
	if err := x.load(&child{n.Subtree, n.Depth, n.Path}, t); err != nil {
		return err
	}
	for m := t.mask; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		c := t.get(slot)
		next := Node{Subtree: c.Subtree, Depth: c.nd, Path: c.prefix}
		switch {
		case slot == 0:
			next.Depth, next.Path, next.End = t.nd, t.prefix, true
		case c.Count <= tileAbove:
			next.Depth = t.nd + 1
			next.Path = AppendChild(b.bufs[slot][:0], t.prefix, t.nd, slot)
		}
		b.set(slot, next)
	}
	return nil
}

// branchKeys is Branch for a node without a tile.
func (x *Index) branchKeys(n Node, b *Branch) error {
	g, err := x.group(n.Path, n.Depth, n.Count)
	if err != nil {
		return err
	}
	for _, key := range g.keys {
		if commonNibbles(key, n.Path) < n.Depth {
			return disordered()
		}
	}
	for i, key := range g.keys {
		slot := slotOf(key, n.Depth)
		b.Mask |= 1 << slot
		b.sums[slot].Add(key, g.leaves[i].Digest)
	}
	for m := b.Mask; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		next := Node{Subtree: b.sums[slot].Sum(), Depth: n.Depth + 1}
		if slot == 0 {
			next.Depth, next.Path, next.End = n.Depth, n.Path, true
		} else {
			next.Path = AppendChild(b.bufs[slot][:0], n.Path, n.Depth, slot)
		}
		b.set(slot, next)
	}
	return nil
}

// Within returns the part of n whose keys begin with the first depth nibbles of
// path, which is packed and as long as that; if there are none an empty node at
// that place. It calls aside, unless nil, with the rest of n in parts, in no
// order; each owns its path. Cost: the tiles on the way and at most 32 keys.
func (x *Index) Within(n Node, path []byte, depth int, aside func(Node)) (Node, error) {
	if aside == nil {
		aside = func(Node) {}
	}
	var b Branch
	for n.Count > 0 {
		shared := min(commonNibbles(path, n.Path), depth, n.Depth)
		switch {
		case shared == depth:
			return n, nil
		case shared < n.Depth || n.End:
			aside(n)
			n.Count = 0
			continue
		case n.Count <= tileAbove:
			return x.pick(n, path, depth, aside)
		}
		if err := x.Branch(n, n.Depth, &b); err != nil {
			return Node{}, err
		}
		slot := SlotAt(path, n.Depth)
		n = Node{}
		for m := b.Mask; m != 0; m &= m - 1 {
			if i := bits.TrailingZeros32(m); i == slot {
				n = b.Slots[i].Clone()
			} else {
				aside(b.Slots[i].Clone())
			}
		}
	}
	return Node{Depth: depth, Path: path}, nil
}

// pick is Within for a node without a tile.
func (x *Index) pick(n Node, path []byte, depth int, aside func(Node)) (Node, error) {
	g, err := x.group(n.Path, n.Depth, n.Count)
	if err != nil {
		return Node{}, err
	}
	var in Builder
	for i, key := range g.keys {
		if min(commonNibbles(key, path), depth) == depth {
			in.Add(key, g.leaves[i].Digest)
		} else {
			aside(Node{g.leaves[i], 2 * len(key), key, true})
		}
	}
	return Node{Subtree: in.Sum(), Depth: depth, Path: path}, nil
}

// Range calls fn for the live keys in [start, end) in byte order, nil being no
// bound, and returns the first error. fn must neither keep key nor use the
// index. Keys out of order or out of range are errs.ErrCorrupt.
func (x *Index) Range(start, end []byte, fn func(key []byte, leaf Digest) error) error {
	var last []byte
	return x.leaves.Range(start, end, func(key []byte, leaf Digest) error {
		if len(key) == 0 || len(key) > MaxKey || bytes.Compare(key, start) < 0 ||
			last != nil && bytes.Compare(last, key) >= 0 || end != nil && bytes.Compare(key, end) >= 0 {
			return disordered()
		}
		last = append(last[:0], key...)
		return fn(key, leaf)
	})
}

// Keys calls fn for the keys of n as Range does. If there are not n.Count of
// them the error matches errs.ErrCorrupt.
func (x *Index) Keys(n Node, fn func(key []byte, leaf Digest) error) error {
	if n.End {
		return fn(n.Path, n.Digest)
	}
	start, end := n.Bounds()
	var count uint64
	err := x.Range(start, end, func(key []byte, leaf Digest) error {
		if count++; count > n.Count {
			return x.Miscounted(n)
		}
		return fn(key, leaf)
	})
	if err == nil && count < n.Count {
		return x.Miscounted(n)
	}
	return err
}

// Miscounted is the error, matching errs.ErrCorrupt, of a node that has more or
// fewer live keys than its count says.
func (x *Index) Miscounted(n Node) error {
	return damaged(n.Path, n.Depth, "the live keys below it are not those it was made from")
}
