package merkle

import (
	"bytes"
	"iter"
	"math/bits"
)

// Difference is a key whose leaves differ in two sets. What it points to is
// valid until the next one.
type Difference struct {
	Key  []byte
	A, B *Digest // its leaf in a and in b; nil where it is not live
}

// Diff yields the keys in which two indexes differ, in byte order, and last the
// error that ended the walk early, if one did. Equal subtrees are not entered:
// O(d log n) tiles for d differences, and for each at most 64 keys around it.
// Both transactions must last as long as the walk.
func Diff(a, b *Index) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		d := differ{a: a, b: b, yield: yield}
		if err := d.subtrees(&a.root, &b.root, nil, 0); err != nil && err != errStop {
			yield(Difference{}, err)
		}
	}
}

type differ struct {
	a, b  *Index
	yield func(Difference, error) bool
}

// subtrees compares what lies below the first depth nibbles of at.
func (d *differ) subtrees(a, b *child, at []byte, depth int) error {
	switch {
	case a.Subtree == b.Subtree:
		return nil
	case a.Count <= tileAbove || b.Count <= tileAbove:
		return d.keys(region(appendPacked(nil, at, depth), depth, nil))
	}
	nd := min(a.nd, b.nd)
	if commonNibbles(a.prefix, b.prefix) < nd {
		return d.keys(region(appendPacked(nil, at, depth), depth, nil))
	}
	ta, err := d.a.open(a, nd)
	if err != nil {
		return err
	}
	tb, err := d.b.open(b, nd)
	if err != nil {
		return err
	}
	for m := ta.mask | tb.mask; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		ca, cb := ta.get(slot), tb.get(slot)
		if ca.Subtree == cb.Subtree {
			continue
		}
		next := bytes.Clone(ta.prefix)
		switch {
		case slot == 0:
			err = d.keys(next, append(bytes.Clone(next), 0))
		case nd&1 != 0:
			next[len(next)-1] |= byte(slot - 1)
			err = d.subtrees(&ca, &cb, next, nd+1)
		default:
			err = d.subtrees(&ca, &cb, append(next, byte(slot-1)<<4), nd+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open returns c as a tile at depth nd: its own, or one above with c in a slot.
func (x *Index) open(c *child, nd int) (*tile, error) {
	t := new(tile)
	if nd == c.nd {
		return t, x.load(c, t)
	}
	t.reset(c.prefix, nd)
	t.set(slotOf(c.prefix, nd), c)
	return t, nil
}

// keys compares the live keys in [start, end) one by one.
func (d *differ) keys(start, end []byte) error {
	var errA, errB error
	nextA, stopA := iter.Pull2(d.a.seq(start, end, &errA))
	defer stopA()
	nextB, stopB := iter.Pull2(d.b.seq(start, end, &errB))
	defer stopB()
	ka, la, okA := nextA()
	kb, lb, okB := nextB()
	for okA || okB {
		order := -1 // only in a
		switch {
		case !okA:
			order = 1
		case okB:
			order = bytes.Compare(ka, kb)
		}
		more := true
		switch {
		case errA != nil || errB != nil: // the other side's keys would seem missing
			okA, okB = false, false
			continue
		case order < 0:
			more = d.yield(Difference{ka, &la, nil}, nil)
		case order > 0:
			more = d.yield(Difference{kb, nil, &lb}, nil)
		case la != lb:
			more = d.yield(Difference{ka, &la, &lb}, nil)
		}
		if !more {
			return errStop
		}
		if order <= 0 {
			ka, la, okA = nextA()
		}
		if order >= 0 {
			kb, lb, okB = nextB()
		}
	}
	if errA != nil {
		return errA
	}
	return errB
}

// seq is Range as a sequence; err is set when it ends early.
func (x *Index) seq(start, end []byte, err *error) iter.Seq2[[]byte, Digest] {
	return func(yield func([]byte, Digest) bool) {
		*err = x.leaves.Range(start, end, func(key []byte, leaf Digest) error {
			if !yield(key, leaf) {
				return errStop
			}
			return nil
		})
		if *err == errStop {
			*err = nil
		}
	}
}
