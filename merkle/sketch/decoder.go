package sketch

import (
	"fmt"
	"math"

	"bzzz/internal/errs"
)

// The reasons a decoder stops; both send the session to the tree walk.
var (
	// ErrGiveUp: the cells allowed are used up and do not decode, or the
	// difference is known to be too large for them.
	ErrGiveUp = fmt.Errorf("sketch does not decode within its bound: %w", errs.ErrTooLarge)
	// ErrInconsistent: the cells are not those of a set. The peer lies, keys
	// the hash otherwise or has a damaged sketch; or, once in 1e7 sessions of
	// 10,000 differences, a cell passed for that of one item and was not.
	ErrInconsistent = fmt.Errorf("sketch cells contradict each other: %w", errs.ErrCorrupt)
)

// giveUpFactor is how many times the expected cells are taken before a decoder
// gives up (docs/DESIGN.md, anti-entropy session): room for an estimate that is
// 60 % too low.
const giveUpFactor = 1.6

// ExpectedCells returns about how many cells d differences take on average:
// 1.35 d + sqrt(d), within 2 % of what BenchmarkReconcile measures from 10 differences on
// (the paper: 1.35 asymptotically, at most 1.72, for few).
func ExpectedCells(d int) int {
	if d <= 0 {
		return 1
	}
	return int(math.Ceil(1.35*float64(d) + math.Sqrt(float64(d))))
}

// GiveUp returns after how many cells a decoder gives up that was told to
// expect d differences: 1.6 times [ExpectedCells] and 24 more, at most
// [MaxCells]. With a true estimate it is reached less than once in 200 streams
// at 2..10 differences, and hardly ever above (TestGiveUpIsRare).
func GiveUp(d int) int {
	if d >= MaxCells {
		return MaxCells
	}
	return min(MaxCells, int(giveUpFactor*float64(ExpectedCells(d)))+24)
}

// diffCell is the peer's cell minus ours, less the items found.
type diffCell struct {
	item  words
	check uint32
	count int64
}

func (c *diffCell) toggle(it words, check uint32, sign int64) {
	c.item[0] ^= it[0]
	c.item[1] ^= it[1]
	c.check ^= check
	c.count += sign
}

// pending is an item found whose next cell has not come yet; those of one cell
// form a list.
type pending struct {
	m     mapping
	item  words
	check uint32
	sign  int64
	next  int32
}

// none ends a list of pending items.
const none = -1

// Decoder finds the difference between its own set and a peer's from the peer's
// cells. It is not safe for concurrent use. An error is final: every later call
// returns it.
//
// Whatever the peer sends, a decoder with the bound of L cells (at most 65,536)
// takes L cells, finds at most L items, toggles each in about 2*ln(L/2) cells
// and holds at most about 400 L bytes. 40,000 items out of 54,000 cells, near
// the dearest there is, take 60 ms and leave 7 MiB in use (TestHostileWork).
//
// A cell of several items passes for that of one with probability
// rho(i)*2^-32: its count must be 1 or -1, its 32-bit check must fit and its
// index must be one the item maps to. A session of 10,000 differences meets some
// 17,000 such candidates, whose rho add up to 440 (100 differences: 107 and 21):
// 1e-7 a session (5e-9), for any salt not known in advance. It ends in
// ErrInconsistent or ErrGiveUp; for a wrong item to come with Done, all other
// cells would have to fall to zero in 128 + 32 bits as well. What is found is a
// hint all the same: the session compares roots afterwards.
type Decoder struct {
	key    Key
	own    []cell
	ownLen int64
	peer   Header
	short  projection
	diff   []diffCell

	filled int       // cells of diff that are not zero
	blank  int       // cells that were zero before anything was found
	queue  []int32   // cells that may hold one item
	heads  []int32   // by cell to come: first of its pending items
	wait   []pending // one for each item found
	found  map[words]struct{}
	theirs []Item
	ours   []Item
	err    error
}

// NewDecoder returns a decoder of the set own against the stream that header
// opens. It copies what it needs of own. estimate is the number of differences
// expected, 0 if unknown: the bound is [GiveUp] of it, and never more cells than
// either side has. ErrInvalid for a header that is none; ErrGiveUp if the sizes
// of the sets alone differ by more than the cells.
func NewDecoder(own *Sketch, h Header, estimate int) (*Decoder, error) {
	if err := h.valid(); err != nil {
		return nil, err
	}
	limit := min(len(own.cells), h.Cells)
	apart := own.Len() - h.Items
	if apart < 0 {
		apart = -apart
	}
	if apart > int64(limit) {
		return nil, fmt.Errorf("%d items against %d, %d cells: %w", own.Len(), h.Items, limit, ErrGiveUp)
	}
	if estimate > 0 {
		limit = min(limit, GiveUp(max(estimate, int(apart))))
	}
	cells := make([]cell, limit)
	copy(cells, own.cells)
	heads := make([]int32, limit)
	for i := range heads {
		heads[i] = none
	}
	return &Decoder{
		key: own.key, own: cells, ownLen: own.Len(), peer: h, short: newProjection(h.Salt),
		heads: heads, found: map[words]struct{}{},
	}, nil
}

// Limit returns the number of cells after which the decoder gives up.
func (d *Decoder) Limit() int { return len(d.own) }

// Received returns the number of cells taken.
func (d *Decoder) Received() int { return len(d.diff) }

// Done reports whether the whole difference is found. Before the first cell it
// is false.
func (d *Decoder) Done() bool { return d.err == nil && len(d.diff) > 0 && d.filled == 0 }

// Theirs returns the items found so far that only the peer has, in no order.
// The slice is the decoder's own.
func (d *Decoder) Theirs() []Item { return d.theirs }

// Ours returns the items found so far that only this side has, in no order; a
// lying peer can name items that nobody has. The slice is the decoder's own.
func (d *Decoder) Ours() []Item { return d.ours }

func (d *Decoder) fail(err error) error {
	d.err = err
	return err
}

// AddCells takes a batch as [Encoder.AppendCells] writes it; batches must come
// in order and whole. Once Done, what is still on its way is ignored unread.
// Besides the errors of AddCell: ErrCorrupt.
func (d *Decoder) AddCells(batch []byte) error {
	if d.err != nil || d.Done() {
		return d.err
	}
	r := reader{b: batch}
	first, n := r.uvarint(), r.uvarint()
	if r.bad || first != uint64(len(d.diff)) || n == 0 ||
		n > uint64(len(r.b)/minWireCell) || n > uint64(d.peer.Cells)-first {
		return d.fail(fmt.Errorf("sketch batch of %d cells from %d on, want %d: %w", n, first, len(d.diff), ErrCorrupt))
	}
	for range n {
		i := len(d.diff)
		it, check := r.words(), r.u32()
		count := r.count(d.peer.Items, i)
		if r.bad {
			return d.fail(fmt.Errorf("sketch cell %d: %w", i, ErrCorrupt))
		}
		if err := d.add(it, check, count); err != nil {
			return err
		}
		if d.Done() {
			return nil
		}
	}
	if len(r.b) != 0 {
		return d.fail(fmt.Errorf("sketch batch with %d trailing bytes: %w", len(r.b), ErrCorrupt))
	}
	return nil
}

// AddCell takes the peer's next cell and peels what it gives: O(log cells)
// for each item found. Once Done it ignores its argument. ErrGiveUp after
// [Decoder.Limit] cells, ErrInconsistent for cells that cannot be.
func (d *Decoder) AddCell(c Cell) error {
	if d.err != nil || d.Done() {
		return d.err
	}
	return d.add(c.Item.words(), c.Check, c.Count)
}

func (d *Decoder) add(it words, check uint32, count int64) error {
	i := len(d.diff)
	switch {
	case i == len(d.own):
		return d.fail(fmt.Errorf("%d cells, %d differences found, about %d expected: %w", i, len(d.wait), d.Estimate(), ErrGiveUp))
	case count < 0 || count > d.peer.Items:
		return d.fail(fmt.Errorf("cell %d counts %d of %d items: %w", i, count, d.peer.Items, ErrInconsistent))
	case i == 0 && count != d.peer.Items:
		// Every item is in cell 0.
		return d.fail(fmt.Errorf("cell 0 counts %d of %d items: %w", count, d.peer.Items, ErrInconsistent))
	}
	o := &d.own[i]
	c := diffCell{item: it, check: check, count: count}
	c.toggle(o.item, d.short.of(o.check), -o.count)
	if c == (diffCell{}) {
		d.blank++
	}
	for at := d.heads[i]; at != none; {
		w := &d.wait[at]
		c.toggle(w.item, w.check, -w.sign)
		next := w.next
		w.m.next()
		d.await(at)
		at = next
	}
	d.diff = append(d.diff, c)
	if c != (diffCell{}) {
		d.filled++
		d.queue = append(d.queue, int32(i))
	}
	return d.peel()
}

// await lists a pending item under its next cell, if that is within the bound.
func (d *Decoder) await(at int32) {
	w := &d.wait[at]
	if w.m.at < uint64(len(d.heads)) {
		w.next = d.heads[w.m.at]
		d.heads[w.m.at] = at
	}
}

// peel takes items out until no cell holds just one.
func (d *Decoder) peel() error {
	for len(d.queue) > 0 {
		k := d.queue[len(d.queue)-1]
		d.queue = d.queue[:len(d.queue)-1]
		c := d.diff[k]
		if c.count != 1 && c.count != -1 {
			continue
		}
		hash := d.key.hash(c.item)
		if d.short.of(hash) != c.check || !mapsTo(hash, uint64(k)) {
			continue
		}
		if err := d.take(hash, c); err != nil {
			return d.fail(err)
		}
	}
	return nil
}

// mapsTo reports whether an item with that hash is in cell k.
func mapsTo(hash, k uint64) bool {
	m := mapItem(hash)
	for m.at < k {
		m.next()
	}
	return m.at == k
}

// take records the only item of a cell and removes it from all cells so far.
func (d *Decoder) take(hash uint64, c diffCell) error {
	if _, twice := d.found[c.item]; twice {
		return fmt.Errorf("item %x found twice: %w", c.item.item(), ErrInconsistent)
	}
	// Every item of a set takes one cell to peel.
	if len(d.found) >= len(d.diff) {
		return fmt.Errorf("more than %d items in as many cells: %w", len(d.diff), ErrInconsistent)
	}
	d.found[c.item] = struct{}{}
	if c.count > 0 {
		d.theirs = append(d.theirs, c.item.item())
	} else {
		d.ours = append(d.ours, c.item.item())
	}
	if int64(len(d.theirs)) > d.peer.Items || int64(len(d.ours)) > d.ownLen {
		return fmt.Errorf("%d and %d items differ of %d and %d: %w", len(d.theirs), len(d.ours), d.peer.Items, d.ownLen, ErrInconsistent)
	}
	m := mapItem(hash)
	for ; m.at < uint64(len(d.diff)); m.next() {
		x := &d.diff[m.at]
		was := *x != diffCell{}
		x.toggle(c.item, c.check, -c.count)
		is := *x != diffCell{}
		if was && !is {
			d.filled--
		} else if is && !was {
			d.filled++
		}
		if x.count == 1 || x.count == -1 {
			d.queue = append(d.queue, int32(m.at))
		}
	}
	d.wait = append(d.wait, pending{m: m, item: c.item, check: c.check, sign: c.count})
	d.await(int32(len(d.wait) - 1))
	return nil
}

// Estimate returns how many differences there seem to be, exact once Done. It
// solves sum over the cells of (1-rho(i))^d = the number of cells that came
// empty: within about 20 % once d/2 cells are there; with fewer, no cell is
// empty and it is a lower bound, about the number of cells. O(40 cells), for
// use once in a while. A lying peer makes it anything.
func (d *Decoder) Estimate() int {
	if d.Done() {
		return len(d.wait)
	}
	k := len(d.diff)
	want := max(float64(d.blank), 0.5)
	lo, hi := 0.0, 8*float64(k)+8
	for range 40 {
		mid := (lo + hi) / 2
		sum := 0.0
		for i := 1; i < k; i++ {
			sum += math.Exp(mid * math.Log1p(-2/float64(i+2)))
		}
		if sum > want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return max(int(math.Ceil(lo)), len(d.wait)+1)
}
