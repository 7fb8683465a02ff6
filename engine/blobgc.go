package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
	"bzzz/store/chunk"
)

// sweepLimit is how many chunks and manifests one transaction of a collection
// looks at: some milliseconds of the one writer.
const sweepLimit = 2048

// linkStride is how many journal records one transaction of the marking reads.
const linkStride = 64 << 10

// blobCollector is one collection of large values. What a record of any journal
// names is kept, live or retained; the journals themselves say what was linked
// while it runs.
type blobCollector struct {
	db    *DB
	c     *chunk.Collection
	after map[*Namespace]uint64 // journal record up to which links are marked
}

// collectBlobs removes the chunks and manifests that no record names. Only one
// collection runs at a time.
func (db *DB) collectBlobs(ctx context.Context, out *CollectReport) error {
	select {
	case db.collecting <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.ended:
		return ErrClosed
	}
	defer func() { <-db.collecting }()
	st, err := db.blobStats(ctx)
	if err != nil || st == (chunk.Stats{}) {
		return err
	}
	bc := &blobCollector{db: db, after: map[*Namespace]uint64{}}
	if err := bc.begin(ctx); err != nil {
		return err
	}
	for done := false; !done && err == nil; {
		if err = bc.markAll(ctx); err == nil {
			done, err = bc.sweep(ctx, out)
		}
	}
	if err != nil {
		return fmt.Errorf("large values not collected: %w", err)
	}
	st, err = db.blobStats(ctx)
	out.Leases = st.Leases
	return err
}

// spaces returns the namespaces that there are now.
func (db *DB) spaces() []*Namespace {
	db.mu.Lock()
	defer db.mu.Unlock()
	out := make([]*Namespace, 0, len(db.namespaces))
	for _, ns := range db.namespaces {
		out = append(out, ns)
	}
	return out
}

// begin raises the epoch in a commit of its own.
func (bc *blobCollector) begin(ctx context.Context) error {
	return bc.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err == nil {
			bc.c, err = w.BeginCollection(time.Now())
		}
		return err, err
	}})
}

// markAll marks what the journals name so far: everything at first, then what
// was linked since, so that a sweep has little left to look at.
func (bc *blobCollector) markAll(ctx context.Context) error {
	for _, ns := range bc.db.spaces() {
		if err := bc.mark(ctx, ns); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// mark marks what the journal of a namespace names, in read transactions of
// bounded length.
func (bc *blobCollector) mark(ctx context.Context, ns *Namespace) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ns.fullView(ctx, func(v *replica.View) (err error) {
			more, err = bc.links(v.Reader, bc.db.blobs.Reader(v.Tx()), ns)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// links marks what the next records of a journal name.
func (bc *blobCollector) links(rd *replica.Reader, blobs *chunk.Reader, ns *Namespace) (more bool, err error) {
	from := bc.after[ns]
	end, err := rd.Links(from, linkStride,
		func(id cid.Cid) error { return bc.c.Mark(blobs, id) },
		func(record []byte) error { return bc.c.MarkWithin(blobs, record) })
	bc.after[ns] = end
	return end > from, err
}

// sweep does one transaction of sweeping: first it marks what was linked since
// the marks, in this very transaction, so that nothing can come between.
func (bc *blobCollector) sweep(ctx context.Context, out *CollectReport) (done bool, err error) {
	var part chunk.Swept
	err = bc.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err != nil {
			return err, err
		}
		for _, ns := range bc.db.spaces() {
			rd, err := ns.replica.Reader(g.tx)
			if errors.Is(err, ErrNotFound) {
				continue // dropped
			}
			for more := true; more && err == nil; {
				more, err = bc.links(rd, w.Reader, ns)
			}
			if err != nil {
				return err, err
			}
		}
		part, err = bc.c.Sweep(w, sweepLimit)
		return err, err
	}})
	if err != nil {
		return false, err
	}
	out.Blobs += part.Blobs
	out.Chunks += part.Chunks
	out.ChunkBytes += part.Bytes
	return part.Done, nil
}

// blobStats returns the sizes of the chunk store.
func (db *DB) blobStats(ctx context.Context) (st chunk.Stats, err error) {
	if err := db.usable(ctx); err != nil {
		return st, err
	}
	err = db.kv.View(func(tx store.Tx) (err error) {
		st, err = db.blobs.Reader(tx).Stats()
		return err
	})
	return st, err
}

// verifyBlobs checks the chunk store, and that what live versions link to is
// wholly here.
func (db *DB) verifyBlobs(ctx context.Context, out *VerifyReport, progress func(int)) error {
	found := len(out.Problems)
	add := func(p Problem) {
		if len(out.Problems) < maxProblems {
			out.Problems = append(out.Problems, p)
		}
	}
	if err := db.usable(ctx); err != nil {
		return err
	}
	var damaged []chunk.Digest
	err := db.kv.View(func(tx store.Tx) error {
		return db.blobs.Reader(tx).Verify(func(p chunk.Problem) {
			if add(Problem{What: p.What, Err: p.Err}); p.Damaged && len(damaged) < maxProblems {
				damaged = append(damaged, p.Chunk)
			}
		}, func(rows int, _ int64) error {
			out.Checked += rows
			if progress != nil && out.Checked%(verifyStride/64) == 0 { // a chunk is as long as many records
				progress(out.Checked)
			}
			return ctx.Err()
		})
	})
	if errors.Is(err, ErrCorrupt) { // the state row, without which nothing more can be said
		add(Problem{What: "large values", Err: err})
		return nil
	}
	if err != nil {
		return err
	}
	deep := len(out.Problems) > found // name the keys that damage belongs to
	for _, ns := range db.spaces() {
		if err := ns.verifyLinks(ctx, deep, add); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return db.discard(ctx, damaged, out)
}

// discard removes damaged chunks, unless the DB is read-only, so that they are
// asked of peers.
func (db *DB) discard(ctx context.Context, damaged []chunk.Digest, out *VerifyReport) error {
	if len(damaged) == 0 || db.opts.ReadOnly {
		return nil
	}
	noted := 0
	err := db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err != nil {
			return err, err
		}
		for _, d := range damaged {
			gone, err := w.Discard(d)
			if err != nil {
				return err, err
			}
			if gone {
				noted++
			}
		}
		return nil, nil
	}})
	if err == nil {
		out.Noted += noted
	}
	return err
}

// verifyLinks checks what the live versions of a namespace link to. With deep
// it reads the chunks, too. What is not wholly here is noted, unless the DB is
// read-only, so that the next sync asks for it.
func (ns *Namespace) verifyLinks(ctx context.Context, deep bool, add func(Problem)) error {
	checked := map[cid.Cid]error{} // a blob may be linked to many times
	wants := map[chunk.Digest][]byte{}
	var next []byte
	for first := true; first || next != nil; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ns.fullView(ctx, func(v *replica.View) (err error) {
			blobs := ns.db.blobs.Reader(v.Tx())
			next, err = v.LiveLinks(next, linkStride, func(l replica.Link) bool {
				fault, known := checked[l.Blob]
				if !known {
					fault = checkBlob(blobs, l.Blob, deep)
					checked[l.Blob] = fault
				}
				if fault != nil {
					if d, err := chunk.DigestOf(l.Blob); err == nil && len(wants) < maxProblems {
						wants[d] = append([]byte{}, l.Key...)
					}
					add(Problem{Namespace: ns.name, What: "large value", Key: nameOf(l.Key), Version: l.Dot.String(), Err: fault})
				}
				return true
			})
			return err
		}); err != nil {
			return err
		}
	}
	if len(wants) == 0 || ns.db.opts.ReadOnly {
		return nil
	}
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		for d, key := range wants {
			if err := b.SetLocal([]byte(wantPrefix+string(d[:])), key); err != nil {
				return err, err
			}
		}
		return nil, nil
	}})
}

func checkBlob(blobs *chunk.Reader, id cid.Cid, deep bool) error {
	d, err := chunk.DigestOf(id)
	if err != nil {
		return err
	}
	return notHere(blobs.Check(d, deep))
}

// nameOf returns the name that a stored key begins with, as the caller's.
func nameOf(stored []byte) []byte {
	if name, _, err := crdt.SplitName(stored); err == nil {
		return append([]byte{}, name...)
	}
	return append([]byte{}, stored...)
}
