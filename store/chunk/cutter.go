package chunk

import (
	"fmt"
	"io"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc" // registers the algorithm
)

// algorithm is FastCDC with normalised chunking (Xia et al., USENIX ATC 2016,
// section 3), level 2 and masks made for NormalChunk. The unversioned name in
// the library keeps masks made for 8 KiB.
const algorithm = "fastcdc-v1.0.0"

// BatchBytes is how much content a batch holds at most: what one transaction
// writes, so that other writers wait some milliseconds and not more.
const BatchBytes = 4 << 20

// Batch is a run of chunks of one blob. The zero value is empty and ready; a
// batch may be filled again once nobody reads its chunks any more. It keeps
// BatchBytes of memory.
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
	chunker *chunkers.Chunker
	held    []byte // a chunk that did not fit the last batch
	refs    []Ref
	size    int64
	limit   int   // of chunks
	err     error // how it ended
}

// NewCutter returns a cutter of r, which it reads as far as its batches go. It
// takes 512 KiB besides what batches take, and 48 bytes a chunk.
func NewCutter(r io.Reader) (*Cutter, error) {
	c, err := chunkers.NewChunker(algorithm, r, &chunkers.ChunkerOpts{MinSize: MinChunk, NormalSize: NormalChunk, MaxSize: MaxChunk})
	if err != nil {
		return nil, fmt.Errorf("chunker: %w", err)
	}
	return &Cutter{chunker: c, limit: MaxChunks}, nil
}

// Fill replaces the batch's chunks by the next ones, hashed. It returns io.EOF
// once there are none left, with an empty batch; ErrTooLarge for a blob above
// MaxChunks; else what reading r failed with. After an error it returns the
// same again.
func (c *Cutter) Fill(b *Batch) error {
	b.chunks = b.chunks[:0]
	if b.buf == nil {
		b.buf = make([]byte, 0, BatchBytes)
	}
	b.buf = b.buf[:0]
	for c.err == nil {
		data, err := c.next()
		if err != nil {
			c.err = err
			break
		}
		if len(b.buf)+len(data) > cap(b.buf) {
			c.held = data // stays valid: the chunker is not asked until it is taken
			return nil
		}
		start := len(b.buf)
		b.buf = append(b.buf, data...)
		chunk, err := NewChunk(b.buf[start:len(b.buf):len(b.buf)])
		if err != nil {
			c.err = err
			break
		}
		b.chunks = append(b.chunks, chunk)
		c.refs = append(c.refs, chunk.ref)
		c.size += int64(chunk.ref.Size)
		if len(c.refs) > c.limit {
			c.err = fmt.Errorf("blob above %d chunks (%d bytes so far): %w", c.limit, c.size, ErrTooLarge)
		}
	}
	if c.err == io.EOF && len(b.chunks) > 0 { // no wrapped one: that is a source cut short
		return nil
	}
	return c.err
}

// next returns the next chunk's bytes, io.EOF behind the last.
func (c *Cutter) next() ([]byte, error) {
	if data := c.held; data != nil {
		c.held = nil
		return data, nil
	}
	data, err := c.chunker.Next()
	if len(data) > 0 && (err == nil || err == io.EOF) {
		return data, nil // io.EOF comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return nil, err
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
