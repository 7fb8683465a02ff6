package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/store"
	"bzzz/store/chunk"
)

// ValueReader reads one value of any size: an io.ReadSeekCloser, io.ReaderAt
// and io.WriterTo. Every chunk is verified before a byte of it is handed out
// (ErrCorrupt names a damaged one, ErrUnavailable one that is not here yet). It
// reads the state of the moment it was opened at, whatever is written or
// deleted meanwhile, keeps the room of what is deleted, and must be closed;
// closing the DB waits for that. Where the file outgrows the address space that
// store/bolt sets aside for it (16 GiB on 64-bit Linux, 1 GiB or less elsewhere)
// a commit that grows it waits for open readers, too: do not write from the
// goroutine that holds one. It serves one goroutine, ReadAt included.
type ValueReader struct {
	version Version
	content interface {
		io.ReadSeeker
		io.ReaderAt
		io.WriterTo
		Size() int64
	}
	snap store.Snapshot // nil for a small value
}

// GetReader opens the main value of a register; ErrNotFound if it is absent,
// ErrUnavailable if it is a large one that is not here yet.
func (ns *Namespace) GetReader(ctx context.Context, key []byte) (*ValueReader, error) {
	snap, err := ns.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	r, err := snap.open(key)
	if err != nil || r.snap == nil {
		snap.Close()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// open returns the main value of a register, which keeps the snapshot if it is
// a large one.
func (s *Snapshot) open(key []byte) (*ValueReader, error) {
	stored, err := storedName(key)
	if err != nil {
		return nil, err
	}
	siblings, err := s.siblings(stored)
	if err != nil {
		return nil, s.judge(err)
	}
	w := fold(&s.reading, key, siblings)
	if len(w.Shown) == 0 {
		return nil, s.judge(ErrNotFound)
	}
	main := w.Shown[0]
	r := &ValueReader{version: newVersion(&s.reading, main, true)}
	if !main.Blob.Defined() {
		r.content = bytes.NewReader(r.version.Value)
		return r, nil
	}
	if r.content, err = s.ns.db.openBlob(s.snap, main.Blob); err != nil {
		return nil, s.judge(err)
	}
	r.snap = s.snap
	return r, nil
}

func (db *DB) openBlob(tx store.Tx, id cid.Cid) (*chunk.Blob, error) {
	d, err := chunk.DigestOf(id)
	if err != nil {
		return nil, err
	}
	b, err := db.blobs.Reader(tx).Open(d)
	return b, notHere(err)
}

// OpenBlob opens a large value by its CID (Version.Blob), for instance one of a
// key's history. ErrInvalid for a malformed CID, ErrUnavailable if it is not
// here.
func (db *DB) OpenBlob(ctx context.Context, blob string) (*ValueReader, error) {
	id, err := cid.Decode(blob)
	if err != nil {
		return nil, fmt.Errorf("blob %q: %w: %v", blob, ErrInvalid, err)
	}
	if err := db.usable(ctx); err != nil {
		return nil, err
	}
	snap, err := db.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	b, err := db.openBlob(snap, id)
	if err != nil {
		if why := snap.Err(); why != nil {
			err = why
		}
		snap.Release()
		return nil, err
	}
	return &ValueReader{version: Version{Kind: crdt.Put, Blob: blob, Size: b.Size()}, content: b, snap: snap}, nil
}

// Version returns the version whose value is read. Of a value opened by its CID
// only Blob and Size are known.
func (r *ValueReader) Version() Version { return r.version }

// Size returns the value's length in bytes.
func (r *ValueReader) Size() int64 { return r.content.Size() }

// Read implements io.Reader.
func (r *ValueReader) Read(p []byte) (int, error) {
	n, err := r.content.Read(p)
	return n, r.judge(err)
}

// ReadAt implements io.ReaderAt.
func (r *ValueReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.content.ReadAt(p, off)
	return n, r.judge(err)
}

// Seek implements io.Seeker.
func (r *ValueReader) Seek(offset int64, whence int) (int64, error) {
	return r.content.Seek(offset, whence)
}

// WriteTo implements io.WriterTo.
func (r *ValueReader) WriteTo(w io.Writer) (int64, error) {
	n, err := r.content.WriteTo(w)
	return n, r.judge(err)
}

// judge returns err, or why the store could not answer: it looks like a chunk
// that is not here.
func (r *ValueReader) judge(err error) error {
	if err == nil || err == io.EOF || r.snap == nil {
		return err
	}
	if why := r.snap.Err(); why != nil {
		return why
	}
	return err
}

// Close ends the reading. It is idempotent and never fails.
func (r *ValueReader) Close() error {
	if r.snap != nil {
		r.snap.Release()
	}
	return nil
}
