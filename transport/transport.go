// Package transport is the contract between the engine and the outside world.
//
// This package holds the contract for networks and streams; transport/mem is
// its simulated twin and transport/transporttest the suite both the twin and
// real networks pass.
package transport

import (
	"context"
	"io"
	"time"
)

// Addr names a node on a network: opaque to the engine, comparable, never a
// user's secret.
type Addr string

// Network lets a node accept streams and open them to others. All methods may
// be called from several goroutines at once.
type Network interface {
	// Self is the address at which others reach this node.
	Self() Addr
	// Dial opens a stream to a node. It blocks until the stream stands, ctx
	// ends, or the node is known to be unreachable (ErrUnavailable).
	Dial(ctx context.Context, to Addr) (Stream, error)
	// Accept returns the next stream another node opened to this one. It
	// blocks until there is one, ctx ends, or the network is closed (ErrClosed).
	Accept(ctx context.Context) (Stream, error)
	// Close ends the node's part in the network: its streams break, Accept
	// and Dial return ErrClosed. It is idempotent.
	Close() error
}

// Stream is a reliable, ordered, two-way byte stream: what one end writes the
// other reads in that order, or the stream breaks. Read and Write may run at
// the same time, each from one goroutine.
type Stream interface {
	io.ReadWriteCloser
	// Peer is the address of the other end.
	Peer() Addr
	// CloseWrite ends this direction: the other end reads io.EOF after what
	// was written before. Reading goes on.
	CloseWrite() error
	// SetDeadline bounds pending and later reads and writes; past it they
	// return ErrTimeout. The zero time lifts it.
	SetDeadline(t time.Time) error
}
