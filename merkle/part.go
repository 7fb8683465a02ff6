package merkle

import (
	"bytes"
	"math/bits"
)

// VerifyPart checks a part of the tree against the live keys from start on: the
// tiles on the way to it, and the keys and tiles of a subtree of at most limit
// keys (32 at least). It returns the key to go on from, nil at the end of the
// tree. errs.ErrCorrupt names a tile that is not what its keys give. Called from
// nil to the end on one state it finds what Verify finds, except tiles that
// nothing refers to. O(limit).
func (x *Index) VerifyPart(start []byte, limit uint64) (next []byte, err error) {
	limit = max(limit, tileAbove)
	t := x.take()
	defer x.give(t)
	c := x.root
	var end []byte // of the part that c stands for
	for c.Count > limit {
		if err := x.load(&c, t); err != nil {
			return nil, err
		}
		if t.fold(&x.fold) != c.Subtree {
			return nil, damaged(c.prefix, c.nd, "not what its parent says")
		}
		slot := 0
		if min(commonNibbles(start, c.prefix), c.nd) == c.nd {
			slot = slotOf(start, c.nd)
		} else if bytes.Compare(start, c.prefix) > 0 {
			c = child{} // the rest of the part holds no keys
			break
		}
		later := t.mask >> slot << slot
		if later == 0 {
			_, end = region(c.prefix, c.nd, nil)
			c = child{}
			break
		}
		slot = bits.TrailingZeros32(later)
		if end = append(bytes.Clone(c.prefix), 0); slot > 0 {
			_, end = region(AppendChild(nil, c.prefix, c.nd, slot), c.nd+1, nil)
		}
		c = t.get(slot)
		c.prefix = bytes.Clone(c.prefix)
	}
	b := bulk{emit: x.checkTile}
	if err := x.feed(&b, start, end); err != nil {
		return nil, err
	}
	got, err := b.sum()
	if err != nil {
		return nil, err
	}
	if got.Subtree != c.Subtree || c.Count > tileAbove && (got.nd != c.nd || !bytes.Equal(got.prefix, c.prefix)) {
		return nil, damaged(c.prefix, c.nd, "not what its keys give")
	}
	return end, nil
}

// checkTile compares a tile that was made anew with the stored one.
func (x *Index) checkTile(t *tile) error {
	key := appendKey(nil, t.prefix, t.nd)
	switch stored := x.tiles.Get(key); {
	case stored == nil:
		return damaged(t.prefix, t.nd, "missing")
	case !bytes.Equal(stored, t.append(nil, key)):
		return damaged(t.prefix, t.nd, "not what its keys give")
	}
	return nil
}
