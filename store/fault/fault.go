// Package fault decorates a store with faults that a test plans or a seed
// draws: commits that fail before or after they took place, errors, delays,
// and the death of the process at a commit.
//
// A commit that the decorator fails poisons it exactly as store/bolt is
// poisoned by its own. It starts no goroutines and its draws depend on the
// seed and the order of calls alone.
package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/store"
)

// Kind is what goes wrong with an Update.
type Kind byte

const (
	// Healthy: nothing.
	Healthy Kind = iota
	// FailBefore: the commit fails and changed nothing; the store is poisoned.
	FailBefore
	// FailAfter: the commit fails although its changes are in the store, as
	// after an error of the last flush; the store is poisoned.
	FailAfter
	// CrashBefore: the process dies in the commit, whose changes are lost. This
	// and every later call returns ErrClosed.
	CrashBefore
	// CrashAfter: the process dies after the commit, which nobody was told of.
	CrashAfter
	// Error: Update returns ErrInjected without calling fn; no harm is done.
	Error
	// Delay: the commit waits for up to Plan.MaxDelay first.
	Delay

	kinds
)

var (
	// ErrInjected is wrapped by every error that the decorator made up.
	ErrInjected = errors.New("injected fault")

	errDied = fmt.Errorf("%w: %w: the process died", store.ErrClosed, ErrInjected)
)

// Plan says which calls go wrong. The zero value plans no fault. It must not
// be changed once it is in use.
type Plan struct {
	// Seed of everything that is drawn.
	Seed uint64
	// At plans a fault for the n-th Update, counted from 1.
	At map[int]Kind
	// Rate is the share (0 to 1) of the other Updates that get one of Kinds.
	Rate  float64
	Kinds []Kind
	// ReadRate is the share (0 to 1) of Views, Snapshots and Syncs that return
	// ErrInjected at once.
	ReadRate float64
	// MaxDelay bounds a Delay.
	MaxDelay time.Duration
}

// Counts are the faults that took place.
type Counts struct {
	Updates  int        // Updates that were called
	Faults   [kinds]int // of them, by Kind
	ReadErrs int        // Views, Snapshots and Syncs refused
}

// Store is a store.KV with faults. Use Wrap. All methods may be called from
// several goroutines at once.
type Store struct {
	kv   store.KV
	plan Plan
	end  atomic.Pointer[error] // poisoned or dead: what every call returns
	shut atomic.Bool           // Close has returned

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	counts Counts
}

// Wrap returns kv with the faults of plan; nil plans none.
func Wrap(kv store.KV, plan *Plan) *Store {
	s := &Store{kv: kv}
	if plan != nil {
		s.plan = *plan
	}
	s.rng = rand.New(rand.NewPCG(s.plan.Seed, 0xfa_17))
	return s
}

// Unwrap returns the store behind the faults.
func (s *Store) Unwrap() store.KV { return s.kv }

// Counts returns the faults so far. A test of failures that counts none has
// tested nothing.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// View implements store.KV.
func (s *Store) View(fn func(store.Tx) error) (err error) {
	if err := s.refuse(); err != nil {
		return err
	}
	defer func() {
		end, r := s.ended(), recover()
		if _, ok := r.(runtime.Error); r != nil && (!ok || end == nil) {
			panic(r) // else fn tripped over an answer that it did not get
		}
		if end != nil {
			err = end
		}
	}()
	return s.kv.View(func(inner store.Tx) error { return fn(&tx{Tx: inner, s: s}) })
}

// Update implements store.KV.
func (s *Store) Update(fn func(store.Tx) error) error {
	if err := s.admit(); err != nil {
		return err
	}
	kind, delay := s.draw()
	if kind == Error {
		return ErrInjected
	}
	err := s.kv.Update(func(inner store.Tx) error {
		if err := s.ended(); err != nil {
			return err // while this one waited for its turn
		}
		if err := fn(inner); err != nil {
			return err
		}
		switch kind {
		case FailBefore:
			return s.finish(poisoned(kind))
		case CrashBefore:
			return s.finish(errDied)
		case Delay:
			time.Sleep(delay)
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch kind {
	case FailAfter:
		return s.finish(poisoned(kind))
	case CrashAfter:
		return s.finish(errDied)
	}
	return nil
}

// Snapshot implements store.KV.
func (s *Store) Snapshot() (store.Snapshot, error) {
	if err := s.refuse(); err != nil {
		return nil, err
	}
	snap, err := s.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	return &tx{Tx: snap, s: s}, nil
}

// Sync implements store.KV.
func (s *Store) Sync() error {
	if err := s.refuse(); err != nil {
		return err
	}
	return s.kv.Sync()
}

// Close implements store.KV. It closes the store behind also after a fault.
func (s *Store) Close() error {
	defer s.shut.Store(true)
	return s.kv.Close()
}

// Size implements store.Sizer; ErrUnsupported if the store behind does not.
func (s *Store) Size() (total, free int64, err error) {
	if err := s.admit(); err != nil {
		return 0, 0, err
	}
	if sizer, ok := s.kv.(store.Sizer); ok {
		return sizer.Size()
	}
	return 0, 0, store.ErrUnsupported
}

func poisoned(k Kind) error {
	when := "before"
	if k == FailAfter {
		when = "after"
	}
	return fmt.Errorf("%w: %w %s the commit", store.ErrPoisoned, ErrInjected, when)
}

// finish ends the service with err and returns what it ended with.
func (s *Store) finish(err error) error {
	s.end.CompareAndSwap(nil, &err)
	return s.ended()
}

func (s *Store) ended() error {
	if p := s.end.Load(); p != nil {
		return *p
	}
	return nil
}

// admit returns the error that a new call gets, if any.
func (s *Store) admit() error {
	if s.shut.Load() {
		return store.ErrClosed
	}
	return s.ended()
}

// refuse is admit with the faults of reads.
func (s *Store) refuse() error {
	if err := s.admit(); err != nil {
		return err
	}
	if s.plan.ReadRate <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rng.Float64() < s.plan.ReadRate {
		s.counts.ReadErrs++
		return ErrInjected
	}
	return nil
}

// draw decides the next Update's fate.
func (s *Store) draw() (k Kind, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Updates++
	k, planned := s.plan.At[s.counts.Updates]
	if !planned && len(s.plan.Kinds) > 0 && s.rng.Float64() < s.plan.Rate {
		k = s.plan.Kinds[s.rng.IntN(len(s.plan.Kinds))]
	}
	s.counts.Faults[k]++
	if k == Delay && s.plan.MaxDelay > 0 {
		delay = time.Duration(s.rng.Int64N(int64(s.plan.MaxDelay)) + 1)
	}
	return k, delay
}
