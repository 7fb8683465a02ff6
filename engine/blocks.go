package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/store/chunk"
)

// Local records of what a session moves behind the reconcile. No user's key
// begins with 0.
const (
	// wantPrefix and the digest of a blob: the stored key of a version that names
	// it. The blob was not wholly here when the version arrived, or was damaged
	// since.
	wantPrefix = "\x00want/"
	// pastPrefix and a peer's journal id: how far in that journal the retained
	// history has been taken, uvarint.
	pastPrefix = "\x00past/"
)

// noteWants remembers which blobs of versions that have just been applied are
// not wholly here.
func (g *group) noteWants(b *replica.Batch, versions []*crdt.Version) error {
	var rd *chunk.Reader
	for _, v := range versions {
		if !v.Blob.Defined() {
			continue
		}
		if rd == nil {
			rd = g.db.blobs.Reader(g.tx)
		}
		d, err := chunk.DigestOf(v.Blob)
		if err != nil {
			continue // of a kind that this build does not know
		}
		if _, missing := wantOf(rd, v.Blob, 1); !missing {
			continue
		}
		if err := b.SetLocal([]byte(wantPrefix+string(d[:])), v.Key); err != nil {
			return err
		}
	}
	return nil
}

// lacking returns how many blobs of a view's namespace are not wholly here.
func lacking(v *replica.View) (n int) {
	for range v.Locals([]byte(wantPrefix)) {
		n++
	}
	return n
}

// lacking returns how many large values are not wholly here, in the namespaces
// of a session.
func (h *host) lacking() (int, error) {
	names, err := h.Names()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		if ns := h.db.find(name); ns != nil {
			if err := ns.fullView(h.ctx, func(v *replica.View) error { n += lacking(v); return nil }); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Lacks reports whether a large value is not wholly here.
func (h *host) Lacks() (bool, error) {
	n, err := h.lacking()
	return n > 0, err
}

// Wants lists blocks of large values that are not here, and forgets those that
// are, or that no live version names any more.
func (h *host) Wants(absent map[[32]byte]bool, items int, bytes int64) ([]wire.Item, error) {
	names, err := h.Names()
	if err != nil {
		return nil, err
	}
	var out []wire.Item
	for _, name := range names {
		ns := h.db.find(name)
		if ns == nil {
			continue
		}
		var settled []string
		err := ns.fullView(h.ctx, func(v *replica.View) error {
			rd := h.db.blobs.Reader(v.Tx())
			for k, key := range v.Locals([]byte(wantPrefix)) {
				digest := k[len(wantPrefix):]
				if len(digest) != len(chunk.Digest{}) {
					settled = append(settled, string(k))
					continue
				}
				found, more, err := blocksOf(v, rd, chunk.Digest(digest), key, absent, items-len(out), &bytes)
				if err != nil {
					return err
				}
				if !more {
					settled = append(settled, string(k))
				}
				if out = append(out, found...); len(out) >= items || bytes <= 0 {
					return nil
				}
			}
			return nil
		})
		if err == nil && len(settled) > 0 {
			err = ns.dropLocals(h.ctx, settled)
		}
		if err != nil || len(out) >= items || bytes <= 0 {
			return out, err
		}
	}
	return out, nil
}

// blocksOf lists what is missing of a blob that a live version under key names.
// more is false if nothing is.
func blocksOf(v *replica.View, rd *chunk.Reader, blob chunk.Digest, key []byte, absent map[[32]byte]bool, limit int, bytes *int64) (out []wire.Item, more bool, err error) {
	siblings, err := v.Siblings(key)
	if errors.Is(err, ErrCorrupt) {
		return nil, true, nil // later
	}
	if err != nil {
		return nil, false, err
	}
	id, named := chunk.CID(blob), false
	for _, s := range siblings {
		named = named || s.Blob == id
	}
	w, missing := wantOf(rd, id, limit+len(absent))
	if !named || !missing {
		return nil, false, nil
	}
	if w.Manifest {
		if !absent[blob] && limit > 0 {
			out = append(out, wire.Item{Manifest: true, Digest: blob})
		}
		return out, true, nil
	}
	for _, ref := range w.Chunks {
		if len(out) >= limit || *bytes <= 0 {
			break
		}
		if !absent[ref.Digest] {
			out = append(out, wire.Item{Size: uint64(ref.Size), Digest: ref.Digest})
			*bytes -= int64(ref.Size)
		}
	}
	return out, true, nil
}

// dropLocals removes local records in a transaction of its own.
func (ns *Namespace) dropLocals(ctx context.Context, keys []string) error {
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		for _, k := range keys {
			if err := b.SetLocal([]byte(k), nil); err != nil {
				return err, err
			}
		}
		return nil, nil
	}})
}

// Block returns a block for a peer, nil if it is not here or damaged.
func (h *host) Block(it wire.Item) (data []byte, err error) {
	if it.Manifest {
		data, err = h.db.BlobManifest(h.ctx, chunk.CID(it.Digest).String())
	} else {
		data, err = h.db.ReadChunk(h.ctx, chunk.Ref{Digest: it.Digest, Size: int(min(it.Size, chunk.MaxChunk+1))})
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	return data, err
}

// PutBlocks stores what a peer sent.
func (h *host) PutBlocks(items []wire.Item, data [][]byte) error {
	var refs []chunk.Ref
	var chunks [][]byte
	for i, it := range items {
		if it.Manifest {
			if err := h.db.PutBlobManifest(h.ctx, chunk.CID(it.Digest).String(), data[i]); err != nil {
				return err
			}
			continue
		}
		if uint64(len(data[i])) != it.Size {
			return fmt.Errorf("chunk of %d bytes, asked for one of %d: %w", len(data[i]), it.Size, ErrCorrupt)
		}
		refs, chunks = append(refs, chunk.Ref{Digest: it.Digest, Size: int(it.Size)}), append(chunks, data[i])
	}
	if len(refs) == 0 {
		return nil
	}
	return h.db.PutChunks(h.ctx, refs, chunks)
}

// PastCursor returns how far in a peer's journal its history has been taken.
func (h *host) PastCursor(name string, peer [16]byte) (at uint64, err error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return 0, err
	}
	err = ns.fullView(h.ctx, func(v *replica.View) error {
		b, err := v.Local([]byte(pastPrefix + string(peer[:])))
		if n, size := binary.Uvarint(b); err == nil && size > 0 {
			at = n
		}
		return nil // without one everything is sent again, and what is here is passed over
	})
	return at, err
}

// Backfill takes in history and how far it reaches. A peer that did not name
// itself has no cursor.
func (h *host) Backfill(name string, versions []*crdt.Version, peer [16]byte, at uint64) (taken int, err error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil || len(versions) == 0 && peer == [16]byte{} {
		return 0, err
	}
	err = h.db.submit(h.ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		if taken, err = b.Backfill(versions); err == nil && peer != [16]byte{} {
			err = b.SetLocal([]byte(pastPrefix+string(peer[:])), binary.AppendUvarint(nil, at))
		}
		return err, err
	}})
	return taken, err
}
