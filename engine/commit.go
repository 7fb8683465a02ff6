package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
	"bzzz/store/chunk"
)

// maxGroup bounds how many requests one commit takes in: enough to amortise a
// sync over every writer of a busy node, few enough that the last one's answer
// does not wait long behind the others' work.
const maxGroup = 1024

// slowUpdate is how long an Update's function may hold the one writer before
// it is logged.
const slowUpdate = time.Second

// request is one thing for the committer to do.
type request struct {
	ctx  context.Context
	ns   *Namespace
	key  []byte           // of a write to one key: lets the group be sorted
	run  func(*Txn) error // changes one namespace through an overlay
	raw  func(*group) (result, fatal error)
	done chan error

	panicked *panicked
}

// panicked carries a panic of run to the goroutine that called Update.
type panicked struct {
	value any
	stack []byte
}

// submit hands a request to the committer and waits for its commit. Once the
// committer has taken it the outcome is awaited whatever ctx does, so that an
// error never hides a write that happened.
func (db *DB) submit(ctx context.Context, r *request) error {
	if err := db.usable(ctx); err != nil {
		return err
	}
	if db.opts.ReadOnly {
		return ErrReadOnly
	}
	r.ctx, r.done = ctx, make(chan error, 1)
	select {
	case db.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.ended:
		return ErrClosed
	}
	var err error
	select {
	case err = <-r.done:
	case <-db.ended:
		// The committer empties the queue before it ends; whatever it did not
		// see never happened.
		<-db.drained
		select {
		case err = <-r.done:
		default:
			return ErrClosed
		}
	}
	if r.panicked != nil {
		panic(fmt.Sprintf("%v\n\nin a function given to Update:\n%s", r.panicked.value, r.panicked.stack))
	}
	return err
}

// commitLoop is the committer: the only goroutine that writes to the store.
func (db *DB) commitLoop() {
	defer close(db.drained)
	var next *request // taken from the queue, but not for the last group
	crowded := false  // the last group had several requests
	for {
		if next == nil {
			select {
			case <-db.ended:
				db.drain()
				return
			case next = <-db.queue:
			}
		}
		var reqs []*request
		reqs, next = db.gather(next, crowded)
		crowded = len(reqs) > 1
		db.commitGroup(reqs)
	}
}

// gather takes whatever waits, without waiting for more: the time of a commit
// gathers the next group by itself. Where the last group was crowded it lets
// those who were just answered run first, for as long as that brings requests:
// else they would miss this commit and form a second group, and everybody would
// wait for two commits instead of one. A lone writer is not delayed.
//
// A raw request, which may fail after it wrote something, gets a transaction of
// its own, so that a peer's bad batch never fails anybody's write.
func (db *DB) gather(first *request, crowded bool) (reqs []*request, next *request) {
	reqs = []*request{first}
	yielded := false
	for len(reqs) < maxGroup && first.raw == nil {
		select {
		case r := <-db.queue:
			if r.raw != nil {
				return reqs, r
			}
			reqs, yielded = append(reqs, r), false
		default:
			if yielded || !crowded && len(reqs) == 1 {
				return reqs, nil
			}
			yielded = true
			runtime.Gosched()
		}
	}
	return reqs, nil
}

// drain answers what was queued when Close began.
func (db *DB) drain() {
	for {
		select {
		case r := <-db.queue:
			r.done <- ErrClosed
		default:
			return
		}
	}
}

// group is the work of one store transaction.
type group struct {
	db      *DB
	tx      store.Tx
	blobs   *chunk.Writer // nil until somebody needs it
	now     crdt.HLC
	batches map[*Namespace]*replica.Batch
	views   []*Namespace // to be brought up to date
	after   []func()     // once committed
	changed bool         // there is something to commit
}

func newGroup(db *DB) *group {
	return &group{db: db, now: crdt.HLCFromTime(time.Now()), batches: map[*Namespace]*replica.Batch{}}
}

// batch returns the namespace's batch in this transaction.
func (g *group) batch(ns *Namespace) (*replica.Batch, error) {
	if b := g.batches[ns]; b != nil {
		return b, nil
	}
	if ns.dropped.Load() {
		return nil, fmt.Errorf("namespace %q: %w", ns.name, ErrNotFound)
	}
	b, err := ns.replica.Begin(g.tx, g.now)
	if err != nil {
		return nil, err
	}
	g.batches[ns] = b
	return b, nil
}

// commitGroup runs the requests in one transaction and answers each.
func (db *DB) commitGroup(reqs []*request) {
	if p := db.poisoned.Load(); p != nil {
		for _, r := range reqs {
			r.done <- *p
		}
		return
	}
	sortBlindWrites(reqs)
	results := make([]error, len(reqs))
	g := newGroup(db)
	err := g.commit(func() error {
		for i, r := range reqs {
			var fatal error
			if results[i], fatal = g.execute(r); fatal != nil {
				return fatal
			}
		}
		return nil
	})
	for i, r := range reqs {
		if err != nil && results[i] == nil {
			results[i] = err
		}
		r.done <- results[i]
	}
}

// errNothing ends a transaction in which nobody wrote: it costs no commit.
var errNothing = errors.New("nothing to commit")

// commit runs work and commits. An error of work, or damage that it met, leaves
// the store as it was; one of the commit itself poisons the DB.
func (g *group) commit(work func() error) error {
	db := g.db
	var stamp [8]byte
	oldID, oldVouched := db.id, db.vouched
	err := db.kv.Update(func(tx store.Tx) (err error) {
		g.tx = tx
		if work != nil {
			if err := work(); err != nil {
				return err
			}
			if !g.changed && db.id == oldID {
				return errNothing
			}
		}
		for _, ns := range g.views {
			if _, err := g.batch(ns); err != nil {
				return err
			}
		}
		for ns, b := range g.batches {
			if err := b.Finish(slices.Contains(g.views, ns)); err != nil {
				return err
			}
		}
		if g.blobs != nil {
			if err := g.blobs.Finish(); err != nil {
				return err
			}
		}
		if stamp, err = putStamp(tx); err == nil && !mutant("anchor written after the commit") {
			db.writeAnchor(stamp)
		}
		return err
	})
	if err == errNothing {
		for _, b := range g.batches {
			b.Done()
		}
		return nil
	}
	if errors.Is(err, ErrPoisoned) {
		return db.poison(err)
	}
	if err != nil { // the store is as it was
		g.undo(oldID, oldVouched)
		return err
	}
	if mutant("anchor written after the commit") {
		db.writeAnchor(stamp)
	}
	db.stamp = stamp
	for _, b := range g.batches {
		b.Done()
	}
	db.publishSelf()
	db.dirtyNow.Store(true)
	for _, f := range g.after {
		f()
	}
	db.changed.fire()
	return nil
}

// writeAnchor announces a commit to the anchor, unless its id may be in use
// elsewhere: that is never vouched for.
func (db *DB) writeAnchor(stamp [8]byte) {
	if !db.vouched {
		return
	}
	if err := db.anchor.write(db.id.incarnation, stamp, false); err != nil {
		// Without its word the next open takes a fresh id, which is safe.
		db.opts.Logger.Warn("anchor not written", "error", err)
		db.anchor.void()
	}
}

// undo takes back what a failed transaction changed in memory.
func (g *group) undo(id identity, vouched bool) {
	db := g.db
	if db.id != id {
		db.id, db.vouched = id, false // never the drawn id, nor one that was not vouched for
	} else {
		db.vouched = vouched
	}
}

// execute runs one request in the group's transaction. A fatal error is one of
// the store: the whole transaction ends.
func (g *group) execute(r *request) (result, fatal error) {
	if err := r.ctx.Err(); err != nil {
		return err, nil
	}
	if r.raw != nil {
		g.changed = true
		return r.raw(g)
	}
	if err := g.db.ensureSelf(g.tx); err != nil {
		return err, err
	}
	b, err := g.batch(r.ns)
	if err != nil {
		return err, nil
	}
	txn := newTxn(r.ctx, r.ns, b, g.now)
	started := time.Now()
	err = r.call(txn)
	txn.done = true
	if took := time.Since(started); took > slowUpdate {
		g.db.opts.Logger.Warn("update held the writer", "namespace", r.ns.name, "seconds", took.Seconds())
	}
	if err == nil {
		err = r.ctx.Err()
	}
	if err != nil {
		return err, nil
	}
	return txn.flush(g)
}

// call runs the user's function; a panic becomes the caller's.
func (r *request) call(txn *Txn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked = &panicked{p, debug.Stack()}
			err = errors.New("panic in Update")
		}
	}()
	return r.run(txn)
}

// sortBlindWrites orders runs of writes to single keys by namespace and key,
// which is how the store likes them. They come from different callers, so no
// order among them was promised; equal keys keep theirs.
func sortBlindWrites(reqs []*request) {
	for len(reqs) > 0 {
		n := 0
		for n < len(reqs) && reqs[n].key != nil {
			n++
		}
		slices.SortStableFunc(reqs[:n], func(a, b *request) int {
			if a.ns != b.ns {
				return bytes.Compare([]byte(a.ns.name), []byte(b.ns.name))
			}
			return bytes.Compare(a.key, b.key)
		})
		reqs = reqs[min(n+1, len(reqs)):]
	}
}
