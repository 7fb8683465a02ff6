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
	// ends (the error matches ctx's), or the node is known to be unreachable
	// (ErrUnavailable).
	Dial(ctx context.Context, to Addr) (Stream, error)
	// Accept returns the next stream another node opened to this one. It
	// blocks until there is one, ctx ends (the error matches ctx's), or the
	// network is closed (ErrClosed).
	Accept(ctx context.Context) (Stream, error)
	// Close ends the node's part in the network: its streams break, Accept
	// and Dial return ErrClosed. It is idempotent.
	Close() error
}

// Stream is a reliable, ordered, two-way byte stream: what one end writes the
// other reads in that order, or the stream breaks and calls return
// ErrUnavailable. Read and Write may run at the same time, each from one
// goroutine, and any other method beside them.
//
// Write keeps nothing of its argument. It blocks while the other end does not
// read: the bytes on the way are bounded.
//
// Close ends this end: pending and later calls return ErrClosed. After a
// CloseWrite what was written is still delivered; without one the stream
// breaks at the other end, which may lose what it has not read yet. Close does
// not wait for the other end and is idempotent, as is CloseWrite.
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
