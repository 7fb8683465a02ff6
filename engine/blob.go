package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/store"
	"bzzz/store/chunk"
)

// A value above crdt.MaxValue is a blob: its chunks lie in the DB's one chunk
// store, shared by all namespaces, and the version bears a link to them.

// blobPrefix is what the names of the chunk store's buckets begin with.
const blobPrefix = "blobs/"

// MaxInMemory is the largest value in bytes that Put takes and Get returns:
// what one transaction may hold. PutReader and GetReader take larger ones.
const MaxInMemory = crdt.MaxBatch

// largeValue is a value above the inline cap that a Txn holds.
type largeValue struct {
	id     cid.Cid
	size   int64
	chunks []chunk.Chunk             // the content, if the Txn holds it
	store  func(*chunk.Writer) error // makes it part of the store; nil if it is there
}

// newLarge cuts a value, which it refers to. ErrTooLarge above MaxInMemory.
func newLarge(value []byte) (*largeValue, error) {
	if len(value) > MaxInMemory {
		return nil, fmt.Errorf("value of %d bytes (at most %d; PutReader takes larger ones): %w", len(value), MaxInMemory, ErrTooLarge)
	}
	chunks, m, err := chunk.Cut(value)
	if err != nil {
		return nil, err
	}
	return &largeValue{
		id: m.CID(), size: m.Size(), chunks: chunks,
		store: func(w *chunk.Writer) error { return w.PutBlob(m, chunks) },
	}, nil
}

// held returns how many bytes of content the Txn keeps in memory for it.
func (l *largeValue) held() int {
	n := 0
	if l != nil {
		for _, c := range l.chunks {
			n += len(c.Data())
		}
	}
	return n
}

// flush makes the value part of the store. A result that is not fatal left
// nothing behind.
func (l *largeValue) flush(g *group) (result, fatal error) {
	if l == nil || l.store == nil {
		return nil, nil
	}
	w, err := g.blobWriter()
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) {
		return err, nil // nobody else's write shall fail because of it
	}
	if err == nil {
		err = l.store(w)
	}
	if errors.Is(err, ErrUnavailable) {
		return err, nil
	}
	return err, err
}

// blobWriter returns the chunk store's writer in this transaction.
func (g *group) blobWriter() (*chunk.Writer, error) {
	if g.blobs == nil {
		w, err := g.db.blobs.Writer(g.tx)
		if err != nil {
			return nil, err
		}
		g.blobs = w
	}
	return g.blobs, nil
}

// content returns the value of a version that tx sees. ErrTooLarge above
// MaxInMemory, ErrUnavailable if it is a large one that is not wholly here.
func (db *DB) content(tx store.Tx, v *crdt.Version) ([]byte, error) {
	if !v.Blob.Defined() {
		return append([]byte{}, v.Value...), nil
	}
	d, err := chunk.DigestOf(v.Blob)
	if err != nil {
		return nil, err
	}
	rd := db.blobs.Reader(tx)
	desc, err := rd.Describe(d)
	if err != nil {
		return nil, notHere(err)
	}
	if desc.Size > MaxInMemory {
		return nil, fmt.Errorf("value of %d bytes (at most %d; GetReader reads larger ones): %w", desc.Size, MaxInMemory, ErrTooLarge)
	}
	b, err := rd.Open(d)
	if err != nil {
		return nil, notHere(err)
	}
	out := make([]byte, b.Size())
	if _, err := b.ReadAt(out, 0); err != nil {
		return nil, err
	}
	return out, nil
}

// notHere makes a manifest that is not found something that may come: the key
// is there, its value is not.
func notHere(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("the value is not here yet: %v: %w", err, ErrUnavailable)
	}
	return err
}

// sizeOf returns the length of a version's value that tx sees, -1 if it is a
// large one whose manifest is not here.
func (db *DB) sizeOf(tx store.Tx, v *crdt.Version) int64 {
	if !v.Blob.Defined() {
		return int64(len(v.Value))
	}
	if d, err := chunk.DigestOf(v.Blob); err == nil {
		if desc, err := db.blobs.Reader(tx).Describe(d); err == nil {
			return int64(desc.Size)
		}
	}
	return -1
}

func (r *reading) content(v *crdt.Version) ([]byte, error) { return r.ns.db.content(r.rd.Tx(), v) }
func (r *reading) sizeOf(v *crdt.Version) int64            { return r.ns.db.sizeOf(r.rd.Tx(), v) }

func (t *Txn) content(v *crdt.Version) ([]byte, error) {
	if p := t.pendingLarge(v); p != nil && p.chunks != nil {
		out := make([]byte, 0, p.size)
		for _, c := range p.chunks {
			out = append(out, c.Data()...)
		}
		return out, nil
	}
	return t.ns.db.content(t.batch.Tx(), v)
}

func (t *Txn) sizeOf(v *crdt.Version) int64 {
	if p := t.pendingLarge(v); p != nil {
		return p.size
	}
	return t.ns.db.sizeOf(t.batch.Tx(), v)
}

// pendingLarge returns the large value that a version of the overlay names.
func (t *Txn) pendingLarge(v *crdt.Version) *largeValue {
	if p := t.pending[string(v.Key)]; p != nil && v.Blob.Defined() && p.large != nil && p.large.id == v.Blob {
		return p.large
	}
	return nil
}

// link makes a key name a blob again. It must be wholly here, or a sibling of
// the key must name it: else nobody may ever have it. ErrUnavailable otherwise.
func (t *Txn) link(stored []byte, kind crdt.Kind, blob cid.Cid, attrs []crdt.Attr, seen bool) error {
	s, err := t.siblings(stored)
	if err != nil {
		return err
	}
	l := &largeValue{id: blob, size: t.ns.db.sizeOf(t.batch.Tx(), &crdt.Version{Blob: blob})}
	if !slices.ContainsFunc(s, func(v *crdt.Version) bool { return v.Blob == blob }) {
		d, err := chunk.DigestOf(blob)
		if err != nil {
			return err
		}
		if err := t.ns.db.blobs.Reader(t.batch.Tx()).Check(d, false); err != nil {
			return notHere(err)
		}
	}
	return t.stage(stored, kind, nil, l, attrs, seen)
}

// PutVersionIf writes the value that a version holds again, large or not, with
// its content type, only if the key's state is still the one that a reader saw:
// how a conflict is resolved in favour of one side. See PutIf. ErrUnavailable if
// it is a large value that is neither here nor under the key.
func (ns *Namespace) PutVersionIf(ctx context.Context, key []byte, v Version, seen Token) error {
	opts := []WriteOption{ContentType(v.ContentType)}
	if v.Blob == "" {
		return ns.PutIf(ctx, key, v.Value, seen, opts...)
	}
	id, err := cid.Decode(v.Blob)
	if err != nil {
		return fmt.Errorf("blob %q: %w: %v", v.Blob, ErrInvalid, err)
	}
	return ns.Update(ctx, func(t *Txn) error {
		stored, err := t.check(key, seen)
		if err != nil {
			return err
		}
		attrs, err := t.attrs(writeOptionsOf(opts))
		if err != nil {
			return err
		}
		return t.link(stored, crdt.Put, id, attrs, true)
	})
}
