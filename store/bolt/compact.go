package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"bzzz/internal/errs"
	"bzzz/store"
)

const (
	// maxFindings is how many findings of bbolt Check reports.
	maxFindings = 10
	// catchUpRounds is how often Compact brings its copy up to date beside the
	// writers before it makes them wait; each round is shorter than the one
	// before unless they write faster than it copies.
	catchUpRounds = 4
	// catchUpBytes of changes are few enough to make writers wait for: a few
	// tens of milliseconds.
	catchUpBytes = 1 << 20
	// writerPatience is how long Compact waits for an Update to end. One that
	// has to grow the file beyond its mapping waits for all readers, Compact's
	// own snapshot among them: one of the two has to give way.
	writerPatience = 10 * time.Second
)

// Compact copies the store at src, which nobody may have open for writing,
// into a new one at dst, dense and without free pages. The copy gets its name
// only when it is complete and durable. Transaction IDs go on from those of
// src. Memory: about 50 MB. Errors: ErrExists if dst exists, else as Open.
func Compact(src, dst string) error {
	return errs.Wrap("bolt.Compact", src, compact(src, dst))
}

func compact(src, dst string) (err error) {
	if err := vacant(dst); err != nil {
		return err
	}
	from, err := Open(src, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	snap, err := from.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Release()
	return copyTo(context.Background(), dst, snap, CopyOptions{})
}

// Compact implements store.Compacter. The copy is made beside the file, so that
// much room must be free. It is compared with the original byte by byte, then
// brought up to date in rounds by the pages that were written meanwhile; only
// for the last, short round and the change of files does an Update wait. A file
// above half of Options.InitialMmap is copied while Updates wait, because one
// that outgrew the mapping would wait for the copy, and every reader with it.
// Views and snapshots of the old file stay valid and keep its room until they
// end.
//
// The copy is durable before it takes the file's name, so a crash leaves one
// whole store under that name, with all that was committed, and at worst a
// temporary file, which the next Compact removes. ErrReadOnly, ErrUnsupported
// on Windows (an open file cannot be replaced there), ErrClosed if the store is
// closed meanwhile, ErrUnavailable if an Update holds it for 10 s, ctx's error:
// the store is as it was. If the name of the new file cannot be made durable
// the store is poisoned.
func (s *Store) Compact(ctx context.Context, progress func(bytes int64)) (before, after int64, err error) {
	before, after, err = s.compact(ctx, progress)
	return before, after, errs.Wrap("bolt.Compact", s.path, err)
}

func (s *Store) compact(ctx context.Context, progress func(int64)) (before, after int64, err error) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	switch {
	case s.ending.Load():
		return 0, 0, store.ErrClosed
	case s.opt.ReadOnly:
		return 0, 0, store.ErrReadOnly
	case runtime.GOOS == "windows" || runtime.GOOS == "plan9":
		return 0, 0, fmt.Errorf("%w: an open file cannot be replaced on %s", store.ErrUnsupported, runtime.GOOS)
	}
	before, free, err := s.Size()
	if err != nil {
		return 0, 0, err
	}
	path, err := filepath.EvalSymlinks(s.path) // a link stays one
	if err != nil {
		return 0, 0, err
	}
	if err := removeTemps(path); err != nil { // this store is locked: they are a crash's
		return 0, 0, err
	}
	c := &compaction{s: s, path: path, ctx: ctx, progress: progress}
	defer c.end()
	if used := before - free; used > s.opt.InitialMmap/2 {
		if err := c.lockWriter(); err != nil {
			return 0, 0, err
		}
	}
	if err := c.copy(); err != nil {
		return 0, 0, err
	}
	if err := c.swap(); err != nil {
		return 0, 0, err
	}
	after, _, err = s.Size()
	return before, after, err
}

// compaction is one run of Compact.
type compaction struct {
	s        *Store
	path     string // of the file
	ctx      context.Context
	progress func(int64)
	temp     string // the copy's name, "" once it has the store's
	to       *Store // the copy, nil once it is closed
	seen     *tx    // the state that the copy has
	alone    bool   // Updates wait
}

// stop returns why to go no further.
func (c *compaction) stop() error {
	if c.s.ending.Load() {
		return store.ErrClosed
	}
	return c.ctx.Err()
}

// lockWriter makes Updates wait until the compaction ends.
func (c *compaction) lockWriter() error {
	if c.alone {
		return nil
	}
	late := time.NewTimer(c.s.patience)
	defer late.Stop()
	select {
	case c.s.writer <- struct{}{}:
		c.alone = true
		return c.stop()
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-late.C:
		return fmt.Errorf("an Update did not end within %v, perhaps because the file outgrows its mapping: %w", c.s.patience, errs.ErrUnavailable)
	}
}

func (c *compaction) unlockWriter() {
	if c.alone {
		c.alone = false
		<-c.s.writer
	}
}

// end releases what is left, most of it only after an error.
func (c *compaction) end() {
	c.unlockWriter()
	if c.seen != nil {
		c.seen.Release()
	}
	if c.to != nil {
		_ = c.to.Close() // its file goes
	}
	if c.temp != "" {
		_ = os.Remove(c.temp) // if this fails, the next Compact tries again
	}
}

// copy makes the copy and brings it near the present.
func (c *compaction) copy() (err error) {
	if c.temp, err = newTemp(c.path); err != nil {
		return err
	}
	if c.to, err = Open(c.temp, &Options{Durability: None}); err != nil {
		return err
	}
	if c.seen, err = c.s.snapshot(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	err = copyAll(ctx, c.to, c.seen, func(n int64) {
		if c.s.ending.Load() {
			cancel()
		}
		if c.progress != nil {
			c.progress(n)
		}
	})
	if stopped := c.stop(); err != nil && stopped != nil {
		return stopped
	}
	if err != nil {
		return err
	}
	if err := c.compare(); err != nil {
		return err
	}
	for range catchUpRounds {
		if c.alone {
			return nil // nothing has changed, nor will it
		}
		// What is on the medium already need not be flushed while writers wait.
		if err := ofCopy(c.to.Sync()); err != nil {
			return err
		}
		if n, err := c.catchUp(); err != nil || n < catchUpBytes {
			return err
		}
	}
	return nil
}

// catchUp applies to the copy what was committed since the state it has, and
// returns how many bytes that was.
func (c *compaction) catchUp() (int64, error) {
	// While an Update runs, beginning a second snapshot beside the one that is
	// held could wait for ever: see writerPatience.
	wasAlone := c.alone
	if err := c.lockWriter(); err != nil {
		return 0, err
	}
	next, err := c.s.snapshot()
	if !wasAlone {
		c.unlockWriter()
	}
	if err != nil {
		return 0, err
	}
	n, err := applyChanges(c.to, c.seen, next)
	c.seen.Release() // not before: its pages tell what changed
	c.seen = next
	return n, err
}

// compare checks that the copy holds exactly what the state it has holds.
func (c *compaction) compare() error {
	return ofCopy(c.to.View(func(got store.Tx) (err error) {
		defer c.seen.containFault(&err)
		names := c.seen.names()
		for name := range got.Buckets() {
			if len(names) == 0 || names[0] != name {
				return corrupt("the copy has a bucket %q too many", name)
			}
			names = names[1:]
			if err := c.stop(); err != nil {
				return err
			}
			want, have := c.seen.Bucket(name).Cursor(), got.Bucket(name).Cursor()
			k, v := want.First()
			for gk, gv := have.First(); ; gk, gv = have.Next() {
				if !bytes.Equal(k, gk) || !bytes.Equal(v, gv) {
					return corrupt("bucket %q of the copy differs from the original", name)
				}
				if k == nil {
					break
				}
				k, v = want.Next()
			}
		}
		if len(names) > 0 {
			return corrupt("the copy lacks bucket %q", names[0])
		}
		return c.seen.Err()
	}))
}

// swap makes the copy the store's file.
func (c *compaction) swap() error {
	if err := c.lockWriter(); err != nil {
		return err
	}
	defer c.unlockWriter()
	if _, err := c.catchUp(); err != nil {
		return err
	}
	id := c.seen.ID()
	to := c.to
	c.to = nil
	if err := to.Close(); err != nil {
		return err
	}
	if err := raiseID(c.temp, id); err != nil {
		return err
	}
	fresh, err := open(c.temp, c.s.opt) // and locked before it gets the name
	if err != nil {
		return err
	}
	old := c.s.now.Load()
	if p := old.poison.Load(); p != nil { // by a flush: what was copied may not be what is there
		return errors.Join(*p, fresh.close(false))
	}
	if err := sameAccess(c.temp, old.file); err != nil {
		return errors.Join(err, fresh.close(false))
	}
	if err := os.Rename(c.temp, c.path); err != nil {
		return errors.Join(err, fresh.close(false))
	}
	c.temp = ""
	c.s.now.Store(fresh)
	c.seen.Release()
	c.seen = nil
	c.s.retired.add(old)
	if err := syncDirs(c.path); err != nil {
		// A loss of power could bring the old file back, without what is
		// committed from here on.
		return fresh.poisonWith(err)
	}
	return nil
}

// sameAccess gives the file at path the mode and the owner of f.
func sameAccess(path string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return errors.Join(sameOwner(path, info), os.Chmod(path, info.Mode().Perm()))
}

// raiseID adds to the transaction IDs in the meta pages of a closed file, so
// that the next commit's is above id. bbolt has no call for it.
func raiseID(path string, id uint64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i := range int64(2) {
		b := make([]byte, metaSize)
		at := i*pageSize + headerSize
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		native.PutUint64(b[48:], native.Uint64(b[48:])+(id+1)&^1) // even: bbolt writes odd IDs to page 1
		native.PutUint64(b[56:], metaSum(b))
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Check reads the whole file at path, which nobody may have open for writing,
// and reports damage of its structure: pages that are missing, misplaced, used
// twice or by nobody, entries out of order or out of bounds. It does not see
// changed bytes inside keys and values. Errors as Open.
func Check(path string) error {
	return errs.Wrap("bolt.Check", path, check(path))
}

func check(path string) (err error) {
	f, _, err := lockAndCheck(path, true, DefaultLockTimeout, true)
	if err != nil {
		return err
	}
	if f != nil {
		if err := f.Close(); err != nil {
			return err
		}
	}
	// bbolt checks in a goroutine of its own, where a fault would end the
	// process: only a file that has passed may go there.
	s, err := Open(path, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage(r)
		}
	}()
	return s.now.Load().db.View(func(tx *bbolt.Tx) error {
		var found []error
		more := 0
		for e := range tx.Check() { // must be drained
			if len(found) < maxFindings {
				found = append(found, e)
			} else {
				more++
			}
		}
		if len(found) == 0 {
			return nil
		}
		return corrupt("%d findings, the first: %w", len(found)+more, errors.Join(found...))
	})
}
