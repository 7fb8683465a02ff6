package sketch

import (
	"encoding/binary"
	"fmt"
)

// Cell is a cell on the wire.
type Cell struct {
	Item  Item   // XOR of the items
	Check uint32 // XOR of their hashes, shortened with the salt of the session
	Count int64  // number of items
}

// Header opens a stream of cells.
type Header struct {
	Salt  uint64 // not 0; both sides should have contributed to it
	Cells int    // how many cells the sender has at most
	Items int64  // how many items the sender has
}

// Formats on the wire:
//
//	header: u8 version 1 | u64 LE salt | uvarint cells | uvarint items
//	batch:  uvarint index of the first cell | uvarint n (>= 1) | n cells
//	cell:   item 16 | check u32 LE | uvarint zigzag(count - expected)
//
// The count of cell i of a set of n is near n/(1+i/2) (expected, rounded down)
// and spread by at most its root, so that its difference takes 1 or 2 bytes:
// 21-22 bytes a cell, 29 bytes a difference.
const (
	wireVersion = 1
	minWireCell = ItemSize + 4 + 1
	// MaxCellLen is the longest cell on the wire in bytes.
	MaxCellLen = ItemSize + 4 + binary.MaxVarintLen64
	// MaxHeaderLen is the longest header in bytes.
	MaxHeaderLen = 1 + 8 + 2*binary.MaxVarintLen64
)

// Append appends the encoded header to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, wireVersion)
	b = binary.LittleEndian.AppendUint64(b, h.Salt)
	b = binary.AppendUvarint(b, uint64(h.Cells))
	return binary.AppendUvarint(b, uint64(h.Items))
}

// ParseHeader decodes what Append wrote and nothing else; otherwise ErrCorrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) == 0 || b[0] != wireVersion {
		return Header{}, fmt.Errorf("sketch header without version %d: %w", wireVersion, ErrCorrupt)
	}
	r := reader{b: b[1:]}
	salt, cells, items := r.u64(), r.uvarint(), r.uvarint()
	if r.bad || len(r.b) != 0 || cells > MaxCells || items > MaxItems {
		return Header{}, fmt.Errorf("sketch header of %d cells and %d items: %w", cells, items, ErrCorrupt)
	}
	h := Header{Salt: salt, Cells: int(cells), Items: int64(items)}
	if err := h.valid(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	return h, nil
}

func (h Header) valid() error {
	if h.Salt == 0 || h.Cells < 1 || h.Cells > MaxCells || h.Items < 0 || h.Items > MaxItems {
		return fmt.Errorf("sketch header %+v: %w", h, ErrInvalid)
	}
	return nil
}

// Encoder streams the cells of a set. It holds a copy of the cells, at most 32
// bytes each, so that the sketch may change while it streams. It is not safe
// for concurrent use.
type Encoder struct {
	header Header
	short  projection
	cells  []cell
	sent   int
}

// NewEncoder returns an encoder of the first limit cells of s, all of them if
// limit is 0 or above. The salt is the session's; 0, and a sketch that claims a
// negative number of items, give ErrInvalid.
func NewEncoder(s *Sketch, salt uint64, limit int) (*Encoder, error) {
	if limit <= 0 || limit > len(s.cells) {
		limit = len(s.cells)
	}
	h := Header{Salt: salt, Cells: limit, Items: s.Len()}
	if err := h.valid(); err != nil {
		return nil, err
	}
	cells := make([]cell, limit)
	copy(cells, s.cells)
	return &Encoder{header: h, short: newProjection(salt), cells: cells}, nil
}

// Header returns what the peer's decoder needs before the first cell.
func (e *Encoder) Header() Header { return e.header }

// Sent returns the number of cells handed out.
func (e *Encoder) Sent() int { return e.sent }

// Next returns the next cell, and false when there is none left.
func (e *Encoder) Next() (Cell, bool) {
	if e.sent == len(e.cells) {
		return Cell{}, false
	}
	c := &e.cells[e.sent]
	e.sent++
	return Cell{Item: c.item.item(), Check: e.short.of(c.check), Count: c.count}, true
}

// AppendCells appends a batch of the next n cells, or of as many as are left,
// to b. With none left it appends nothing.
func (e *Encoder) AppendCells(b []byte, n int) []byte {
	if n = min(n, len(e.cells)-e.sent); n <= 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(e.sent))
	b = binary.AppendUvarint(b, uint64(n))
	for range n {
		i := e.sent
		c, _ := e.Next()
		b = append(b, c.Item[:]...)
		b = binary.LittleEndian.AppendUint32(b, c.Check)
		b = binary.AppendUvarint(b, zigzag(c.Count-expected(e.header.Items, i)))
	}
	return b
}

// projection shortens the hashes of a session to 32 bits: the low bits of
// hash*salt in GF(2^64) with x^64+x^4+x^3+x+1. It is linear, so the short form
// of an XOR is the XOR of the short forms and cells need no second column, and
// it is universal (Carter and Wegman, 1979): for a random salt, two different
// 64-bit sums agree in 32 bits with probability 2^-32, whatever an author who
// cannot foresee the salt has ground. Entry i is the image of bit i.
type projection [64]uint32

func newProjection(salt uint64) projection {
	var p projection
	for i := range p {
		p[i] = uint32(salt)
		top := salt >> 63
		salt = salt<<1 ^ top*0x1b
	}
	return p
}

// of returns the short form of a hash or of an XOR of hashes.
func (p *projection) of(check uint64) uint32 {
	var v uint32
	for i := range p {
		v ^= p[i] & -uint32(check>>i&1)
	}
	return v
}
