// Package bolt keeps a store in one bbolt file.
//
// It adds to bbolt what an engine needs to trust a file: creation that a crash
// cannot leave half done, a format marker, a check of the page structure
// before bbolt maps the file, damage that ends as an error and not as a crash
// of the process, a store that stops serving once a commit has failed, fill
// rates that follow the load, and a free list in every cleanly closed file.
//
// Limits to know. A transaction that meets damage answers "nothing" to this
// and every later read and then fails with store.ErrCorrupt, also if its
// function panicked over the missing answer; a Snapshot has no end that could
// fail, so ask its Err method before trusting a miss. bbolt keeps no
// page checksums: a damaged value may be returned, the reader must verify it.
// Once the file outgrows Options.InitialMmap a commit that grows it waits for
// all readers. An Update must not be started inside a View of the same
// goroutine.
package bolt

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/internal/errs"
	"bzzz/store"
)

// Durability says when a commit reaches the medium.
type Durability byte

const (
	// Always: before Update returns, in two flushes.
	Always Durability = 0
	// Interval: when the caller calls Sync, at intervals of its choice. The end
	// of the process loses nothing. A loss of power can lose what was committed
	// since the last Sync and, because the order of writes is then up to the
	// operating system, damage the file.
	Interval Durability = 1
	// None: on Close, with the risks of Interval.
	None Durability = 2
)

const (
	// DefaultLockTimeout is how long Open waits for a file that another process
	// has open: long enough for a predecessor to finish its Close.
	DefaultLockTimeout = time.Second

	// DefaultInitialMmap is the address space in bytes that is set aside for
	// the file on 64-bit Linux, 16 GiB: it costs no memory, and up to that size
	// no commit waits for readers. Elsewhere it is 1 GiB (other 64-bit Unix) or
	// 0 (32-bit: address space is scarce; Windows: the file itself would grow).
	DefaultInitialMmap int64 = 16 << 30

	// pageSize is the same on every machine, so that files can be moved.
	pageSize = 4096

	// The file grows in steps of a 32nd, so that growing costs few flushes
	// and a small store stays small.
	minGrowth, maxGrowth = 64 << 10, 4 << 20
)

// Options for Open. The zero value means the defaults.
type Options struct {
	// Durability class of commits; default Always.
	Durability Durability
	// ReadOnly opens an existing file without the power to write, beside other
	// read-only users.
	ReadOnly bool
	// LockTimeout is how long to wait for a locked file; 0 means
	// DefaultLockTimeout, negative not at all.
	LockTimeout time.Duration
	// InitialMmap is the address space for the file in bytes; 0 means
	// DefaultInitialMmap, negative none beyond the file.
	InitialMmap int64
}

func (o *Options) withDefaults() (Options, error) {
	var opt Options
	if o != nil {
		opt = *o
	}
	if opt.Durability > None {
		return opt, fmt.Errorf("%w: durability class %d", store.ErrInvalid, opt.Durability)
	}
	if opt.LockTimeout == 0 {
		opt.LockTimeout = DefaultLockTimeout
	}
	switch small := ^uint(0)>>32 == 0; {
	case opt.InitialMmap < 0 || runtime.GOOS == "windows" || small && opt.InitialMmap == 0:
		opt.InitialMmap = 0
	case opt.InitialMmap == 0 && runtime.GOOS == "linux":
		opt.InitialMmap = DefaultInitialMmap
	case opt.InitialMmap == 0:
		opt.InitialMmap = 1 << 30
	case small:
		opt.InitialMmap = min(opt.InitialMmap, 1<<30)
	}
	return opt, nil
}

// Store is a store.KV in a bbolt file. Use Open. All methods may be called
// from several goroutines at once.
type Store struct {
	path string
	opt  Options
	now  atomic.Pointer[mapped] // Compact replaces it

	// writer is filled by the one Update, and by Compact while it changes files,
	// so that no Update commits to a file that has lost its name.
	writer     chan struct{}
	patience   time.Duration // of Compact with an Update
	compacting sync.Mutex    // held by Compact, and by Close when it begins
	ending     atomic.Bool
	retired    retired

	closing  sync.Once
	closeErr error
}

// Open opens the store at path and creates it if there is no such file and
// ReadOnly is not set.
//
// It reads the meta pages, the free list and all branch pages (about one page
// in a hundred), after an unclean end every page, and checks their structure.
// Errors: ErrLocked if another process has the file, ErrUnsupported if another
// program or format wrote it, ErrCorrupt if it is damaged, ErrNotFound if it
// does not exist and is to be opened ReadOnly, ErrInvalid for bad options.
func Open(path string, opts *Options) (*Store, error) {
	opt, err := opts.withDefaults()
	if err != nil {
		return nil, errs.Wrap("bolt.Open", path, err)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if opt.ReadOnly {
			return nil, errs.Wrap("bolt.Open", path, fmt.Errorf("%w: %w", store.ErrNotFound, err))
		}
		if err := create(path); err != nil {
			return nil, errs.Wrap("bolt.Open", path, err)
		}
	}
	m, err := open(path, opt)
	if err != nil {
		return nil, errs.Wrap("bolt.Open", path, err)
	}
	s := &Store{path: path, opt: opt, writer: make(chan struct{}, 1), patience: writerPatience}
	s.now.Store(m)
	return s, nil
}

// View implements store.KV.
func (s *Store) View(fn func(store.Tx) error) (err error) {
	old := debug.SetPanicOnFault(true)
	t, err := s.begin(false)
	if err != nil {
		debug.SetPanicOnFault(old)
		return err
	}
	defer t.finish(old, &err)
	return fn(t)
}

// Update implements store.KV. A commit writes each changed page once.
func (s *Store) Update(fn func(store.Tx) error) (err error) {
	s.writer <- struct{}{}
	defer func() { <-s.writer }()
	old := debug.SetPanicOnFault(true)
	t, err := s.begin(true)
	if err != nil {
		debug.SetPanicOnFault(old)
		return err
	}
	defer t.finish(old, &err)
	if err := fn(t); err != nil {
		return err
	}
	if t.err != nil {
		return t.err
	}
	return t.commit()
}

// Snapshot implements store.KV.
func (s *Store) Snapshot() (store.Snapshot, error) {
	t, err := s.snapshot()
	if err != nil {
		return nil, err // not a nil *tx in an interface
	}
	return t, nil
}

func (s *Store) snapshot() (*tx, error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	t, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	t.snapshot = true
	return t, nil
}

// begin starts a transaction on the file of this moment. Panic on fault must be
// set.
func (s *Store) begin(writable bool) (*tx, error) {
	for {
		m := s.now.Load()
		t, err := m.begin(writable)
		if err != nil && s.now.Load() != m {
			continue // Compact has just retired that file
		}
		return t, err
	}
}

// Sync implements store.KV with one flush. If it fails the store is poisoned:
// what was committed may never reach the medium.
func (s *Store) Sync() error {
	for {
		m := s.now.Load()
		err := m.sync()
		if err != nil && s.now.Load() != m {
			continue
		}
		return err
	}
}

// Close implements store.KV. It writes the free list into the file, so that
// the next Open need not scan it. A poisoned store is only released. A Compact
// that is running gives up first.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.ending.Store(true)
		s.compacting.Lock()
		defer s.compacting.Unlock()
		m := s.now.Load()
		m.users.shut()
		s.closeErr = errs.Wrap("bolt.Close", s.path, errors.Join(m.close(true), s.retired.wait()))
	})
	return s.closeErr
}

// Size implements store.Sizer: the length of the file and, in it, the pages
// that hold nothing. A read-only store does not know its free pages and counts
// only the unused end of the file.
func (s *Store) Size() (total, free int64, err error) {
	err = s.View(func(t store.Tx) error {
		total, free, err = t.(*tx).size()
		return err
	})
	return total, free, err
}
