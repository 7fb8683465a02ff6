package walk

import (
	"encoding/binary"
	"math/bits"

	"bzzz/merkle"
)

// question is a TILE or LEAVES that we sent.
type question struct {
	node   merkle.Node // what we have there
	at     int         // depth of the region; that of a TILE is node.Depth
	form   form        // what the region's expansion had to be
	mask   uint32      // slots in use; 0 for LEAVES
	inline uint32      // slots whose TILE follows
	size   int         // number of questions in this one, itself included
}

// inlining is what may go along with an expansion.
type inlining struct {
	above uint64 // children of more keys
	room  int    // so many
}

// expand appends our expansion of a region to a message and notes what the peer
// is to answer. n is what we have in the region, level counts the TILEs around it.
func (w *Walk) expand(out []byte, n merkle.Node, at int, f form, in *inlining, level int) ([]byte, error) {
	if n.Count == 0 {
		return append(out, kindEmpty), nil
	}
	w.stats.Expanded++
	from := len(w.asked)
	w.asked = append(w.asked, question{node: n, at: at, form: f, size: 1})
	if n.Count <= merkle.GroupKeys {
		return w.appendLeaves(append(out, byte(n.Count)), n)
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
	out = w.appendTile(out, n, at, b, inline)
	for m := inline; m != 0; m &= m - 1 {
		c := b.Slots[bits.TrailingZeros32(m)].Clone()
		if out, err = w.expand(out, c, n.Depth+1, innerForm, in, level+1); err != nil {
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

// appendLeaves appends the cuts of the leaves of a small node.
func (w *Walk) appendLeaves(out []byte, n merkle.Node) ([]byte, error) {
	if err := w.read(n.Count); err != nil {
		return nil, err
	}
	err := w.index.Keys(n, func(_ []byte, leaf merkle.Digest) error {
		out = w.appendCut(out, &leaf)
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
