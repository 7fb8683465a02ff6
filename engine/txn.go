package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// source is what reading is written against: a snapshot, or a Txn whose
// overlay lies over one.
type source interface {
	// siblings returns the siblings of a stored key, verified.
	siblings(key []byte) (crdt.Siblings, error)
	// heads yields stored keys within [start, end) in order, and a function
	// that reads the siblings of each.
	heads(start, end []byte) iter.Seq2[[]byte, func() (crdt.Siblings, error)]
	// home returns the namespace.
	home() *Namespace
	// millis is the moment reading happens at, for expiry.
	millis() int64
	// content returns a version's value, also a large one, as the caller's.
	content(v *crdt.Version) ([]byte, error)
	// sizeOf returns the length of a version's value, -1 if it is not known.
	sizeOf(v *crdt.Version) int64
}

// access runs reads and changes: on a Namespace in transactions of their own,
// on a Txn within it. Typed handles work on either.
type access interface {
	update(ctx context.Context, fn func(*Txn) error) error
	view(ctx context.Context, fn func(source) error) error
}

// Txn is one atomic change of one namespace while it is put together. Its
// writes become visible together, here and on every full replica. It serves
// the goroutine of the function it was given to, until that returns.
type Txn struct {
	ctx     context.Context
	ns      *Namespace
	batch   *replica.Batch
	now     crdt.HLC
	pending map[string]*pending
	local   map[string][]byte    // node-local records
	lists   map[string]*listEnds // of the lists it inserted into, by stem
	size    int
	done    bool
}

// pending is a write that the Txn holds.
type pending struct {
	write   replica.Write
	version crdt.Version // what reading the key in this Txn gives
	large   *largeValue  // that the version links to
	size    int          // bytes of key and value that the Txn holds
}

// txnKey marks the context of a function given to Update.
type txnKey struct{ db *DB }

func newTxn(ctx context.Context, ns *Namespace, b *replica.Batch, now crdt.HLC) *Txn {
	return &Txn{ctx: context.WithValue(ctx, txnKey{ns.db}, true), ns: ns, batch: b, now: now}
}

// Update calls fn with a Txn and commits what it wrote as one transaction. fn
// runs in the DB's only writer, after all updates that were called before: it
// should be quick, sees every earlier write, and must use the Txn for whatever
// it reads and writes. A call into the DB with Txn.Context returns ErrInvalid.
//
// If fn returns an error or panics, or ctx ends before it returns, nothing is
// written. Keys and values together are at most 16 MiB (ErrTooLarge). One
// durable commit, shared with whoever writes at the same time.
func (ns *Namespace) Update(ctx context.Context, fn func(*Txn) error) error {
	return ns.db.submit(ctx, &request{ns: ns, run: fn})
}

func (ns *Namespace) update(ctx context.Context, fn func(*Txn) error) error {
	return ns.Update(ctx, fn)
}

func (t *Txn) update(_ context.Context, fn func(*Txn) error) error {
	if t.done {
		return fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	return fn(t)
}

func (t *Txn) view(_ context.Context, fn func(source) error) error {
	if t.done {
		return fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	return fn(t)
}

// Context is the caller's context, marked so that a call into the DB with it
// fails instead of waiting for itself.
func (t *Txn) Context() context.Context { return t.ctx }

// SetTime makes the transaction's versions bear a moment instead of now, for
// records that carry their own dates. The node's clock still only rises: a
// moment before its last stamp becomes that stamp.
func (t *Txn) SetTime(at time.Time) { t.now = crdt.HLCFromTime(at) }

func (t *Txn) home() *Namespace { return t.ns }
func (t *Txn) millis() int64    { return t.now.Time().UnixMilli() }

func (t *Txn) siblings(key []byte) (crdt.Siblings, error) {
	if t.done {
		return nil, fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	if p := t.pending[string(key)]; p != nil {
		return crdt.Siblings{&p.version}, nil
	}
	return t.batch.Siblings(key)
}

func (t *Txn) heads(start, end []byte) iter.Seq2[[]byte, func() (crdt.Siblings, error)] {
	return func(yield func([]byte, func() (crdt.Siblings, error)) bool) {
		if t.done {
			return // update, view and siblings say so
		}
		own := slices.Sorted(maps.Keys(t.pending)) // as of now
		emit := func(k string) bool {
			p := t.pending[k]
			return yield([]byte(k), func() (crdt.Siblings, error) { return crdt.Siblings{&p.version}, nil })
		}
		inRange := func(k string) bool { return k >= string(start) && (end == nil || k < string(end)) }
		for key, e := range t.batch.Heads(start, end) {
			for len(own) > 0 && own[0] < string(key) {
				k := own[0]
				own = own[1:]
				if inRange(k) && !emit(k) {
					return
				}
			}
			if len(own) > 0 && own[0] == string(key) {
				own = own[1:]
			}
			if t.pending[string(key)] != nil { // maybe only since the scan began
				if !emit(string(key)) {
					return
				}
			} else if !yield(key, e.Siblings) {
				return
			}
		}
		for _, k := range own {
			if inRange(k) && !emit(k) {
				return
			}
		}
	}
}

// set puts a write of a stored key into the overlay. It replaces what the
// store holds of the key, and an earlier write of this Txn. seen says that the
// writer named the siblings it replaces.
func (t *Txn) set(key []byte, kind crdt.Kind, value []byte, attrs []crdt.Attr, seen bool) error {
	switch {
	case kind == crdt.Delete:
		value = nil
	case len(value) > crdt.MaxValue && kind == crdt.Put:
		large, err := newLarge(bytes.Clone(value))
		if err != nil {
			return err
		}
		return t.stage(key, kind, nil, large, attrs, seen)
	case len(value) > crdt.MaxValue:
		return fmt.Errorf("value of %d bytes (at most %d): %w", len(value), crdt.MaxValue, ErrTooLarge)
	default:
		value = append([]byte{}, value...)
	}
	return t.stage(key, kind, value, nil, attrs, seen)
}

// stage is set for a value that is the Txn's: inline, or large instead.
func (t *Txn) stage(key []byte, kind crdt.Kind, value []byte, large *largeValue, attrs []crdt.Attr, seen bool) error {
	if t.done {
		return fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	if len(key) > crdt.MaxKey {
		return fmt.Errorf("key of %d bytes as stored (at most %d): %w", len(key), crdt.MaxKey, ErrTooLarge)
	}
	p := t.pending[string(key)]
	if p == nil {
		siblings, err := t.batch.Siblings(key)
		if err != nil {
			return err
		}
		if len(siblings) > replica.MaxSiblings && kind == crdt.Put && !seen {
			return fmt.Errorf("key has %d concurrent values: resolve them with PutIf: %w", len(siblings), ErrTooLarge)
		}
		p = &pending{write: replica.Write{Key: bytes.Clone(key), Siblings: siblings}}
	}
	size := len(key) + len(value) + large.held()
	if t.size-p.size+size > crdt.MaxBatch {
		return fmt.Errorf("transaction above %d bytes: %w", crdt.MaxBatch, ErrTooLarge)
	}
	t.size += size - p.size
	p.write.Kind, p.write.Value, p.write.Attrs = kind, value, attrs
	p.large, p.size, p.write.Blob = large, size, cid.Undef
	if large != nil {
		p.write.Blob = large.id
	}
	p.version = crdt.Version{
		Key: p.write.Key, Kind: kind, Value: value, Blob: p.write.Blob, Attrs: attrs, Time: t.now, Context: crdt.Join(p.write.Siblings...),
	}
	if t.pending == nil {
		t.pending = map[string]*pending{}
	}
	t.pending[string(key)] = p
	return nil
}

// unset removes a key: nothing to do where nothing was.
func (t *Txn) unset(key []byte) (existed bool, err error) {
	s, err := t.siblings(key)
	if err != nil || len(s.Live()) == 0 {
		return false, err
	}
	return true, t.set(key, crdt.Delete, nil, nil, false)
}

// flush hands the overlay to the kernel: writes by rising key, as one batch.
func (t *Txn) flush(g *group) (result, fatal error) {
	if len(t.pending) == 0 {
		return nil, nil
	}
	g.changed = true
	writes := make([]replica.Write, 0, len(t.pending))
	for _, k := range slices.Sorted(maps.Keys(t.pending)) {
		writes = append(writes, t.pending[k].write)
		if result, fatal = t.pending[k].large.flush(g); result != nil {
			return result, fatal
		}
	}
	_, err := t.batch.Commit(writes, t.now)
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) {
		return err, nil // refused before anything was written
	}
	if err != nil {
		return err, err
	}
	for k, v := range t.local {
		if err := t.batch.SetLocal([]byte(k), v); err != nil {
			return err, err
		}
	}
	if writes[0].Key[0] == 0 { // system records sort first
		g.reloadRules(t.ns)
	}
	return nil, nil
}
