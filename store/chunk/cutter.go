package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// FastCDC with normalised chunking of level 2 (Xia et al., FastCDC, USENIX ATC
// 2016, section 3): a Gear hash runs over the content behind the shortest
// length, and a cut is made where all bits of a mask are zero, of 18 bits before
// the normal length and of 14 behind it. The bits are spread evenly over the
// upper part of the hash, where the last 53 bytes take part. These masks and
// this loop are those of "fastcdc-v1.0.0" in PlakarKorp/go-cdc-chunkers, which
// the tests run beside it; the library itself would bring twelve packages with
// it that nothing here needs.
const (
	maskShort uint64 = 0x9249249249249000
	maskLong  uint64 = 0x8888888888888800
)

// gear maps a byte to 64 random bits: the first 8 bytes, big-endian, of the
// SHA-256 of "bzzz gear 1" and the byte.
var gear = func() (t [256]uint64) {
	for i := range t {
		sum := sha256.Sum256(append([]byte("bzzz gear 1"), byte(i)))
		t[i] = binary.BigEndian.Uint64(sum[:])
	}
	return t
}()

// cutPoint returns the length of the chunk that content begins with, given
// MaxChunk bytes of it or all that is left.
func cutPoint(content []byte) int {
	n := min(len(content), MaxChunk)
	if n <= MinChunk {
		return n
	}
	hash, i := uint64(0), MinChunk
	for normal := min(n, NormalChunk); i < normal; i++ {
		if hash = hash<<1 + gear[content[i]]; hash&maskShort == 0 {
			return i
		}
	}
	for ; i < n; i++ {
		if hash = hash<<1 + gear[content[i]]; hash&maskLong == 0 {
			return i
		}
	}
	return n
}

// Cut cuts and hashes a content that is in memory, as a Cutter does. The chunks
// refer to content.
func Cut(content []byte) ([]Chunk, *Manifest, error) {
	var chunks []Chunk
	var refs []Ref
	for len(content) > 0 {
		n := cutPoint(content)
		c, err := NewChunk(content[:n:n])
		if err != nil {
			return nil, nil, err
		}
		content = content[n:]
		chunks, refs = append(chunks, c), append(refs, c.ref)
	}
	m, err := NewManifest(refs)
	return chunks, m, err
}

// BatchBytes is how much content a batch holds at most: what one transaction
// writes, so that other writers wait some milliseconds and not more.
const BatchBytes = 4 << 20

// Batch is a run of chunks of one blob. The zero value is empty and ready; a
// batch may be filled again once nobody reads its chunks any more. It keeps up
// to BatchBytes of memory.
type Batch struct {
	chunks []Chunk
	buf    []byte
}

// Chunks returns the chunks in the blob's order. They are valid until the
// batch is filled again.
func (b *Batch) Chunks() []Chunk { return b.chunks }

// Cutter cuts the content of a reader. The cuts depend on the content alone,
// so one content gives the same chunks on every machine, and a change moves
// only the cuts around it. It serves one goroutine.
type Cutter struct {
	r     io.Reader
	rest  []byte // read, but not cut
	refs  []Ref
	size  int64
	limit int   // of chunks
	ended bool  // r has no more
	err   error // how it ended
}

// NewCutter returns a cutter of r, which it reads as far as its batches go. It
// takes up to 256 KiB besides what batches take, and 48 bytes a chunk.
func NewCutter(r io.Reader) *Cutter { return &Cutter{r: r, limit: MaxChunks} }

// Fill replaces the batch's chunks by the next ones, hashed. It returns io.EOF
// once there are none left, with an empty batch; ErrTooLarge for a blob above
// MaxChunks; else what reading r failed with. After an error it returns the
// same again.
func (c *Cutter) Fill(b *Batch) error {
	b.chunks = b.chunks[:0]
	if c.err == nil {
		c.err = c.fill(b)
	}
	return c.err
}

func (c *Cutter) fill(b *Batch) error {
	b.buf = append(b.buf[:0], c.rest...)
	if err := c.read(b); err != nil {
		return err
	}
	left := b.buf
	for len(left) >= MaxChunk || c.ended && len(left) > 0 {
		if len(c.refs) == c.limit {
			return fmt.Errorf("blob above %d chunks (%d bytes so far): %w", c.limit, c.size, ErrTooLarge)
		}
		n := cutPoint(left)
		chunk, err := NewChunk(left[:n:n])
		if err != nil {
			return err
		}
		left = left[n:]
		b.chunks = append(b.chunks, chunk)
		c.refs = append(c.refs, chunk.ref)
		c.size += int64(n)
	}
	c.rest = append(c.rest[:0], left...)
	if len(b.chunks) == 0 {
		return io.EOF
	}
	return nil
}

const (
	firstRead     = 128 << 10 // what a batch's buffer begins with
	maxEmptyReads = 100       // in a row, as in bufio
)

// read fills the batch's buffer, or up to the end of the content.
func (c *Cutter) read(b *Batch) error {
	empty := 0
	for len(b.buf) < BatchBytes && !c.ended {
		if len(b.buf) == cap(b.buf) {
			b.buf = append(make([]byte, 0, min(BatchBytes, max(firstRead, 2*cap(b.buf)))), b.buf...)
		}
		n, err := c.r.Read(b.buf[len(b.buf):min(cap(b.buf), BatchBytes)])
		b.buf = b.buf[:len(b.buf)+n]
		if empty++; n > 0 {
			empty = 0
		}
		switch {
		case err == io.EOF: // no wrapped one: that is a source cut short
			c.ended = true
		case err != nil:
			return err
		case empty == maxEmptyReads:
			return io.ErrNoProgress
		}
	}
	return nil
}

// Size returns how many bytes were handed out so far.
func (c *Cutter) Size() int64 { return c.size }

// Manifest returns the manifest once Fill has returned io.EOF; ErrInvalid
// before.
func (c *Cutter) Manifest() (*Manifest, error) {
	if c.err != io.EOF {
		return nil, fmt.Errorf("manifest of a blob that was not cut to its end: %w", ErrInvalid)
	}
	return NewManifest(c.refs)
}
