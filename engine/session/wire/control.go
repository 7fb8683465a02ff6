package wire

import (
	"encoding/binary"

	"bzzz/internal/errs"
)

// MaxMessage is the most bytes of text in a BYE.
const MaxMessage = 1 << 10

// Check tells what a namespace looks like after all was applied.
//
//	CHECK = namespace number | root [32] | clock digest [16] | flags u8: 1 behind, 2 broken
type Check struct {
	NS     uint64
	Root   [32]byte
	Clock  [16]byte // digest of clock and gone marks
	Behind bool     // the sender needs a comparison before it may adopt the other's clock (KERNEL K4)
	Broken bool     // the sender's store is too damaged to compare anything
}

// Append appends the payload.
func (m Check) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, m.NS)
	dst = append(append(dst, m.Root[:]...), m.Clock[:]...)
	flags := byte(0)
	if m.Behind {
		flags |= 1
	}
	if m.Broken {
		flags |= 2
	}
	return append(dst, flags)
}

// DecodeCheck reads what Append appended.
func DecodeCheck(payload []byte) (Check, error) {
	c := cursor{b: payload}
	m := Check{NS: c.uvarint()}
	c.fill(m.Root[:])
	c.fill(m.Clock[:])
	flags := c.u8()
	if flags > 3 {
		c.fail("unknown flags %02x", flags)
	}
	m.Behind, m.Broken = flags&1 != 0, flags&2 != 0
	return m, c.end("check")
}

// Credit lets the other side send so many bytes more.
//
//	CREDIT = bytes
type Credit struct{ Bytes uint64 }

// Append appends the payload.
func (m Credit) Append(dst []byte) []byte { return binary.AppendUvarint(dst, m.Bytes) }

// DecodeCredit reads what Append appended.
func DecodeCredit(payload []byte) (Credit, error) {
	c := cursor{b: payload}
	m := Credit{c.uvarint()}
	return m, c.end("credit")
}

// Bye ends the session. KindOther without a message is a normal end.
//
//	BYE = error kind u8 | message, up to the end
type Bye struct {
	Kind    errs.Kind
	Message string // for people; at most MaxMessage bytes of printable UTF-8
}

// Append appends the payload: of the message what is printable and fits.
func (m Bye) Append(dst []byte) []byte {
	return append(append(dst, byte(m.Kind)), sanitize(m.Message, MaxMessage)...)
}

// DecodeBye reads what Append appended.
func DecodeBye(payload []byte) (Bye, error) {
	c := cursor{b: payload}
	m := Bye{Kind: errs.Kind(c.u8())}
	if len(c.b) > MaxMessage {
		c.fail("message of %d bytes (at most %d)", len(c.b), MaxMessage)
	}
	m.Message = c.text("message", len(c.b))
	return m, c.end("bye")
}
