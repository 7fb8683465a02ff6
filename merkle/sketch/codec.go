package sketch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// Checkpoint format, canonical (one set, key and size have one encoding):
//
//	"BZSK" | u8 version 1 | key 16 | uvarint cells | uvarint items |
//	runs: uvarint empty cells, uvarint filled cells, the filled cells |
//	u32 LE CRC-32C of everything before
//
//	filled cell: item 16 | check u64 LE | uvarint zigzag(count - expected)
//
// Runs alternate until all cells are covered; only the first may have no empty
// cells and only the last no filled ones. A full sketch takes about 25 bytes a
// cell, 1.6 MB at 65,536 cells; one of few items little more than its own
// cells.
const (
	magic   = "BZSK"
	version = 1
	// minCell is the shortest filled cell.
	minCell = ItemSize + 8 + 1
)

// AppendBinary appends the checkpoint of the sketch to b. It never fails; a
// sketch from which items were removed that were never in it may not load
// again, and should be rebuilt.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	n := s.Len()
	b = append(b, magic...)
	b = append(b, version)
	b = append(b, s.key[:]...)
	b = binary.AppendUvarint(b, uint64(len(s.cells)))
	b = binary.AppendUvarint(b, uint64(n))
	for i := 0; i < len(s.cells); {
		empty := i
		for i < len(s.cells) && s.cells[i] == (cell{}) {
			i++
		}
		filled := i
		for i < len(s.cells) && s.cells[i] != (cell{}) {
			i++
		}
		b = binary.AppendUvarint(b, uint64(filled-empty))
		b = binary.AppendUvarint(b, uint64(i-filled))
		for k := filled; k < i; k++ {
			c := &s.cells[k]
			b = binary.LittleEndian.AppendUint64(b, c.item[0])
			b = binary.LittleEndian.AppendUint64(b, c.item[1])
			b = binary.LittleEndian.AppendUint64(b, c.check)
			b = binary.AppendUvarint(b, zigzag(c.count-expected(n, k)))
		}
	}
	sum := crc32.Checksum(b[start:], crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(b, sum), nil
}

// Load reads a checkpoint. Anything that AppendBinary does not write for a set
// of items is ErrCorrupt: rebuild the sketch then. It allocates at most 2 MiB,
// and nothing that the length of b does not justify but for 32 bytes for each of the
// cells declared, at most 65,536.
func Load(b []byte) (*Sketch, error) {
	const head = len(magic) + 1 + len(Key{})
	if len(b) < head+4 {
		return nil, fmt.Errorf("sketch of %d bytes: %w", len(b), ErrCorrupt)
	}
	body := b[:len(b)-4]
	want := binary.LittleEndian.Uint32(b[len(body):])
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != want {
		return nil, fmt.Errorf("sketch: checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	if string(body[:len(magic)]) != magic || body[len(magic)] != version {
		return nil, fmt.Errorf("not a sketch of version %d: %w", version, ErrCorrupt)
	}
	r := reader{b: body[head:]}
	cells, items := r.uvarint(), r.uvarint()
	if r.bad || cells < 1 || cells > MaxCells || items > MaxItems {
		return nil, fmt.Errorf("sketch of %d cells and %d items: %w", cells, items, ErrCorrupt)
	}
	s := &Sketch{key: Key(body[len(magic)+1 : head]), cells: make([]cell, cells)}
	if !s.loadRuns(&r, int64(items)) {
		return nil, fmt.Errorf("sketch: bad cells: %w", ErrCorrupt)
	}
	return s, nil
}

// loadRuns fills the cells and reports whether they were canonical and make
// sense for a set of n items.
func (s *Sketch) loadRuns(r *reader, n int64) bool {
	for i := 0; i < len(s.cells); {
		empty, filled := r.uvarint(), r.uvarint()
		left := uint64(len(s.cells) - i)
		switch {
		case r.bad, empty > left, filled > left-empty,
			empty == 0 && i > 0,
			filled == 0 && empty < left,
			filled > uint64(len(r.b)/minCell):
			return false
		}
		i += int(empty)
		for end := i + int(filled); i < end; i++ {
			c := cell{item: r.words(), check: r.u64(), count: r.count(n, i)}
			if r.bad || c == (cell{}) {
				return false
			}
			s.cells[i] = c
		}
	}
	return len(r.b) == 0 && s.cells[0].count == n
}

// reader takes fields off the front of b; bad stays set once one is missing or
// not canonical.
type reader struct {
	b   []byte
	bad bool
}

// uvarint reads a shortest-form unsigned varint.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n != max(1, (bits.Len64(v)+6)/7) {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) words() words { return words{r.u64(), r.u64()} }

// count reads the count of cell i of a set of n items, which is 0..n.
func (r *reader) count(n int64, i int) int64 {
	d := unzigzag(r.uvarint())
	e := expected(n, i)
	// e and n are at most MaxItems, so the comparison cannot overflow.
	if d < -e || d > n-e {
		r.bad = true
		return 0
	}
	return e + d
}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
