package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/store"
)

// Batch is the work of one write transaction on a namespace. It ends with
// Finish inside the transaction and Done after the commit; without both the
// Replica loads its cache again at the next Begin.
type Batch struct {
	*Reader
	r         *Replica
	now       crdt.HLC                // this node's physical clock
	dirty     map[crdt.ReplicaID]bool // clock entries to write
	healed    map[crdt.ReplicaID]bool // unknown entries to write
	adopted   bool                    // Adopt took over a peer's clock: its gaps are closed
	meta      store.Bucket
	conflicts store.Bucket
	expiry    store.Bucket
	buf       []byte // what the store was given: see reserve
	healing   bool   // the next record stands for a change that has none of its own
}

// Begin starts a batch in a write transaction. now is this node's physical
// clock.
func (r *Replica) Begin(tx store.Tx, now crdt.HLC) (*Batch, error) {
	if r.stale {
		if err := r.load(tx); err != nil {
			return nil, err
		}
	}
	rd, err := r.Reader(tx)
	if err != nil {
		return nil, err
	}
	r.stale = true // until Done
	return &Batch{
		Reader: rd, r: r, now: now, dirty: map[crdt.ReplicaID]bool{}, healed: map[crdt.ReplicaID]bool{},
		meta: tx.Bucket(r.names.meta), conflicts: tx.Bucket(r.names.conflicts), expiry: tx.Bucket(r.names.expiry),
	}, nil
}

// Finish writes the state that belongs to the batch's changes. With views true,
// or once they lag by ViewBatch records, it brings dots and dead up to date.
func (b *Batch) Finish(views bool) error {
	r := b.r
	if views || r.Lag() >= ViewBatch {
		if err := r.catchUp(b.tx); err != nil {
			return err
		}
	}
	for id := range b.dirty {
		if err := b.putSet(metaClock, id, r.clock.Of(id)); err != nil {
			return err
		}
	}
	for _, id := range r.lapsed {
		b.healed[id] = true
	}
	r.lapsed = nil
	for id := range b.healed {
		if err := b.putSet(metaUnknown, id, r.unknown.Of(id)); err != nil {
			return err
		}
	}
	r.state.ids = uint64(len(r.ids.all()))
	r.state.sets = uint64(r.clock.Len() + r.gone.Len() + r.unknown.Len() + len(r.retired) + r.partial.count())
	return b.meta.Put(metaState, r.state.append(nil))
}

// Done tells that the transaction has committed.
func (b *Batch) Done() { b.r.stale = false }

// Lag returns how many journal records the views are behind.
func (b *Batch) Lag() uint64 { return b.r.Lag() }

// Write is one local write.
type Write struct {
	Key   []byte // as stored
	Kind  crdt.Kind
	Value []byte      // nil for a delete and with a link
	Blob  cid.Cid     // link to a large value instead
	Attrs []crdt.Attr // canonical order
	// Siblings are the key's siblings as the writer saw them in this batch: the
	// write replaces all of them.
	Siblings crdt.Siblings
}

// Commit appends local writes as one transaction: their versions share one
// batch range and become visible together, here and on full replicas. Keys
// must be distinct. It returns their versions in the order of writes. An error
// that matches ErrTooLarge or ErrInvalid left nothing behind. now is the
// physical time that the versions bear, usually that of Begin.
func (b *Batch) Commit(writes []Write, now crdt.HLC) ([]*crdt.Version, error) {
	r := b.r
	if r.self.IsZero() {
		return nil, fmt.Errorf("local write without a replica id: %w", ErrInvalid)
	}
	first := r.clock.Of(r.self).Max() + 1
	last := first + uint64(len(writes)) - 1
	versions := make([]*crdt.Version, len(writes))
	hlc := r.state.hlc
	for i, w := range writes {
		if mutant("context without own tombstone") {
			w.Siblings = w.Siblings.Live()
		}
		hlc = hlc.Next(now)
		v := &crdt.Version{
			Key: w.Key, Kind: w.Kind, Value: w.Value, Blob: w.Blob, Attrs: w.Attrs,
			Dot: crdt.Dot{Replica: r.self, Seq: first + uint64(i)}, First: first, Last: last,
			Time: hlc, Context: crdt.Join(w.Siblings...),
		}
		for _, s := range w.Siblings {
			if s.Time >= v.Time && !mutant("time below what it covers") { // does not move the local clock (KERNEL "Time")
				v.Time = s.Time.Next(0)
			}
		}
		if err := v.Validate(); err != nil {
			return nil, err
		}
		if !r.partial.ranges.Has(v.Key) {
			return nil, fmt.Errorf("key %q is out of the scope that is held here: %w", v.Key, ErrInvalid)
		}
		versions[i] = v
	}
	for _, v := range versions {
		if err := b.insert(v); err != nil {
			return nil, err
		}
	}
	r.state.hlc = hlc
	return versions, nil
}

// insert stores a version whose dot is new here (KERNEL K2 (3)): it joins its
// key's siblings unless one of them covers it, and what it covers dies.
func (b *Batch) insert(v *crdt.Version) error {
	r := b.r
	if err := b.readHead(v.Key); err != nil {
		return err
	}
	h := &b.head
	before := h.tally()
	var replaced []superseded
	dead := false
	keep := h.siblings[:0]
	for _, s := range h.siblings {
		dot := crdt.Dot{Replica: r.ids.at(s.id), Seq: s.seq}
		if v.Covers(dot) {
			replaced = append(replaced, superseded{s.id, s.seq, s.arrival})
			if r.unknown.Has(dot) {
				b.forget(dot) // damage took it, but now it is known to be dead
				if err := b.discard(s); err != nil {
					return err
				}
			}
			continue
		}
		covered, err := b.covers(v, s, dot)
		if err != nil {
			return err
		}
		dead = dead || covered
		keep = append(keep, s)
	}
	h.siblings = keep
	lost, err := b.headless(v, h, replaced)
	if err != nil {
		return err
	}
	return b.store(v, h, before, append(replaced, lost...), dead)
}

// headless returns versions that v replaced and that are live by the dots view,
// but that the head has lost: damage. They die as if they were there, else a
// repair would bring them back once nothing is left that tells of v. Its context
// names versions of its own key, so no other can be meant. One look-up for each
// that is not among the siblings.
func (b *Batch) headless(v *crdt.Version, h *head, replaced []superseded) (lost []superseded, err error) {
	r := b.r
	for _, p := range v.Context {
		dot := crdt.Dot{Replica: p.Replica, Seq: p.Seq}
		id, known := r.ids.byID[p.Replica]
		if !known || !r.clock.Has(dot) || h.find(id, p.Seq) >= 0 ||
			slices.ContainsFunc(replaced, func(s superseded) bool { return s.id == id && s.seq == p.Seq }) {
			continue
		}
		arrival, err := r.liveArrival(b.tx, dot)
		if err != nil {
			return nil, err
		}
		if arrival == 0 {
			continue
		}
		if rec, err := b.record(arrival); err != nil || rec.version.Dot != dot || !bytes.Equal(rec.version.Key, v.Key) {
			continue // damaged, too, or used for another key
		}
		b.healing = true
		lost = append(lost, superseded{id, p.Seq, arrival})
	}
	return lost, nil
}

// covers reports whether the sibling s supersedes v. Its context is read only
// where its dot does not already say no.
func (b *Batch) covers(v *crdt.Version, s sibling, dot crdt.Dot) (bool, error) {
	if dot.Replica == v.Dot.Replica {
		return dot.Seq > v.Dot.Seq, nil
	}
	o, err := b.load(v.Key, s)
	if errors.Is(err, ErrCorrupt) {
		// What the damaged sibling covers is lost until a peer sends it again:
		// v joins, which loses nothing, and the dot leaves the advertised clock.
		return false, b.MarkUnknown(crdt.ClockOf(dot.Replica, crdt.NewSeqSet(crdt.Interval{Lo: dot.Seq, Hi: dot.Seq})))
	}
	if err != nil {
		return false, err
	}
	return o.Covers(v.Dot), nil
}

// store appends the record of v and writes its key's head, clock and delta. h
// holds the siblings that stay beside v.
func (b *Batch) store(v *crdt.Version, h *head, before tally, replaced []superseded, dead bool) error {
	r := b.r
	id, err := b.intern(v.Dot.Replica)
	if err != nil {
		return err
	}
	for _, p := range v.Context {
		if _, err := b.intern(p.Replica); err != nil {
			return err
		}
	}
	r.state.arrival++
	arrival := r.state.arrival
	flags := byte(0)
	if b.healing {
		flags, b.healing = flagHealed, false
	}
	orphans := h.orphans
	if dead {
		flags |= flagDeadOnArrival
		h.orphans = append(slices.Clone(h.orphans), arrival)
		orphans = nil
	} else {
		digest := v.Digest()
		if len(h.siblings) > 0 {
			flags |= flagConcurrent
		}
		h.orphans = nil
		h.siblings = append(h.siblings, sibling{
			arrival, id, v.Dot.Seq, v.Kind, [digestLen]byte(digest[:digestLen]),
		})
	}
	b.reserve(len(v.Key) + len(v.Value) + recordRoom)
	number := b.keep(binary.BigEndian.AppendUint64(b.buf, arrival))
	record := b.keep(appendVersionRecord(b.buf, RecordVersion, flags, v, arrival,
		func(r crdt.ReplicaID) uint32 { return b.r.ids.byID[r] }, replaced, orphans))
	if err := b.journal.Put(number, record); err != nil {
		return err
	}
	if err := b.putHead(v.Key, h, before); err != nil {
		return err
	}
	if err := b.putExpiry(v, dead); err != nil {
		return err
	}
	r.clock.Add(v.Dot)
	if mutant("gap taken for seen") {
		r.clock.AddRange(v.Dot.Replica, 1, v.Dot.Seq)
	}
	b.dirty[v.Dot.Replica] = true
	r.delta.version(r.ids, v.Dot, arrival, dead, replaced)
	return nil
}

// recordRoom is what a usual record takes besides key and value.
const recordRoom = 128

// reserve makes room for n bytes that the store may keep until the commit: one
// allocation serves many records.
func (b *Batch) reserve(n int) {
	if cap(b.buf)-len(b.buf) < n {
		b.buf = make([]byte, 0, max(n, min(2*cap(b.buf), 64<<10)))
	}
}

// keep returns what grown has behind b.buf, which it was appended to.
func (b *Batch) keep(grown []byte) []byte {
	start := len(b.buf)
	b.buf = grown
	return grown[start:len(grown):len(grown)]
}

// putHead writes a key's entry and moves the namespace's counters.
func (b *Batch) putHead(key []byte, h *head, before tally) error {
	after := h.tally()
	st := &b.r.state
	st.versions += uint64(after.live - before.live)
	st.tombs += uint64(after.tombs - before.tombs)
	st.keys += uint64(min(after.live, 1) - min(before.live, 1))
	if after.conflict != before.conflict {
		if after.conflict {
			st.conflicts++
			if err := b.conflicts.Put(key, nil); err != nil {
				return err
			}
		} else {
			st.conflicts--
			if err := b.conflicts.Delete(key); err != nil {
				return err
			}
		}
	} else if !after.conflict && before == (tally{}) && st.conflicts > 0 && b.conflicts.Get(key) != nil {
		st.conflicts-- // what a head that damage took stood there for
		if err := b.conflicts.Delete(key); err != nil {
			return err
		}
	}
	if len(h.siblings) == 0 {
		return b.heads.Delete(key)
	}
	b.reserve(h.maxLen())
	return b.heads.Put(key, b.keep(h.append(b.buf, key)))
}

// intern returns the number of a replica, giving it one if it has none.
func (b *Batch) intern(r crdt.ReplicaID) (uint32, error) {
	if n, ok := b.r.ids.byID[r]; ok {
		return n, nil
	}
	if uint64(len(b.r.ids.all())) == math.MaxUint32 {
		return 0, fmt.Errorf("replica table full: %w", ErrTooLarge)
	}
	n, err := b.r.ids.add(r)
	if err != nil {
		return 0, err
	}
	key := metaKey(metaID, n)
	return n, b.meta.Put(key, seal(slices.Clone(r[:]), 0, key))
}

// putSet writes one replica's part of a dot set of the meta bucket.
func (b *Batch) putSet(kind byte, r crdt.ReplicaID, s crdt.SeqSet) error {
	id, err := b.intern(r)
	if err != nil {
		return err
	}
	key := metaKey(kind, id)
	if s.IsEmpty() {
		return b.meta.Delete(key)
	}
	return b.meta.Put(key, seal(crdt.AppendSeqSet(nil, s), 0, key))
}
