package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session"
	"bzzz/store"
)

// host is the DB as a session sees it.
type host struct {
	db   *DB
	ctx  context.Context
	opts SyncOptions
}

func (h *host) Epoch() uint64 { return h.db.epoch }

func (h *host) Names() ([]string, error) {
	if h.opts.Namespaces != nil {
		return h.opts.Namespaces, nil
	}
	return h.db.Namespaces(h.ctx)
}

// Accept makes the namespace unless the options forbid it.
func (h *host) Accept(name string) error {
	if h.opts.Namespaces != nil && !slices.Contains(h.opts.Namespaces, name) {
		return fmt.Errorf("namespace %q is not offered: %w", name, ErrNotFound)
	}
	if h.db.find(name) != nil {
		return nil
	}
	if h.db.opts.ReadOnly {
		return fmt.Errorf("namespace %q: %w", name, ErrReadOnly)
	}
	_, err := h.db.CreateNamespace(h.ctx, name)
	return err
}

// Snapshot returns what is durable: where commits may lag behind the disk they
// are brought there first.
func (h *host) Snapshot(name string) (session.Snapshot, error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return nil, err
	}
	if ns.dropped.Load() {
		return nil, fmt.Errorf("namespace %q: %w", name, ErrNotFound)
	}
	snap, err := h.db.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	if h.db.opts.Durability != DurableAlways && !h.db.opts.Memory && !h.db.opts.ReadOnly {
		if err := h.db.kv.Sync(); err != nil {
			snap.Release()
			return nil, err
		}
	}
	v, err := ns.replica.View(snap)
	if err != nil {
		snap.Release()
		return nil, err
	}
	return &syncView{v, ns, snap, h.ctx}, nil
}

// syncView is a namespace's state as a session reads it.
type syncView struct {
	*replica.View
	ns   *Namespace
	snap store.Snapshot
	ctx  context.Context
}

func (v *syncView) Self() crdt.ReplicaID    { return v.ns.db.ReplicaID() }
func (v *syncView) Keys() uint64            { return v.Counts().Keys }
func (v *syncView) Root() ([32]byte, error) { return v.ns.rootOf(v.View) }

func (v *syncView) RootWithin(s replica.Scope) ([32]byte, uint64, error) {
	return v.ns.rootWithin(v.View, s)
}

func (v *syncView) Sketch() (*replica.Sketch, error) { return v.ns.sketchOf(v.View) }

func (v *syncView) Err() error { return v.snap.Err() }

// Release ends the snapshot, and stores the tiles and the sketch that it brought
// up to date: views, so a failure costs only time.
func (v *syncView) Release() {
	v.snap.Release()
	if err := v.ns.storeViews(v.ctx); err != nil && v.ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		v.ns.db.opts.Logger.Warn("views not stored", "namespace", v.ns.name, "error", err)
	}
}

// Apply takes in versions and a clock in one durable transaction.
func (h *host) Apply(name string, versions []*crdt.Version, adopt *session.Adoption) (replica.Applied, error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return replica.Applied{}, err
	}
	var sum replica.Applied
	if len(versions) == 0 && (adopt == nil || adopt.Dots.IsEmpty() && adopt.Gone.IsEmpty() && adopt.Drop.IsEmpty()) {
		return sum, nil // not worth a commit
	}
	apply := &request{raw: func(g *group) (result, fatal error) {
		// A dot used twice is resolved by writing one of its versions again.
		if err := g.db.ensureSelf(g.tx); err != nil {
			return err, err
		}
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		if mutant("drop before add") && adopt != nil {
			if _, err := b.Drop(adopt.Drop, adopt.From); err != nil {
				return err, err
			}
			adopt.Drop = crdt.NewClock()
		}
		if sum, err = b.Apply(versions); err != nil {
			return err, err
		}
		if err := g.noteWants(b, versions); err != nil {
			return err, err
		}
		if adopt != nil {
			adopted, err := adopt.Take(b)
			if err != nil {
				return err, err
			}
			sum.Add(adopted)
		}
		// After the adoption, which closes the gaps that keep versions from being dropped.
		if adopt != nil && !adopt.Drop.IsEmpty() {
			dropped, err := b.Drop(adopt.Drop, adopt.From)
			if err != nil {
				return err, err
			}
			sum.Dropped += dropped.Versions
			sum.Kept += int(dropped.Held.Count())
			g.reloadRules(ns)
		}
		for _, v := range versions {
			if v.Key[0] == 0 {
				g.reloadRules(ns)
				break
			}
		}
		return nil, nil
	}}
	if err = h.db.submit(h.ctx, apply); errors.Is(err, replica.ErrForked) {
		err = h.db.submit(h.ctx, apply) // under a fresh id
	}
	if err == nil && h.db.opts.Durability != DurableAlways && !h.db.opts.Memory {
		err = h.db.kv.Sync()
	}
	if sum.Forks > 0 {
		h.db.opts.Logger.Error("dots used for two versions", "namespace", name, "count", sum.Forks)
	}
	if sum.Late > 0 {
		h.db.opts.Logger.Warn("versions of retired replicas arrived late", "namespace", name, "count", sum.Late)
	}
	return sum, err
}

// Lost notes versions that could not be read, so that a peer sends them again.
func (h *host) Lost(name string, dots crdt.Clock) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err == nil {
		err = ns.markUnknown(h.ctx, dots)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		h.db.opts.Logger.Error("damaged versions not noted", "namespace", name, "versions", dots.Count(), "error", err)
	}
}

// markUnknown takes damaged versions out of the advertised clock.
func (ns *Namespace) markUnknown(ctx context.Context, dots crdt.Clock) error {
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		err = b.MarkUnknown(dots)
		return err, err
	}})
}
