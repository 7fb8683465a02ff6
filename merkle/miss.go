package merkle

import (
	"bytes"
	"math/bits"
)

// Lacks reports whether the tree knows that a key is not live. The leaves at the
// end of the way are only counted: if there are more or fewer than the tree says
// the answer is false, whichever of them it is. A tile that cannot be read is
// errs.ErrCorrupt. O(log n): the tiles on the way and at most 32 keys.
func (x *Index) Lacks(key []byte) (bool, error) {
	t := x.take()
	defer x.give(t)
	c, depth := x.root, 0
	for c.Count > tileAbove {
		if min(commonNibbles(key, c.prefix), c.nd) < c.nd {
			return true, nil
		}
		if err := x.load(&c, t); err != nil {
			return false, err
		}
		slot := slotOf(key, t.nd)
		depth = t.nd + 1
		if c = t.get(slot); c.Count > 0 && slot == 0 {
			return false, nil
		}
		c.prefix = bytes.Clone(c.prefix)
	}
	if c.Count == 0 {
		return true, nil
	}
	start, end := region(appendPacked(nil, key, depth), depth, nil)
	var n uint64
	found := false
	err := x.Range(start, end, func(k []byte, _ Digest) error {
		n++
		found = found || bytes.Equal(k, key)
		if n > c.Count {
			return errStop
		}
		return nil
	})
	if err == errStop {
		err = nil
	}
	return err == nil && n == c.Count && !found, err
}

// CountRange returns how many keys the tree has in [start, end), nil being no
// bound. Where a bound cuts through a subtree of at most 32 keys these are counted
// from the leaves; if they are not as many as the tree says, ok is false. A tile
// that cannot be read is errs.ErrCorrupt. O(log n): the tiles on the way to the
// two bounds, and the keys there.
func (x *Index) CountRange(start, end []byte) (n uint64, ok bool, err error) {
	return x.countIn(x.root, nil, nil, start, end)
}

// countIn is CountRange for a child whose keys are those in [lo, hi).
func (x *Index) countIn(c child, lo, hi, start, end []byte) (n uint64, ok bool, err error) {
	below := bytes.Compare(lo, start) < 0                            // part of it may lie before start
	above := end != nil && (hi == nil || bytes.Compare(hi, end) > 0) // or behind end
	outside := hi != nil && bytes.Compare(hi, start) <= 0 || end != nil && bytes.Compare(lo, end) >= 0
	switch {
	case c.Count == 0 || outside:
		return 0, true, nil
	case !below && !above:
		return c.Count, true, nil
	case c.Count <= tileAbove:
		return x.countLeaves(c.Count, lo, hi, start, end)
	}
	t := x.take()
	defer x.give(t)
	if err := x.load(&c, t); err != nil {
		return 0, false, err
	}
	ok = true
	for m := t.mask; m != 0 && ok && err == nil; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		from, to := t.prefix, append(bytes.Clone(t.prefix), 0)
		if slot > 0 {
			from, to = region(AppendChild(nil, t.prefix, t.nd, slot), t.nd+1, nil)
		}
		var part uint64
		part, ok, err = x.countIn(t.get(slot), from, to, start, end)
		n += part
	}
	return n, ok, err
}

// countLeaves counts the leaves of a subtree of want keys that lie within bounds.
func (x *Index) countLeaves(want uint64, lo, hi, start, end []byte) (n uint64, ok bool, err error) {
	var all uint64
	err = x.Range(lo, hi, func(key []byte, _ Digest) error {
		if all++; all > want {
			return errStop
		}
		if bytes.Compare(key, start) >= 0 && (end == nil || bytes.Compare(key, end) < 0) {
			n++
		}
		return nil
	})
	if err == errStop {
		err = nil
	}
	return n, err == nil && all == want, err
}
