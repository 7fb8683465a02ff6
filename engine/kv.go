package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
)

// A WriteOption says more about a write.
type WriteOption func(*writeOptions)

type writeOptions struct {
	ttl  time.Duration
	kind string
	set  bool
	seen *Token
}

func writeOptionsOf(opts []WriteOption) writeOptions {
	var o writeOptions
	for _, f := range opts {
		f(&o)
	}
	return o
}

// TTL hides the value from readers once d has passed on their clocks; the node
// that wrote it deletes it then. d must be positive and is kept in milliseconds.
func TTL(d time.Duration) WriteOption { return func(o *writeOptions) { o.ttl, o.set = d, true } }

// ContentType stores a media type with the value.
func ContentType(t string) WriteOption { return func(o *writeOptions) { o.kind = t } }

// IfSeen makes a write conditional as PutIf is: it returns a *Conflict unless
// the register's state is still the one that a reader saw.
func IfSeen(seen Token) WriteOption { return func(o *writeOptions) { o.seen = &seen } }

// attrs returns the attributes the options stand for, canonical.
func (t *Txn) attrs(o writeOptions) ([]crdt.Attr, error) {
	var attrs []crdt.Attr
	if o.kind != "" {
		attrs = append(attrs, crdt.Attr{Name: crdt.AttrType, Value: []byte(o.kind)})
	}
	if o.set {
		if o.ttl < time.Millisecond {
			return nil, fmt.Errorf("time to live of %v: %w", o.ttl, ErrInvalid)
		}
		at := t.now.Time().UnixMilli() + o.ttl.Milliseconds()
		attrs = append(attrs, crdt.Attr{Name: crdt.AttrExpiry, Value: binary.BigEndian.AppendUint64(nil, uint64(at))})
	}
	crdt.SortAttrs(attrs)
	return attrs, nil
}

// storedName returns the stored form of a register's key. ErrInvalid for an
// empty one, ErrTooLarge beyond the cap.
func storedName(key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("empty key: %w", ErrInvalid)
	}
	stored := crdt.AppendName(make([]byte, 0, len(key)+2), key)
	if len(stored) > crdt.MaxKey {
		return nil, fmt.Errorf("key of %d bytes as stored (at most %d): %w", len(stored), crdt.MaxKey, ErrTooLarge)
	}
	return stored, nil
}

// Put writes a register: the value replaces everything this node holds under
// the key, and stands beside what others write without having seen it. key is
// 1 to 1,024 bytes (a zero byte counts twice), value at most 16 MiB
// (ErrTooLarge; PutReader takes larger ones). A value above 64 KiB is cut into
// chunks that are stored once for the whole DB, and the version bears a link to
// it. One durable commit, shared with whoever writes at the same time. The
// slices may be reused when it returns.
func (ns *Namespace) Put(ctx context.Context, key, value []byte, opts ...WriteOption) error {
	stored, err := storedName(key)
	if err != nil {
		return err
	}
	if len(value) > crdt.MaxValue {
		large, err := newLarge(value) // here, not in the one writer
		if err != nil {
			return err
		}
		return ns.db.submit(ctx, &request{ns: ns, key: stored, run: func(t *Txn) error {
			return t.putLarge(stored, large, opts, false)
		}})
	}
	return ns.db.submit(ctx, &request{ns: ns, key: stored, run: func(t *Txn) error {
		return t.put(stored, value, opts, false)
	}})
}

// Put writes a register within the transaction; see Namespace.Put.
func (t *Txn) Put(key, value []byte, opts ...WriteOption) error {
	stored, err := storedName(key)
	if err != nil {
		return err
	}
	return t.put(stored, value, opts, false)
}

func (t *Txn) put(stored, value []byte, opts []WriteOption, seen bool) error {
	attrs, seen, err := t.options(stored, opts, seen)
	if err != nil {
		return err
	}
	return t.set(stored, crdt.Put, value, attrs, seen)
}

func (t *Txn) putLarge(stored []byte, large *largeValue, opts []WriteOption, seen bool) error {
	attrs, seen, err := t.options(stored, opts, seen)
	if err != nil {
		return err
	}
	return t.stage(stored, crdt.Put, nil, large, attrs, seen)
}

// options returns the attributes that a write is to bear, and whether its
// writer named the siblings that it replaces.
func (t *Txn) options(stored []byte, opts []WriteOption, seen bool) ([]crdt.Attr, bool, error) {
	o := writeOptionsOf(opts)
	if o.seen != nil {
		s, err := t.siblings(stored)
		if err != nil {
			return nil, false, err
		}
		if Token(s.Token()) != *o.seen {
			return nil, false, &Conflict{newRecord(t, outerName(stored), s)}
		}
		seen = true
	}
	attrs, err := t.attrs(o)
	return attrs, seen, err
}

// Get returns the main value of a register; ErrNotFound if it is absent,
// deleted or expired. The value was verified against its digest (ErrCorrupt
// names a damaged version). It is the caller's. Two look-ups and a hash;
// readers never wait. A value above 16 MiB is ErrTooLarge (GetReader reads it),
// one above 64 KiB that came by a record, but is not wholly here yet, is
// ErrUnavailable.
// With Options.VerifyMisses a key that is not found is
// ErrCorrupt instead of ErrNotFound where the Merkle index is up to date and has
// it, or misses another one of the up to 32 keys around it: some 20 us a miss.
func (ns *Namespace) Get(ctx context.Context, key []byte) ([]byte, error) {
	var out []byte
	err := ns.view(ctx, func(src source) (err error) {
		out, err = get(src, key)
		return err
	})
	return out, err
}

// Get returns the main value as the transaction sees it; see Namespace.Get.
func (t *Txn) Get(key []byte) ([]byte, error) { return get(t, key) }

func get(src source, key []byte) ([]byte, error) {
	stored, err := storedName(key)
	if err != nil {
		return nil, err
	}
	s, err := src.siblings(stored)
	if err != nil {
		return nil, err
	}
	w := fold(src, key, s)
	if len(w.Shown) == 0 {
		return nil, ErrNotFound
	}
	return src.content(w.Shown[0])
}

// GetAll returns everything known of a register: what is shown, every sibling
// with its CID, author and time, and the token for conditional writes. An
// absent key is no error: nothing is shown then.
func (ns *Namespace) GetAll(ctx context.Context, key []byte) (Record, error) {
	var out Record
	err := ns.view(ctx, func(src source) (err error) {
		out, err = getAll(src, key)
		return err
	})
	return out, err
}

// GetAll returns everything known of a register as of the transaction's start;
// a write of this transaction shows as a version without author.
func (t *Txn) GetAll(key []byte) (Record, error) { return getAll(t, key) }

func getAll(src source, key []byte) (Record, error) {
	stored, err := storedName(key)
	if err != nil {
		return Record{}, err
	}
	s, err := src.siblings(stored)
	if err != nil {
		return Record{}, err
	}
	return newRecord(src, key, s), nil
}

// Delete removes a register: what this node holds under the key is gone, here
// and everywhere, for good; what others write without having seen it stays. It
// is no error if there is nothing. Counters, sets, maps and lists of that name
// are not touched; see DeletePrefix.
func (ns *Namespace) Delete(ctx context.Context, key []byte) error {
	stored, err := storedName(key)
	if err != nil {
		return err
	}
	return ns.db.submit(ctx, &request{ns: ns, key: stored, run: func(t *Txn) error {
		_, err := t.unset(stored)
		return err
	}})
}

// Delete removes a register within the transaction. existed tells whether
// there was anything.
func (t *Txn) Delete(key []byte) (existed bool, err error) {
	stored, err := storedName(key)
	if err != nil {
		return false, err
	}
	return t.unset(stored)
}

// PutIf writes a register only if its state is still the one that a reader saw
// (Record.Token; NoToken for a key never written). Otherwise it returns a
// *Conflict with the current state, which matches ErrConflict. It is a check
// on this node: two nodes may both accept, and their values then stand side by
// side.
func (ns *Namespace) PutIf(ctx context.Context, key, value []byte, seen Token, opts ...WriteOption) error {
	return ns.Update(ctx, func(t *Txn) error { return t.PutIf(key, value, seen, opts...) })
}

// PutIf is Namespace.PutIf within the transaction.
func (t *Txn) PutIf(key, value []byte, seen Token, opts ...WriteOption) error {
	stored, err := t.check(key, seen)
	if err != nil {
		return err
	}
	return t.put(stored, value, opts, true)
}

// DeleteIf deletes a register only if its state is still the one that a reader
// saw; see PutIf.
func (ns *Namespace) DeleteIf(ctx context.Context, key []byte, seen Token) error {
	return ns.Update(ctx, func(t *Txn) error { return t.DeleteIf(key, seen) })
}

// DeleteIf is Namespace.DeleteIf within the transaction.
func (t *Txn) DeleteIf(key []byte, seen Token) error {
	stored, err := t.check(key, seen)
	if err != nil {
		return err
	}
	_, err = t.unset(stored)
	return err
}

func (t *Txn) check(key []byte, seen Token) ([]byte, error) {
	stored, err := storedName(key)
	if err != nil {
		return nil, err
	}
	s, err := t.siblings(stored)
	if err != nil {
		return nil, err
	}
	if Token(s.Token()) != seen {
		return nil, &Conflict{newRecord(t, key, s)}
	}
	return stored, nil
}

// view calls fn with the current state.
func (ns *Namespace) view(ctx context.Context, fn func(source) error) error {
	if err := ns.db.usable(ctx); err != nil {
		return err
	}
	if ns.replica == nil || ns.dropped.Load() {
		return fmt.Errorf("namespace %q: %w", ns.name, ErrNotFound)
	}
	return ns.db.kv.View(func(tx store.Tx) error {
		rd, err := ns.replica.Reader(tx)
		if err != nil {
			return err
		}
		err = fn(&reading{rd: rd, ns: ns, now: time.Now().UnixMilli()})
		ns.meet(err)
		return err
	})
}

// reading is a source over one transaction.
type reading struct {
	rd  *replica.Reader
	ns  *Namespace
	now int64
}

func (r *reading) home() *Namespace { return r.ns }
func (r *reading) millis() int64    { return r.now }

// siblings returns what stands under a stored key. With Options.VerifyMisses a
// key without siblings is looked for in the Merkle index.
func (r *reading) siblings(key []byte) (crdt.Siblings, error) {
	s, err := r.rd.Siblings(key)
	if s == nil && err == nil && r.ns.db.opts.VerifyMisses {
		err = r.rd.CheckMiss(key)
	}
	return s, err
}

// checkRange looks whether all keys of a stored range are there that the Merkle
// index has, with Options.VerifyMisses.
func (r *reading) checkRange(start, end []byte) error {
	if !r.ns.db.opts.VerifyMisses || start == nil {
		return nil
	}
	return r.rd.CheckCount(start, end)
}

func (r *reading) heads(start, end []byte) iter.Seq2[[]byte, func() (crdt.Siblings, error)] {
	return func(yield func([]byte, func() (crdt.Siblings, error)) bool) {
		for key, e := range r.rd.Heads(start, end) {
			if !yield(key, e.Siblings) {
				return
			}
		}
	}
}

// rangeOf returns the stored range of all keys whose names begin with prefix.
// The namespace's own records lie before every name.
func rangeOf(prefix []byte) (start, end []byte) {
	if len(prefix) == 0 {
		return firstName, nil
	}
	start = crdt.AppendName(nil, prefix)
	return start, crdt.PrefixEnd(start)
}

// firstName is below every stored name: a name begins with a byte above zero,
// or with an escaped zero byte.
var firstName = []byte{0, 1}
