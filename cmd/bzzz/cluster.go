package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bzzz/engine"
	"bzzz/internal/trace"
)

// cluster makes the replicas of a replay, a store each.
type cluster struct {
	dir   string // "" = in memory
	made  int
	bytes int64
}

// NewNode implements trace.Cluster.
func (c *cluster) NewNode(context.Context) (trace.Node, error) {
	c.made++
	opts := &engine.Options{
		Memory: c.dir == "", RuntimeDir: "-", // nobody opens these stores again
		SweepInterval: -1, // nothing expires
	}
	db, err := engine.Open(filepath.Join(c.dir, fmt.Sprintf("replica-%05d", c.made)), opts)
	if err != nil {
		return nil, err
	}
	return &replica{cluster: c, db: db}, nil
}

// WireBytes implements trace.Meter.
func (c *cluster) WireBytes() int64 { return c.bytes }

// replica is one store under replay.
type replica struct {
	cluster *cluster
	db      *engine.DB
}

// Commit implements trace.Node: one transaction with the author's own time.
func (r *replica) Commit(ctx context.Context, _ int, at time.Time, puts []trace.Put, dels []string) error {
	return r.db.Update(ctx, func(t *engine.Txn) error {
		t.SetTime(at)
		for _, p := range puts {
			if err := t.Put([]byte(p.Path), p.File.Append(nil)); err != nil {
				return err
			}
		}
		for _, path := range dels {
			if _, err := t.Delete([]byte(path)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sync implements trace.Node.
func (r *replica) Sync(ctx context.Context, other trace.Node) error {
	o, ok := other.(*replica)
	if !ok {
		return fmt.Errorf("sync with %T: %w", other, engine.ErrInvalid)
	}
	report, _, err := engine.SyncLocal(ctx, r.db, o.db, engine.SyncOptions{})
	r.cluster.bytes += report.BytesSent + report.BytesReceived
	for _, n := range report.Namespaces {
		if err == nil {
			err = n.Err
		}
	}
	if err == nil && !report.InSync {
		err = errors.New("sync ended without both holding the same")
	}
	return err
}

// Tree implements trace.Node.
func (r *replica) Tree(ctx context.Context) (map[string]trace.File, error) {
	tree := map[string]trace.File{}
	for e, err := range r.db.Scan(ctx, engine.Range{}) {
		if err != nil {
			return nil, err
		}
		f, err := trace.ParseFile(e.Value)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", e.Key, err)
		}
		tree[string(e.Key)] = f
	}
	return tree, nil
}

// Root implements trace.Node: root and clock, which together prove agreement.
func (r *replica) Root(ctx context.Context) ([]byte, error) {
	s, err := r.db.State(ctx)
	if err != nil {
		return nil, err
	}
	return s.Clock.Append(s.Root[:]), nil
}

// Conflicts implements trace.Conflicter.
func (r *replica) Conflicts(ctx context.Context) ([]string, error) {
	var paths []string
	for c, err := range r.db.Conflicts(ctx, nil) {
		if err != nil {
			return nil, err
		}
		paths = append(paths, string(c.Key))
	}
	return paths, nil
}

// Retire implements trace.Node.
func (r *replica) Retire() error { return r.db.Close() }
