package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"bzzz/internal/errs"
)

// ProveInclusion returns a live key's leaf and the proof that VerifyInclusion
// takes. errs.ErrNotFound if the key is not live. O(log n): the tiles on the
// way and at most 32 keys. A proof that would not hold is never returned: tiles
// and leaves that disagree are errs.ErrCorrupt.
func (x *Index) ProveInclusion(key []byte) (Member, []byte, error) {
	leaf, steps, err := x.path(key)
	if err != nil {
		return Member{}, nil, err
	}
	return Member{bytes.Clone(key), leaf}, appendSteps(nil, steps), nil
}

// ProveAbsence returns the neighbour of a key that is not live, the one of the
// two that shares more with it, and the proof that VerifyAbsence takes. In an
// empty set the neighbour is the zero Member. errs.ErrExists if the key is live.
func (x *Index) ProveAbsence(key []byte) (Member, []byte, error) {
	if len(key) == 0 || len(key) > MaxKey {
		return Member{}, nil, fmt.Errorf("%w: a key of %d bytes", errs.ErrInvalid, len(key))
	}
	if x.root.Count == 0 {
		return Member{}, []byte{0}, nil
	}
	near, err := x.neighbour(key)
	if err != nil {
		return Member{}, nil, err
	}
	if bytes.Equal(near, key) {
		return Member{}, nil, fmt.Errorf("%w: the key is live", errs.ErrExists)
	}
	return x.ProveInclusion(near)
}

// ProvePrefix returns the subtree of the members that begin with prefix and the
// proof that VerifyPrefix takes. errs.ErrNotFound if there are none: prove that
// by absence.
func (x *Index) ProvePrefix(prefix []byte) (Subtree, []byte, error) {
	m, err := x.first(prefix)
	if err != nil {
		return Subtree{}, nil, err
	}
	leaf, steps, err := x.path(m)
	if err != nil {
		return Subtree{}, nil, err
	}
	n := above(steps, prefix)
	return climb(m, Subtree{1, leaf}, steps[n:]), appendSteps(nil, steps[:n]), nil
}

// ProvePrefixByMember returns the first live key that begins with prefix, with
// the proof that VerifyPrefixByMember takes: for verifiers that have no other
// key of the prefix. errs.ErrNotFound if there are none: prove that by absence.
func (x *Index) ProvePrefixByMember(prefix []byte) (Member, []byte, error) {
	m, err := x.first(prefix)
	if err != nil {
		return Member{}, nil, err
	}
	return x.ProveInclusion(m)
}

// first returns the first live key that begins with prefix.
func (x *Index) first(prefix []byte) (first []byte, err error) {
	start, end := region(prefix, 2*len(prefix), nil)
	err = x.leaves.Range(start, end, func(key []byte, _ Digest) error {
		first = bytes.Clone(key)
		return errStop
	})
	switch {
	case err != nil && err != errStop:
		return nil, err
	case first == nil:
		return nil, fmt.Errorf("%w: no key begins with the prefix", errs.ErrNotFound)
	}
	return first, nil
}

// errStop ends a Range early. It never leaves the package.
var errStop = errors.New("merkle: enough")

// path returns the leaf of key and the steps that lead to it.
func (x *Index) path(key []byte) (leaf Digest, steps []step, err error) {
	t := x.take()
	defer x.give(t)
	c, depth := x.root, 0
	for c.Count > tileAbove {
		if min(commonNibbles(key, c.prefix), c.nd) < c.nd {
			return leaf, nil, notLive()
		}
		if err := x.load(&c, t); err != nil {
			return leaf, nil, err
		}
		slot := slotOf(key, t.nd)
		steps = append(steps, t.path(slot, &x.fold)...)
		depth = t.nd + 1
		if c = t.get(slot); c.Count == 0 {
			return leaf, nil, notLive()
		}
		if slot == 0 {
			return x.checked(key, c.Digest, steps)
		}
		c.prefix = bytes.Clone(c.prefix)
	}
	if c.Count == 0 {
		return leaf, nil, notLive()
	}
	g, err := x.group(key, depth, c.Count)
	if err != nil {
		return leaf, nil, err
	}
	at, live := g.find(key)
	if !live {
		return leaf, nil, notLive()
	}
	steps = append(steps, walk(g.leaves, g.crit, at, &x.fold)...)
	return x.checked(key, g.leaves[at].Digest, steps)
}

// checked returns what path found if it leads to the root.
func (x *Index) checked(key []byte, leaf Digest, steps []step) (Digest, []step, error) {
	if climb(key, Subtree{1, leaf}, steps) != x.root.Subtree {
		return leaf, nil, x.mixed(key)
	}
	return leaf, steps, nil
}

func notLive() error { return fmt.Errorf("%w: the key is not live", errs.ErrNotFound) }

// mixed is the error of tiles that do not fit the leaves on the way to key: it
// names the first tile whose slots do not fold to what its parent says, else
// the keys.
func (x *Index) mixed(key []byte) error {
	t := x.take()
	defer x.give(t)
	t.reset(nil, 0)
	c := x.root
	for c.Count > tileAbove && commonNibbles(key, c.prefix) >= c.nd {
		if err := x.load(&c, t); err != nil {
			return err
		}
		if t.fold(&x.fold) != c.Subtree {
			return damaged(c.prefix, c.nd, "does not fold to its digest")
		}
		slot := slotOf(key, t.nd)
		if c = t.get(slot); slot == 0 {
			break
		}
		c.prefix = bytes.Clone(c.prefix)
	}
	return damaged(t.prefix, t.nd, "the live keys below it are not those it was made from")
}

// group is the live keys of a subtree without a tile, sorted.
type group struct {
	keys   [][]byte
	leaves []Subtree // of one key each
}

// group reads the live keys that share the first depth nibbles of key. There
// must be count of them.
func (x *Index) group(key []byte, depth int, count uint64) (*group, error) {
	g := &group{}
	start, end := region(appendPacked(nil, key, depth), depth, nil)
	err := x.leaves.Range(start, end, func(k []byte, leaf Digest) error {
		if n := len(g.keys); n > 0 && bytes.Compare(g.keys[n-1], k) >= 0 {
			return disordered()
		}
		if len(g.keys) > tileAbove {
			return errStop
		}
		g.keys = append(g.keys, bytes.Clone(k))
		g.leaves = append(g.leaves, Subtree{1, leaf})
		return nil
	})
	if err != nil && err != errStop {
		return nil, err
	}
	if uint64(len(g.keys)) != count {
		return nil, x.mixed(key)
	}
	return g, nil
}

func (g *group) crit(i, j int) int { return Crit(g.keys[i], g.keys[j]) }

// find returns the place of key, or of the first above it and false.
func (g *group) find(key []byte) (int, bool) {
	for i, k := range g.keys {
		if c := bytes.Compare(k, key); c >= 0 {
			return i, c == 0
		}
	}
	return len(g.keys), false
}

// path returns the steps within t that lead to a present slot, none for others.
func (t *tile) path(slot int, b *Builder) []step {
	if t.mask&(1<<slot) == 0 {
		return nil
	}
	subs := make([]Subtree, 0, len(t.slots))
	slots := make([]int, 0, len(t.slots))
	at := 0
	for m := t.mask; m != 0; m &= m - 1 {
		s := bits.TrailingZeros32(m)
		if s == slot {
			at = len(slots)
		}
		slots = append(slots, s)
		subs = append(subs, t.slots[s].Subtree)
	}
	return walk(subs, func(i, j int) int { return critSlots(t.nd, slots[i], slots[j]) }, at, b)
}

// walk returns the steps from the node over subs down to subs[at]. crit gives
// the first bit in which subs i < j differ. b is scratch.
func walk(subs []Subtree, crit func(i, j int) int, at int, b *Builder) (steps []step) {
	fold := func(from, to int) Subtree {
		b.open, b.right = b.open[:0], subs[from]
		for i := from + 1; i < to; i++ {
			b.branch(crit(i-1, i), subs[i])
		}
		b.close(-1)
		return b.right
	}
	lo, hi := 0, len(subs)
	for hi-lo > 1 {
		p := crit(lo, hi-1)
		right := lo + 1
		for crit(lo, right) != p {
			right++
		}
		if at < right {
			steps = append(steps, step{p, fold(right, hi)})
			hi = right
		} else {
			steps = append(steps, step{p, fold(lo, right)})
			lo = right
		}
	}
	return steps
}

// neighbour returns key if it is live, else of the live keys next to it in
// order the one that shares more bits with it.
func (x *Index) neighbour(key []byte) ([]byte, error) {
	t := x.take()
	defer x.give(t)
	c, depth := x.root, 0
	at := bytes.Clone(key) // shares its first depth nibbles with c
	side := 0              // all of c is above key (+1), below (-1), or it is open
	for c.Count > tileAbove {
		if common := min(commonNibbles(key, c.prefix), c.nd); side == 0 && common < c.nd {
			side = bytes.Compare(c.prefix, key)
		}
		if err := x.load(&c, t); err != nil {
			return nil, err
		}
		var slot int
		if slot, side = t.nearest(key, side); slot == 0 {
			return bytes.Clone(t.prefix), nil
		}
		at = appendPacked(at[:0], t.prefix, t.nd)
		if t.nd&1 == 0 {
			at = append(at, byte(slot-1)<<4)
		} else {
			at[len(at)-1] |= byte(slot - 1)
		}
		depth = t.nd + 1
		c = t.get(slot)
		c.prefix = bytes.Clone(c.prefix)
	}
	g, err := x.group(at, depth, c.Count)
	if err != nil {
		return nil, err
	}
	i, live := g.find(key)
	last := len(g.keys) - 1
	switch {
	case live:
		return key, nil
	case i == 0, i <= last && Crit(key, g.keys[i]) > Crit(g.keys[i-1], key):
		return g.keys[i], nil
	}
	return g.keys[i-1], nil
}

// nearest returns the slot below which key's neighbour lies, and on which side
// of key all of it is, 0 if the key itself may be there.
func (t *tile) nearest(key []byte, side int) (slot, now int) {
	low, high := bits.TrailingZeros32(t.mask), bits.Len32(t.mask)-1
	switch {
	case side > 0:
		return low, side
	case side < 0:
		return high, side
	}
	want := slotOf(key, t.nd)
	if t.mask&(1<<want) != 0 {
		return want, 0
	}
	before, after := t.mask&(1<<want-1), t.mask>>want<<want
	switch {
	case before == 0:
		return low, 1
	case after == 0:
		return high, -1
	}
	prev, next := bits.Len32(before)-1, bits.TrailingZeros32(after)
	if critSlots(t.nd, want, next) > critSlots(t.nd, prev, want) {
		return next, 1
	}
	return prev, -1
}
