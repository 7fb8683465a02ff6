package walk

import (
	"fmt"
	"math/bits"
	"slices"

	"bzzz/merkle"
)

// form is what the expansion of an entry must be.
type form uint8

const (
	anyForm     form = iota // the whole: also EMPTY
	innerForm               // a slot: LEAVES or TILE
	afterTile               // MINE to a TILE: LEAVES, or a TILE above that one
	afterLeaves             // MINE to LEAVES: a TILE with MANY
	afterShort              // MINE to SHORT: a TILE
	afterPart               // another answer to SHORT: LEAVES
)

// entry is a region that differs and that one side is to expand, or several
// slots of one place.
type entry struct {
	node  merkle.Node // what we have there; at lies on its path
	at    int         // depth of the region, or of the place with the slots
	mask  uint32      // the slots left; 0 if the entry is the region itself
	form  form        // of the region itself
	only  uint32      // the keys in question, of at most 32; 0 is all
	full  bool        // with afterPart: all keys of both sides are in question
	dense bool        // most slots around differ
	seq   uint64      // rises with every push on either stack
}

// weight counts a region or place in the window: 1, and 1 for each 256 bytes of
// its path, so that long paths do not multiply memory. Both sides see the same.
func weight(at int) int { return 1 + at/512 }

// stack is the list of regions of one side, last in first out. Both sides keep
// the same two.
type stack struct {
	entries []entry
	weight  int
	branch  merkle.Branch // of the top entry, if loaded
	loaded  bool
}

func (s *stack) empty() bool { return len(s.entries) == 0 }

// newest returns the number of the top entry, 0 if there is none.
func (s *stack) newest() uint64 {
	if s.empty() {
		return 0
	}
	return s.entries[len(s.entries)-1].seq
}

// push adds an entry. e.node's path is kept.
func (w *Walk) push(s *stack, e entry) {
	w.pushes++
	e.seq = w.pushes
	s.entries = append(s.entries, e)
	s.weight += weight(e.at)
	s.loaded = false
}

// turn reverses the entries pushed since there were from, so that they come off
// in the order in which they arose, and checks the bound. Between the stacks
// their numbers stay in order, since a message pushes on one of them only.
func (w *Walk) turn(s *stack, from int) error {
	if w.mine.weight+w.theirs.weight > maxPending {
		return fmt.Errorf("%w: regions of weight %d are pending", ErrTooLarge, w.mine.weight+w.theirs.weight)
	}
	slices.Reverse(s.entries[from:])
	return nil
}

// pop takes the next region off, as an entry without slots.
func (w *Walk) pop(s *stack) (entry, error) {
	top := &s.entries[len(s.entries)-1]
	if top.mask == 0 {
		e := *top
		s.drop()
		return e, nil
	}
	if !s.loaded {
		if err := w.read(toBranch(top.node)); err != nil {
			return entry{}, err
		}
		if err := w.index.Branch(top.node, top.at, &s.branch); err != nil {
			return entry{}, err
		}
		s.loaded = true
	}
	slot := bits.TrailingZeros32(top.mask)
	e := entry{node: s.branch.Slots[slot].Clone(), at: top.at + 1, form: innerForm, dense: top.dense}
	if top.mask &= top.mask - 1; top.mask == 0 {
		s.drop()
	}
	return e, nil
}

// drop removes the top entry.
func (s *stack) drop() {
	n := len(s.entries) - 1
	s.weight -= weight(s.entries[n].at)
	s.entries[n] = entry{}
	s.entries = s.entries[:n]
	s.loaded = false
}
