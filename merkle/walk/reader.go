package walk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"bzzz/merkle"
)

// reader cuts a message into fields. The first fault sticks, and what is read
// after it is zero.
type reader struct {
	rest []byte
	cut  int // bytes of a cut
	err  error
}

// fail notes what is wrong.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	r.rest = nil
}

// bytes returns the next n bytes, which belong to the message; nil if there are
// fewer.
func (r *reader) bytes(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.fail("the message ends early")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint32 {
	if b := r.bytes(2); b != nil {
		return uint32(binary.LittleEndian.Uint16(b))
	}
	return 0
}

// uvarint reads a number of at most limit in its shortest form.
func (r *reader) uvarint(limit int) int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 || v > uint64(limit) {
		r.fail("a number is cut off, too long or above %d", limit)
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

// shorts reads n cuts of one byte.
func (r *reader) shorts(n int) (c []uint64) {
	for _, b := range r.bytes(n) {
		c = append(c, uint64(b))
	}
	return c
}

// cuts reads n cuts.
func (r *reader) cuts(n int) (c []uint64) {
	b := r.bytes(n * r.cut)
	for ; len(b) > 0; b = b[r.cut:] {
		if r.cut == 4 {
			c = append(c, uint64(binary.LittleEndian.Uint32(b)))
		} else {
			c = append(c, binary.LittleEndian.Uint64(b))
		}
	}
	return c
}

// bits reads n bits, at least one of them set.
func (r *reader) bits(n int) (set uint32) {
	for i, b := range r.bytes((n + 7) / 8) {
		set |= uint32(b) << (8 * i)
	}
	if r.err == nil && (set == 0 || uint64(set)>>n != 0) {
		r.fail("bits %x of %d", set, n)
	}
	return set
}

// appendBits appends the low n bits of set.
func appendBits(b []byte, set uint32, n int) []byte {
	for ; n > 0; n -= 8 {
		b, set = append(b, byte(set)), set>>8
	}
	return b
}

// spread returns the slots of mask that packed bits name, lowest first.
func spread(packed, mask uint32) (set uint32) {
	for ; mask != 0; mask &= mask - 1 {
		if packed&1 != 0 {
			set |= mask & -mask
		}
		packed >>= 1
	}
	return set
}

// pack is the reverse of spread.
func pack(set, mask uint32) (packed uint32) {
	for i := 0; mask != 0; mask &= mask - 1 {
		if set&mask&-mask != 0 {
			packed |= 1 << i
		}
		i++
	}
	return packed
}

// The first byte of an expansion: 0 is EMPTY, 1..32 LEAVES, the next 32 SHORT,
// and from kindTile on a TILE with flags.
const (
	kindEmpty = 0
	kindShort = merkle.GroupKeys
	kindTile  = 0x80

	flagMany   = 0x08
	flagEnd    = 0x10
	flagSkip   = 0x20
	flagInline = 0x40
	flagsTile  = flagMany | flagEnd | flagSkip | flagInline
)

// expansion is a TILE, LEAVES or SHORT of the peer.
type expansion struct {
	cuts  []uint64 // of the leaves, or of the slots in mask
	short bool     // SHORT

	tile   bool
	many   bool
	depth  int    // of the TILE
	path   []byte // of the TILE, packed; only if many
	check  byte   // of its path; only if not many and deeper than the region
	mask   uint32 // slots in use
	inline uint32 // slots whose TILE is inlined
	size   int    // number of expansions in this one, itself included
}

// expansion reads the next expansion of the region that is the first at nibbles
// of path, with all that is inlined in it, depth first, and appends it to list.
// EMPTY appends nothing. nested is the number of TILEs around it, which must be
// 0 for all others. path may be nil where there cannot be MANY.
func (r *reader) expansion(list []expansion, path []byte, at, nested int) []expansion {
	kind := r.byte()
	switch {
	case r.err != nil || nested == 0 && kind == kindEmpty:
		return list
	case nested == 0 && kind <= merkle.GroupKeys:
		return append(list, expansion{cuts: r.cuts(int(kind)), size: 1})
	case nested == 0 && kind <= kindShort+merkle.GroupKeys:
		return append(list, expansion{cuts: r.shorts(int(kind - kindShort)), short: true, size: 1})
	case kind < kindTile || kind&^flagsTile != kindTile:
		r.fail("an expansion of kind %02x", kind)
		return list
	}
	e := expansion{tile: true, many: kind&flagMany != 0, depth: at}
	e.mask = r.uint16() << 1
	if kind&flagEnd != 0 {
		e.mask |= 1
	}
	if e.many && len(path) < (at+1)/2 {
		r.fail("MANY in a TILE without")
		return list
	}
	if e.many {
		e.path = append(e.path, path[:(at+1)/2]...)
	}
	if e.many && at&1 != 0 {
		e.path[at/2] &= 0xF0
	}
	if kind&flagSkip != 0 {
		r.skip(&e, at)
	}
	n := bits.OnesCount32(e.mask)
	if n < 2 || e.mask&1 != 0 && e.depth&1 != 0 || e.depth >= 2*merkle.MaxKey {
		r.fail("a TILE of slots %x at %d nibbles", e.mask, e.depth)
	}
	e.cuts = r.cuts(n)
	if kind&flagInline != 0 {
		if e.inline = r.uint16() << 1; e.inline == 0 || e.inline&^e.mask != 0 {
			r.fail("TILEs inlined in slots %x of %x", e.inline, e.mask)
		}
	}
	return r.inlined(list, e, nested)
}

// inlined appends e, and reads and appends the TILEs inlined in it.
func (r *reader) inlined(list []expansion, e expansion, nested int) []expansion {
	at := len(list)
	list = append(list, e)
	for m := e.inline; m != 0 && r.err == nil; m &= m - 1 {
		if nested >= maxInlined || len(list) > maxExpansions {
			r.fail("too many TILEs inlined")
			break
		}
		var path []byte
		if e.many {
			path = merkle.AppendChild(nil, e.path, e.depth, bits.TrailingZeros32(m))
		}
		list = r.expansion(list, path, e.depth+1, nested+1)
	}
	list[at].size = len(list) - at
	if nested == 0 && list[at].size > 1+maxInlined {
		r.fail("%d TILEs in one expansion", list[at].size)
	}
	return list
}

// skip reads how much further than its region a TILE lies.
func (r *reader) skip(e *expansion, at int) {
	e.depth += r.uvarint(2*merkle.MaxKey - at)
	if e.depth == at {
		r.fail("a TILE that skips nothing")
	}
	if !e.many {
		e.check = r.byte()
		return
	}
	b := r.bytes((e.depth+1)/2 - at/2)
	if r.err != nil {
		return
	}
	if at&1 != 0 && (b[0]^e.path[at/2])&0xF0 != 0 || e.depth&1 != 0 && b[len(b)-1]&0x0F != 0 {
		r.fail("a TILE outside its region")
		return
	}
	e.path = append(bytes.Clone(e.path[:at/2]), b...)
}
