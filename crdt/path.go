package crdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// maxRef is how many writers of a path later steps can refer to by number.
const maxRef = 7

// path is a position, parsed. The layout is documented at Position.
type path struct {
	pos   Position
	steps []step
	known [][]byte // the first writers mentioned, at most maxRef
}

// step is one step of a path.
type step struct {
	writer []byte
	ref    byte  // its number among the known writers, 0 where it is spelt out
	at     int   // where in the position the step's number begins
	number int64 // fresh, or -fresh
	side   int64 // -1, 0 or +1
}

// parsePosition reads a position or nothing, and refuses any form that
// Between would not write.
func parsePosition(p Position) (path, error) {
	if len(p) > MaxPosition {
		return path{}, fmt.Errorf("list position of %d bytes (at most %d): %w", len(p), MaxPosition, ErrTooLarge)
	}
	out := path{pos: p, steps: make([]step, 0, len(p)/3+1)}
	for rest := []byte(p); len(rest) > 0; {
		s, err := out.parseWriter(&rest)
		if err == nil {
			s.at = len(p) - len(rest)
			err = s.parseNumber(&rest)
		}
		if err != nil {
			return path{}, err
		}
		if (s.side == 0) != (len(rest) == 0) {
			return path{}, fmt.Errorf("list position: %w: goes on behind its end", ErrInvalid)
		}
		out.steps = append(out.steps, s)
	}
	return out, nil
}

// parseWriter reads who took a step and leaves rest at the step's number.
func (p *path) parseWriter(rest *[]byte) (step, error) {
	b := *rest
	if ref := b[0] >> 5; ref != 0 {
		if int(ref) > len(p.known) {
			return step{}, fmt.Errorf("list position: %w: writer %d of %d", ErrInvalid, ref, len(p.known))
		}
		return step{writer: p.known[ref-1], ref: ref}, nil
	}
	n := int(b[0])
	if n == 0 || n > MaxWriterID || len(b) < 1+n+1 || b[1+n]>>5 != 0 {
		return step{}, fmt.Errorf("list position: %w: bad writer", ErrInvalid)
	}
	s := step{writer: b[1 : 1+n : 1+n]}
	if p.refOf(s.writer) != 0 {
		return step{}, fmt.Errorf("list position: %w: known writer spelt out", ErrInvalid)
	}
	if len(p.known) < maxRef {
		p.known = append(p.known, s.writer)
	}
	*rest = b[1+n:]
	return s, nil
}

// parseNumber reads a step's number and side.
func (s *step) parseNumber(rest *[]byte) error {
	b := *rest
	n, flip := int(b[0]&31)-16, byte(0)
	if n < 0 {
		n, flip = -n, 0xFF
	}
	if n == 0 || n > 7 || len(b) < 1+n || b[1] == flip {
		return fmt.Errorf("list position: %w: bad number", ErrInvalid)
	}
	v := int64(0)
	for _, c := range b[1 : 1+n] {
		v = v<<8 | int64(c^flip)
	}
	if flip != 0 {
		v = -v
	}
	s.number = (v + 1) >> 2 // rounds down, below zero too
	s.side = v - 4*s.number
	if s.side > 1 || s.number == 0 || max(s.number, -s.number) > MaxSeq {
		return fmt.Errorf("list position: %w: bad number", ErrInvalid)
	}
	*rest = b[1+n:]
	return nil
}

// appendNumber appends the head and the bytes of 4*number + side.
func appendNumber(b []byte, ref byte, number, side int64) []byte {
	v, flip := 4*number+side, uint64(0)
	if v < 0 {
		v, flip = -v, ^flip
	}
	n := (bits.Len64(uint64(v)) + 7) / 8
	class := 16 + n
	if flip != 0 {
		class = 16 - n
	}
	b = append(b, ref<<5|byte(class))
	var be [8]byte
	binary.BigEndian.PutUint64(be[:], uint64(v)^flip)
	return append(b, be[8-n:]...)
}

// refOf returns the number of a writer among the known ones, 0 if it is none.
func (p *path) refOf(writer []byte) byte {
	for i, w := range p.known {
		if bytes.Equal(w, writer) {
			return byte(i + 1)
		}
	}
	return 0
}

// ownNumber returns the fresh number of the last step if the writer took it,
// else 0.
func (p *path) ownNumber(writer []byte) int64 {
	if len(p.steps) == 0 {
		return 0
	}
	s := p.steps[len(p.steps)-1]
	if !bytes.Equal(s.writer, writer) {
		return 0
	}
	return max(s.number, -s.number)
}

// renumbered returns the path up to step i, which gets another number and
// becomes the last.
func (p *path) renumbered(i int, number int64) Position {
	s := p.steps[i]
	out := append(make(Position, 0, s.at+8), p.pos[:s.at]...)
	return appendNumber(out, s.ref, number, 0)
}

// child returns the path with one more step, by writer, on a side of its
// element; of no path it returns the first step.
func (p *path) child(side int64, writer []byte, number int64) Position {
	out := make(Position, 0, len(p.pos)+1+len(writer)+8)
	if k := len(p.steps) - 1; k >= 0 {
		s := p.steps[k]
		out = appendNumber(append(out, p.pos[:s.at]...), s.ref, s.number, side)
	}
	ref := p.refOf(writer)
	if ref == 0 {
		out = append(append(out, byte(len(writer))), writer...)
	}
	return appendNumber(out, ref, number, 0)
}

// isAncestorOf reports whether o, which lies behind p, is below it in the tree:
// on its right side, or further on in the same run and younger. The end of the
// list is above everything.
func (p *path) isAncestorOf(o path) bool {
	k := len(p.steps) - 1
	if k < 0 {
		return true
	}
	if len(o.steps) <= k {
		return false
	}
	s, t := p.steps[k], o.steps[k]
	return s.at == t.at && bytes.Equal(p.pos[:s.at], o.pos[:t.at]) && s.ref == t.ref &&
		(t.number == s.number || t.number > max(s.number, -s.number))
}
