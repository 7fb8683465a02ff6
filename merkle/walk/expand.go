package walk

import (
	"encoding/binary"
	"math/bits"

	"bzzz/merkle"
)

// question is a TILE, LEAVES or SHORT that we sent.
type question struct {
	entry         // the region; its mask is the slots of a TILE in use
	short  bool   // SHORT
	inline uint32 // slots whose TILE follows
	size   int    // number of questions in this one, itself included
}

// inlining is what may go along with an expansion.
type inlining struct {
	above uint64 // children of more keys
	room  int    // so many
}

// expand appends our expansion of a region to a message and notes what the peer
// is to answer. level counts the TILEs around it.
func (w *Walk) expand(out []byte, e entry, in *inlining, level int) ([]byte, error) {
	n := e.node
	if n.Count == 0 {
		return append(out, kindEmpty), nil
	}
	w.stats.Expanded++
	from := len(w.asked)
	short := e.dense && e.form == innerForm && n.Count > 1 && n.Count <= merkle.GroupKeys
	w.asked = append(w.asked, question{entry: e, short: short, size: 1})
	if n.Count <= merkle.GroupKeys {
		return w.appendLeaves(out, &w.asked[from])
	}
	b, err := w.branch(level, n, n.Depth)
	if err != nil {
		return nil, err
	}
	var inline uint32
	for m := b.Mask &^ 1; m != 0 && in.room > 0; m &= m - 1 {
		if c := b.Slots[bits.TrailingZeros32(m)].Count; c > in.above && c > merkle.GroupKeys {
			inline |= m & -m
			in.room--
		}
	}
	w.asked[from].mask, w.asked[from].inline = b.Mask, inline
	out = w.appendTile(out, n, e.at, b, inline)
	for m := inline; m != 0; m &= m - 1 {
		c := b.Slots[bits.TrailingZeros32(m)].Clone()
		if out, err = w.expand(out, entry{node: c, at: n.Depth + 1, form: innerForm}, in, level+1); err != nil {
			return nil, err
		}
	}
	w.asked[from].size = len(w.asked) - from
	return out, nil
}

// appendTile appends a TILE without those inlined in it.
func (w *Walk) appendTile(out []byte, n merkle.Node, at int, b *merkle.Branch, inline uint32) []byte {
	kind := byte(kindTile)
	if n.Count > manyKeys {
		kind |= flagMany
	}
	if b.Mask&1 != 0 {
		kind |= flagEnd
	}
	if n.Depth > at {
		kind |= flagSkip
	}
	if inline != 0 {
		kind |= flagInline
	}
	out = append(out, kind)
	out = binary.LittleEndian.AppendUint16(out, uint16(b.Mask>>1))
	if n.Depth > at {
		out = binary.AppendUvarint(out, uint64(n.Depth-at))
		if n.Count > manyKeys {
			out = append(out, n.Path[at/2:]...)
		} else {
			out = append(out, w.check(n.Path, n.Depth))
		}
	}
	for m := b.Mask; m != 0; m &= m - 1 {
		out = w.appendCut(out, &b.Slots[bits.TrailingZeros32(m)].Digest)
	}
	if inline != 0 {
		out = binary.LittleEndian.AppendUint16(out, uint16(inline>>1))
	}
	return out
}

// appendLeaves appends LEAVES or SHORT of a small node.
func (w *Walk) appendLeaves(out []byte, q *question) ([]byte, error) {
	n, at, i := q.node.Count, len(out), 0
	if err := w.read(n); err != nil {
		return nil, err
	}
	if q.only != 0 {
		n = uint64(bits.OnesCount32(q.only))
	}
	if out = append(out, byte(n)); q.short {
		out[at] += kindShort
	}
	err := w.index.Keys(q.node, func(_ []byte, leaf merkle.Digest) error {
		switch chosen := q.only == 0 || q.only>>i&1 != 0; {
		case q.short:
			out = append(out, byte(w.cut(&leaf)))
		case chosen:
			out = w.appendCut(out, &leaf)
		}
		i++
		return nil
	})
	return out, err
}

func (w *Walk) appendCut(out []byte, d *merkle.Digest) []byte {
	if w.cfg.Cut == 4 {
		return binary.LittleEndian.AppendUint32(out, uint32(w.cut(d)))
	}
	return binary.LittleEndian.AppendUint64(out, w.cut(d))
}
