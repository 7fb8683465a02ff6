package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"bzzz/internal/errs"
	"bzzz/store"
)

// copyBatch is how many bytes of keys and values a copy holds in memory
// between commits: few enough for a small machine, enough that the commits,
// which are not flushed, cost little.
const copyBatch = 16 << 20

// CopyOptions for Copy. The zero value, or nil, copies and nothing else.
type CopyOptions struct {
	// Change, if not nil, is the last transaction on the copy. It should change
	// little: what it adds is not as dense as the rest.
	Change func(store.Tx) error
	// Check, if not nil, is given the complete, durable copy, opened read-only,
	// before it gets its name; an error makes Copy fail. It must not close it.
	Check func(store.KV) error
	// Progress, if not nil, is called with the bytes of keys and values copied
	// so far, after each transaction.
	Progress func(bytes int64)
	// Keep, if not "", is the name beside the copy that a store which is at path
	// already gets. It must not be open (ErrLocked). At every moment path names
	// one of the two.
	Keep string
}

// Copy writes what from sees into a new store at path, dense and without free
// pages. The copy gets its name only when it is complete and durable; after an
// error there is nothing new at path, except where only making the name durable
// failed. Transaction IDs go on from that of from. Memory: about 50 MB.
// Errors: ErrExists if there is something at path, or something named Keep;
// ErrCorrupt if from met damage; ctx's; those of the options' functions; those
// of the file system.
func Copy(ctx context.Context, path string, from store.Tx, opts *CopyOptions) error {
	var opt CopyOptions
	if opts != nil {
		opt = *opts
	}
	return errs.Wrap("bolt.Copy", path, copyTo(ctx, path, from, opt))
}

func copyTo(ctx context.Context, path string, from store.Tx, opt CopyOptions) error {
	if err := vacant(path); err != nil && opt.Keep == "" {
		return err
	}
	if opt.Keep != "" {
		if err := vacant(opt.Keep); err != nil {
			return err
		}
	}
	temp, err := newTemp(path)
	if err != nil {
		return err
	}
	if err := fill(ctx, temp, from, opt); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if opt.Keep != "" {
		err = exchange(temp, path, opt.Keep)
	} else {
		err = publish(temp, path)
	}
	if errors.Is(err, fs.ErrExist) && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%w: %s", store.ErrExists, path)
	}
	return err
}

// vacant returns ErrExists if there is something at path.
func vacant(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s", store.ErrExists, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// fill makes the empty store at path a complete and durable copy of from.
func fill(ctx context.Context, path string, from store.Tx, opt CopyOptions) (err error) {
	to, err := Open(path, &Options{Durability: None})
	if err != nil {
		return err
	}
	err = copyAll(ctx, to, from, opt.Progress)
	if err == nil && opt.Change != nil {
		err = updateCopy(to, opt.Change)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := raiseID(path, from.ID()); err != nil || opt.Check == nil {
		return err
	}
	done, err := Open(path, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(opt.Check(done), done.Close())
}

// copyAll copies all buckets of from into the empty store to.
func copyAll(ctx context.Context, to *Store, from store.Tx, progress func(int64)) (err error) {
	if t, ok := from.(*tx); ok {
		defer t.containFault(&err)
	}
	c := &copier{in: from}
	for name := range from.Buckets() {
		c.names = append(c.names, name)
	}
	for first := true; first || c.key != nil || len(c.names) > 0; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := updateCopy(to, c.batch); err != nil {
			return err
		}
		if progress != nil {
			progress(c.bytes)
		}
	}
	return errOf(from)
}

// updateCopy writes to a copy. If that fails it is the copy that is poisoned,
// which is thrown away: nobody must take that for the poison of the original.
func updateCopy(to *Store, fn func(store.Tx) error) error {
	return ofCopy(to.Update(fn))
}

// ofCopy returns the cause of a copy's poison, and other errors as they are.
func ofCopy(err error) error {
	if !errors.Is(err, store.ErrPoisoned) {
		return err
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range all.Unwrap() {
			if !errors.Is(e, store.ErrPoisoned) {
				return fmt.Errorf("write the copy: %w", e)
			}
		}
	}
	return fmt.Errorf("write the copy: %v", err)
}

// errOf returns why reads of a snapshot may have missed something.
func errOf(t store.Tx) error {
	if s, ok := t.(interface{ Err() error }); ok {
		return s.Err()
	}
	return nil
}

// containFault is deferred around reads of bytes that a snapshot handed out: a
// fault on its mapping becomes damage.
func (t *tx) containFault(err *error) {
	if r := recover(); r != nil {
		if !t.isFault(r) {
			panic(r)
		}
		t.fail(damage(r))
		*err = t.err
	}
}

// copier walks all buckets of a transaction.
type copier struct {
	in         store.Tx
	names      []string // of the buckets to come
	name       string
	cursor     store.Cursor
	key, value []byte // to be copied next; nil at the end of the bucket
	bytes      int64
}

// batch copies as much as one transaction should hold.
func (c *copier) batch(out store.Tx) error {
	for size := 0; size < copyBatch; {
		if c.key == nil {
			if len(c.names) == 0 {
				return nil
			}
			if err := c.enter(out); err != nil {
				return err
			}
			continue
		}
		b := out.Bucket(c.name)
		for ; c.key != nil && size < copyBatch; c.key, c.value = c.cursor.Next() {
			if err := b.Put(c.key, c.value); err != nil {
				return err
			}
			size += len(c.key) + len(c.value)
		}
		c.bytes += int64(size)
	}
	return nil
}

// enter begins the next bucket.
func (c *copier) enter(out store.Tx) error {
	c.name, c.names = c.names[0], c.names[1:]
	if _, err := out.CreateBucket(c.name, orderOf(c.in, c.name)); err != nil {
		return err
	}
	b := c.in.Bucket(c.name)
	if b == nil {
		return corrupt("bucket %q is listed and is not there", c.name)
	}
	c.cursor = b.Cursor()
	c.key, c.value = c.cursor.First()
	return nil
}

// orderOf returns the order that a bucket of a file was made with; that of
// other stores is not known.
func orderOf(in store.Tx, name string) store.Order {
	t, ok := in.(*tx)
	if !ok || !t.serves() {
		return store.Ordered
	}
	defer t.contain(t.arm())
	if v := t.btx.Bucket([]byte(ownBucket)).Get([]byte(orderPrefix + name)); len(v) == 1 {
		return store.Order(v[0])
	}
	return store.Ordered
}

// exchange gives a complete and flushed file the name of another store, which
// gets the name keep. Whoever waits for the lock of the old one finds, once he
// has it, that it lost its name (see lockAndCheck).
func exchange(temp, path, keep string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return publish(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := lock(f, false, DefaultLockTimeout); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	undo := func() error { return os.Remove(keep) }
	if err := os.Link(path, keep); errors.Is(err, fs.ErrExist) {
		return errors.Join(fmt.Errorf("%w: %s", store.ErrExists, keep), os.Remove(temp))
	} else if err != nil { // no hard links here: for a moment nothing is at path
		if err := os.Rename(path, keep); err != nil {
			return errors.Join(err, os.Remove(temp))
		}
		undo = func() error { return os.Rename(keep, path) }
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, undo(), os.Remove(temp))
	}
	return syncDirs(path, keep)
}
