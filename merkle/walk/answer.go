package walk

import (
	"fmt"
	"math/bits"
	"slices"

	"bzzz/merkle"
)

// The first byte of an answer.
const (
	answerDiff = 0x01 // flags of COMPARE; to LEAVES: some are lacking
	answerWant = 0x02
	answerNone = 0x04
	answerMine = 0x05
)

// answer reads the peer's expansions to the end of the message and appends the
// answers to them.
func (w *Walk) answer(out []byte, r *reader) ([]byte, error) {
	from := len(w.mine.entries)
	var list []expansion
	for total := 0; len(r.rest) > 0; {
		if w.theirs.empty() {
			return nil, fmt.Errorf("%w: an expansion, but no region is pending", ErrInvalid)
		}
		n, at, f, err := w.pop(&w.theirs)
		if err != nil {
			return nil, err
		}
		if list = r.expansion(list[:0], n.Path, at, 0); r.err != nil {
			return nil, r.err
		}
		if total += len(list); total > maxExpansions {
			return nil, fmt.Errorf("%w: more than %d expansions in a message", ErrTooLarge, maxExpansions)
		}
		if out, err = w.answerOne(out, list, n, at, f); err != nil {
			return nil, err
		}
	}
	return out, w.turn(&w.mine, from)
}

// answerOne appends the answer to one expansion of a region, n being what we
// have in it.
func (w *Walk) answerOne(out []byte, list []expansion, n merkle.Node, at int, f form) ([]byte, error) {
	switch {
	case len(list) == 0 && (f != anyForm || n.Count == 0):
		return nil, fmt.Errorf("%w: EMPTY where both must have keys or neither has", ErrInvalid)
	case len(list) == 0:
		w.offers.add(n)
		return out, nil
	case f == afterTile && list[0].tile && list[0].depth >= n.Depth, f == afterLeaves && !list[0].many:
		return nil, fmt.Errorf("%w: an expansion that is not what MINE said", ErrInvalid)
	case n.Count == 0:
		w.stats.Wanted++
		return append(out, answerNone), nil
	case list[0].tile:
		return w.answerTile(out, list, n, at, 0)
	case n.Count > manyKeys:
		w.push(&w.mine, entry{node: n, at: at, form: afterLeaves})
		return append(out, answerMine), nil
	}
	return w.answerLeaves(out, list[0].cuts, n)
}

// answerTile appends the answers to a TILE, list[0], and to those inlined in it
// where we differ.
func (w *Walk) answerTile(out []byte, list []expansion, n merkle.Node, at, level int) ([]byte, error) {
	e := &list[0]
	if !e.many && (n.Count <= merkle.GroupKeys || n.Depth < e.depth) {
		w.push(&w.mine, entry{node: n, at: at, form: afterTile})
		return append(out, answerMine), nil
	}
	offered := w.offers.len()
	inside, err := w.within(n, at, e)
	if err != nil {
		return nil, err
	}
	if inside.Count == 0 {
		w.stats.Wanted++
		return append(out, answerNone), nil
	}
	b, err := w.branch(level, inside, e.depth)
	if err != nil {
		return nil, err
	}
	diff, want := w.compare(e, b)
	for m := b.Mask&^e.mask | diff&1; m != 0; m &= m - 1 {
		w.offers.add(b.Slots[bits.TrailingZeros32(m)].Clone())
	}
	if diff|want == 0 && w.offers.len() == offered {
		if err := w.same(); err != nil {
			return nil, err
		}
	}
	w.stats.Wanted += bits.OnesCount32(want)
	out = appendCompare(out, e.mask, diff, want)
	if rest := diff &^ e.inline &^ 1; rest != 0 {
		w.push(&w.mine, entry{node: inside, at: e.depth, mask: rest})
	}
	next := list[1:]
	for m := e.inline; m != 0; m &= m - 1 {
		size := next[0].size
		if diff&m&-m != 0 {
			c := b.Slots[bits.TrailingZeros32(m)].Clone()
			if out, err = w.answerTile(out, next[:size], c, e.depth+1, level+1); err != nil {
				return nil, err
			}
		}
		next = next[size:]
	}
	return out, nil
}

// within returns what we have at a TILE's place and offers the rest of n. Where
// the TILE does not say its path, n has one at that depth: if it is another one
// that the check does not tell, all that is compared below differs, and is found
// to.
func (w *Walk) within(n merkle.Node, at int, e *expansion) (merkle.Node, error) {
	if e.many {
		if err := w.read(min(n.Count, merkle.GroupKeys)); err != nil {
			return merkle.Node{}, err
		}
		return w.index.Within(n, e.path, e.depth, w.offers.add)
	}
	if e.depth > at && w.check(n.Path, e.depth) != e.check {
		w.offers.add(n)
		return merkle.Node{}, nil
	}
	return n, nil
}

// compare returns the slots of a TILE that differ from ours and those that we
// lack.
func (w *Walk) compare(e *expansion, b *merkle.Branch) (diff, want uint32) {
	i := 0
	for m := e.mask; m != 0; m &= m - 1 {
		bit := m & -m
		switch {
		case b.Mask&bit == 0:
			want |= bit
		case w.cut(&b.Slots[bits.TrailingZeros32(m)].Digest) != e.cuts[i]:
			diff |= bit
		}
		i++
	}
	return diff, want
}

// appendCompare appends a COMPARE about the slots of mask.
func appendCompare(out []byte, mask, diff, want uint32) []byte {
	at, n := len(out), bits.OnesCount32(mask)
	out = append(out, 0)
	if diff != 0 {
		out[at] |= answerDiff
		out = appendBits(out, pack(diff, mask), n)
	}
	if want != 0 {
		out[at] |= answerWant
		out = appendBits(out, pack(want, mask), n)
	}
	return out
}

// answerLeaves appends the answer to LEAVES with these cuts. n has at most
// manyKeys keys.
func (w *Walk) answerLeaves(out []byte, cuts []uint64, n merkle.Node) ([]byte, error) {
	if err := w.read(n.Count); err != nil {
		return nil, err
	}
	var s some
	var have uint32
	err := w.index.Keys(n, func(key []byte, leaf merkle.Digest) error {
		cut := w.cut(&leaf)
		known := slices.Contains(cuts, cut)
		for i := range cuts {
			if known && cuts[i] == cut {
				have |= 1 << i
			}
		}
		s.next(key, leaf, known)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := uint32(1<<len(cuts) - 1)
	lack := all &^ have
	if lack == 0 && len(s.omit) == s.seen {
		if err := w.same(); err != nil {
			return nil, err
		}
	}
	w.offers.addSome(n, &s)
	w.stats.Wanted += bits.OnesCount32(lack)
	switch lack {
	case 0:
		return append(out, 0), nil
	case all:
		return append(out, answerNone), nil
	}
	return appendBits(append(out, answerDiff), lack, len(cuts)), nil
}

// same accounts for an expansion in which nothing differs.
func (w *Walk) same() error {
	if w.hollow++; w.hollow > maxHollow {
		return fmt.Errorf("%w: %d expansions in which nothing differs", ErrInvalid, w.hollow)
	}
	return nil
}
