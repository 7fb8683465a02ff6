package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"

	"bzzz/internal/errs"
	"bzzz/store"
)

const (
	// compactBatch is how many bytes Compact holds in memory between commits.
	compactBatch = 16 << 20
	// maxFindings is how many findings of bbolt Check reports.
	maxFindings = 10
)

// Compact copies the store at src, which nobody may have open for writing,
// into a new one at dst, dense and without free pages. The copy gets its name
// only when it is complete and durable. Transaction IDs go on from those of
// src. Memory: about 50 MB. Errors: ErrExists if dst exists, else as Open.
func Compact(src, dst string) error {
	return errs.Wrap("bolt.Compact", src, compact(src, dst))
}

func compact(src, dst string) (err error) {
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%w: %s", store.ErrExists, dst)
	}
	from, err := Open(src, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	temp, err := newTemp(dst)
	if err != nil {
		return err
	}
	id, err := copyInto(temp, from)
	if err == nil {
		err = raiseID(temp, id)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err = publish(temp, dst); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", store.ErrExists, dst)
	}
	return err
}

// copyInto copies all buckets of from into the empty store at path and returns
// the transaction ID of what it copied.
func copyInto(path string, from *Store) (id uint64, err error) {
	to, err := Open(path, &Options{Durability: None})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	err = from.View(func(in store.Tx) error {
		id = in.ID()
		for _, name := range slices.Collect(in.Buckets()) {
			if err := copyBucket(to, in, name); err != nil {
				return err
			}
		}
		return nil
	})
	return id, err
}

func copyBucket(to *Store, in store.Tx, name string) error {
	order := store.Order(0)
	if v := in.(*tx).btx.Bucket([]byte(ownBucket)).Get([]byte(orderPrefix + name)); len(v) == 1 {
		order = store.Order(v[0])
	}
	c := in.Bucket(name).Cursor()
	k, v := c.First()
	for first := true; first || k != nil; first = false {
		err := to.Update(func(out store.Tx) error {
			if first {
				if _, err := out.CreateBucket(name, order); err != nil {
					return err
				}
			}
			b := out.Bucket(name)
			for size := 0; k != nil && size < compactBatch; k, v = c.Next() {
				if err := b.Put(k, v); err != nil {
					return err
				}
				size += len(k) + len(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	return s.db.View(func(tx *bbolt.Tx) error {
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
