package engine

import (
	"context"
	"errors"
	"fmt"

	"bzzz/internal/errs"
	"bzzz/store"
)

// CompactReport is what Compact did.
type CompactReport struct {
	Before int64 `json:"before"` // bytes of the file
	After  int64 `json:"after"`
}

// Compact gives the file's free room back to the system: it writes a dense copy
// beside the file, compares it, and puts it in the file's place. It is the same
// store as before, with the same last commit, so its replica id goes on.
// Reading goes on meanwhile and so does writing, except for a short last part; in
// a file above half of its mapping (8 GiB on 64-bit Linux, 512 MiB on other
// 64-bit Unix) writers wait for all of it. Snapshots that are held stay valid
// and keep the old file's room until they end.
//
// A crash at any moment leaves one whole store. ErrUnavailable if a writer holds
// the store for 10 s, ErrReadOnly, ErrUnsupported for stores that are no file
// and on Windows, ErrClosed if the DB is closed meanwhile, ctx's error, no room
// for the copy: the store is as it was. progress may be nil. O(what is held); memory about 50 MB.
func (db *DB) Compact(ctx context.Context, progress func(bytes int64)) (CompactReport, error) {
	if err := db.usable(ctx); err != nil {
		return CompactReport{}, err
	}
	if db.opts.ReadOnly {
		return CompactReport{}, ErrReadOnly
	}
	kv, ok := db.kv.(store.Compacter)
	if !ok {
		return CompactReport{}, fmt.Errorf("this store is not kept in a file: %w", ErrUnsupported)
	}
	before, after, err := kv.Compact(ctx, progress)
	if errors.Is(err, ErrPoisoned) {
		err = db.poison(err)
	}
	return CompactReport{before, after}, errs.Wrap("engine.Compact", db.dir, err)
}
