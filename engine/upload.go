package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"bzzz/crdt"
	"bzzz/store/chunk"
)

// uploadLease is how long the chunks of an upload that was cut stay, so that
// the same content put again goes on where it was: a day, which a person needs
// to notice. An upload that runs renews it.
const uploadLease = 24 * time.Hour

// renewEvery is how often a running upload renews its lease.
const renewEvery = uploadLease / 8

// PutReader writes a register with what r holds, to its end, however long: up
// to 64 KiB it is a plain value, beyond that it is cut into chunks of 16 to 256
// KiB that are stored once for the whole DB. The key changes once everything is
// there, in one durable commit; until then readers see the old value. See Put
// for the rest.
//
// It blocks for as long as r does, and keeps up to 9 MiB in memory and 400
// bytes a chunk. Content that is there already is not written again, so an
// upload that was cut, by an error of r, the end of ctx or the death of the
// process, goes on where it was when the same content is put within a day.
// ErrTooLarge above 200,000 chunks (about 14 GiB).
func (ns *Namespace) PutReader(ctx context.Context, key []byte, r io.Reader, opts ...WriteOption) error {
	stored, err := storedName(key)
	if err != nil {
		return err
	}
	if err := ns.mayWrite(ctx); err != nil {
		return err
	}
	head, err := io.ReadAll(io.LimitReader(r, crdt.MaxValue+1))
	if err != nil {
		return fmt.Errorf("reading the value: %w", err)
	}
	if len(head) <= crdt.MaxValue {
		return ns.db.submit(ctx, &request{ns: ns, key: stored, run: func(t *Txn) error { return t.put(stored, head, opts, false) }})
	}
	cutter := chunk.NewCutter(io.MultiReader(bytes.NewReader(head), r))
	id, release := ns.db.leaseOf(ns, stored)
	defer release()
	u := &upload{ns: ns, id: id, cutter: cutter}
	large, err := u.run(ctx)
	if err == nil {
		err = ns.db.submit(ctx, &request{ns: ns, key: stored, run: func(t *Txn) error { return t.putLarge(stored, large, opts, false) }})
	}
	if err != nil && u.leased && hopeless(err) {
		err = errors.Join(err, u.abandon(ctx))
	}
	return err
}

// leaseOf returns the lease id of an upload to a key, and what gives it back:
// the same each time, so that an upload made again takes over the lease that a
// cut one left, and ends it. While another upload to the key runs, a random one.
func (db *DB) leaseOf(ns *Namespace, stored []byte) (id chunk.LeaseID, release func()) {
	sum := sha256.Sum256(slices.Concat([]byte(ns.name), []byte{0}, stored))
	copy(id[:], sum[:])
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.uploads[id] {
		return random[[16]byte](), func() {}
	}
	if db.uploads == nil {
		db.uploads = map[chunk.LeaseID]bool{}
	}
	db.uploads[id] = true
	return id, func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		delete(db.uploads, id)
	}
}

// mayWrite returns why nothing can be written, before anything is read.
func (ns *Namespace) mayWrite(ctx context.Context) error {
	if err := ns.db.usable(ctx); err != nil {
		return err
	}
	switch {
	case ns.db.opts.ReadOnly:
		return ErrReadOnly
	case ns.dropped.Load():
		return fmt.Errorf("namespace %q: %w", ns.name, ErrNotFound)
	}
	return nil
}

// hopeless reports whether putting the same content again would fail as well.
func hopeless(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrConflict)
}

// upload stores the chunks of one blob, a batch a commit. While one batch is
// committed the next is cut.
type upload struct {
	ns      *Namespace
	id      chunk.LeaseID
	cutter  *chunk.Cutter
	leased  bool      // there is a lease
	renewed time.Time // when it was last written
}

// run stores all batches and returns the blob, ready to be linked. A blob of
// one batch is stored with its link, in one commit.
func (u *upload) run(ctx context.Context) (*largeValue, error) {
	var batches [2]chunk.Batch
	if err := u.fill(ctx, &batches[0]); err != nil {
		return nil, err
	}
	for i := 0; ; i = 1 - i {
		now, next := &batches[i], &batches[1-i]
		if !u.leased {
			err := u.fill(ctx, next)
			if err == io.EOF {
				return u.whole(now)
			}
			if err != nil {
				return nil, err
			}
			if err := u.commit(ctx, now); err != nil {
				return nil, err
			}
			continue
		}
		err, fault := u.overlap(ctx, now, next)
		if err != nil {
			return nil, err
		}
		if fault == io.EOF {
			return u.sealed()
		}
		if fault != nil {
			return nil, fault
		}
	}
}

// overlap commits one batch while it fills the other.
func (u *upload) overlap(ctx context.Context, now, next *chunk.Batch) (err, fault error) {
	done := make(chan error, 1)
	go func() { done <- u.commit(ctx, now) }()
	defer func() { err = <-done }() // also if the source panics
	return nil, u.fill(ctx, next)
}

func (u *upload) fill(ctx context.Context, b *chunk.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := u.cutter.Fill(b)
	if err != nil && err != io.EOF {
		return fmt.Errorf("reading the value after %d bytes: %w", u.cutter.Size(), err)
	}
	return err
}

// commit stores a batch under the lease, which it begins or renews.
func (u *upload) commit(ctx context.Context, b *chunk.Batch) error {
	return u.ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err != nil {
			return err, err
		}
		now := time.Now()
		switch {
		case !u.leased: // nothing was written under it yet
			var held bool
			if held, err = w.RenewLease(u.id, now.Add(uploadLease)); err == nil && !held {
				err = w.BeginLease(u.id, now.Add(uploadLease))
			}
			g.after = append(g.after, func() { u.leased, u.renewed = true, now })
		case now.Sub(u.renewed) > renewEvery:
			_, err = w.RenewLease(u.id, now.Add(uploadLease)) // Seal finds out what a lost one means
			g.after = append(g.after, func() { u.renewed = now })
		}
		if err != nil {
			return err, err
		}
		for _, c := range b.Chunks() {
			if _, err := w.Put(c); err != nil {
				return err, err
			}
		}
		return nil, nil
	}})
}

// whole returns a blob of one batch.
func (u *upload) whole(b *chunk.Batch) (*largeValue, error) {
	m, err := u.cutter.Manifest()
	if err != nil {
		return nil, err
	}
	return &largeValue{
		id: m.CID(), size: m.Size(), chunks: b.Chunks(),
		store: func(w *chunk.Writer) error {
			if _, err := w.EndLease(u.id); err != nil { // of an upload that was cut
				return err
			}
			return w.PutBlob(m, b.Chunks())
		},
	}, nil
}

// sealed returns a blob whose chunks are stored.
func (u *upload) sealed() (*largeValue, error) {
	m, err := u.cutter.Manifest()
	if err != nil {
		return nil, err
	}
	return &largeValue{
		id: m.CID(), size: m.Size(), store: func(w *chunk.Writer) error { return w.Seal(u.id, m) },
	}, nil
}

// abandon ends the lease of an upload that cannot succeed.
func (u *upload) abandon(ctx context.Context) error {
	return u.ns.db.submit(context.WithoutCancel(ctx), &request{raw: func(g *group) (result, fatal error) {
		w, err := g.blobWriter()
		if err != nil {
			return err, err
		}
		_, err = w.EndLease(u.id)
		return err, err
	}})
}
