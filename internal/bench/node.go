package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
)

// open makes a durable store of the engine, closed at the scenario's end.
func (e *env) open() (*engine.DB, error) {
	db, err := e.openAt(e.path("store"))
	if err == nil {
		e.later(db.Close)
	}
	return db, err
}

func (e *env) openAt(dir string) (*engine.DB, error) { return e.openWith(dir, engine.Options{}) }

// openWith opens a store that does nothing by itself. The caller closes it.
func (e *env) openWith(dir string, opts engine.Options) (*engine.DB, error) {
	opts.RuntimeDir, opts.SweepInterval = e.anchors, -1
	return engine.Open(dir, &opts)
}

// openCounting makes a durable store whose commits are counted.
func (e *env) openCounting() (*engine.DB, *counting, error) {
	dir := e.path("store")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	kv, err := bolt.Open(filepath.Join(dir, engine.DataFile), nil)
	if err != nil {
		return nil, nil, err
	}
	c := &counting{KV: kv}
	db, err := engine.Open(dir, &engine.Options{Store: c, RuntimeDir: e.anchors, SweepInterval: -1})
	if err != nil {
		return nil, nil, errors.Join(err, kv.Close())
	}
	e.later(db.Close)
	return db, c, nil
}

// counting is a store that counts its commits.
type counting struct {
	store.KV
	commits atomic.Int64
}

// Update implements store.KV.
func (c *counting) Update(fn func(store.Tx) error) error {
	c.commits.Add(1)
	return c.KV.Update(fn)
}

// flushesPerCommit is how often store/bolt flushes for a commit, and bbolt too:
// the pages, then the meta page.
const flushesPerCommit = 2

// loadBatch is how many keys a transaction has that fills a base.
const loadBatch = 10_000

// load writes n keys from a first one on, batch by batch.
func load(ctx context.Context, db *engine.DB, k keys, from, n, batch, salt int) error {
	for end := from + n; from < end; from += batch {
		if err := putAll(ctx, db, k.pairs(from, min(batch, end-from), salt)); err != nil {
			return err
		}
	}
	return nil
}

// putAll writes pairs in one transaction.
func putAll(ctx context.Context, db *engine.DB, pairs []pair) error {
	return db.Update(ctx, func(t *engine.Txn) error {
		for _, p := range pairs {
			if err := t.Put(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	})
}
