package chunk

import (
	"errors"
	"fmt"
	"io"

	"bzzz/internal/errs"
)

// Blob reads the content of one blob: an io.ReadSeeker, io.ReaderAt and
// io.WriterTo. Every chunk is hashed before a byte of it is handed out; it
// keeps the last one, so that small reads in a row hash it once. It lasts as
// long as its transaction and serves one goroutine, ReadAt included.
type Blob struct {
	rd    *Reader
	m     *Manifest
	pos   int64
	last  int // the chunk that bytes are of, -1 for none
	bytes []byte
}

// Open returns the blob's content. ErrNotFound if its manifest is not here,
// ErrCorrupt if that is damaged. Whether all chunks are here turns out when
// they are read; [Reader.Missing] asks beforehand.
func (r *Reader) Open(blob Digest) (*Blob, error) {
	m, err := r.Manifest(blob)
	if err != nil {
		return nil, err
	}
	return &Blob{rd: r, m: m, last: -1}, nil
}

// Manifest returns the blob's manifest.
func (b *Blob) Manifest() *Manifest { return b.m }

// Size returns the content's length in bytes.
func (b *Blob) Size() int64 { return b.m.Size() }

// chunk returns the verified bytes of chunk i.
func (b *Blob) chunk(i int) ([]byte, error) {
	if i == b.last {
		return b.bytes, nil
	}
	c, err := b.rd.Chunk(b.m.refs[i])
	if err != nil {
		return nil, b.name(i, err)
	}
	b.last, b.bytes = i, c.data
	return c.data, nil
}

// name says of which chunk of which blob an error is.
func (b *Blob) name(i int, err error) error {
	if d, ok := errors.AsType[*errs.Corruption](err); ok {
		named := *d
		named.What = fmt.Sprintf("chunk %d at byte %d of blob %s: %s", i, b.m.offsets[i], b.m.CID(), d.What)
		return &named
	}
	return fmt.Errorf("chunk %d at byte %d of blob %s: %w", i, b.m.offsets[i], b.m.CID(), err)
}

// ReadAt implements io.ReaderAt. ErrInvalid for a negative offset; ErrCorrupt
// names a damaged chunk, ErrUnavailable one that is not here.
func (b *Blob) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at byte %d: %w", off, ErrInvalid)
	}
	for n < len(p) && off < b.Size() {
		i := b.m.At(off)
		data, err := b.chunk(i)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], data[off-b.m.Offset(i):])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements io.Reader.
func (b *Blob) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.ReadAt(p, b.pos)
	b.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker. ErrInvalid for a place before the beginning.
func (b *Blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.Size()
	default:
		return 0, fmt.Errorf("seek from %d: %w", whence, ErrInvalid)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to byte %d: %w", offset, ErrInvalid)
	}
	b.pos = offset
	return offset, nil
}

// WriteTo implements io.WriterTo: it writes whole chunks without copying them.
func (b *Blob) WriteTo(w io.Writer) (total int64, err error) {
	for b.pos < b.Size() {
		i := b.m.At(b.pos)
		data, err := b.chunk(i)
		if err != nil {
			return total, err
		}
		n, err := w.Write(data[b.pos-b.m.Offset(i):])
		b.pos, total = b.pos+int64(n), total+int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
