package chunk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"bzzz/store"
)

// Store names the buckets of one set of blobs within a store.KV. It holds no
// data and is safe for concurrent use.
type Store struct {
	data      string // number u64 | digest 32 -> chunk
	index     string // digest -> see entry
	manifests string // blob digest -> see row
	lists     string // blob digest -> chunk list, see Manifest.AppendBinary
	leases    string // upload -> see lease
	meta      string // see state
}

// New returns the Store whose buckets' names begin with prefix.
func New(prefix string) *Store {
	return &Store{
		data: prefix + "data", index: prefix + "index", manifests: prefix + "manifests",
		lists: prefix + "lists", leases: prefix + "leases", meta: prefix + "meta",
	}
}

// Chunks lie in the data bucket in the order in which they came, so that a
// batch is written once, at its end: under their digests each would land
// between two others, which a B-tree of large values has to write again.

// entry is a chunk's row in the index:
//
//	number u64 | length u32 | epoch u64 | crc32c u32
type entry struct {
	number uint64 // of the data row
	size   uint32
	epoch  uint64 // stamp
}

const entryLen = 8 + 4 + 8

func (e entry) append(key []byte) []byte {
	b := make([]byte, 0, entryLen+4)
	b = binary.BigEndian.AppendUint64(b, e.number)
	b = binary.BigEndian.AppendUint32(b, e.size)
	b = binary.BigEndian.AppendUint64(b, e.epoch)
	return seal(b, key)
}

func readEntry(row, key []byte) (entry, bool) {
	b, ok := unseal(row, key)
	if !ok || len(b) != entryLen {
		return entry{}, false
	}
	return entry{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint64(b[12:])}, true
}

func dataKey(number uint64, d *Digest) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(d)), number), d[:]...)
}

const dataKeyLen = 8 + len(Digest{})

// row is a blob's row in the manifests bucket:
//
//	epoch u64 | descriptor | crc32c u32
type row struct {
	epoch uint64 // stamp
	desc  Descriptor
}

func (r row) append(key []byte) []byte {
	b := make([]byte, 0, 8+maxDescriptor+4)
	b = binary.BigEndian.AppendUint64(b, r.epoch)
	return seal(r.desc.AppendBinary(b), key)
}

// readRow reads what append wrote under key and checks it against its name.
func readRow(b, key []byte) (row, bool) {
	body, ok := unseal(b, key)
	if !ok || len(body) < 8 {
		return row{}, false
	}
	d, rest, err := readDescriptor(body[8:])
	if err != nil || len(rest) > 0 {
		return row{}, false
	}
	if digest := d.Digest(); string(digest[:]) != string(key) {
		return row{}, false
	}
	return row{binary.BigEndian.Uint64(body), d}, true
}

// state is the one row of the meta bucket:
//
//	format u8 = 1 | epoch u64 | next number u64 | manifests stored u64 |
//	chunks u64 | chunk bytes u64 | blobs u64 | list bytes u64 | crc32c u32
type state struct {
	epoch     uint64 // stamp of whatever is written now
	next      uint64 // number of the next data row
	puts      uint64 // manifests ever stored
	chunks    uint64 // data rows
	bytes     uint64 // in them
	blobs     uint64 // manifest rows
	listBytes uint64 // of their lists
}

var metaState = []byte("state")

const storeFormat = 1

func (s *state) fields() [7]*uint64 {
	return [7]*uint64{&s.epoch, &s.next, &s.puts, &s.chunks, &s.bytes, &s.blobs, &s.listBytes}
}

func (s state) append() []byte {
	b := []byte{storeFormat}
	for _, f := range s.fields() {
		b = binary.BigEndian.AppendUint64(b, *f)
	}
	return seal(b, metaState)
}

func readState(row []byte) (state, error) {
	var s state
	b, ok := unseal(row, metaState)
	switch {
	case !ok || len(b) == 0:
		return s, fmt.Errorf("state of the blob store is damaged: %w", ErrCorrupt)
	case b[0] != storeFormat:
		return s, fmt.Errorf("blob store of format %d, this build reads %d: %w", b[0], storeFormat, ErrUnsupported)
	case len(b) != 1+7*8:
		return s, fmt.Errorf("state of the blob store: %d bytes: %w", len(b), ErrCorrupt)
	}
	for i, f := range s.fields() {
		*f = binary.BigEndian.Uint64(b[1+8*i:])
	}
	return s, nil
}

// Stats are a blob store's sizes.
type Stats struct {
	Blobs         uint64 `json:"blobs"`          // manifests
	Chunks        uint64 `json:"chunks"`         // each counted once
	Bytes         uint64 `json:"bytes"`          // of chunks
	ManifestBytes uint64 `json:"manifest_bytes"` // of chunk lists
	Leases        int    `json:"leases"`         // uploads under way or cut short
	Epoch         uint64 `json:"epoch"`          // collections begun
}

// Writer changes a blob store within one write transaction of the caller. At
// most one may exist in a transaction; whoever shares the transaction shares
// it. It serves one goroutine and ends with Finish. After an error that does
// not match ErrInvalid, ErrTooLarge or ErrUnavailable the transaction must not
// be committed.
type Writer struct {
	*Reader
	state state
	saved state
}

// Writer returns a writer on tx and makes the buckets if they are not there.
// ErrCorrupt or ErrUnsupported if they cannot be read.
func (s *Store) Writer(tx store.Tx) (*Writer, error) {
	if tx.Bucket(s.meta) == nil {
		err := s.create(tx)
		if errors.Is(err, store.ErrExists) {
			err = fmt.Errorf("the state of the blob store is missing: %w", ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
	}
	w := &Writer{Reader: s.Reader(tx)}
	if w.data == nil || w.index == nil || w.manifests == nil || w.lists == nil || w.leases == nil {
		return nil, fmt.Errorf("a bucket of the blob store is missing: %w", ErrCorrupt)
	}
	var err error
	w.state, err = readState(w.meta.Get(metaState))
	w.saved = w.state
	return w, err
}

func (s *Store) create(tx store.Tx) error {
	if _, err := tx.CreateBucket(s.data, store.AppendOnly); err != nil {
		return err
	}
	for _, name := range []string{s.index, s.manifests, s.lists, s.leases} {
		if _, err := tx.CreateBucket(name, store.Ordered); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucket(s.meta, store.Ordered)
	if err != nil {
		return err
	}
	return meta.Put(metaState, state{epoch: 1, next: 1}.append())
}

// Finish writes what belongs to the changes. It must be called before the
// transaction is committed.
func (w *Writer) Finish() error {
	if w.state == w.saved {
		return nil
	}
	w.saved = w.state
	return w.meta.Put(metaState, w.state.append())
}
