package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/internal/errs"
	"bzzz/store"
)

// Sentinels; match them with errors.Is.
var (
	ErrNotFound    = errs.ErrNotFound    // no such key, version or namespace
	ErrExists      = errs.ErrExists      // the namespace is there already
	ErrConflict    = errs.ErrConflict    // a conditional write saw something else; see Conflict
	ErrCorrupt     = errs.ErrCorrupt     // stored data is damaged; the error names it
	ErrClosed      = errs.ErrClosed      // the DB, watch or snapshot was closed
	ErrPoisoned    = errs.ErrPoisoned    // a commit failed: close and reopen
	ErrReadOnly    = errs.ErrReadOnly    // opened read-only
	ErrTooLarge    = errs.ErrTooLarge    // a key, value, batch or sibling set above its cap
	ErrUnavailable = errs.ErrUnavailable // the peer is gone
	ErrUnsupported = errs.ErrUnsupported // another format or protocol
	ErrInvalid     = errs.ErrInvalid     // a malformed argument
	ErrNotRetained = errs.ErrNotRetained // a version that retention let go
	ErrLocked      = errs.ErrLocked      // another process has the directory open
)

// Durability says when a write may be lost to a power cut. Nothing leaves the
// node before it is durable, whatever the class.
type Durability byte

const (
	// DurableAlways: a write is on disk when its call returns.
	DurableAlways Durability = iota
	// DurableInterval: a write is on disk at most SyncInterval later.
	DurableInterval
	// DurableNone: a write is on disk when the system gets to it, or at Close.
	DurableNone
)

// Defaults, used where an option is zero.
const (
	// DefaultNamespace is the namespace of the methods that DB itself has.
	DefaultNamespace = "default"
	// DefaultSyncInterval bounds what DurableInterval can lose: 100 ms.
	DefaultSyncInterval = 100 * time.Millisecond
	// DefaultKeepVersions is how many versions of a key collection leaves.
	DefaultKeepVersions = 8
	// DefaultKeepFor is how long collection leaves every version: 30 days, so
	// that a device that was away for a vacation can still be compared.
	DefaultKeepFor = 30 * 24 * time.Hour
	// DefaultTombstoneAge is how long collection leaves deletes and the journal's
	// own records: 7 days, so that a cursor or a session that was away for a
	// week finds the journal as it left it. Deletes need no longer: one that was
	// collected is proven to the peers that missed it (docs/KERNEL.md, K3-K6).
	DefaultTombstoneAge = 7 * 24 * time.Hour
	// DefaultCollectInterval is how often old versions and deletes are collected:
	// a day. A pass reads every key.
	DefaultCollectInterval = 24 * time.Hour
	// DefaultSweepInterval is how often expired versions are looked for: 1 min.
	DefaultSweepInterval = time.Minute
)

// Retention says what collection keeps. A superseded version stays if Versions
// or Age keeps it. A delete stays while it is younger than TombstoneAge, while a
// version it replaced is younger than Age, and while a version that it would
// have to hide could still arrive; the journal's own records stay for
// TombstoneAge.
type Retention struct {
	Versions     int           // newest versions of a key; 0 = DefaultKeepVersions, < 0 = none
	Age          time.Duration // everything younger; 0 = DefaultKeepFor, < 0 = nothing
	TombstoneAge time.Duration // 0 = DefaultTombstoneAge, < 0 = none
}

// Options changes how a directory is opened. The zero value, or nil, is useful.
type Options struct {
	// Durability of writes.
	Durability Durability
	// SyncInterval for DurableInterval; 0 = DefaultSyncInterval.
	SyncInterval time.Duration
	// ReadOnly refuses every write. The directory must exist.
	ReadOnly bool
	// Memory keeps everything in memory; the directory is not touched.
	Memory bool
	// Store, if not nil, is used instead of opening one. Close closes it.
	Store store.KV
	// Namespace of the methods that DB itself has; "" = DefaultNamespace.
	Namespace string
	// RuntimeDir is where the anchor lives that lets a replica id go on over
	// reopening (docs/DESIGN.md, "Identity"): a volatile directory. "" means
	// the system's, "-" none, so that every writing open takes a fresh id.
	RuntimeDir string
	// Resolvers are added to the built-in "lww" and "mv". Every node that
	// shows a prefix must know its resolver; one that does not shows all values.
	Resolvers crdt.Resolvers
	// Retention of superseded versions and deletes.
	Retention Retention
	// MaxDrift is how far ahead of this node's clock a stamp may be and still
	// move it; 0 = 5 minutes.
	MaxDrift time.Duration
	// MaxAbsentDrop is how many keys a peer may make disappear in a day that it
	// does not show as deleted (KERNEL K7); 0 = DefaultMaxAbsentDrop, < 0 = none.
	// 5 % of the namespace are always allowed unless it is negative.
	MaxAbsentDrop int
	// BrakeQuorum is how many peers must claim the same for more to be allowed;
	// 0 = DefaultBrakeQuorum, < 0 = no number is enough.
	BrakeQuorum int
	// SweepInterval between looks for expired versions; 0 = DefaultSweepInterval,
	// < 0 = never.
	SweepInterval time.Duration
	// CollectInterval between collections of what Retention does not keep; 0 =
	// DefaultCollectInterval, < 0 = never by itself.
	CollectInterval time.Duration
	// ScrubInterval is how long one check of everything in the background takes;
	// 0 = DefaultScrubInterval, < 0 = none is made.
	ScrubInterval time.Duration
	// VerifyMisses holds what a reader does not find against the Merkle index,
	// where that is up to date: see Namespace.Get and Scan.
	VerifyMisses bool
	// Logger, nil discards. Keys and values are never logged.
	Logger *slog.Logger
}

// withDefaults returns a filled copy, or every fault at once.
func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	var faults []error
	bad := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format+": %w", append(args, ErrInvalid)...))
	}
	if out.Durability > DurableNone {
		bad("durability %d", out.Durability)
	}
	if out.SyncInterval < 0 {
		bad("sync interval %v is negative", out.SyncInterval)
	}
	if out.MaxDrift < 0 {
		bad("max drift %v is negative", out.MaxDrift)
	}
	if out.Namespace == "" {
		out.Namespace = DefaultNamespace
	}
	if err := checkNamespace(out.Namespace); err != nil {
		faults = append(faults, err)
	}
	resolvers, err := crdt.BuiltinResolvers().With(out.Resolvers)
	if err != nil {
		faults = append(faults, err)
	}
	out.Resolvers = resolvers
	setDefault(&out.SyncInterval, DefaultSyncInterval)
	setDefault(&out.SweepInterval, DefaultSweepInterval)
	setDefault(&out.CollectInterval, DefaultCollectInterval)
	setDefault(&out.ScrubInterval, DefaultScrubInterval)
	setDefault(&out.Retention.Versions, DefaultKeepVersions)
	setDefault(&out.Retention.Age, DefaultKeepFor)
	setDefault(&out.MaxAbsentDrop, DefaultMaxAbsentDrop)
	setDefault(&out.BrakeQuorum, DefaultBrakeQuorum)
	setDefault(&out.Retention.TombstoneAge, DefaultTombstoneAge)
	setDefault(&out.MaxDrift, replica.DefaultMaxDrift)
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out, errors.Join(faults...)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
