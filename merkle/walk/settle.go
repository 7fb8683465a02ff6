package walk

import (
	"fmt"
	"math/bits"

	"bzzz/merkle"
)

// settle reads the peer's answers to all we asked.
func (w *Walk) settle(r *reader) error {
	from := len(w.theirs.entries)
	for q := w.asked; len(q) > 0; q = q[q[0].size:] {
		if err := w.settleOne(r, q[:q[0].size], 0); err != nil {
			return err
		}
	}
	clear(w.asked)
	w.asked = w.asked[:0]
	return w.turn(&w.theirs, from)
}

// settleOne reads the answer to list[0] and those to what was inlined in it.
func (w *Walk) settleOne(r *reader, list []question, level int) error {
	q := &list[0]
	tile := q.mask != 0
	switch kind := r.byte(); {
	case r.err != nil:
		return r.err
	case kind == answerNone && q.only == 0:
		w.offers.add(q.node)
		return nil
	case kind == answerNone:
		w.giveKeys(q, q.only)
		return nil
	case kind == answerMine && q.mayTurn():
		next := afterLeaves
		switch {
		case tile:
			next = afterTile
		case q.short:
			next = afterShort
		}
		w.push(&w.theirs, entry{node: q.node, at: q.at, form: next})
		return nil
	case kind <= answerDiff|answerWant && tile:
		return w.settleTile(r, kind, list, level)
	case kind == 0 && q.full:
		return w.same()
	case kind == 0 || kind == answerDiff:
		return w.settleLeaves(r, kind, q)
	default:
		return fmt.Errorf("%w: an answer of kind %02x", ErrInvalid, kind)
	}
}

// mayTurn reports whether the peer may answer MINE.
func (q *question) mayTurn() bool {
	switch {
	case q.form == afterTile || q.form == afterPart:
		return false
	case q.mask != 0:
		return q.node.Count <= manyKeys
	}
	return true
}

// settleTile reads the rest of a COMPARE and what follows it.
func (w *Walk) settleTile(r *reader, kind byte, list []question, level int) error {
	q := &list[0]
	var diff, want uint32
	if kind&answerDiff != 0 {
		diff = spread(r.bits(bits.OnesCount32(q.mask)), q.mask)
	}
	if kind&answerWant != 0 {
		want = spread(r.bits(bits.OnesCount32(q.mask)), q.mask)
	}
	if r.err != nil || diff&want != 0 {
		r.fail("slots %x both differ and lack", diff&want)
		return r.err
	}
	if err := w.give(q.node, want|diff&1, level); err != nil {
		return err
	}
	if rest := diff &^ q.inline &^ 1; rest != 0 {
		w.push(&w.theirs, entry{node: q.node, at: q.node.Depth, mask: rest})
	}
	next := list[1:]
	for m := q.inline; m != 0; m &= m - 1 {
		size := next[0].size
		if diff&m&-m != 0 {
			if err := w.settleOne(r, next[:size], level+1); err != nil {
				return err
			}
		}
		next = next[size:]
	}
	return nil
}

// give offers what we have in some slots of n.
func (w *Walk) give(n merkle.Node, slots uint32, level int) error {
	if slots == 0 {
		return nil
	}
	b, err := w.branch(level, n, n.Depth)
	if err != nil {
		return err
	}
	for m := slots; m != 0; m &= m - 1 {
		w.offers.add(b.Slots[bits.TrailingZeros32(m)].Clone())
	}
	return nil
}

// settleLeaves reads which of our leaves the peer lacks, for certain if they
// were SHORT.
func (w *Walk) settleLeaves(r *reader, kind byte, q *question) error {
	ours := uint32(1<<q.node.Count - 1)
	asked := ours
	if q.only != 0 {
		asked = q.only
	}
	var lack uint32
	if kind == answerDiff {
		lack = spread(r.bits(bits.OnesCount32(asked)), asked)
		if r.err == nil && lack == asked {
			r.fail("some leaves are lacking, but it is all")
		}
	}
	if r.err != nil {
		return r.err
	}
	if q.short { // what it lacks for certain is offered with the rest, in order
		w.push(&w.theirs, entry{node: q.node, at: q.at, form: afterPart, only: asked &^ lack})
		return nil
	}
	w.giveKeys(q, lack)
	return nil
}

// giveKeys offers the keys of a small node that have these numbers.
func (w *Walk) giveKeys(q *question, numbers uint32) {
	s := some{seen: int(q.node.Count)}
	for i := range s.seen {
		if numbers>>i&1 == 0 {
			s.omit = append(s.omit, uint16(i))
		}
	}
	w.offers.addSome(q.node, &s)
}
