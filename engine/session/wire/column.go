package wire

import "encoding/binary"

// column collects numbers. A number that comes twice in a row is followed by
// how often it comes once more, so that a constant column costs three bytes and
// one without repetitions nothing extra:
//
//	7 7 7 7 9 8 8  ->  7 7 (2) 9 8 8 (0)
type column struct {
	b    []byte
	last uint64
	run  int // how often last has come in a row
}

func (c *column) put(v uint64) {
	if c.run > 0 && v == c.last {
		c.run++
		if c.run == 2 {
			c.b = binary.AppendUvarint(c.b, v)
		}
		return
	}
	c.end()
	c.b = binary.AppendUvarint(c.b, v)
	c.last, c.run = v, 1
}

// end closes the run at the end of the column.
func (c *column) end() {
	if c.run >= 2 {
		c.b = binary.AppendUvarint(c.b, uint64(c.run-2))
	}
	c.run = 0
}

func (c *column) reset() { c.b, c.run = c.b[:0], 0 }

// column reads len(dst) numbers that a column put, runs in full only.
func (c *cursor) column(dst []uint64) {
	afterRun := false
	for i := 0; i < len(dst); {
		v := c.uvarint()
		dst[i] = v
		i++
		if i == 1 || v != dst[i-2] {
			afterRun = false
			continue
		}
		if afterRun {
			c.fail("run of a column in two parts")
		}
		more := c.uvarint()
		if more > uint64(len(dst)-i) {
			c.fail("run of a column beyond its end")
		}
		if c.err != nil {
			clear(dst)
			return
		}
		for range more {
			dst[i] = v
			i++
		}
		afterRun = true
	}
}

// plain reads len(dst) numbers, each by itself.
func (c *cursor) plain(dst []uint64) {
	for i := range dst {
		dst[i] = c.uvarint()
	}
}

// zigzag maps small differences of either sign to small numbers.
func zigzag(d uint64) uint64 { return d<<1 ^ uint64(int64(d)>>63) }

func unzigzag(v uint64) uint64 { return v>>1 ^ -(v & 1) }
