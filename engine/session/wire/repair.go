package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"bzzz/crdt"
)

// Mode says how two replicas find out what differs.
type Mode byte

// The modes. Numbers never change their meaning.
const (
	ModeSketch  Mode = 1 // cells of a rateless sketch
	ModeWalk    Mode = 2 // the tree, digests cut to 4 bytes
	ModeCareful Mode = 3 // the tree, digests cut to 8 bytes
)

// Repair opens a comparison of live versions: the initiator's says how, the
// responder's agrees. If both roots are equal there is nothing to compare.
//
//	REPAIR = namespace number | mode u8 | salt [8] | root [32] | keys | cells
type Repair struct {
	NS    uint64
	Mode  Mode
	Salt  [8]byte  // random; the comparison uses both sides'
	Root  [32]byte // of the snapshot that is compared
	Keys  uint64   // under the root
	Cells uint64   // of ModeSketch: how many to send at once
}

// Append appends the payload.
func (m Repair) Append(dst []byte) []byte {
	dst = append(binary.AppendUvarint(dst, m.NS), byte(m.Mode))
	dst = append(append(dst, m.Salt[:]...), m.Root[:]...)
	return binary.AppendUvarint(binary.AppendUvarint(dst, m.Keys), m.Cells)
}

// DecodeRepair reads what Append appended.
func DecodeRepair(payload []byte) (Repair, error) {
	c := cursor{b: payload}
	m := Repair{NS: c.uvarint(), Mode: Mode(c.u8())}
	if m.Mode < ModeSketch || m.Mode > ModeCareful {
		c.fail("unknown mode %d", m.Mode)
	}
	c.fill(m.Salt[:])
	c.fill(m.Root[:])
	m.Keys, m.Cells = c.uvarint(), c.uvarint()
	return m, c.end("repair")
}

// More asks for cells of the sketch.
//
//	MORE = namespace number | cells
type More struct{ NS, Cells uint64 }

// Append appends the payload.
func (m More) Append(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, m.NS), m.Cells)
}

// DecodeMore reads what Append appended.
func DecodeMore(payload []byte) (More, error) {
	c := cursor{b: payload}
	m := More{c.uvarint(), c.uvarint()}
	return m, c.end("more")
}

// Part carries bytes of another package's format: cells of a sketch (CELLS) or
// a message of a walk (WALK). The first CELLS of a comparison begins with the
// sketch's header.
//
//	CELLS, WALK = namespace number | bytes, up to the end
type Part struct {
	NS   uint64
	Data []byte
}

// Append appends the payload.
func (m Part) Append(dst []byte) []byte {
	return append(binary.AppendUvarint(dst, m.NS), m.Data...)
}

// DecodePart reads what Append appended.
func DecodePart(payload []byte) (Part, error) {
	c := cursor{b: payload}
	m := Part{NS: c.uvarint()}
	m.Data = bytes.Clone(c.b)
	c.take(len(c.b))
	return m, c.end("part")
}

// Offer names live versions of the sender that the receiver may lack.
//
//	OFFER = packed(namespace number | dots Clock)
type Offer struct {
	NS   uint64
	Dots crdt.Clock
}

// Append appends the payload.
func (m Offer) Append(dst []byte, z *Zstd) []byte {
	return z.pack(dst, m.Dots.Append(binary.AppendUvarint(nil, m.NS)))
}

// DecodeOffer reads what Append appended.
func DecodeOffer(payload []byte, z *Zstd) (Offer, error) {
	c := z.unpacked(payload)
	m := Offer{c.uvarint(), c.clock("offered dots")}
	return m, c.end("offer")
}

// Fix answers what the other side offered, or what cells showed of it: which of
// its versions the sender wants, and which it knows to be dead (KERNEL K3).
//
//	FIX = packed(namespace number << 1 | rest | want Clock | dead Clock, or if rest: sum [4])
type Fix struct {
	NS   uint64
	Want crdt.Clock
	Dead crdt.Clock // empty if Rest
	Rest bool       // dead is all that was offered and is not wanted, and that is something
	Sum  [4]byte    // if Rest: of the dots meant, so that no other list is taken for it
}

// SumOf names a list of dots: the first bytes of the SHA-256 of its encoding.
func SumOf(dots crdt.Clock) [4]byte {
	sum := sha256.Sum256(dots.Append(nil))
	return [4]byte(sum[:4])
}

// Append appends the payload.
func (m Fix) Append(dst []byte, z *Zstd) []byte {
	head := m.NS << 1
	if m.Rest {
		head |= 1
	}
	body := m.Want.Append(binary.AppendUvarint(nil, head))
	if m.Rest {
		body = append(body, m.Sum[:]...)
	} else {
		body = m.Dead.Append(body)
	}
	return z.pack(dst, body)
}

// DecodeFix reads what Append appended.
func DecodeFix(payload []byte, z *Zstd) (Fix, error) {
	c := z.unpacked(payload)
	head := c.uvarint()
	m := Fix{NS: head >> 1, Want: c.clock("wanted dots"), Dead: crdt.NewClock(), Rest: head&1 != 0}
	if m.Rest {
		c.fill(m.Sum[:])
	} else {
		m.Dead = c.clock("dead dots")
	}
	return m, c.end("fix")
}

// Past asks for retained superseded versions (PAST), behind a journal record of
// the other side, or says up to which record those sent reach (PASTAT).
//
//	PAST, PASTAT = namespace number | record << 1 | last
type Past struct {
	NS, At uint64
	Last   bool // of PASTAT: that is all; of PAST: nothing is asked for any more
}

// Append appends the payload.
func (m Past) Append(dst []byte) []byte {
	at := m.At << 1
	if m.Last {
		at |= 1
	}
	return binary.AppendUvarint(binary.AppendUvarint(dst, m.NS), at)
}

// DecodePast reads what Append appended.
func DecodePast(payload []byte) (Past, error) {
	c := cursor{b: payload}
	m := Past{NS: c.uvarint()}
	at := c.uvarint()
	m.At, m.Last = at>>1, at&1 != 0
	return m, c.end("past")
}
