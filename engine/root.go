package engine

import (
	"context"
	"sync"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/merkle"
	"bzzz/store"
)

// rootCache remembers the root of the last journal state it was asked for.
type rootCache struct {
	mu      sync.Mutex
	valid   bool
	arrival uint64
	root    merkle.Digest
}

// rootOf returns the root of a view, computing it if the journal has moved.
// Damage noted meanwhile does not move the journal, but its versions cannot be
// read, so computing fails then: a cached root is that of a state that was
// verified. O(keys) when it moved, O(1) otherwise.
func (ns *Namespace) rootOf(v *replica.View) (merkle.Digest, error) {
	ns.roots.mu.Lock()
	defer ns.roots.mu.Unlock()
	if ns.roots.valid && ns.roots.arrival == v.Arrival() {
		return ns.roots.root, nil
	}
	root, err := v.Root()
	if err != nil {
		return merkle.Digest{}, err
	}
	ns.roots.valid, ns.roots.arrival, ns.roots.root = true, v.Arrival(), root
	return root, nil
}

// State is what two replicas compare to know whether they agree: both are in
// sync if roots and clocks are equal.
type State struct {
	Root  merkle.Digest // of the Merkle tree over all live versions
	Clock crdt.Clock    // the versions known, live and dead
}

// State returns the namespace's root and clock of one moment. O(keys) after a
// change, O(replicas) otherwise. ErrCorrupt if a live version is damaged.
func (ns *Namespace) State(ctx context.Context) (State, error) {
	var out State
	err := ns.fullView(ctx, func(v *replica.View) (err error) {
		out.Clock = v.Clock()
		out.Root, err = ns.rootOf(v)
		return err
	})
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
