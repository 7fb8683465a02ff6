// Package store is the contract between the engine and whatever keeps its
// bytes: ordered buckets of keys and values under transactions.
//
// store/bolt keeps them in a bbolt file, store/mem is its in-memory twin with
// the same semantics, store/fault decorates either with seeded faults, and
// store/storetest is the suite that every implementation passes. The contract
// imports nobody and everybody imports it.
package store

import (
	"context"
	"iter"

	"bzzz/internal/errs"
)

// Sentinels that implementations return; match them with errors.Is.
var (
	// ErrClosed: the store, transaction or snapshot was used after its end.
	ErrClosed = errs.ErrClosed
	// ErrPoisoned: a commit failed earlier; nothing is served until reopen.
	ErrPoisoned = errs.ErrPoisoned
	// ErrReadOnly: a write in a View, in a Snapshot or on a store opened read-only.
	ErrReadOnly = errs.ErrReadOnly
	// ErrExists: CreateBucket of a bucket that exists.
	ErrExists = errs.ErrExists
	// ErrNotFound: DeleteBucket of a bucket that does not exist.
	ErrNotFound = errs.ErrNotFound
	// ErrInvalid: an empty key, an empty bucket name.
	ErrInvalid = errs.ErrInvalid
	// ErrTooLarge: a key above MaxKey, a value above MaxValue, a bucket name above MaxKey.
	ErrTooLarge = errs.ErrTooLarge
	// ErrCorrupt: the file does not hold what was written to it.
	ErrCorrupt = errs.ErrCorrupt
	// ErrLocked: another process has the store open.
	ErrLocked = errs.ErrLocked
	// ErrUnsupported: the file has another format or was written by another program.
	ErrUnsupported = errs.ErrUnsupported
)

// MaxKey is the longest key in bytes. It leaves room for the engine's longest
// user key (1 KiB) with a prefix.
const MaxKey = 2048

// MaxValue is the longest value in bytes: the engine's largest batch (16 MiB)
// with its framing.
const MaxValue = 32 << 20

// Order declares how a bucket is filled, so that an implementation may lay it
// out accordingly. It changes no semantics.
type Order byte

const (
	// Ordered buckets take keys in any order.
	Ordered Order = 0
	// AppendOnly buckets take strictly rising keys; removal is rare and from
	// the old end. A Put of a key that does not rise is allowed, only slower.
	AppendOnly Order = 1
)

// KV is an ordered, transactional key-value store. All methods may be called
// from several goroutines at once.
type KV interface {
	// View calls fn with a read-only transaction on the state of one moment:
	// it sees every Update that returned before it began and no part of any
	// other. It returns fn's error. Views run beside each other and beside an
	// Update without waiting for it. The transaction ends when fn returns or
	// panics.
	View(fn func(Tx) error) error

	// Update calls fn with the one write transaction: updates run one after
	// the other. If fn returns nil the changes are committed together, and
	// are durable when Update returns nil (by the store's durability class).
	// If fn returns an error or panics nothing is changed. If the commit
	// itself fails the store is poisoned: this and every later call except
	// Close returns ErrPoisoned.
	Update(fn func(Tx) error) error

	// Snapshot returns a read-only transaction on the state of this moment
	// that lasts until its Release. A held snapshot keeps the space of what
	// was deleted since in use.
	Snapshot() (Snapshot, error)

	// Sync makes every committed change durable, whatever the durability class.
	Sync() error

	// Close waits for running transactions and snapshots, syncs and releases
	// the store. It is idempotent. Afterwards every call returns ErrClosed.
	Close() error
}

// Snapshot is a read transaction with a life of its own.
type Snapshot interface {
	Tx
	// Err returns why reads of this snapshot may have answered "nothing" where
	// there is something: damage that was met, poison, or its end. Whoever
	// draws a conclusion from a miss asks it first. View and Update return it
	// by themselves.
	Err() error
	// Release ends the snapshot. It is idempotent.
	Release()
}

// Tx is a transaction. It serves one goroutine at a time. Every byte slice it
// hands out, by buckets and cursors too, is valid until the transaction ends
// or its key is written or deleted, whichever comes first, and must not be
// changed by the caller. Slices handed in are not kept after the transaction
// and may be changed by the caller once it has ended.
type Tx interface {
	// ID is a number that identifies the state: for a write transaction one
	// above the last committed one, for a read transaction that of the last
	// commit it sees. It rises by at least one with each commit, and is as
	// durable as the commit.
	ID() uint64
	// Writable reports whether the transaction may write.
	Writable() bool
	// Bucket returns the bucket of that name, nil if there is none.
	Bucket(name string) Bucket
	// CreateBucket makes an empty bucket. ErrExists if it exists.
	CreateBucket(name string, order Order) (Bucket, error)
	// DeleteBucket removes a bucket with all it holds. ErrNotFound if there is none.
	DeleteBucket(name string) error
	// Buckets yields the names of all buckets in byte order.
	Buckets() iter.Seq[string]
}

// Bucket is an ordered map of keys to values.
type Bucket interface {
	// Get returns the value of key, nil if there is none. A stored empty
	// value is not nil. O(log n).
	Get(key []byte) []byte
	// Put stores value under key, replacing what was there. A nil value is
	// stored as an empty one. ErrInvalid for an empty key, ErrTooLarge above
	// MaxKey or MaxValue, ErrReadOnly in a read transaction.
	Put(key, value []byte) error
	// Delete removes key; it is no error if there is none.
	Delete(key []byte) error
	// Cursor returns a cursor before the first key. A Put or Delete in the
	// same bucket invalidates cursors: reposition with Seek before going on.
	Cursor() Cursor
}

// Cursor walks a bucket in byte order of its keys. Each method returns the
// key and value it stands on afterwards, and a nil key past either end.
type Cursor interface {
	First() (key, value []byte)
	Last() (key, value []byte)
	// Seek stands on the first key at or after key.
	Seek(key []byte) (k, value []byte)
	Next() (key, value []byte)
	Prev() (key, value []byte)
}

// Sizer is an optional power of a KV: how much room it takes.
type Sizer interface {
	// Size returns the bytes of the store on its medium and how many of them
	// are free for reuse. O(1) apart from one file status.
	Size() (total, free int64, err error)
}

// Compacter is an optional power of a KV: giving back the room of what is free.
type Compacter interface {
	// Compact rewrites the store without free room and returns its bytes before
	// and after. Views and snapshots go on; an Update may wait, as the
	// implementation says. ErrUnavailable if an Update does not end. What the store holds, and its transaction ID's rising, are
	// not touched; whatever goes wrong, the store is as it was or compacted.
	// progress, if not nil, is told the bytes of keys and values done so far.
	// A second call waits for the first. O(size of what is held).
	Compact(ctx context.Context, progress func(bytes int64)) (before, after int64, err error)
}
