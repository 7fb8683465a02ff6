package merkle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"bzzz/internal/errs"
)

// tileAbove is B of the definition: only subtrees of more keys have a tile,
// smaller ones are folded from the keys: a lone change reads at most 32 of them.
const tileAbove = 32

// child is a subtree with the place of its tile.
type child struct {
	Subtree
	nd     int    // nibble depth of its tile; only if Count > tileAbove
	prefix []byte // packed prefix of its tile; likewise
}

// tile is the node of a 16-ary, path-compressed tree: the keys that share
// nd nibbles, by what comes next. Slot 0 is the key that ends here.
//
// Stored under packed prefix || u8 nd&1 as
//
//	3 B   mask, little-endian: bit 0 the key that ends here, bit 1+j nibble j
//	then for each present slot in order
//	uvarint  count
//	  only if count > 32:
//	  uvarint  nibbles between this tile's and the child's tile
//	  bytes    the child's packed prefix from byte (nd+1)/2 on
//	32 B  digest
//	4 B   CRC-32C, little-endian, of the tile's key and all bytes before
//
// The bytes depend on nothing but the set of keys and leaves.
type tile struct {
	nd     int
	prefix []byte // packed
	mask   uint32
	slots  [17]child
}

// crcTable is Castagnoli's polynomial, read-only.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// reset makes t an empty tile at the first nd nibbles of key.
func (t *tile) reset(key []byte, nd int) {
	t.nd, t.mask = nd, 0
	t.prefix = appendPacked(t.prefix[:0], key, nd)
}

// set stores a subtree in a slot, or clears the slot if it is empty. It copies.
func (t *tile) set(slot int, c *child) {
	if c.Count == 0 {
		t.mask &^= 1 << slot
		return
	}
	t.mask |= 1 << slot
	s := &t.slots[slot]
	s.Subtree = c.Subtree
	if c.Count > tileAbove {
		s.nd, s.prefix = c.nd, append(s.prefix[:0], c.prefix...)
	}
}

// get returns the subtree of a slot, an empty one if there is none.
func (t *tile) get(slot int) child {
	if t.mask&(1<<slot) == 0 {
		return child{}
	}
	return t.slots[slot]
}

// fold computes the subtree of all slots. b is scratch.
func (t *tile) fold(b *Builder) Subtree {
	b.open, b.right = b.open[:0], Subtree{}
	prev := -1
	for m := t.mask; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		if prev < 0 {
			b.right = t.slots[slot].Subtree
		} else {
			b.branch(critSlots(t.nd, prev, slot), t.slots[slot].Subtree)
		}
		prev = slot
	}
	b.close(-1)
	return b.right
}

// count returns the number of keys in all slots.
func (t *tile) count() (n uint64) {
	for m := t.mask; m != 0; m &= m - 1 {
		n += t.slots[bits.TrailingZeros32(m)].Count
	}
	return n
}

// appendKey appends the key under which a tile is stored. A parity byte ends
// it: prefixes of 2i-1 and 2i nibbles take the same bytes if a nibble is 0.
func appendKey(b, prefix []byte, nd int) []byte {
	return append(append(b, prefix...), byte(nd&1))
}

// append appends the stored form of t, whose stored key is key.
func (t *tile) append(b, key []byte) []byte {
	from := len(b)
	b = append(b, byte(t.mask), byte(t.mask>>8), byte(t.mask>>16))
	for m := t.mask; m != 0; m &= m - 1 {
		s := &t.slots[bits.TrailingZeros32(m)]
		b = binary.AppendUvarint(b, s.Count)
		if s.Count > tileAbove {
			b = binary.AppendUvarint(b, uint64(s.nd-t.nd-1))
			b = append(b, s.prefix[(t.nd+1)/2:]...)
		}
		b = append(b, s.Digest[:]...)
	}
	return appendCRC(b, from, key)
}

// appendCRC closes a record that begins at b[from:] and is stored under key.
func appendCRC(b []byte, from int, key []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(key, crcTable), crcTable, b[from:]))
}

// cutCRC returns a record without its checksum, false if that does not match.
func cutCRC(value, key []byte) ([]byte, bool) {
	n := len(value) - 4
	if n < 0 || crc32.Update(crc32.Checksum(key, crcTable), crcTable, value[:n]) != binary.LittleEndian.Uint32(value[n:]) {
		return nil, false
	}
	return value[:n], true
}

// decode reads the stored form of the tile at c into t. It takes only what
// append writes: one encoding for one tile.
func (t *tile) decode(c *child, key, value []byte) error {
	t.reset(c.prefix, c.nd)
	b, ok := cutCRC(value, key)
	if !ok {
		return fmt.Errorf("checksum does not match")
	}
	if len(b) < 3 {
		return fmt.Errorf("%d bytes", len(b))
	}
	mask := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	if mask >= 1<<17 || mask&(mask-1) == 0 || mask&1 != 0 && c.nd&1 != 0 {
		return fmt.Errorf("slots %06x", mask)
	}
	b = b[3:]
	var total uint64
	for m := mask; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		if b, ok = t.decodeSlot(slot, b); !ok {
			return fmt.Errorf("slot %d does not decode", slot)
		}
		total += t.slots[slot].Count
	}
	t.mask = mask
	if len(b) != 0 {
		return fmt.Errorf("%d bytes too many", len(b))
	}
	if total != c.Count {
		return fmt.Errorf("%d keys, its parent says %d", total, c.Count)
	}
	return nil
}

// decodeSlot reads one slot and returns the bytes behind it.
func (t *tile) decodeSlot(slot int, b []byte) ([]byte, bool) {
	s := &t.slots[slot]
	var ok bool
	if s.Count, b, ok = cutUvarint(b); !ok || s.Count == 0 || s.Count > maxCount || slot == 0 && s.Count != 1 {
		return nil, false
	}
	if s.Count > tileAbove {
		skip, rest, ok := cutUvarint(b)
		if !ok || skip > 2*MaxKey {
			return nil, false
		}
		s.nd = t.nd + 1 + int(skip)
		own := (t.nd + 1) / 2
		n := (s.nd+1)/2 - own
		if s.nd > 2*MaxKey || len(rest) < n {
			return nil, false
		}
		s.prefix = append(append(s.prefix[:0], t.prefix[:own]...), rest[:n]...)
		if t.nd&1 != 0 {
			s.prefix[own-1] |= byte(slot - 1)
		} else if int(s.prefix[own]>>4) != slot-1 {
			return nil, false
		}
		if s.nd&1 != 0 && s.prefix[len(s.prefix)-1]&0x0F != 0 {
			return nil, false
		}
		b = rest[n:]
	}
	if len(b) < len(s.Digest) {
		return nil, false
	}
	return b[copy(s.Digest[:], b):], true
}

// maxCount bounds counts that are read, so that sums of them do not wrap.
const maxCount = 1 << 56

// cutUvarint reads a varint in its shortest form and returns what follows.
func cutUvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// damaged is the error of a tile that cannot be used.
func damaged(prefix []byte, nd int, why string) error {
	return &errs.Corruption{
		What: fmt.Sprintf("tile %x of %d nibbles: %s", prefix, nd, why),
		Hint: "rebuild the tree from the live keys",
	}
}
