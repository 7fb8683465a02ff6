package engine

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"bzzz/engine/replica"
	"bzzz/store"
	"bzzz/store/chunk"
)

// What a transfer of large values between two stores is made of. The record
// comes first, by a sync; then the receiver asks MissingBlobs what it lacks,
// stores each manifest (PutBlobManifest) before its chunks (PutChunks), and is done
// when nothing is missing. Cut at any point it goes on there: what was stored is
// kept, because the record names it.

// BlobWant is a large value that a live version names and that is not wholly
// here.
type BlobWant struct {
	Key  []byte // the name; for an element of a composite, the composite's
	Blob string // CID
	// Manifest tells that the manifest itself is missing; then nothing is known
	// of the chunks.
	Manifest bool
	Chunks   []chunk.Ref // that are missing, in order, each once; at most as many as asked for
}

// MissingBlobs returns large values of live versions that are not wholly here,
// from a cursor on (nil: the first): at most limit of them, of each at most
// maxChunks missing chunks. next is the cursor to go on from, nil at the end. It
// looks at up to 4,096 keys and so may return none and a cursor. Two look-ups a
// key and a chunk.
func (ns *Namespace) MissingBlobs(ctx context.Context, cursor []byte, limit, maxChunks int) (wants []BlobWant, next []byte, err error) {
	if limit < 1 || maxChunks < 1 {
		return nil, nil, fmt.Errorf("%d large values of %d chunks: %w", limit, maxChunks, ErrInvalid)
	}
	err = ns.fullView(ctx, func(v *replica.View) (err error) {
		rd := ns.db.blobs.Reader(v.Tx())
		seen := map[cid.Cid]bool{}
		next, err = v.LiveLinks(cursor, wantStride, func(l replica.Link) bool {
			if len(wants) >= limit {
				return false
			}
			if seen[l.Blob] {
				return true
			}
			seen[l.Blob] = true
			if w, missing := wantOf(rd, l.Blob, maxChunks); missing {
				w.Key = nameOf(l.Key)
				wants = append(wants, w)
			}
			return true
		})
		return err
	})
	return wants, next, err
}

// wantStride is how many keys one call of MissingBlobs looks at.
const wantStride = 4096

// wantOf says what is missing of a blob. A kind of CID that this build does not
// know is left alone.
func wantOf(rd *chunk.Reader, id cid.Cid, maxChunks int) (BlobWant, bool) {
	w := BlobWant{Blob: id.String()}
	d, err := chunk.DigestOf(id)
	if err != nil {
		return w, false
	}
	m, err := rd.Manifest(d)
	if err != nil { // not here, or damaged: a new one heals it
		w.Manifest = true
		return w, true
	}
	asked := map[chunk.Digest]bool{}
	for next := 0; next < m.Len() && len(w.Chunks) < maxChunks; {
		var missing []int
		missing, next = rd.Missing(m, next, 1)
		for _, i := range missing {
			if ref := m.Ref(i); !asked[ref.Digest] {
				asked[ref.Digest] = true
				w.Chunks = append(w.Chunks, ref)
			}
		}
	}
	return w, len(w.Chunks) > 0
}

// BlobManifest returns the encoded manifest of a large value for a peer.
// ErrUnavailable if it is not here, ErrInvalid for a malformed CID.
func (db *DB) BlobManifest(ctx context.Context, blob string) ([]byte, error) {
	d, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = db.viewBlobs(ctx, func(rd *chunk.Reader) error {
		m, err := rd.Manifest(d)
		if err == nil {
			out = m.AppendBinary(nil)
		}
		return notHere(err)
	})
	return out, err
}

// PutBlobManifest stores the manifest of a large value that a peer sent: it must be
// the one that the CID stands for (ErrCorrupt). One commit.
func (db *DB) PutBlobManifest(ctx context.Context, blob string, encoded []byte) error {
	d, err := parseBlob(blob)
	if err != nil {
		return err
	}
	m, err := chunk.ParseManifest(encoded)
	if err != nil {
		return err
	}
	if m.Digest() != d {
		return fmt.Errorf("manifest of blob %s, want that of %s: %w", m.CID(), blob, ErrCorrupt)
	}
	return db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err == nil {
			err = w.PutManifest(m)
		}
		return err, err
	}})
}

// HaveChunks tells of each chunk whether it is here. Two look-ups a chunk.
func (db *DB) HaveChunks(ctx context.Context, refs []chunk.Ref) ([]bool, error) {
	have := make([]bool, len(refs))
	err := db.viewBlobs(ctx, func(rd *chunk.Reader) error {
		for i, ref := range refs {
			have[i] = rd.Has(ref)
		}
		return nil
	})
	return have, err
}

// ReadChunk returns a chunk, verified. ErrUnavailable if it is not here,
// ErrCorrupt if it is damaged.
func (db *DB) ReadChunk(ctx context.Context, ref chunk.Ref) ([]byte, error) {
	var out []byte
	err := db.viewBlobs(ctx, func(rd *chunk.Reader) error {
		c, err := rd.Chunk(ref)
		out = append([]byte{}, c.Data()...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PutChunks stores chunks that a peer sent: each must be the one that was asked
// for at its place (ErrCorrupt, and none is stored). At most chunk.BatchBytes
// together (ErrTooLarge), so that other writers do not wait. One commit.
func (db *DB) PutChunks(ctx context.Context, refs []chunk.Ref, data [][]byte) error {
	if len(refs) != len(data) {
		return fmt.Errorf("%d chunks for %d names: %w", len(data), len(refs), ErrInvalid)
	}
	chunks, size := make([]chunk.Chunk, len(data)), 0
	for i, b := range data {
		if size += len(b); size > chunk.BatchBytes {
			return fmt.Errorf("chunks above %d bytes together: %w", chunk.BatchBytes, ErrTooLarge)
		}
		c, err := chunk.NewChunk(b)
		if err != nil {
			return err
		}
		if c.Ref() != refs[i] {
			return fmt.Errorf("chunk %x of %d bytes, want %x of %d: %w", c.Ref().Digest, len(b), refs[i].Digest, refs[i].Size, ErrCorrupt)
		}
		chunks[i] = c
	}
	return db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err != nil {
			return err, err
		}
		for _, c := range chunks {
			if _, err := w.Put(c); err != nil {
				return err, err
			}
		}
		return nil, nil
	}})
}

func (db *DB) viewBlobs(ctx context.Context, fn func(*chunk.Reader) error) error {
	if err := db.usable(ctx); err != nil {
		return err
	}
	return db.kv.View(func(tx store.Tx) error { return fn(db.blobs.Reader(tx)) })
}

func parseBlob(blob string) (chunk.Digest, error) {
	id, err := cid.Decode(blob)
	if err != nil {
		return chunk.Digest{}, fmt.Errorf("blob %q: %w: %v", blob, ErrInvalid, err)
	}
	return chunk.DigestOf(id)
}
