// Package mem keeps a store in memory: the twin of store/bolt with the same
// semantics, limits and errors, for tests and for data that may be lost.
//
// It is built on copy-on-write B-trees. A transaction reads an immutable state
// that is one pointer, a commit replaces the pointer, and an Image keeps a
// state for later: to roll a store back, to clone it, or to reopen it after
// Close as if the process had been restarted.
package mem

import (
	"bytes"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"bzzz/store"
)

// reserved is the bucket name that store/bolt keeps for itself and that the
// twin therefore refuses too.
const reserved = "_bzzz"

// Store is a store.KV in memory. Use New or FromImage. All methods may be
// called from several goroutines at once.
type Store struct {
	state  atomic.Pointer[state]
	writer sync.Mutex // held by the running Update

	mu     sync.Mutex // guards users and closed
	idle   sync.Cond  // signalled when users falls to 0
	users  int        // running transactions and snapshots
	closed bool
}

// Image is the committed state of a store at one moment. It is immutable and
// shares memory with the stores it came from and went into.
type Image struct{ state *state }

// state is one committed state. It does not change once a Store points to it.
type state struct {
	id      uint64
	buckets map[string]*table
}

// table is the content of one bucket. Committed tables do not change, but
// copying one marks its tree, hence the lock: stores may share tables.
type table struct {
	mu    sync.Mutex
	tree  *btree.BTreeG[item]
	bytes int64 // of its keys and values
}

type item struct{ key, value []byte }

// New returns an empty store.
func New() *Store { return FromImage(&Image{&state{}}) }

// FromImage returns a store that begins with the state of img. O(1): memory is
// shared until either side writes. Any number of stores may begin with one
// image.
func FromImage(img *Image) *Store {
	s := &Store{}
	s.idle.L = &s.mu
	s.state.Store(img.state)
	return s
}

// Image returns the last committed state, also while an Update runs and after
// Close. O(1).
func (s *Store) Image() *Image { return &Image{s.state.Load()} }

// View implements store.KV.
func (s *Store) View(fn func(store.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	t := &tx{s: s, state: s.state.Load()}
	defer t.end()
	return fn(t)
}

// Update implements store.KV. A commit takes O(number of buckets) beside the
// writes themselves, and cannot fail.
func (s *Store) Update(fn func(store.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	old := s.state.Load()
	t := &tx{s: s, writable: true, state: &state{old.id + 1, maps.Clone(old.buckets)}}
	if t.state.buckets == nil {
		t.state.buckets = map[string]*table{}
	}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	s.state.Store(t.state)
	return nil
}

// Snapshot implements store.KV.
func (s *Store) Snapshot() (store.Snapshot, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	return &tx{s: s, state: s.state.Load()}, nil
}

// Sync implements store.KV. There is no medium, so it does nothing.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// Size implements store.Sizer: the bytes of all keys and values, none of them
// free. O(number of buckets).
func (s *Store) Size() (total, free int64, err error) {
	err = s.View(func(t store.Tx) error {
		for _, tab := range t.(*tx).state.buckets {
			total += tab.bytes
		}
		return nil
	})
	return total, 0, err
}

// Close implements store.KV. The state survives in an Image.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.users > 0 {
		s.idle.Wait()
	}
	return nil
}

func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.users++
	return nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.idle.Broadcast()
	}
}

func newTable() *table {
	less := func(a, b item) bool { return bytes.Compare(a.key, b.key) < 0 }
	return &table{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

// copy returns a table of the same content that may be written. O(1).
func (t *table) copy() *table {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &table{tree: t.tree.Copy(), bytes: t.bytes}
}
