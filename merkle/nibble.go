package merkle

import (
	"encoding/binary"
	"math/bits"

	"bzzz/store"
)

// MaxKey is the longest key in bytes that an Index takes: a tile's key is at
// most one byte longer than the keys it covers.
const MaxKey = store.MaxKey - 1

// Tiles branch by nibbles: depth 2i is the high nibble of byte i and the slot
// of the key that ends before it, depth 2i+1 its low nibble. A prefix of nd
// nibbles is kept packed: (nd+1)/2 bytes, an unused low nibble zero.

// mismatch returns how many leading bytes a and b share.
func mismatch(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// commonNibbles returns how many leading nibbles a and b share.
func commonNibbles(a, b []byte) int {
	i := mismatch(a, b)
	if i == min(len(a), len(b)) || (a[i]^b[i])&0xF0 != 0 {
		return 2 * i
	}
	return 2*i + 1
}

// slotOf returns the slot of a key in a tile at depth nd of its path: 0 if the
// key ends there, else 1 + nibble.
func slotOf(key []byte, nd int) int {
	i := nd / 2
	switch {
	case nd&1 != 0:
		return 1 + int(key[i]&0x0F)
	case len(key) == i:
		return 0
	}
	return 1 + int(key[i]>>4)
}

// appendPacked appends the first nd nibbles of key, packed.
func appendPacked(b, key []byte, nd int) []byte {
	b = append(b, key[:(nd+1)/2]...)
	if nd&1 != 0 {
		b[len(b)-1] &= 0xF0
	}
	return b
}

// critSlots returns the first bit in which keys of slots a < b of a tile at
// depth nd differ.
func critSlots(nd, a, b int) int {
	base := 9 * (nd / 2)
	switch {
	case a == 0:
		return base
	case nd&1 != 0:
		base += 4
	}
	return base + 1 + bits.LeadingZeros8(uint8(a-1)^uint8(b-1)) - 4
}

// region returns the range [start, end) of the keys that begin with a packed
// prefix of nd nibbles; a nil end is none. end is written to buf.
func region(prefix []byte, nd int, buf []byte) (start, end []byte) {
	if nd == 0 {
		return nil, nil
	}
	end = append(buf[:0], prefix...)
	step := byte(1)
	if nd&1 != 0 {
		step = 0x10
	}
	for n := len(end); n > 0; n-- {
		if end[n-1] += step; end[n-1] != 0 {
			return prefix, end[:n]
		}
		step = 1
	}
	return prefix, nil
}
