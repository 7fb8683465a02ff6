package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/store"
)

// Sentinels that this package wraps; match them with errors.Is.
var (
	ErrNotFound    = errs.ErrNotFound
	ErrCorrupt     = errs.ErrCorrupt
	ErrInvalid     = errs.ErrInvalid
	ErrTooLarge    = errs.ErrTooLarge
	ErrConflict    = errs.ErrConflict
	ErrNotRetained = errs.ErrNotRetained
	ErrUnsupported = errs.ErrUnsupported
)

// ErrForked: a version has to be written again, its dot being used for another
// one, and our own id is in use elsewhere: SetSelf to a fresh one and apply again.
var ErrForked = fmt.Errorf("own replica id is in use elsewhere: %w", ErrConflict)

// Format is the number of the namespace's record formats; a store with another
// one is refused.
const Format = 1

// Defaults and caps of a namespace.
const (
	// DefaultMaxDrift is how far ahead of this node a stamp may be and still
	// move the local clock: 5 minutes, far above what NTP leaves and far below
	// what would make a node's own stamps useless.
	DefaultMaxDrift = 5 * time.Minute
	// ViewBatch is how many journal records the dots and dead views may lag
	// behind before a commit brings them up to date: 16 Ki changes sorted
	// together cost a few tens of milliseconds.
	ViewBatch = 16 << 10
	// MaxSiblings is how many siblings a key may have before a local register
	// write that did not name them is told to resolve first.
	MaxSiblings = 1024
	// maxJump is the furthest a peer's clock may be ahead of this node's for
	// one replica: 2^40, beyond any honest history.
	maxJump = 1 << 40
)

// names are the buckets of one namespace.
type names struct {
	journal, heads, dots, dead, meta, local, conflicts, expiry string
	tree, sketch                                               string // made when first needed
}

func bucketNames(prefix string) names {
	return names{
		prefix + "journal", prefix + "heads", prefix + "dots", prefix + "dead",
		prefix + "meta", prefix + "local", prefix + "conflicts", prefix + "expiry",
		prefix + "tree", prefix + "sketch",
	}
}

// all returns the buckets that every namespace has.
func (n names) all() []string {
	return []string{n.journal, n.heads, n.dots, n.dead, n.meta, n.local, n.conflicts, n.expiry}
}

// lazy returns those that are made when they are first needed.
func (n names) lazy() []string { return []string{n.tree, n.sketch} }

// check reports a bucket that is not there.
func (n names) check(tx store.Tx) error {
	for _, name := range n.all() {
		if tx.Bucket(name) == nil {
			return &errs.Corruption{What: fmt.Sprintf("bucket %q: missing", name), Hint: hintVerify}
		}
	}
	return nil
}

// Keys of the meta bucket. Those of one replica are followed by its number, 4
// bytes big-endian.
var (
	metaState   = []byte("s")
	metaJournal = []byte("j")
)

const (
	metaID      = 'i' // 16 bytes of ReplicaID
	metaClock   = 'c' // sequence set of dots seen
	metaGone    = 'g' // sequence set 1..n: highest seq of tombstones no longer held
	metaUnknown = 'u' // sequence set of dots that damage has taken: neither live nor dead
	metaRetired = 'r' // decision that the replica is lost for good
)

func metaKey(kind byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, id)
}

// state is the fixed part of a namespace's state, one record of the meta
// bucket, rewritten by every commit.
type state struct {
	arrival   uint64   // number of the newest journal record
	hlc       crdt.HLC // high-water mark
	collected uint64   // newest journal record that was removed
	mark      uint64   // journal record up to which dots and dead are brought
	keys      uint64   // keys with a live version that is no tombstone
	versions  uint64   // live versions that are no tombstones
	tombs     uint64   // tombstones held
	conflicts uint64   // keys in the conflicts bucket

	// How many records there are of what could vanish without leaving a gap.
	removed uint64 // journal records that collection removed
	ids     uint64 // replica table entries
	sets    uint64 // dot sets of the meta bucket, decisions about replicas, and the scope
}

func (s *state) append(b []byte) []byte {
	start := len(b)
	b = append(b, Format)
	for _, n := range [...]uint64{
		s.arrival, uint64(s.hlc), s.collected, s.mark, s.keys, s.versions, s.tombs, s.conflicts,
		s.removed, s.ids, s.sets,
	} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return seal(b, start, metaState)
}

func decodeState(b []byte) (state, error) {
	body, err := unseal(b, metaState, "namespace state", 0)
	if err != nil {
		return state{}, err
	}
	rd := reader{b: body}
	if f := rd.byte(); f != Format {
		return state{}, fmt.Errorf("namespace of format %d, this build reads %d: %w", f, Format, ErrUnsupported)
	}
	s := state{
		arrival: rd.u64(), hlc: crdt.HLC(rd.u64()), collected: rd.u64(), mark: rd.u64(),
		keys: rd.u64(), versions: rd.u64(), tombs: rd.u64(), conflicts: rd.u64(),
		removed: rd.u64(), ids: rd.u64(), sets: rd.u64(),
	}
	if !rd.ok() {
		return state{}, damaged("namespace state", 0, "malformed")
	}
	return s, nil
}

// Config is what a Replica is told from outside.
type Config struct {
	Name     string        // of the namespace; part of its root
	Prefix   string        // of its buckets in the store
	MaxDrift time.Duration // 0 = DefaultMaxDrift
	// Scope is what of the namespace Create makes a replica of, for ever; nil =
	// all. Open does not look at it.
	Scope Scope
}

// Replica is one namespace's replica in one store. Its memory caches what the
// last committed transaction wrote; a Batch that did not commit makes it load
// again. Only Views may be used from several goroutines.
type Replica struct {
	cfg     Config
	names   names
	ids     *idTable
	journal [16]byte // journal id, drawn when the namespace was made
	self    crdt.ReplicaID

	state   state
	clock   crdt.Clock
	gone    crdt.Clock
	unknown crdt.Clock
	retired map[crdt.ReplicaID]Retirement
	partial partial
	delta   delta
	lapsed  []crdt.ReplicaID // whose unknown dots grew while the views were brought up to date
	stale   bool             // a Batch changed the cache and did not commit
	forked  bool             // somebody else writes under our id
}

// Create makes an empty namespace in tx. journal is 16 random bytes that name
// its journal for ever.
func Create(tx store.Tx, cfg Config, journal [16]byte) error {
	n := bucketNames(cfg.Prefix)
	for _, name := range n.all() {
		order := store.Ordered
		if name == n.journal {
			order = store.AppendOnly
		}
		if _, err := tx.CreateBucket(name, order); err != nil {
			return err
		}
	}
	if err := SetJournal(tx, cfg.Prefix, journal); err != nil {
		return err
	}
	var s state
	if cfg.Scope != nil {
		p := partial{ranges: cfg.Scope, clock: crdt.NewClock(), gone: crdt.NewClock()}
		if err := tx.Bucket(n.meta).Put(metaScope, p.append(nil)); err != nil {
			return err
		}
		s.sets = uint64(p.count())
	}
	return tx.Bucket(n.meta).Put(metaState, s.append(nil))
}

// SetJournal gives a namespace's journal another id, so that positions in the
// old one are not taken for positions in this: a copy of a store goes on from
// the same number with other records.
func SetJournal(tx store.Tx, prefix string, journal [16]byte) error {
	meta := tx.Bucket(bucketNames(prefix).meta)
	if meta == nil {
		return fmt.Errorf("namespace bucket %q: %w", prefix, ErrNotFound)
	}
	return meta.Put(metaJournal, seal(journal[:], 0, metaJournal))
}

// Drop removes a namespace's buckets. Its dots may have been seen by others:
// the store must take a fresh ReplicaID before it writes again.
func Drop(tx store.Tx, prefix string) error {
	n := bucketNames(prefix)
	for _, name := range append(n.all(), n.lazy()...) {
		if err := tx.DeleteBucket(name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Open loads a namespace. Cost: O(replicas + journal records not yet in the
// views).
func Open(tx store.Tx, cfg Config) (*Replica, error) {
	if cfg.MaxDrift == 0 {
		cfg.MaxDrift = DefaultMaxDrift
	}
	r := &Replica{cfg: cfg, names: bucketNames(cfg.Prefix)}
	return r, r.load(tx)
}

// load derives the cache from the store.
func (r *Replica) load(tx store.Tx) error {
	v, err := r.view(tx, true)
	if err != nil {
		return fmt.Errorf("namespace %q: %w", r.cfg.Name, err)
	}
	if r.ids == nil { // else it is the same table, which readers look at
		r.ids = v.ids
	}
	r.journal, r.state = v.journal, v.state
	r.clock, r.gone, r.unknown = v.clock, v.gone, v.unknown
	r.retired, r.partial = v.retired, v.partial
	r.stale, r.lapsed = false, nil
	if r.delta, err = replayDelta(v.Reader.journal, r.state.mark, r.ids); err != nil {
		return fmt.Errorf("namespace %q: %w", r.cfg.Name, err)
	}
	return nil
}

// Name returns the namespace's name.
func (r *Replica) Name() string { return r.cfg.Name }

// Journal returns the journal's id.
func (r *Replica) Journal() [16]byte { return r.journal }

// SetSelf tells under which id local writes go from now on. The caller answers
// for its never having been used by a store that could be apart from this one.
func (r *Replica) SetSelf(id crdt.ReplicaID) {
	r.self = id
	r.forked = false
}

// Self returns the id of local writes, zero before SetSelf.
func (r *Replica) Self() crdt.ReplicaID { return r.self }

// Forked reports whether a version or clock from outside showed that somebody
// else writes under our id: the next local write needs a fresh one.
func (r *Replica) Forked() bool { return r.forked }

// Lag returns how many journal records the dots and dead views are behind.
func (r *Replica) Lag() uint64 { return r.state.arrival - r.state.mark }

// Arrival returns the number of the newest journal record.
func (r *Replica) Arrival() uint64 { return r.state.arrival }
