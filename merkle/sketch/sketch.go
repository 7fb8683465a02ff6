// Package sketch finds the difference of two sets by bytes proportional to the
// difference, without knowing its size: a rateless set-reconciliation sketch,
// kept up to date as items come and go.
//
// The idea and the constants are those of Lei Yang, Yossi Gilad and Mohammad
// Alizadeh, "Practical Rateless Set Reconciliation", ACM SIGCOMM 2024; the code
// is our own. A set is an endless sequence of cells. Every item is in cell 0,
// and in cell i with probability rho(i) = 1/(1+i/2), the same cells whoever
// computes them. A cell is the XOR of its items, the XOR of their hashes and
// their number. Cells of two sets subtract, what both hold cancels, and a cell
// left with one item gives that item away; taking it out of its other cells
// lets more of them fall. With about 1.35 cells a difference (1.72 for few) all
// of them fall, so one side streams cells until the other has peeled them.
//
// Because cells are XORs, a [Sketch] holds the first cells of the sequence and
// toggles an item in or out at 2*ln(cells/2) of them: 21 of 65,536. The cost of
// a reconciliation is then independent of the size of the set.
//
// [Encoder] streams the cells of one side, [Decoder] subtracts its own and peels.
package sketch

import (
	"fmt"
	"slices"

	"bzzz/internal/errs"
)

// MaxCells bounds a sketch: 2 MiB of memory, and about 48,000 differences. From
// there on a walk of the tree costs less (MERKLE.md section 5).
const MaxCells = 1 << 16

// MaxItems bounds the number of items a peer or a file may claim.
const MaxItems = 1 << 40

// The sentinels of this package; match them with errors.Is.
var (
	// ErrInvalid: an argument outside its bounds.
	ErrInvalid = errs.ErrInvalid
	// ErrCorrupt: bytes that this package did not write.
	ErrCorrupt = errs.ErrCorrupt
)

// cell is the sum of the items that map to one index; the zero cell is empty.
type cell struct {
	item  words
	check uint64
	count int64
}

// toggle adds (sign 1) or removes (sign -1) one item.
func (c *cell) toggle(it words, check uint64, sign int64) {
	c.item[0] ^= it[0]
	c.item[1] ^= it[1]
	c.check ^= check
	c.count += sign
}

// Sketch is the first cells of the sequence of a set of items. It is not safe
// for concurrent use while it is changed; reads may run at the same time.
//
// It is a pure function of the set, the key and the number of cells: neither
// the order of changes nor a restart shows. Adding an item twice is a bug of
// the caller that cannot be seen here: the two cancel but for the count.
type Sketch struct {
	key   Key
	cells []cell
}

// New returns the sketch of an empty set with that many cells, 1..[MaxCells],
// at 32 bytes each. Two sketches reconcile if their keys are equal; the number
// of cells may differ, the smaller one bounds the differences that can be found
// (cells/1.35). ErrInvalid if cells is out of bounds.
func New(key Key, cells int) (*Sketch, error) {
	if cells < 1 || cells > MaxCells {
		return nil, fmt.Errorf("sketch of %d cells, want 1..%d: %w", cells, MaxCells, ErrInvalid)
	}
	return &Sketch{key: key, cells: make([]cell, cells)}, nil
}

// Add puts the item of a digest in: O(log cells), about 21 cells of 65,536. The
// item must not be in the set.
func (s *Sketch) Add(digest [32]byte) { s.toggle(ItemOf(digest), 1) }

// Remove takes the item of a digest out; it costs what Add costs. The item must
// be in the set.
func (s *Sketch) Remove(digest [32]byte) { s.toggle(ItemOf(digest), -1) }

func (s *Sketch) toggle(item Item, sign int64) {
	it := item.words()
	check := s.key.hash(it)
	for m := mapItem(check); m.at < uint64(len(s.cells)); m.next() {
		s.cells[m.at].toggle(it, check, sign)
	}
}

// Len returns the number of items.
func (s *Sketch) Len() int64 { return s.cells[0].count }

// Cells returns the number of cells.
func (s *Sketch) Cells() int { return len(s.cells) }

// Key returns the key of the sketch.
func (s *Sketch) Key() Key { return s.key }

// Equal reports whether two sketches have the same key, size and cells. Equal
// sets have equal sketches; the scrubber compares a kept sketch with a rebuilt
// one. Different sets have equal sketches with a probability below 2^-128.
func (s *Sketch) Equal(o *Sketch) bool {
	return s.key == o.key && slices.Equal(s.cells, o.cells)
}

// Clone returns an independent copy.
func (s *Sketch) Clone() *Sketch {
	return &Sketch{key: s.key, cells: slices.Clone(s.cells)}
}

// Reset empties the sketch.
func (s *Sketch) Reset() { clear(s.cells) }

// expected returns how many of n items map to cell i on average: n*rho(i) =
// n/(1+i/2), rounded down. Counts are coded as differences from it.
func expected(n int64, i int) int64 { return 2 * n / (2 + int64(i)) }
