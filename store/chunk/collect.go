package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
)

// Collection is one run of garbage collection: begin it, mark what records
// name, sweep. Its marks are in memory alone (about 20 bytes a chunk that a
// record names) and go with the process. It serves one goroutine.
//
// The order is what makes it safe. BeginCollection raises the epoch, so that
// whatever is written or found to be there from then on bears a stamp that
// this collection does not touch. Then every blob that a record names is
// marked, in transactions that begin after that. Then Sweep is called in write
// transactions, and in each of them, before Sweep, every blob is marked that a
// record came to name since it was last looked at.
type Collection struct {
	epoch  uint64
	named  map[Digest]bool     // blobs that a record names
	listed map[Digest]bool     // blobs whose chunks are marked
	chunks map[uint64]struct{} // first 8 bytes of the marked chunks' digests
	puts   uint64              // manifests ever stored, when they were last looked through
	keep   uint64              // the lowest stamp that is kept, when they were
	sums   bool                // the manifests are swept, the chunks are next
	at     []byte              // key to go on from
}

// Swept is what one call of Sweep did.
type Swept struct {
	Looked int   // manifests and chunks looked at
	Blobs  int   // manifests removed
	Chunks int   // chunks removed
	Bytes  int64 // of them
	Healed int   // index rows that damage had taken
	Done   bool  // nothing is left to look at
}

// BeginCollection raises the epoch and ends the leases that ran out before
// now. The transaction must be committed before anything is marked.
func (w *Writer) BeginCollection(now time.Time) (*Collection, error) {
	if err := w.expireLeases(now); err != nil {
		return nil, err
	}
	w.state.epoch++
	return &Collection{
		epoch: w.state.epoch, named: map[Digest]bool{}, listed: map[Digest]bool{}, chunks: map[uint64]struct{}{},
	}, nil
}

// mark8 is what the marks keep of a digest: two chunks that share it are kept
// together, which is safe.
func mark8(d *Digest) uint64 { return binary.BigEndian.Uint64(d[:]) }

// Mark keeps a blob and those of its chunks that are here. A blob that is not
// here, or of another kind of CID, is no error: what it needs is marked once
// its manifest arrives. ErrCorrupt if its manifest cannot be read: then nothing
// may be swept, since nobody knows what it names. About 0.6 us a chunk, nothing
// for a blob that is marked already.
func (c *Collection) Mark(r *Reader, blob cid.Cid) error {
	d, err := DigestOf(blob)
	if err != nil {
		return nil
	}
	c.named[d] = true
	return c.list(r, d)
}

// list marks the chunks of a blob.
func (c *Collection) list(r *Reader, d Digest) error {
	if c.listed[d] {
		return nil
	}
	m, err := r.Manifest(d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.listed[d] = true
	for i := range m.refs {
		c.chunks[mark8(&m.refs[i].Digest)] = struct{}{}
	}
	return nil
}

// MarkWithin marks every blob whose CID stands somewhere in b and whose
// manifest is here: for a record that is damaged, of which it cannot be said
// what it names.
func (c *Collection) MarkWithin(r *Reader, b []byte) error {
	prefix := CID(Digest{}).Bytes()
	prefix = prefix[:len(prefix)-sha256.Size]
	for {
		i := bytes.Index(b, prefix)
		if i < 0 || len(b)-i-len(prefix) < sha256.Size {
			return nil
		}
		b = b[i+len(prefix):]
		d := Digest(b[:sha256.Size])
		if _, err := r.Describe(d); errors.Is(err, ErrNotFound) {
			continue
		}
		c.named[d] = true
		if err := c.list(r, d); err != nil {
			return err
		}
	}
}

// Sweep looks at up to limit manifests and chunks, in a write transaction, and
// removes those that nothing keeps; it goes on where the last call ended and
// says Done at the end. An error leaves the transaction unfit to be committed,
// and the collection unfit to go on.
func (c *Collection) Sweep(w *Writer, limit int) (Swept, error) {
	var out Swept
	if w.state.epoch < c.epoch {
		return out, fmt.Errorf("collection of epoch %d in a store of epoch %d: %w", c.epoch, w.state.epoch, ErrInvalid)
	}
	keep := w.oldestLease(c.epoch)
	if err := c.fresh(w, keep); err != nil {
		return out, err
	}
	if !c.sums {
		if err := c.sweepManifests(w, keep, limit, &out); err != nil {
			return out, err
		}
	}
	if c.sums && out.Looked < limit {
		if err := c.sweepChunks(w, keep, limit, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// fresh marks the chunks of the manifests that were stored, or stored again,
// since the collection or an upload began: a transfer stores a manifest first,
// and counts on those of its chunks that are here.
func (c *Collection) fresh(w *Writer, keep uint64) error {
	if c.puts == w.state.puts && c.keep == keep {
		return nil
	}
	var todo []Digest
	cur := w.manifests.Cursor()
	for k, v := cur.First(); k != nil; k, v = cur.Next() {
		if r, ok := readRow(v, k); ok && r.epoch >= keep && !c.listed[Digest(k)] {
			todo = append(todo, Digest(k))
		}
	}
	for _, d := range todo {
		if err := c.list(w.Reader, d); err != nil {
			return err
		}
	}
	c.puts, c.keep = w.state.puts, keep
	return nil
}

// sweepManifests goes through the manifests.
func (c *Collection) sweepManifests(w *Writer, keep uint64, limit int, out *Swept) error {
	var gone []Digest
	cur := w.manifests.Cursor()
	k, v := cur.Seek(c.at)
	for ; k != nil && out.Looked < limit; k, v = cur.Next() {
		out.Looked++
		if r, ok := readRow(v, k); ok && r.epoch < keep && !c.named[Digest(k)] {
			gone = append(gone, Digest(k))
		}
	}
	c.at, c.sums = bytes.Clone(k), k == nil
	for _, d := range gone {
		out.Blobs++
		if err := w.removeManifest(d); err != nil {
			return err
		}
	}
	return nil
}

// sweepChunks goes through the chunks in the order in which they were stored,
// so that those of one blob, which lie side by side, go side by side.
func (c *Collection) sweepChunks(w *Writer, keep uint64, limit int, out *Swept) error {
	type candidate struct {
		key  []byte
		size int
	}
	var gone []candidate
	cur := w.data.Cursor()
	k, v := cur.Seek(c.at)
	for ; k != nil && out.Looked < limit; k, v = cur.Next() {
		out.Looked++
		keeps, err := c.keeps(w, keep, k, v, out)
		if err != nil {
			return err
		}
		if !keeps {
			gone = append(gone, candidate{bytes.Clone(k), len(v)})
		}
	}
	c.at, out.Done = bytes.Clone(k), k == nil
	for _, g := range gone {
		out.Chunks++
		out.Bytes += int64(g.size)
		if err := w.removeData(g.key, g.size); err != nil {
			return err
		}
		d := g.key[8:]
		if e, ok := readEntry(w.index.Get(d), d); !ok || e.number == binary.BigEndian.Uint64(g.key) {
			if err := w.index.Delete(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// keeps decides on one data row. Where damage took the index row of a chunk
// that is still what it was, and that something names, it writes the row again.
func (c *Collection) keeps(w *Writer, keep uint64, key, value []byte, out *Swept) (bool, error) {
	if len(key) != dataKeyLen {
		return true, nil // verify reports it
	}
	number, d := binary.BigEndian.Uint64(key), Digest(key[8:])
	_, marked := c.chunks[mark8(&d)]
	e, ok := readEntry(w.index.Get(d[:]), d[:])
	switch {
	case ok && e.number != number:
		return false, nil // it was stored again after damage
	case ok:
		return marked || e.epoch >= keep, nil
	case !marked:
		return false, nil
	}
	if sha256.Sum256(value) != d {
		return true, nil // whoever needs it writes it again
	}
	out.Healed++
	return true, w.index.Put(d[:], entry{number, uint32(len(value)), w.state.epoch}.append(d[:]))
}
