package engine

import (
	"context"
	"errors"
	"math"
	"sync"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/merkle"
	"bzzz/store"
)

// treeLag is how many journal records the stored tiles of the Merkle index may
// be behind before whoever had to catch up in memory stores the result: some
// 10 ms of work that nobody has to do twice, against one commit.
const treeLag = 256

// rootCache remembers the root and the sketch of the last journal state they were
// asked for, and what of them is worth storing.
type rootCache struct {
	mu      sync.Mutex
	valid   bool
	arrival uint64
	root    merkle.Digest
	update  *replica.TreeUpdate // nil if none is due
	recent  *replica.TreeUpdate // what stored tiles lack and need not have yet: some 1 MB at most

	sketch *replica.Sketch // the newest that was asked for
	due    bool            // it is worth storing
}

// sketchOf returns the sketch of a view.
func (ns *Namespace) sketchOf(v *replica.View) (*replica.Sketch, error) {
	c := &ns.roots
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := v.Sketch(c.sketch)
	if err != nil {
		return nil, err
	}
	if c.sketch == nil || s.Arrival > c.sketch.Arrival {
		c.sketch = s
		c.due = !ns.db.opts.ReadOnly && v.WorthStoring(s)
	}
	return s, nil
}

// rootOf returns the root of a view, bringing the index up to date in memory if
// the journal has moved.
func (ns *Namespace) rootOf(v *replica.View) (merkle.Digest, error) {
	ns.roots.mu.Lock()
	defer ns.roots.mu.Unlock()
	if ns.roots.valid && ns.roots.arrival == v.Arrival() {
		return ns.roots.root, nil
	}
	t, err := v.TreeAfter(ns.roots.recent)
	if err != nil {
		return merkle.Digest{}, err
	}
	root := t.Root()
	ns.keepTree(v, t)
	return root, nil
}

// rootWithin is rootOf for a scope, with the number of its keys.
func (ns *Namespace) rootWithin(v *replica.View, s replica.Scope) (root merkle.Digest, keys uint64, err error) {
	if s == nil {
		root, err = ns.rootOf(v)
		return root, v.Counts().Keys, err
	}
	ns.roots.mu.Lock()
	defer ns.roots.mu.Unlock()
	t, err := v.Tree()
	if err != nil {
		return root, 0, err
	}
	if root, keys, err = t.Within(s); err == nil {
		ns.keepTree(v, t)
	}
	return root, keys, err
}

// keepTree remembers what a tree that will not be used any more has found. The
// caller holds the cache's lock.
func (ns *Namespace) keepTree(v *replica.View, t *replica.Tree) {
	c := &ns.roots
	if c.valid && c.arrival > v.Arrival() {
		return // of an older state
	}
	c.valid, c.arrival, c.root = true, v.Arrival(), t.Root()
	c.recent = nil
	switch behind := t.Behind(); {
	case behind >= treeLag && !ns.db.opts.ReadOnly:
		c.update = t.Update()
	case behind > 0 && behind < treeLag:
		c.recent = t.Update()
	}
}

// storeViews stores tiles and sketch if that is worth it. No transaction may be
// open in this goroutine: a commit may have to wait for it.
func (ns *Namespace) storeViews(ctx context.Context) error {
	c := &ns.roots
	c.mu.Lock()
	u, s := c.update, c.sketch
	if !c.due {
		s = nil
	}
	c.update, c.due = nil, false
	c.mu.Unlock()
	if u == nil && s == nil {
		return nil
	}
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		if u != nil {
			err = b.StoreTree(u)
		}
		if s != nil && err == nil {
			err = b.StoreSketch(s)
		}
		return err, err
	}})
}

// viewsReach brings stored tiles and sketch to the journal's end and returns the
// newest record that they need no more: collection may remove up to there. What
// is not stored is made from the live keys when it is needed.
func (ns *Namespace) viewsReach(ctx context.Context) (uint64, error) {
	until := uint64(math.MaxUint64)
	err := ns.fullView(ctx, func(v *replica.View) error {
		c := &ns.roots
		c.mu.Lock()
		defer c.mu.Unlock()
		tree, sketched := v.Stored()
		if !tree && !sketched {
			return nil
		}
		until = v.Arrival()
		if tree {
			t, err := v.TreeAfter(c.recent)
			if err != nil {
				return err
			}
			c.update, c.recent = t.Update(), nil
		}
		if sketched {
			s, err := v.Sketch(c.sketch)
			if err != nil {
				return err
			}
			c.sketch, c.due = s, true
		}
		return nil
	})
	if errors.Is(err, ErrCorrupt) {
		return math.MaxUint64, nil // they will have to be made anew as it is
	}
	if err != nil {
		return 0, err
	}
	return until, ns.storeViews(ctx)
}

// State is what two replicas compare to know whether they agree: both are in
// sync if roots and clocks are equal.
type State struct {
	Root  merkle.Digest // of the Merkle tree over all live versions
	Clock crdt.Clock    // the versions known, live and dead
}

// State returns the namespace's root and clock of one moment. O(replicas), plus
// some 30 us for each key that changed since the last time; the first time
// O(keys). ErrCorrupt if a live version that has to be read for it is damaged.
func (ns *Namespace) State(ctx context.Context) (State, error) {
	var out State
	err := ns.fullView(ctx, func(v *replica.View) (err error) {
		out.Clock = v.Clock()
		out.Root, err = ns.rootOf(v)
		return err
	})
	if err == nil {
		err = ns.storeViews(ctx)
	}
	return out, err
}

// fullView calls fn with the namespace's whole state.
func (ns *Namespace) fullView(ctx context.Context, fn func(*replica.View) error) error {
	if err := ns.db.usable(ctx); err != nil {
		return err
	}
	if ns.replica == nil || ns.dropped.Load() {
		return ErrNotFound
	}
	return ns.db.kv.View(func(tx store.Tx) error {
		v, err := ns.replica.View(tx)
		if err != nil {
			return err
		}
		return fn(v)
	})
}
