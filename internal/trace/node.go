package trace

import (
	"context"
	"time"
)

// Put is one path that a commit writes.
type Put struct {
	Path string
	File File
}

// Node is one replica under replay. Its methods are called one at a time.
type Node interface {
	// Commit writes puts and dels as one change of author at that time. The
	// time is the author's own clock and may lie before what the replica has
	// seen: a write that comes causally later must win all the same. Neither
	// list is kept; not both are empty.
	Commit(ctx context.Context, author int, at time.Time, puts []Put, dels []string) error
	// Sync brings both replicas to the union of what they know. other is a
	// Node of the same Cluster.
	Sync(ctx context.Context, other Node) error
	// Tree returns the paths a reader sees and what they hold. The receiver
	// owns the map.
	Tree(ctx context.Context) (map[string]File, error)
	// Root returns a digest that is equal exactly for replicas that hold the
	// same versions.
	Root(ctx context.Context) ([]byte, error)
	// Retire releases a replica that will not be used again.
	Retire() error
}

// Conflicter is what a Node may offer besides: the paths that hold concurrent
// versions right now. Without it Report.Conflicts stays 0.
type Conflicter interface {
	Conflicts(ctx context.Context) ([]string, error)
}

// Cluster makes replicas.
type Cluster interface {
	// NewNode returns an empty replica.
	NewNode(ctx context.Context) (Node, error)
}

// Meter is what a Cluster may offer besides: the bytes that its nodes have sent
// to each other so far. Without it Report.WireBytes stays 0.
type Meter interface {
	WireBytes() int64
}
