package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"bzzz/internal/errs"
	"bzzz/store"
)

// Reader reads a blob store within a transaction, read or write. It needs
// nothing but the transaction and serves one goroutine. What it returns points
// into the transaction's bytes. Where no blob was ever stored it finds nothing.
type Reader struct {
	tx                                          store.Tx
	data, index, manifests, lists, leases, meta store.Bucket
}

// Reader returns a reader on tx.
func (s *Store) Reader(tx store.Tx) *Reader {
	return &Reader{
		tx: tx, data: tx.Bucket(s.data), index: tx.Bucket(s.index), manifests: tx.Bucket(s.manifests),
		lists: tx.Bucket(s.lists), leases: tx.Bucket(s.leases), meta: tx.Bucket(s.meta),
	}
}

// empty reports whether no blob was ever stored.
func (r *Reader) empty() bool {
	return r.data == nil || r.index == nil || r.manifests == nil || r.lists == nil || r.leases == nil || r.meta == nil
}

// Stats returns the sizes. O(leases).
func (r *Reader) Stats() (Stats, error) {
	if r.empty() {
		return Stats{}, nil
	}
	st, err := readState(r.meta.Get(metaState))
	if err != nil {
		return Stats{}, err
	}
	out := Stats{Blobs: st.blobs, Chunks: st.chunks, Bytes: st.bytes, ManifestBytes: st.listBytes, Epoch: st.epoch}
	c := r.leases.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		out.Leases++
	}
	return out, nil
}

// stored returns a chunk's bytes unverified, nil if it is not here.
func (r *Reader) stored(d *Digest) []byte {
	if r.empty() {
		return nil
	}
	e, ok := readEntry(r.index.Get(d[:]), d[:])
	if !ok {
		return nil
	}
	return r.data.Get(dataKey(e.number, d))
}

// Has reports whether a chunk is here, by its name and length, without reading
// it. Two look-ups.
func (r *Reader) Has(ref Ref) bool { return len(r.stored(&ref.Digest)) == ref.Size && ref.Size > 0 }

// Chunk returns the chunk of that name after hashing it. ErrUnavailable if it
// is not here, ErrCorrupt if its bytes are not what they were.
func (r *Reader) Chunk(ref Ref) (Chunk, error) {
	b := r.stored(&ref.Digest)
	if b == nil {
		return Chunk{}, fmt.Errorf("chunk %x is not here: %w", ref.Digest, ErrUnavailable)
	}
	if got := sha256.Sum256(b); got != ref.Digest || len(b) != ref.Size {
		return Chunk{}, &errs.Corruption{
			What: fmt.Sprintf("chunk of %d bytes (want %d)", len(b), ref.Size), Want: hex.EncodeToString(ref.Digest[:]),
			Got: hex.EncodeToString(got[:]), Hint: hintRepair,
		}
	}
	return Chunk{ref, b}, nil
}

// Describe returns the descriptor of a blob whose manifest is here, else
// ErrNotFound; ErrCorrupt if it is damaged. One look-up.
func (r *Reader) Describe(blob Digest) (Descriptor, error) {
	rw, err := r.row(blob)
	return rw.desc, err
}

func (r *Reader) row(blob Digest) (row, error) {
	if r.empty() {
		return row{}, notHere(blob)
	}
	b := r.manifests.Get(blob[:])
	if b == nil {
		return row{}, notHere(blob)
	}
	rw, ok := readRow(b, blob[:])
	if !ok {
		return row{}, damaged("manifest of blob", blob)
	}
	return rw, nil
}

func notHere(blob Digest) error { return fmt.Errorf("manifest of blob %s: %w", CID(blob), ErrNotFound) }

// Manifest returns the manifest of a blob, checked against its name.
// ErrNotFound if it is not here, ErrCorrupt if it is damaged. About 0.5 us a
// chunk.
func (r *Reader) Manifest(blob Digest) (*Manifest, error) {
	rw, err := r.row(blob)
	if err != nil {
		return nil, err
	}
	m, err := parseList(rw.desc, r.lists.Get(blob[:]))
	if err != nil {
		return nil, &errs.Corruption{What: fmt.Sprintf("chunk list of blob %s: %v", CID(blob), err), Hint: hintRepair}
	}
	return m, nil
}

// Missing returns the indexes, from start on, of chunks of a blob that are not
// here, at most limit of them (0 = all), and where to go on: m.Len() at the
// end. It looks at names and lengths, not at bytes. Two look-ups a chunk.
func (r *Reader) Missing(m *Manifest, start, limit int) (missing []int, next int) {
	for next = start; next < m.Len(); next++ {
		if r.Has(m.refs[next]) {
			continue
		}
		if missing = append(missing, next); len(missing) == limit {
			return missing, next + 1
		}
	}
	return missing, next
}

// Blobs calls visit with the blobs whose manifests are here, in the order of
// their digests after the given one (nil: from the first), until it returns
// false. A damaged row has an empty descriptor.
func (r *Reader) Blobs(after *Digest, visit func(blob Digest, d Descriptor) bool) {
	if r.empty() {
		return
	}
	c := r.manifests.Cursor()
	k, v := c.First()
	if after != nil {
		if k, v = c.Seek(after[:]); string(k) == string(after[:]) {
			k, v = c.Next()
		}
	}
	for ; k != nil; k, v = c.Next() {
		if len(k) != len(Digest{}) {
			continue // verify reports it
		}
		rw, _ := readRow(v, k)
		if !visit(Digest(k), rw.desc) {
			return
		}
	}
}
