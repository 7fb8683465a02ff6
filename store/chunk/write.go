package chunk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Put stores a chunk unless its very bytes are there already, and stamps it
// with the current epoch either way. added tells whether it was stored; what
// damage took from a chunk of that digest is replaced. Two look-ups and, for a
// chunk that is there, a comparison. The chunk's bytes must not change before
// the transaction ends.
func (w *Writer) Put(c Chunk) (added bool, err error) {
	if c.ref.Size == 0 {
		return false, fmt.Errorf("empty chunk: %w", ErrInvalid)
	}
	d := &c.ref.Digest
	if e, ok := readEntry(w.index.Get(d[:]), d[:]); ok {
		key := dataKey(e.number, d)
		if stored := w.data.Get(key); bytes.Equal(stored, c.data) {
			if e.epoch >= w.state.epoch {
				return false, nil
			}
			e.epoch = w.state.epoch
			return false, w.index.Put(d[:], e.append(d[:]))
		} else if stored != nil {
			if err := w.removeData(key, len(stored)); err != nil {
				return false, err
			}
		} else { // damage took it, but not the count of it
			w.state.chunks--
			w.state.bytes -= uint64(e.size)
		}
	}
	e := entry{w.state.next, uint32(c.ref.Size), w.state.epoch}
	w.state.next++
	w.state.chunks++
	w.state.bytes += uint64(c.ref.Size)
	if err := w.data.Put(dataKey(e.number, d), c.data); err != nil {
		return false, err
	}
	return true, w.index.Put(d[:], e.append(d[:]))
}

func (w *Writer) removeData(key []byte, size int) error {
	w.state.chunks--
	w.state.bytes -= uint64(size)
	return w.data.Delete(key)
}

// Discard removes a chunk whose bytes are not what its digest says, so that it
// counts as missing and is asked of a peer. It tells whether there was one; a
// sound chunk stays.
func (w *Writer) Discard(d Digest) (bool, error) {
	e, ok := readEntry(w.index.Get(d[:]), d[:])
	if !ok {
		return false, nil
	}
	key := dataKey(e.number, &d)
	stored := w.data.Get(key)
	if stored == nil || sha256.Sum256(stored) == d {
		return false, nil
	}
	if err := w.removeData(key, len(stored)); err != nil {
		return false, err
	}
	return true, w.index.Delete(d[:])
}

// PutManifest stores a manifest, or stamps the one that is there, so that a
// collection that runs keeps the chunks of it that are here. They need not be
// here yet: [Reader.Missing] says which are not. A manifest that a transfer
// brings must be stored before its chunks, and after the record that names it.
func (w *Writer) PutManifest(m *Manifest) error {
	d := m.digest
	_, err := w.Manifest(d)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt):
		if err := w.removeManifest(d); err != nil {
			return err
		}
		list := appendList(make([]byte, 0, len(m.refs)*maxListEntry), m.refs)
		if err := w.lists.Put(d[:], list); err != nil {
			return err
		}
		w.state.blobs++
		w.state.listBytes += uint64(len(list))
	default:
		return err
	}
	w.state.puts++
	return w.manifests.Put(d[:], row{w.state.epoch, m.desc}.append(d[:]))
}

// removeManifest removes what is there of a manifest.
func (w *Writer) removeManifest(d Digest) error {
	list := w.lists.Get(d[:])
	if list == nil && w.manifests.Get(d[:]) == nil {
		return nil
	}
	w.state.blobs-- // also if damage took one of the two
	w.state.listBytes -= uint64(len(list))
	if err := w.lists.Delete(d[:]); err != nil {
		return err
	}
	return w.manifests.Delete(d[:])
}

// PutBlob stores a whole blob whose record is written in the same transaction:
// its chunks and its manifest.
func (w *Writer) PutBlob(m *Manifest, chunks []Chunk) error {
	for _, c := range chunks {
		if _, err := w.Put(c); err != nil {
			return err
		}
	}
	return w.PutManifest(m)
}
