package replica

import (
	"encoding/binary"
	"slices"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// digestLen is how much of a version's digest its head keeps: enough that
// damage passes unseen once in 2^64, at half the room.
const digestLen = 8

// sibling is one live version of a key as its head knows it.
type sibling struct {
	arrival uint64
	id      uint32 // interned replica
	seq     uint64
	kind    crdt.Kind
	digest  [digestLen]byte
}

// head is the entry of one key in the heads bucket: its siblings, and the
// arrivals of versions that came dead and that no record points to yet.
type head struct {
	siblings []sibling
	orphans  []uint64
}

// append appends the entry of a key:
//
//	n uv, n x (arrival uv, replica uv, seq uv, kind u8, digest 8), orphans: each arrival uv
//	crc32c u32
func (h *head) append(b, key []byte) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(h.siblings)))
	for _, s := range h.siblings {
		b = binary.AppendUvarint(b, s.arrival)
		b = binary.AppendUvarint(b, uint64(s.id))
		b = binary.AppendUvarint(b, s.seq)
		b = append(b, byte(s.kind))
		b = append(b, s.digest[:]...)
	}
	for _, o := range h.orphans {
		b = binary.AppendUvarint(b, o)
	}
	return seal(b, start, key)
}

// maxLen is the most bytes that append appends.
func (h *head) maxLen() int {
	return sumLen + binary.MaxVarintLen64 + len(h.siblings)*(3*binary.MaxVarintLen64+1+digestLen) + len(h.orphans)*binary.MaxVarintLen64
}

// decodeHead reads the entry of a key; b may be nil for a key without one. It
// reuses the slices of h.
func decodeHead(b, key []byte, h *head) error {
	h.siblings, h.orphans = h.siblings[:0], h.orphans[:0]
	if b == nil {
		return nil
	}
	body, err := unseal(b, key, "head entry", uint64(len(b)))
	if err != nil {
		return err
	}
	rd := reader{b: body}
	n := rd.count()
	for range n {
		s := sibling{arrival: rd.uvarint(), id: uint32(rd.uvarint()), seq: rd.uvarint(), kind: crdt.Kind(rd.byte())}
		copy(s.digest[:], rd.bytes(digestLen))
		h.siblings = append(h.siblings, s)
	}
	for !rd.bad && len(rd.b) > 0 {
		h.orphans = append(h.orphans, rd.uvarint())
	}
	if n == 0 || !rd.ok() {
		return &errs.Corruption{What: "head entry: malformed", Hint: hintVerify}
	}
	return nil
}

// tally is what a head adds to the namespace's counters.
type tally struct {
	live, tombs int
	conflict    bool // more than one live version, at least one of them a register's
}

func (h *head) tally() tally {
	var t tally
	put := false
	for _, s := range h.siblings {
		if s.kind == crdt.Delete {
			t.tombs++
			continue
		}
		t.live++
		put = put || s.kind == crdt.Put
	}
	t.conflict = put && t.live > 1
	return t
}

// find returns the index of the sibling with that dot, -1 if there is none.
func (h *head) find(id uint32, seq uint64) int {
	return slices.IndexFunc(h.siblings, func(s sibling) bool { return s.id == id && s.seq == seq })
}
