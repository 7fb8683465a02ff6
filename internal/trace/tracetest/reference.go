// Package tracetest holds what tests of a replay need: a deliberately simple
// reference cluster and a generator of random valid traces.
package tracetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"bzzz/internal/errs"
	"bzzz/internal/trace"
)

// Reference is a trace.Cluster of plain maps that merges by recorded causal
// history: every version knows the ids of all versions of its path that its
// writer had seen. It is slow, obvious and the measure for the engine.
type Reference struct {
	ids  int
	wire int64
	live int
}

// NewReference returns a cluster without nodes.
func NewReference() *Reference { return &Reference{} }

// Live returns how many nodes are not retired.
func (c *Reference) Live() int { return c.live }

// WireBytes returns a fixed 64 bytes for every version that a Sync copied.
func (c *Reference) WireBytes() int64 { return c.wire }

// NewNode returns an empty replica.
func (c *Reference) NewNode(context.Context) (trace.Node, error) {
	c.live++
	return &node{cluster: c, paths: map[string]map[int]*version{}}, nil
}

// version is one write of one path; it never changes.
type version struct {
	id    int
	stamp int64        // above that of every version in past
	past  map[int]bool // ids of the versions of this path that its writer had seen
	file  trace.File
	gone  bool // a delete
}

// node holds, for every path, the versions that no other version it has seen
// covers.
type node struct {
	cluster *Reference
	paths   map[string]map[int]*version
	retired bool
}

func (n *node) alive() error {
	if n.retired {
		return fmt.Errorf("reference node: %w", errs.ErrClosed)
	}
	return nil
}

// Commit writes versions that cover all the node holds of their paths.
func (n *node) Commit(_ context.Context, _ int, at time.Time, puts []trace.Put, dels []string) error {
	for _, p := range puts {
		n.write(p.Path, at, version{file: p.File})
	}
	for _, path := range dels {
		n.write(path, at, version{gone: true})
	}
	return n.alive()
}

func (n *node) write(path string, at time.Time, v version) {
	n.cluster.ids++
	v.id, v.stamp, v.past = n.cluster.ids, at.Unix(), map[int]bool{}
	for id, old := range n.paths[path] {
		v.past[id] = true
		maps.Copy(v.past, old.past)
		v.stamp = max(v.stamp, old.stamp+1)
	}
	n.paths[path] = map[int]*version{v.id: &v}
}

// Sync gives both nodes the union of their versions, less what one of these
// covers.
func (n *node) Sync(_ context.Context, other trace.Node) error {
	o, ok := other.(*node)
	if !ok || n == o {
		return fmt.Errorf("reference node: %w: sync with %T", errs.ErrInvalid, other)
	}
	if err := o.alive(); err != nil {
		return err
	}
	n.take(o)
	o.take(n)
	return n.alive()
}

func (n *node) take(o *node) {
	for path, theirs := range o.paths {
		ours := n.paths[path]
		if maps.Equal(ours, theirs) {
			continue
		}
		union := maps.Clone(theirs)
		maps.Copy(union, ours)
		for id := range theirs {
			if ours[id] == nil {
				n.cluster.wire += 64
			}
		}
		covered := map[int]bool{}
		for _, v := range union {
			maps.Copy(covered, v.past)
		}
		maps.DeleteFunc(union, func(id int, _ *version) bool { return covered[id] })
		n.paths[path] = union
	}
}

// Tree shows, for every path, the version with the highest stamp, the later
// made of two that are equal. Stamps respect causality, so a merge of nodes
// that show the same shows the same.
func (n *node) Tree(context.Context) (map[string]trace.File, error) {
	tree := map[string]trace.File{}
	for path, versions := range n.paths {
		var top *version
		for _, v := range versions {
			if top == nil || v.stamp > top.stamp || v.stamp == top.stamp && v.id > top.id {
				top = v
			}
		}
		if top != nil && !top.gone {
			tree[path] = top.file
		}
	}
	return tree, n.alive()
}

// Conflicts lists the paths with more than one version.
func (n *node) Conflicts(context.Context) ([]string, error) {
	var out []string
	for path, versions := range n.paths {
		if len(versions) > 1 {
			out = append(out, path)
		}
	}
	return out, n.alive()
}

// Root hashes the paths with the ids of their versions, deletes included.
func (n *node) Root(context.Context) ([]byte, error) {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(n.paths)) {
		fmt.Fprintf(h, "%q", path)
		for _, id := range slices.Sorted(maps.Keys(n.paths[path])) {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(id)))
		}
	}
	return h.Sum(nil), n.alive()
}

// Retire makes every later call fail.
func (n *node) Retire() error {
	err := n.alive()
	n.retired = true
	n.cluster.live--
	return err
}
