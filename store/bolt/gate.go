package bolt

import (
	"errors"
	"fmt"
	"sync/atomic"

	"bzzz/store"
)

// gate counts who uses the store, so that Close can keep newcomers out and
// wait for the rest without a lock that every reader would have to take.
type gate struct {
	n    atomic.Int64 // users, plus isShut
	idle chan struct{}
}

const isShut = 1 << 62

func (g *gate) enter() bool {
	for {
		n := g.n.Load()
		if n&isShut != 0 {
			return false
		}
		if g.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *gate) leave() {
	if g.n.Add(-1) == isShut {
		close(g.idle)
	}
}

// shut waits for all users to leave. Call it once.
func (g *gate) shut() {
	if g.n.Or(isShut) != 0 {
		<-g.idle
	}
}

// enter admits one user, whose end must be told by users.leave.
func (s *mapped) enter() error {
	if !s.users.enter() {
		return store.ErrClosed
	}
	if p := s.poison.Load(); p != nil {
		s.users.leave()
		return *p
	}
	return nil
}

// poisonWith makes the store refuse everything but Close, and returns the
// error that it will refuse with: that of the first failure.
func (s *mapped) poisonWith(cause error) error {
	err := fmt.Errorf("%w: %w", store.ErrPoisoned, cause)
	s.poison.CompareAndSwap(nil, &err)
	return *s.poison.Load()
}

// damage turns a panic of bbolt, or a fault on its mapping, into an error.
func damage(r any) error {
	if err, ok := r.(error); ok {
		if errors.Is(err, store.ErrCorrupt) {
			return err
		}
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %v", store.ErrCorrupt, r)
}
