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

	"go.etcd.io/bbolt"
	bbolterr "go.etcd.io/bbolt/errors"

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
	path     string
	opt      Options
	db       *bbolt.DB
	file     *os.File // the handle that bbolt uses
	users    gate
	poison   atomic.Pointer[error]
	stuck    atomic.Bool // a lock inside bbolt will never be released
	scanned  bool        // the file was not closed cleanly: Close must write the free list
	changed  atomic.Bool // a commit took place
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
	s, err := open(path, opt)
	return s, errs.Wrap("bolt.Open", path, err)
}

// open opens an existing file: lock, check, map.
func open(path string, opt Options) (s *Store, err error) {
	file, clean, err := lockAndCheck(path, opt.ReadOnly, opt.LockTimeout, false)
	if err != nil {
		return nil, err
	}
	s = &Store{path: path, opt: opt, scanned: !clean}
	s.users.idle = make(chan struct{})
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage(r)
		}
		if err != nil {
			if s.file != nil {
				_ = release(s.file) // the error that is returned says more
			}
			s = nil
		}
	}()
	s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         max(opt.LockTimeout, time.Nanosecond),
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		ReadOnly:        opt.ReadOnly,
		InitialMmapSize: int(opt.InitialMmap),
		PageSize:        pageSize,
		NoSync:          opt.Durability != Always,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			if s.file = file; file == nil {
				s.file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			}
			return s.file, err
		},
	})
	switch {
	case errors.Is(err, bbolterr.ErrTimeout):
		return s, store.ErrLocked
	case errors.Is(err, bbolterr.ErrInvalid), errors.Is(err, bbolterr.ErrChecksum), errors.Is(err, bbolterr.ErrVersionMismatch):
		return s, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case err != nil:
		return s, err
	}
	if err := s.db.View(checkMarker); err != nil {
		return s, errors.Join(err, s.db.Close())
	}
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
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	t, err := s.begin(false)
	if err != nil {
		return nil, err
	}
	t.snapshot = true
	return t, nil
}

// Sync implements store.KV with one flush. If it fails the store is poisoned:
// what was committed may never reach the medium.
func (s *Store) Sync() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.users.leave()
	if s.opt.ReadOnly {
		return nil
	}
	if err := s.db.Sync(); err != nil {
		return s.poisonWith(err)
	}
	return nil
}

// Close implements store.KV. It writes the free list into the file, so that
// the next Open need not scan it. A poisoned store is only released.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.users.shut()
		s.closeErr = errs.Wrap("bolt.Close", s.path, s.close())
	})
	return s.closeErr
}

func (s *Store) close() (err error) {
	if s.stuck.Load() {
		return release(s.file) // the mapping is lost
	}
	if !s.opt.ReadOnly && s.poison.Load() == nil && (s.scanned || s.changed.Load()) {
		err = s.writeFreelist()
	}
	if s.stuck.Load() {
		return errors.Join(err, release(s.file))
	}
	return errors.Join(err, s.db.Close())
}

// writeFreelist commits nothing but the free list, flushed in every class.
func (s *Store) writeFreelist() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.stuck.Store(true)
			err = damage(r)
		}
	}()
	s.db.NoFreelistSync, s.db.NoSync = false, false
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	return tx.Commit()
}

// Size implements store.Sizer: the length of the file and, in it, the pages
// that hold nothing. A read-only store does not know its free pages and counts
// only the unused end of the file.
func (s *Store) Size() (total, free int64, err error) {
	err = s.View(func(t store.Tx) error {
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		stats := s.db.Stats()
		total = info.Size()
		free = total - t.(*tx).used() + int64(stats.FreePageN+stats.PendingPageN)*pageSize
		return nil
	})
	return total, free, err
}
