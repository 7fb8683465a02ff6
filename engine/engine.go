package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/chunk"
	"bzzz/store/mem"
)

// DataFile is the name of the store's file within the data directory.
const DataFile = "bzzz.db"

// DB is one open store with its namespaces. Its own data methods (Put, Get,
// ...) are those of the namespace that Options.Namespace names. All methods
// are safe for use from many goroutines.
type DB struct {
	*Namespace

	opts   Options
	dir    string
	kv     store.KV
	blobs  *chunk.Store
	queue  chan *request
	anchor *anchor
	epoch  uint64 // of this open; sessions are bound to it

	mu         sync.Mutex // guards namespaces and uploads
	namespaces map[string]*Namespace
	uploads    map[chunk.LeaseID]bool // leases that uploads in this process hold

	collecting chan struct{} // holds one token while blobs are collected

	ended   chan struct{} // closed when Close begins
	drained chan struct{} // closed when the committer has ended
	workers sync.WaitGroup
	met     chan metDamage // keys that reads found damaged
	closed  sync.Once
	closeE  error

	poisoned atomic.Pointer[error]
	self     atomic.Pointer[crdt.ReplicaID] // id.replica(), for readers
	changed  broadcast                      // after every commit

	// The committer's alone.
	id       identity
	stamp    [8]byte // of the last commit
	vouched  bool    // the id may be used
	dirtyNow atomic.Bool
}

// Open opens the store in a directory, making both if they are not there.
// opts may be nil. It blocks for the store's file lock at most a second
// (ErrLocked). A directory of another format or program is ErrUnsupported, a
// damaged one ErrCorrupt; nothing is changed then. Cost: O(replicas), plus up
// to 16 Ki journal records after an unclean end.
func Open(dir string, opts *Options) (*DB, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, errs.Wrap("engine.Open", dir, err)
	}
	kv, err := openStore(dir, o)
	if err != nil {
		return nil, errs.Wrap("engine.Open", dir, err)
	}
	db := &DB{
		opts: o, dir: dir, kv: kv, blobs: chunk.New(blobPrefix), collecting: make(chan struct{}, 1), namespaces: map[string]*Namespace{},
		queue: make(chan *request, 256), met: make(chan metDamage, metRoom), ended: make(chan struct{}), drained: make(chan struct{}),
	}
	db.changed.init()
	if err := db.load(); err != nil {
		kv.Close()
		return nil, errs.Wrap("engine.Open", dir, err)
	}
	db.workers.Go(db.commitLoop)
	if o.Durability == DurableInterval {
		db.workers.Go(func() { db.every(o.SyncInterval, db.flush) })
	}
	if o.SweepInterval > 0 && !o.ReadOnly {
		db.workers.Go(func() { db.every(o.SweepInterval, db.sweep) })
	}
	if o.CollectInterval > 0 && !o.ReadOnly {
		db.workers.Go(func() { db.every(o.CollectInterval, db.collectByItself) })
	}
	if !o.ReadOnly {
		db.workers.Go(db.scrubLoop)
	}
	if db.Namespace, err = db.openDefault(); err != nil {
		db.Close()
		return nil, errs.Wrap("engine.Open", dir, err)
	}
	return db, nil
}

func openStore(dir string, o Options) (store.KV, error) {
	switch {
	case o.Store != nil:
		return o.Store, nil
	case o.Memory:
		return mem.New(), nil
	case dir == "":
		return nil, fmt.Errorf("no directory: %w", ErrInvalid)
	}
	if o.ReadOnly {
		if _, err := os.Stat(filepath.Join(dir, DataFile)); err != nil {
			return nil, fmt.Errorf("no store there: %w", ErrNotFound)
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := bolt.Always
	switch o.Durability {
	case DurableInterval:
		d = bolt.Interval
	case DurableNone:
		d = bolt.None
	}
	return bolt.Open(filepath.Join(dir, DataFile), &bolt.Options{ReadOnly: o.ReadOnly, Durability: d})
}

// load reads who we are, decides whether the replica id may go on, and opens
// the namespaces.
func (db *DB) load() error {
	if err := db.initIfEmpty(); err != nil {
		return err
	}
	err := db.kv.View(func(tx store.Tx) (err error) {
		if db.id, err = loadIdentity(tx); err != nil {
			return err
		}
		copy(db.stamp[:], tx.Bucket(bucketDB).Get(keyStamp))
		return db.loadNamespaces(tx)
	})
	db.publishSelf()
	if err != nil || db.opts.ReadOnly {
		return err
	}
	e := random[[8]byte]()
	db.epoch = uint64(e[0]) | uint64(e[1])<<8 | uint64(e[2])<<16 | uint64(e[3])<<24 | uint64(e[4])<<32
	if db.opts.Memory {
		return nil
	}
	if db.anchor, err = openAnchor(db.opts.RuntimeDir, db.id.instance, db.dir); err != nil {
		// A node without its anchor works; it takes a fresh id.
		db.opts.Logger.Warn("anchor unusable, a fresh replica id will be taken", "error", err)
		db.anchor = nil
	}
	db.vouched = db.anchor.vouches(db.id.incarnation, db.stamp, db.opts.Durability == DurableAlways)
	if db.vouched {
		for _, ns := range db.namespaces {
			ns.replica.SetSelf(db.id.replica())
		}
	}
	return nil
}

// initIfEmpty lays out a store that has no bucket yet.
func (db *DB) initIfEmpty() error {
	empty := true
	err := db.kv.View(func(tx store.Tx) error {
		for range tx.Buckets() {
			empty = false
			break
		}
		return nil
	})
	if err != nil || !empty || db.opts.ReadOnly {
		return err
	}
	return db.kv.Update(initStore)
}

// ensureSelf draws a fresh replica id if the current one may not be used. It
// runs in the committer, before the first write of a group.
func (db *DB) ensureSelf(tx store.Tx) error {
	for _, ns := range db.namespaces {
		if ns.replica.Forked() {
			db.opts.Logger.Error("another store writes under our replica id: taking a fresh one", "namespace", ns.name)
			db.vouched = false
		}
	}
	if !db.vouched {
		if err := db.id.renew(tx); err != nil {
			return err
		}
		db.vouched = true
		for _, ns := range db.namespaces {
			ns.replica.SetSelf(db.id.replica())
		}
	}
	return nil
}

// Path returns the data directory, "" for a store in memory.
func (db *DB) Path() string {
	if db.opts.Memory {
		return ""
	}
	return db.dir
}

// ReplicaID returns the id under which this store writes, or last wrote before
// it was opened; zero if it never did.
func (db *DB) ReplicaID() crdt.ReplicaID {
	if p := db.self.Load(); p != nil {
		return *p
	}
	return crdt.ReplicaID{}
}

// publishSelf shows readers the current id.
func (db *DB) publishSelf() {
	if db.id.incarnation != [8]byte{} {
		id := db.id.replica()
		db.self.Store(&id)
	}
}

// InstanceID names this store: 16 random bytes drawn when it was made.
func (db *DB) InstanceID() [16]byte { return db.id.instance }

// Flush blocks until everything written before is durable, whatever the class.
func (db *DB) Flush(ctx context.Context) error {
	if err := db.usable(ctx); err != nil {
		return err
	}
	return db.kv.Sync()
}

// usable returns why the DB cannot be used: closed, poisoned, or ctx ended.
func (db *DB) usable(ctx context.Context) error {
	if p := db.poisoned.Load(); p != nil {
		return *p
	}
	select {
	case <-db.ended:
		return ErrClosed
	default:
	}
	if ctx.Value(txnKey{db}) != nil {
		return fmt.Errorf("call into the DB from inside Update: use the Txn: %w", ErrInvalid)
	}
	return ctx.Err()
}

// poison makes every later call fail: a commit failed, and what the store
// shows since is not to be trusted.
func (db *DB) poison(cause error) error {
	err := fmt.Errorf("%w (%w)", ErrPoisoned, cause)
	if errors.Is(cause, ErrPoisoned) {
		err = cause
	}
	if db.poisoned.CompareAndSwap(nil, &err) {
		db.opts.Logger.Error("commit failed, store poisoned", "error", cause)
		db.changed.fire() // whoever waits for a change has to hear of it
	}
	return *db.poisoned.Load()
}

// Close waits for running calls, makes everything durable and releases the
// directory. It is idempotent; later calls on the DB return ErrClosed.
func (db *DB) Close() error {
	db.closed.Do(func() {
		close(db.ended)
		db.workers.Wait()
		db.changed.fire()
		db.closeE = db.finish()
	})
	return db.closeE
}

// finish brings the views up to date, so that the next open need not, and
// closes the store and the anchor.
func (db *DB) finish() error {
	var err error
	if db.poisoned.Load() == nil && !db.opts.ReadOnly {
		err = db.catchUpAll()
	}
	closed := db.kv.Close()
	if closed == nil && db.vouched && db.poisoned.Load() == nil && !db.opts.ReadOnly {
		err = errors.Join(err, db.anchor.write(db.id.incarnation, db.stamp, true))
	}
	return errs.Wrap("engine.Close", db.dir, errors.Join(err, closed, db.anchor.close()))
}

// closeLag is how far the views may lag when Close leaves them: replaying so
// many journal records at the next open takes about a millisecond, less than
// the commit that would save it.
const closeLag = 1024

// catchUpAll runs after the committer has ended, in its place.
func (db *DB) catchUpAll() error {
	g := newGroup(db)
	for _, ns := range db.namespaces {
		if ns.replica.Lag() >= closeLag {
			g.views = append(g.views, ns)
		}
	}
	if len(g.views) == 0 {
		return nil
	}
	return g.commit(nil)
}

// every calls do each interval until the DB is closed.
func (db *DB) every(interval time.Duration, do func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-db.ended:
			return
		case <-t.C:
			do()
		}
	}
}

// flush makes durable what was committed since the last time.
func (db *DB) flush() {
	if db.dirtyNow.Swap(false) {
		if err := db.kv.Sync(); err != nil && !errors.Is(err, ErrClosed) {
			db.poison(err)
		}
	}
}

// broadcast wakes everybody who waits for the next event.
type broadcast struct{ ch atomic.Pointer[chan struct{}] }

func (b *broadcast) init() {
	c := make(chan struct{})
	b.ch.Store(&c)
}

// wait returns a channel that is closed at the next event.
func (b *broadcast) wait() <-chan struct{} { return *b.ch.Load() }

func (b *broadcast) fire() {
	c := make(chan struct{})
	close(*b.ch.Swap(&c))
}
