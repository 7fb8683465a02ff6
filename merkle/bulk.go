package merkle

// bulk folds keys in rising order to a subtree and emits its tiles, children
// before parents. One hash a key; memory is one tile per level.
type bulk struct {
	emit   func(t *tile) error
	last   []byte
	cur    child   // the subtree that ends with the last key
	open   []*tile // by rising depth; their next slot is still growing
	free   []*tile
	prefix []byte // of cur
	fold   Builder
	err    error
}

// add appends a key.
func (b *bulk) add(key []byte, leaf Digest) error {
	if b.cur.Count > 0 {
		nd := commonNibbles(b.last, key)
		b.close(nd)
		if n := len(b.open); n == 0 || b.open[n-1].nd < nd {
			t := b.take()
			t.nd, t.mask = nd, 0
			b.open = append(b.open, t)
		}
		b.open[len(b.open)-1].set(slotOf(b.last, nd), &b.cur)
		if b.err != nil {
			return b.err
		}
	}
	b.last = append(b.last[:0], key...)
	b.cur = child{Subtree: Subtree{1, leaf}}
	return nil
}

// close folds the open tiles deeper than nd into cur.
func (b *bulk) close(nd int) {
	for n := len(b.open); n > 0 && b.open[n-1].nd > nd; n-- {
		t := b.open[n-1]
		b.open = b.open[:n-1]
		t.set(slotOf(b.last, t.nd), &b.cur)
		b.cur.Subtree = t.fold(&b.fold)
		if b.cur.Count > tileAbove {
			t.prefix = appendPacked(t.prefix[:0], b.last, t.nd)
			b.prefix = append(b.prefix[:0], t.prefix...)
			b.cur.nd, b.cur.prefix = t.nd, b.prefix
			if b.err == nil {
				b.err = b.emit(t)
			}
		}
		b.free = append(b.free, t)
	}
}

// sum ends the subtree. Its prefix is valid until the next add.
func (b *bulk) sum() (child, error) {
	b.close(-1)
	c, err := b.cur, b.err
	b.cur, b.err = child{}, nil
	return c, err
}

func (b *bulk) take() *tile {
	if n := len(b.free); n > 0 {
		t := b.free[n-1]
		b.free = b.free[:n-1]
		return t
	}
	return new(tile)
}
