package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"bzzz/internal/errs"
)

// Caps of a frame's payload in bytes. MaxControl keeps a peer that has sent
// nothing of use yet from being buffered at length; MaxData carries a batch,
// or a clock of some 400,000 replicas.
const (
	MaxControl = 1 << 20
	MaxData    = 8 << 20
)

// readChunk is how much of a payload is allocated ahead of the bytes that come.
const readChunk = 64 << 10

// Type says what a frame's payload is. Numbers never change their meaning.
// Types from FirstOptional on may be ignored by who does not know them.
type Type byte

// The types. 0 is reserved, so that a run of zeros is never a stream.
const (
	TypeHello   Type = 1
	TypeWelcome Type = 2
	TypeState   Type = 3
	TypeBatch   Type = 4
	TypeDone    Type = 5
	TypeCheck   Type = 6
	TypeCredit  Type = 7
	TypeBye     Type = 8
	TypeOpen    Type = 9
	TypeBundle  Type = 10
	TypeHistory Type = 11
	TypeRepair  Type = 12
	TypeCells   Type = 13
	TypeMore    Type = 14
	TypeWalk    Type = 15
	TypeOffer   Type = 16
	TypeFix     Type = 17
	TypeWant    Type = 18
	TypeBlock   Type = 19
	TypePast    Type = 20
	TypePastAt  Type = 21

	FirstOptional Type = 64
	TypePing      Type = 64 // empty: the sender is alive
)

// typeNames is indexed by Type.
var typeNames = [...]string{
	"", "HELLO", "WELCOME", "STATE", "BATCH", "DONE", "CHECK", "CREDIT", "BYE", "OPEN", "BUNDLE", "HISTORY", "REPAIR", "CELLS", "MORE", "WALK", "OFFER", "FIX", "WANT", "BLOCK", "PAST", "PASTAT",
}

// String returns the type's name, "type(n)" for one this build does not know.
func (t Type) String() string {
	if t.Known() {
		return typeNames[t]
	}
	if t == TypePing {
		return "PING"
	}
	return fmt.Sprintf("type(%d)", byte(t))
}

// Known reports whether this build has a message of the type.
func (t Type) Known() bool { return t != 0 && int(t) < len(typeNames) }

// Optional reports whether a receiver that does not know the type ignores the
// frame; it ends the session over any other unknown type.
func (t Type) Optional() bool { return t >= FirstOptional }

// Cap returns the greatest payload of the type: MaxData where it carries
// versions or clocks, else MaxControl.
func (t Type) Cap() int {
	switch t {
	case TypeState, TypeBatch, TypeDone, TypeBundle, TypeHistory, TypeOffer, TypeFix, TypeBlock:
		return MaxData
	}
	return MaxControl
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameOverhead is the most bytes a frame adds to its payload.
const FrameOverhead = 1 + 4 + 4

// AppendFrame appends a frame. A payload above typ.Cap makes a frame that every
// Reader refuses.
func AppendFrame(dst []byte, typ Type, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, byte(typ))
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	dst = append(dst, payload...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// Frame is one frame of a stream.
type Frame struct {
	Type    Type
	Payload []byte
}

// Size returns how many bytes the frame takes on the stream.
func (f Frame) Size() int {
	n := uint64(len(f.Payload))
	lenBytes := max(1, (bits.Len64(n)+6)/7)
	return 1 + lenBytes + len(f.Payload) + 4
}

// Reader takes frames off a stream. It is not safe for concurrent use.
type Reader struct {
	br  *bufio.Reader
	off int64  // bytes taken off the stream
	buf []byte // the frame being read: header, payload, checksum
	err error
}

// NewReader returns a Reader of r, which it buffers.
func NewReader(r io.Reader) *Reader {
	return &Reader{br: bufio.NewReaderSize(r, readChunk)}
}

// Offset returns how many bytes of the stream the frames so far took.
func (r *Reader) Offset() int64 { return r.off }

// Next returns the next frame, of whatever type but the reserved 0. The payload
// belongs to the Reader and is valid until the next call.
//
// At the end of the stream it returns io.EOF between frames and an error
// wrapping io.ErrUnexpectedEOF within one; ErrCorrupt for a checksum that does
// not match, ErrInvalid for a malformed header, ErrTooLarge for a payload above
// its cap, and the error of the stream as it is, all with the frame's offset.
// After an error it returns the same error for ever.
//
// What it allocates is bounded by the bytes that came, plus 64 KiB; it keeps the
// buffer of the largest frame.
func (r *Reader) Next() (Frame, error) {
	if r.err != nil {
		return Frame{}, r.err
	}
	start := r.off
	f, err := r.next()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = fmt.Errorf("frame at offset %d: %w", start, err)
		}
		r.err = err
	}
	return f, err
}

func (r *Reader) next() (Frame, error) {
	typ, size, err := r.header()
	if err != nil {
		return Frame{}, err
	}
	head := len(r.buf)
	for end := head + size; len(r.buf) < end; {
		if err := r.read(min(end-len(r.buf), readChunk)); err != nil {
			return Frame{}, fmt.Errorf("%s of %d bytes: %w", typ, size, err)
		}
	}
	body := len(r.buf)
	if err := r.read(4); err != nil {
		return Frame{}, fmt.Errorf("checksum of %s: %w", typ, err)
	}
	got, want := crc32.Checksum(r.buf[:body], castagnoli), binary.LittleEndian.Uint32(r.buf[body:])
	if got != want {
		return Frame{}, fmt.Errorf("%s of %d bytes: checksum is %08x, frame says %08x: %w", typ, size, got, want, errs.ErrCorrupt)
	}
	return Frame{typ, r.buf[head:body:body]}, nil
}

// header reads type and length into an empty buffer; io.EOF if nothing is left.
func (r *Reader) header() (Type, int, error) {
	r.buf = r.buf[:0]
	b, err := r.br.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	r.off++
	r.buf = append(r.buf, b)
	typ := Type(b)
	if typ == 0 {
		return 0, 0, fmt.Errorf("type 0 is reserved: %w", errs.ErrInvalid)
	}
	size := 0
	for shift := 0; ; shift += 7 {
		if err := r.read(1); err != nil {
			return 0, 0, fmt.Errorf("length of %s: %w", typ, err)
		}
		b := r.buf[len(r.buf)-1]
		size |= int(b&0x7f) << shift
		switch {
		case b == 0 && shift > 0:
			return 0, 0, fmt.Errorf("length of %s is not in the shortest form: %w", typ, errs.ErrInvalid)
		case size > typ.Cap() || (b >= 0x80 && shift == 21): // four bytes hold any length allowed
			return 0, 0, fmt.Errorf("%s longer than %d bytes: %w", typ, typ.Cap(), errs.ErrTooLarge)
		case b < 0x80:
			return typ, size, nil
		}
	}
}

// read appends the next n bytes of the stream to the buffer.
func (r *Reader) read(n int) error {
	at := len(r.buf)
	r.buf = append(r.buf, make([]byte, n)...)
	got, err := io.ReadFull(r.br, r.buf[at:])
	r.off += int64(got)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
