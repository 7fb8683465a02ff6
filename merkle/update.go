package merkle

import (
	"bytes"
	"fmt"

	"bzzz/internal/errs"
	"bzzz/store"
)

// CatchUp brings the tiles up to date with the leaves, given every key whose
// leaf came, went or changed since the last time, sorted and each once (others
// do no harm), and the position of the caller's log that this reaches. It needs
// a write transaction; after an error the transaction must not be committed and
// the index not be used. errs.ErrInvalid if changed is not as promised.
//
// Cost: for each group of changed keys in a subtree of at most 32 keys these
// keys are read once, and each tile above is read and written once, so a key
// is cheaper the more come together and the closer they lie: of 1 M keys 83 us
// for a lone one, 13 us each for 1,000 random ones, 3 us for 64 k, below 0.5 us
// clustered (BenchmarkIndex, with the commit, without flushes).
func (x *Index) CatchUp(changed [][]byte, watermark uint64) error {
	for i, k := range changed {
		if len(k) == 0 || len(k) > MaxKey || i > 0 && bytes.Compare(changed[i-1], k) >= 0 {
			return fmt.Errorf("%w: changed key %d is empty, too long or not above the one before", errs.ErrInvalid, i)
		}
	}
	if watermark < x.watermark {
		return fmt.Errorf("%w: watermark %d behind %d", errs.ErrInvalid, watermark, x.watermark)
	}
	root := x.root
	if len(changed) > 0 {
		var err error
		if root, err = x.update(&x.root, 0, changed); err != nil {
			return err
		}
	}
	return x.finish(&root, watermark)
}

// update returns the subtree c after changes to keys, all of which share their
// first depth nibbles with it. The prefix of the result is valid until the next
// tile is taken or key streamed.
func (x *Index) update(c *child, depth int, keys [][]byte) (child, error) {
	if c.Count <= tileAbove {
		return x.stream(keys[0], depth)
	}
	keys, nd, err := x.inside(c, keys)
	if err != nil || len(keys) == 0 {
		return *c, err
	}
	t := x.take()
	defer x.give(t)
	fresh := nd < c.nd
	if fresh {
		t.reset(c.prefix, nd)
		t.set(slotOf(c.prefix, nd), c)
	} else if err := x.load(c, t); err != nil {
		return child{}, err
	}
	if err := x.updateSlots(t, keys); err != nil {
		return child{}, err
	}
	return x.settle(c, t, fresh)
}

// inside drops the keys at both ends of the list that leave c's prefix and are
// not live: they never were in c. It returns the depth at which the others
// share their path with c, at most c.nd.
func (x *Index) inside(c *child, keys [][]byte) ([][]byte, int, error) {
	nd := c.nd
	for _, low := range [2]bool{true, false} {
		for len(keys) > 0 {
			key := keys[len(keys)-1]
			if low {
				key = keys[0]
			}
			common := min(commonNibbles(key, c.prefix), c.nd)
			if common == c.nd {
				break
			}
			_, live, err := x.leaves.Leaf(key)
			if err != nil {
				return nil, 0, err
			}
			if live { // those further in share more with c
				nd = min(nd, common)
				break
			}
			if low {
				keys = keys[1:]
			} else {
				keys = keys[:len(keys)-1]
			}
		}
	}
	return keys, nd, nil
}

// updateSlots updates the slots of t in which keys lie.
func (x *Index) updateSlots(t *tile, keys [][]byte) error {
	for len(keys) > 0 {
		slot, n := slotOf(keys[0], t.nd), 1
		for n < len(keys) && slotOf(keys[n], t.nd) == slot {
			n++
		}
		old := t.get(slot)
		if slot == 0 {
			leaf, live, err := x.leaves.Leaf(keys[0])
			if err != nil {
				return err
			}
			old = child{}
			if live {
				old.Subtree = Subtree{1, leaf}
			}
			t.set(0, &old)
		} else {
			c, err := x.update(&old, t.nd+1, keys[:n])
			if err != nil {
				return err
			}
			t.set(slot, &c)
		}
		keys = keys[n:]
	}
	return nil
}

// settle stores, moves or removes the tile of c after its slots have changed.
// fresh says that t is a new tile above that of c.
func (x *Index) settle(c *child, t *tile, fresh bool) (child, error) {
	drop := func() error {
		if fresh {
			return nil
		}
		return x.delete(c)
	}
	if t.mask&(t.mask-1) == 0 && t.mask != 0 {
		for i := range t.slots {
			if only := t.get(i); only.Count > tileAbove {
				return only, drop()
			}
		}
	}
	now := child{Subtree: t.fold(&x.fold), nd: t.nd, prefix: t.prefix}
	switch {
	case now.Count <= tileAbove:
		return child{Subtree: now.Subtree}, drop()
	case !fresh && now.Subtree == c.Subtree:
		return *c, nil
	}
	return now, x.put(t)
}

// stream computes a subtree, and puts its tiles, from the live keys that share
// the first depth nibbles of key.
func (x *Index) stream(key []byte, depth int) (child, error) {
	x.from = appendPacked(x.from[:0], key, depth)
	start, end := region(x.from, depth, x.to)
	if end != nil {
		x.to = end[:0]
	}
	if err := x.feed(&x.bulk, start, end); err != nil {
		return child{}, err
	}
	return x.bulk.sum()
}

// feed adds the live keys of a range to b.
func (x *Index) feed(b *bulk, start, end []byte) error {
	return x.leaves.Range(start, end, func(key []byte, leaf Digest) error {
		if len(key) == 0 || len(key) > MaxKey || b.cur.Count > 0 && bytes.Compare(b.last, key) >= 0 ||
			bytes.Compare(key, start) < 0 || end != nil && bytes.Compare(key, end) >= 0 {
			return disordered()
		}
		return b.add(key, leaf)
	})
}

// Rebuild drops what the bucket holds and writes the tiles anew from the
// leaves, whatever state they are in: it needs no index to open first. It needs
// a write transaction. O(n), 0.3 us a key plus the reading.
func Rebuild(tiles store.Bucket, leaves Leaves, watermark uint64) (*Index, error) {
	x := &Index{tiles: tiles, leaves: leaves}
	x.bulk.emit = x.put
	const batch = 4096 // a delete invalidates cursors
	for {
		var old [][]byte
		c := tiles.Cursor()
		for k, _ := c.First(); k != nil && len(old) < batch; k, _ = c.Next() {
			old = append(old, bytes.Clone(k))
		}
		if len(old) == 0 {
			break
		}
		for _, k := range old {
			if err := tiles.Delete(k); err != nil {
				return nil, err
			}
		}
	}
	root, err := x.stream(nil, 0)
	if err != nil {
		return nil, err
	}
	return x, x.finish(&root, watermark)
}

// Verify recomputes all tiles from the leaves and compares them byte by byte
// with what is stored. The first difference is an error that matches
// errs.ErrCorrupt. O(n), memory O(depth).
func (x *Index) Verify() error {
	tiles := 0
	b := bulk{emit: func(t *tile) error {
		tiles++
		return x.checkTile(t)
	}}
	if err := x.feed(&b, nil, nil); err != nil {
		return err
	}
	root, err := b.sum()
	if err != nil {
		return err
	}
	if value := x.tiles.Get([]byte(rootKey)); value == nil && root.Count == 0 && x.watermark == 0 {
		tiles-- // an index that was never written
	} else if !bytes.Equal(value, appendRoot(nil, &root, x.watermark)) {
		return rootDamaged("not what the keys give")
	}
	c := x.tiles.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		tiles--
	}
	if tiles != -1 {
		return &errs.Corruption{
			What: fmt.Sprintf("tiles: %d more than the keys have", -1-tiles),
			Hint: "rebuild the tree from the live keys",
		}
	}
	return nil
}
