package bolt

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterr "go.etcd.io/bbolt/errors"

	"bzzz/store"
)

// mapped is one open file under bbolt. A Store has one, and after a Compact for
// a while also the one before, until its readers have ended.
type mapped struct {
	opt     Options
	db      *bbolt.DB
	file    *os.File // the handle that bbolt uses
	users   gate
	poison  atomic.Pointer[error]
	stuck   atomic.Bool // a lock inside bbolt will never be released
	scanned bool        // the file was not closed cleanly: close must write the free list
	changed atomic.Bool // a commit took place
}

// open opens an existing file: lock, check, map.
func open(path string, opt Options) (s *mapped, err error) {
	file, clean, err := lockAndCheck(path, opt.ReadOnly, opt.LockTimeout, false)
	if err != nil {
		return nil, err
	}
	s = &mapped{opt: opt, scanned: !clean}
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

// sync flushes the file; a failure poisons the store.
func (s *mapped) sync() error {
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

// close releases the file, which must have no users any more. keep says that
// it still has its name, so that its free list is worth writing.
func (s *mapped) close(keep bool) (err error) {
	if s.stuck.Load() {
		return release(s.file) // the mapping is lost
	}
	if keep && !s.opt.ReadOnly && s.poison.Load() == nil && (s.scanned || s.changed.Load()) {
		err = s.writeFreelist()
	}
	if s.stuck.Load() {
		return errors.Join(err, release(s.file))
	}
	return errors.Join(err, s.db.Close())
}

// writeFreelist commits nothing but the free list, flushed in every class.
func (s *mapped) writeFreelist() (err error) {
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

// retired are files that Compact has replaced and that still have readers.
type retired struct {
	waiting sync.WaitGroup
	mu      sync.Mutex
	err     error // of releasing them
}

// add releases m once its last reader has ended.
func (r *retired) add(m *mapped) {
	r.waiting.Go(func() {
		m.users.shut()
		err := m.close(false)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = errors.Join(r.err, err)
	})
}

// wait blocks until all are released.
func (r *retired) wait() error {
	r.waiting.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
