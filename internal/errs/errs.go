// Package errs holds the error kinds of the whole project: bare sentinels for
// hot paths and one structured error for API edges.
//
// Public packages re-export the sentinels they can return (store.ErrCorrupt,
// engine.ErrConflict, ...), so that errors.Is works across every boundary.
package errs

import (
	"errors"
	"fmt"
)

// Kind classifies an error. It is one byte, crosses the wire and is
// append-only: a number never changes its meaning.
type Kind byte

// The kinds. Each belongs to the sentinel of the same name.
const (
	KindOther       Kind = 0
	KindNotFound    Kind = 1
	KindExists      Kind = 2
	KindConflict    Kind = 3
	KindCorrupt     Kind = 4
	KindClosed      Kind = 5
	KindPoisoned    Kind = 6
	KindReadOnly    Kind = 7
	KindTooLarge    Kind = 8
	KindUnavailable Kind = 9
	KindTimeout     Kind = 10
	KindUnsupported Kind = 11
	KindInvalid     Kind = 12
	KindNotRetained Kind = 13
	KindLocked      Kind = 14
)

// The sentinels. Match them with errors.Is, never by text.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("already exists")
	ErrConflict    = errors.New("conflict")
	ErrCorrupt     = errors.New("corrupt data")
	ErrClosed      = errors.New("closed")
	ErrPoisoned    = errors.New("store poisoned by a failed commit: close and reopen it")
	ErrReadOnly    = errors.New("read-only")
	ErrTooLarge    = errors.New("too large")
	ErrUnavailable = errors.New("unavailable")
	ErrTimeout     = errors.New("timed out")
	ErrUnsupported = errors.New("unsupported")
	ErrInvalid     = errors.New("invalid")
	ErrNotRetained = errors.New("version no longer retained")
	ErrLocked      = errors.New("locked by another process")
)

var sentinels = [...]error{
	KindNotFound: ErrNotFound, KindExists: ErrExists, KindConflict: ErrConflict,
	KindCorrupt: ErrCorrupt, KindClosed: ErrClosed, KindPoisoned: ErrPoisoned,
	KindReadOnly: ErrReadOnly, KindTooLarge: ErrTooLarge, KindUnavailable: ErrUnavailable,
	KindTimeout: ErrTimeout, KindUnsupported: ErrUnsupported, KindInvalid: ErrInvalid,
	KindNotRetained: ErrNotRetained, KindLocked: ErrLocked,
}

// KindOf returns the kind of err: that of the sentinel it wraps, KindOther
// where it wraps none.
func KindOf(err error) Kind {
	for k, s := range sentinels {
		if s != nil && errors.Is(err, s) {
			return Kind(k)
		}
	}
	return KindOther
}

// Sentinel returns the sentinel of a kind, nil for KindOther and for kinds
// this build does not know.
func Sentinel(k Kind) error {
	if int(k) < len(sentinels) {
		return sentinels[k]
	}
	return nil
}

// Error is an error at an API edge: which operation failed, on what, and why.
type Error struct {
	Op   string // what was attempted, for example "engine.Open"
	Addr string // what it was attempted on: a path, a peer, an address; never a user's value
	Err  error  // the cause; wraps a sentinel
}

// Error prints "op addr: cause".
func (e *Error) Error() string {
	if e.Addr == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Addr + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Wrap returns an *Error around err, nil if err is nil.
func Wrap(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Addr: addr, Err: err}
}

// Corruption describes damaged data: where it was found, what digest it should
// have, what it has, and what to do. It matches ErrCorrupt.
type Corruption struct {
	What string // what was read, for example "version 01ab...:17"
	Want string // expected digest or CID
	Got  string // digest or CID of the bytes that were read; empty if they did not decode
	Hint string // what to do next
}

// Error names the damage and the next step.
func (c *Corruption) Error() string {
	s := "corrupt data: " + c.What
	if c.Want != "" {
		s += fmt.Sprintf(" (want %s, got %s)", c.Want, c.Got)
	}
	if c.Hint != "" {
		s += "; " + c.Hint
	}
	return s
}

// Is makes errors.Is(c, ErrCorrupt) true.
func (c *Corruption) Is(target error) bool { return target == ErrCorrupt }
