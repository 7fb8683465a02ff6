package session

import (
	"crypto/sha256"
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// Host is a session's own node. Its methods may block; the session calls them
// from the goroutine that drives it.
type Host interface {
	// Accept decides whether the peer may sync a namespace, and makes it if it
	// is not there. An error refuses the namespace, its kind tells the peer why.
	Accept(namespace string) error
	// Names lists the namespaces this node offers.
	Names() ([]string, error)
	// Snapshot returns the namespace's durable state of this moment, to be
	// released by the caller.
	Snapshot(namespace string) (Snapshot, error)
	// Apply takes versions in and then, if adopt is not nil, drops what it claims
	// and adopts its dots and gone marks, all in one transaction that is durable
	// on return.
	Apply(namespace string, versions []*crdt.Version, adopt *Adoption) (replica.Applied, error)
	// MayDrop decides whether live versions may be dropped because a peer knows
	// them to be dead (KERNEL K7). If not it says what is held back.
	// The peer is named by its journal's id; keys is how many there are in what
	// the session is about.
	MayDrop(namespace string, peer [16]byte, claim crdt.Clock, keys uint64) (*Held, error)
	// Agreed is told that a peer has been proven to hold the same. A peer that
	// was equal from the start has not named itself: it is zero.
	Agreed(namespace string, peer [16]byte, root [32]byte, clock, gone crdt.Clock) error
	// Base returns a state that both sides may once have agreed on: with a nil
	// hint the one to propose to the peer, else the one whose digest begins with
	// hint. nil if there is none.
	Base(namespace string, hint []byte) (*Base, error)
	// Lacks reports whether blocks of large values are missing here.
	Lacks() (bool, error)
	// Wants returns some of them, of items items and some bytes at most, but
	// none of those in absent.
	Wants(absent map[[32]byte]bool, items int, bytes int64) ([]wire.Item, error)
	// Block returns a block, nil if it is not here.
	Block(wire.Item) ([]byte, error)
	// PutBlocks stores blocks durably. ErrCorrupt if one is not what its item says.
	PutBlocks(items []wire.Item, data [][]byte) error
	// PastCursor returns how far in a peer's journal its history has been taken.
	PastCursor(namespace string, peer [16]byte) (uint64, error)
	// Backfill takes in history (KERNEL K8) and how far in the peer's journal it
	// reaches, in one durable transaction.
	Backfill(namespace string, versions []*crdt.Version, peer [16]byte, at uint64) (int, error)
	// Lost is told of versions that damage has taken from this node.
	Lost(namespace string, dots crdt.Clock)
	// Epoch changes whenever the node restarts.
	Epoch() uint64
}

// Adoption is what may be adopted after a complete stream.
type Adoption struct {
	Dots, Gone crdt.Clock
	Scoped     bool           // after a stream of a part of the namespace: see replica.Batch.AdoptScoped
	Drop       crdt.Clock     // live versions of ours that the peer knows to be dead
	From       crdt.ReplicaID // the peer, if Drop is not empty
}

// Take adopts it in a batch.
func (a *Adoption) Take(b *replica.Batch) (replica.Applied, error) {
	if a.Scoped {
		return b.AdoptScoped(a.Dots, a.Gone)
	}
	return b.Adopt(a.Dots, a.Gone)
}

// Base is a state that was agreed on: only what came since has to be shown.
type Base struct {
	Digest      [16]byte // StateDigest of the clocks
	Clock, Gone crdt.Clock
}

// StateDigest names a state: equal ones have equal clocks and gone marks.
func StateDigest(clock, gone crdt.Clock) [16]byte { return clockDigest(clock, gone) }

// Held is what the brake on removals holds back (KERNEL K7). It is an error
// that matches ErrConflict: somebody has to decide.
type Held struct {
	Keys     int   `json:"keys"`
	Versions int   `json:"versions"`
	Bytes    int64 `json:"bytes"` // of keys and values
}

// Error says how much is held and how to release it.
func (h *Held) Error() string {
	return fmt.Sprintf("peer knows %d keys (%d versions, %d bytes) to be deleted, too many to drop unasked: sync with --confirm-drop if that is right",
		h.Keys, h.Versions, h.Bytes)
}

// Unwrap returns ErrConflict.
func (h *Held) Unwrap() error { return errs.ErrConflict }

// Snapshot is a namespace's state at one moment.
type Snapshot interface {
	Self() crdt.ReplicaID
	Journal() [16]byte
	Arrival() uint64
	Keys() uint64
	Clock() crdt.Clock
	Gone() crdt.Clock
	// Scope is what of the namespace this node holds, nil if all, and Seen the
	// clock that holds for it: see replica.View.
	Scope() replica.Scope
	Seen() crdt.Clock
	// Root is the 32 bytes that prove agreement.
	Root() ([32]byte, error)
	// RootWithin is the same for a scope, with the number of its keys.
	RootWithin(scope replica.Scope) (root [32]byte, keys uint64, err error)
	// Missing yields the live versions whose dots are not in have, and reports
	// those that cannot be read.
	Missing(have crdt.Clock, lost func(crdt.Dot)) iter.Seq2[*crdt.Version, error]
	// Sketch and LenientTree are what comparisons work on.
	Sketch() (*replica.Sketch, error)
	LenientTree() (*replica.Tree, error)
	// LiveDots returns the live versions of a stored key that are no tombstones.
	LiveDots(key []byte) ([]crdt.Dot, error)
	// NotHeld returns those of the given dots that are no live versions.
	NotHeld(dots crdt.Clock) (crdt.Clock, error)
	// Unknown returns the dots that damage has taken.
	Unknown() crdt.Clock
	// HistoryMissing yields retained superseded versions: see replica.View.
	HistoryMissing(after uint64) iter.Seq2[replica.Retained, error]
	// Tail reads the journal after an arrival: see replica.View.
	Tail(after uint64, limit int, change func(replica.Change) error, seen func(crdt.Dot), adopted func(crdt.Clock)) (uint64, error)
	// DeadWithin returns those of the given dots that are known to be dead.
	DeadWithin(dots crdt.Clock) (crdt.Clock, error)
	// Err returns why reads may have missed something.
	Err() error
	Release()
}

// clockDigest is what CHECK compares and HELLO salts: clock and gone marks.
func clockDigest(clock, gone crdt.Clock) [16]byte {
	b := gone.Append(clock.Append(nil))
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// helloDigest is the salted digest of a namespace's whole state.
func helloDigest(salt [8]byte, namespace string, root [32]byte, clock [16]byte) [16]byte {
	b := make([]byte, 0, 8+len(namespace)+48)
	b = append(b, salt[:]...)
	b = append(b, namespace...)
	b = append(b, root[:]...)
	b = append(b, clock[:]...)
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// covers reports whether base >= gone for every replica (K4).
func covers(clock, gone crdt.Clock) bool {
	for _, r := range gone.Replicas() {
		if clock.Base(r) < gone.Of(r).Max() {
			return false
		}
	}
	return true
}

// proof shows the peer that we hold the same without having echoed its digest.
func proof(digest [16]byte) [8]byte {
	sum := sha256.Sum256(append([]byte("equal"), digest[:]...))
	return [8]byte(sum[:8])
}
