package engine

import (
	"context"
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/merkle"
	"bzzz/merkle/proof"
)

// Root is what a namespace, or the part of it whose names begin with a prefix,
// looks like to the Merkle tree.
type Root struct {
	Root merkle.Digest // equal on all nodes that hold the same there
	Keys uint64        // stored keys: elements of composites count one by one
}

// PrefixRoot returns the root over the names that begin with prefix, of
// composites under them too; the namespace's own root if prefix is empty. Its
// cost is that of State.
func (ns *Namespace) PrefixRoot(ctx context.Context, prefix []byte) (Root, error) {
	var out Root
	err := ns.withTree(ctx, func(_ *replica.View, t *replica.Tree) error {
		stored := crdt.AppendName(nil, prefix)
		s, err := t.Prefix(stored)
		if err != nil {
			return err
		}
		out = Root{merkle.Root(ns.name, stored, s), s.Count}
		return nil
	})
	return out, err
}

// Prove returns a proof of what the register key holds: its values, or that
// there are none. Who knows the namespace's root checks it with proof.Verify and
// needs no store. O(log n), besides the cost of State.
func (ns *Namespace) Prove(ctx context.Context, key []byte) (*proof.Envelope, error) {
	return ns.prove(ctx, func(s proof.Source) (*proof.Envelope, error) { return s.Key(crdt.AppendName(nil, key)) })
}

// ProvePrefix returns a proof of how many stored keys have names that begin with
// prefix, and of their subtree's digest.
func (ns *Namespace) ProvePrefix(ctx context.Context, prefix []byte) (*proof.Envelope, error) {
	return ns.prove(ctx, func(s proof.Source) (*proof.Envelope, error) { return s.Prefix(crdt.AppendName(nil, prefix)) })
}

func (ns *Namespace) prove(ctx context.Context, of func(proof.Source) (*proof.Envelope, error)) (*proof.Envelope, error) {
	var out *proof.Envelope
	err := ns.withTree(ctx, func(v *replica.View, t *replica.Tree) (err error) {
		out, err = of(proof.Source{Namespace: ns.name, Index: t.Index, Versions: v.Siblings})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %q: %w", ns.name, err)
	}
	return out, nil
}

// withTree calls fn with the namespace's state and its Merkle index, and stores
// afterwards what had to be brought up to date.
func (ns *Namespace) withTree(ctx context.Context, fn func(*replica.View, *replica.Tree) error) error {
	err := ns.fullView(ctx, func(v *replica.View) error {
		ns.roots.mu.Lock()
		recent := ns.roots.recent
		ns.roots.mu.Unlock()
		t, err := v.TreeAfter(recent)
		if err != nil {
			return err
		}
		if err := fn(v, t); err != nil {
			return err
		}
		ns.roots.mu.Lock()
		defer ns.roots.mu.Unlock()
		ns.keepTree(v, t)
		return nil
	})
	if err != nil {
		return err
	}
	return ns.storeViews(ctx)
}
