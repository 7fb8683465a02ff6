package walk

import (
	"fmt"
	"math/bits"

	"bzzz/merkle"
)

// denseSlots is how many slots, and three of four, differ where changes are
// taken to be clustered, so that most leaves differ as well: SHORT then costs
// about a half of LEAVES, elsewhere a sixth more and two messages.
const denseSlots = 4

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
		e, err := w.pop(&w.theirs)
		if err != nil {
			return nil, err
		}
		if list = r.expansion(list[:0], e.node.Path, e.at, 0); r.err != nil {
			return nil, r.err
		}
		if total += len(list); total > maxExpansions {
			return nil, fmt.Errorf("%w: more than %d expansions in a message", ErrTooLarge, maxExpansions)
		}
		if out, err = w.answerOne(out, list, e); err != nil {
			return nil, err
		}
	}
	return out, w.turn(&w.mine, from)
}

// answerOne appends the answer to the expansion of a region.
func (w *Walk) answerOne(out []byte, list []expansion, e entry) ([]byte, error) {
	n := e.node
	switch {
	case len(list) == 0 && (e.form != anyForm || n.Count == 0):
		return nil, fmt.Errorf("%w: EMPTY where both must have keys or neither has", ErrInvalid)
	case len(list) == 0:
		w.offers.add(n)
		return out, nil
	case !e.takes(&list[0]):
		return nil, fmt.Errorf("%w: an expansion of another form than the answers before it say", ErrInvalid)
	case n.Count == 0:
		w.stats.Wanted++
		return append(out, answerNone), nil
	case list[0].tile:
		return w.answerTile(out, list, n, e.at, 0)
	case list[0].short && n.Count > merkle.GroupKeys:
		w.push(&w.mine, entry{node: n, at: e.at, form: afterShort})
		return append(out, answerMine), nil
	case n.Count > manyKeys:
		w.push(&w.mine, entry{node: n, at: e.at, form: afterLeaves})
		return append(out, answerMine), nil
	}
	return w.answerLeaves(out, &list[0], e)
}

// takes reports whether an expansion is of the form that the entry must have.
func (e *entry) takes(x *expansion) bool {
	switch e.form {
	case anyForm:
		return !x.short
	case afterTile:
		return !x.short && (!x.tile || x.depth < e.node.Depth)
	case afterLeaves:
		return x.many
	case afterShort:
		return x.tile
	case afterPart:
		return !x.tile && !x.short
	}
	return true
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
		differ, all := bits.OnesCount32(diff), bits.OnesCount32(e.mask)
		w.push(&w.mine, entry{node: inside, at: e.depth, mask: rest, dense: differ >= denseSlots && 4*differ >= 3*all})
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

// answerLeaves appends the answer to LEAVES or SHORT. We have at most manyKeys
// keys in the region, for SHORT at most 32.
func (w *Walk) answerLeaves(out []byte, x *expansion, e entry) ([]byte, error) {
	if err := w.read(e.node.Count); err != nil {
		return nil, err
	}
	m := matcher{cuts: x.cuts, only: e.only}
	err := w.index.Keys(e.node, func(key []byte, leaf merkle.Digest) error {
		cut := w.cut(&leaf)
		if x.short {
			cut &= 0xFF
		}
		m.next(key, leaf, cut)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := uint32(1<<len(x.cuts) - 1)
	lack := all &^ m.have
	equal := lack == 0 && len(m.omit) == m.seen && len(x.cuts) == m.seen
	switch {
	case x.short && lack != all: // those that match in a byte may match
		w.push(&w.mine, entry{node: e.node, at: e.at, form: afterPart, only: m.matched, full: equal})
	case equal && e.form != afterPart:
		if err := w.same(); err != nil {
			return nil, err
		}
	}
	w.offers.addSome(e.node, &m.some)
	w.stats.Wanted += bits.OnesCount32(lack)
	switch lack {
	case 0:
		return append(out, 0), nil
	case all:
		return append(out, answerNone), nil
	}
	return appendBits(append(out, answerDiff), lack, len(x.cuts)), nil
}

// matcher compares our leaves with a list of cuts, leaf by leaf.
type matcher struct {
	cuts    []uint64
	only    uint32 // those of our keys that are in question, the others differ; 0 is all
	have    uint32 // the cuts that a leaf of ours has
	matched uint32 // those of our first 32 keys whose cut is in the list
	some           // our keys whose cut is not in the list
}

// next compares the next key.
func (m *matcher) next(key []byte, leaf merkle.Digest, cut uint64) {
	i := m.seen
	if m.only != 0 && m.only>>i&1 == 0 {
		m.some.next(key, leaf, false)
		return
	}
	known := false
	for j := range m.cuts {
		if m.cuts[j] == cut {
			known = true
			m.have |= 1 << j
		}
	}
	if known && i < 32 {
		m.matched |= 1 << i
	}
	m.some.next(key, leaf, known)
}

// same accounts for an expansion in which nothing differs.
func (w *Walk) same() error {
	if w.hollow++; w.hollow > maxHollow {
		return fmt.Errorf("%w: %d expansions in which nothing differs", ErrInvalid, w.hollow)
	}
	return nil
}
