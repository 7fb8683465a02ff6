package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// cursor reads a payload from the front. The first failure sticks; from then on
// every read returns zeros, so callers check once, at the end.
type cursor struct {
	b   []byte
	err error
}

// fail sets the error, unless there is one.
func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errs.ErrInvalid)
		c.b = nil
	}
}

// end returns the error, one about bytes left over if there was none.
func (c *cursor) end(what string) error {
	if c.err == nil && len(c.b) > 0 {
		c.fail("%d bytes too many", len(c.b))
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w", what, c.err)
	}
	return nil
}

// uvarint reads a number in its shortest form.
func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(c.b)
	switch {
	case n <= 0:
		c.fail("varint cut short or too long")
		return 0
	case c.b[n-1] == 0:
		c.fail("varint not in the shortest form")
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count reads a number of things that must not exceed limit.
func (c *cursor) count(what string, limit int) int {
	v := c.uvarint()
	if v > uint64(limit) {
		c.fail("%d %s (at most %d)", v, what, limit)
		return 0
	}
	return int(v)
}

// take reads n bytes; they belong to the payload.
func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail("cut short: %d bytes wanted, %d there", n, len(c.b))
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// fill reads len(dst) bytes into dst.
func (c *cursor) fill(dst []byte) { copy(dst, c.take(len(dst))) }

func (c *cursor) u8() byte {
	b := c.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (c *cursor) u64() uint64 {
	var b [8]byte
	c.fill(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// text reads n bytes of clean text.
func (c *cursor) text(what string, n int) string {
	s := string(c.take(n))
	if !clean(s) {
		c.fail("%s is not valid UTF-8 without control characters", what)
		return ""
	}
	return s
}

// clock reads a clock.
func (c *cursor) clock(what string) crdt.Clock {
	if c.err != nil {
		return crdt.Clock{}
	}
	clock, rest, err := crdt.DecodeClock(c.b)
	if err != nil {
		c.err = fmt.Errorf("%s: %w", what, err)
	}
	c.b = rest
	return clock
}

// clean reports whether s is safe to print: valid UTF-8, no control characters.
func clean(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// sanitize returns the clean part of s, at most limit bytes of it.
func sanitize(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// appendText appends a string: its length and its bytes.
func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
