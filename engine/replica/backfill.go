package replica

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"bzzz/crdt"
)

// Backfill takes in old versions for history alone (KERNEL K8): versions whose
// dots are dead here, of keys that have siblings. It writes the journal and
// links the records to their keys' heads, and never changes what is live, dead
// or seen. A version that is live, not seen, retained already, or of a key
// without siblings is passed over; so is one of a key that damage has hit. It
// returns how many it took. An invalid version fails the whole batch. Cost: the
// key's history a version.
func (b *Batch) Backfill(versions []*crdt.Version) (int, error) {
	taken := 0
	for _, v := range versions {
		if err := v.Validate(); err != nil {
			return taken, err
		}
		wanted, err := b.wantsHistory(v)
		if err != nil {
			return taken, err
		}
		if !wanted {
			continue
		}
		if err := b.backfill(v); err != nil {
			return taken, err
		}
		taken++
	}
	return taken, nil
}

// wantsHistory reports whether v is to be taken in. b.head is that of its key
// then.
func (b *Batch) wantsHistory(v *crdt.Version) (bool, error) {
	dead, err := b.r.isDead(b.tx, v.Dot)
	if errors.Is(err, ErrCorrupt) || err == nil && !dead {
		return false, nil // what is not known to be dead is not history
	}
	if err != nil {
		return false, err
	}
	history, err := b.History(v.Key)
	if errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	if err != nil || len(history) == 0 {
		return false, err
	}
	return !slices.ContainsFunc(history, func(r Retained) bool { return r.Dot == v.Dot }), nil
}

// backfill appends the record of v and hangs it on its key's head.
func (b *Batch) backfill(v *crdt.Version) error {
	r := b.r
	if _, err := b.intern(v.Dot.Replica); err != nil {
		return err
	}
	for _, p := range v.Context {
		if _, err := b.intern(p.Replica); err != nil {
			return err
		}
	}
	r.state.arrival++
	arrival := r.state.arrival
	record := appendVersionRecord(nil, RecordBackfill, 0, v, arrival,
		func(id crdt.ReplicaID) uint32 { return r.ids.byID[id] }, nil, nil)
	if err := b.journal.Put(arrivalKey(arrival), record); err != nil {
		return err
	}
	h := &b.head
	h.orphans = append(slices.Clone(h.orphans), arrival)
	return b.putHead(v.Key, h, h.tally())
}

// HistoryMissing yields the retained superseded versions whose keys have
// siblings, in the order of the journal, from the record behind after on: what
// to offer to a peer for its Backfill. The Arrival of the last one is the cursor
// to go on from. Damaged records are passed over. Whether the peer wants one
// only it can tell: its clock has all of them. One look-up of a head a record.
func (v *View) HistoryMissing(after uint64) iter.Seq2[Retained, error] {
	return func(yield func(Retained, error) bool) {
		c := v.journal.Cursor()
		for k, b := c.Seek(arrivalKey(after + 1)); len(k) == 8; k, b = c.Next() {
			if kind := recordKind(b); kind != RecordVersion && kind != RecordBackfill {
				continue
			}
			arrival := binary.BigEndian.Uint64(k)
			rec, err := decodeVersionRecord(b, arrival, v.ids)
			if err != nil {
				continue // damage is no history
			}
			entry := v.heads.Get(rec.version.Key)
			if entry == nil {
				continue
			}
			if err := decodeHead(entry, rec.version.Key, &v.head); err != nil {
				continue
			}
			if slices.ContainsFunc(v.head.siblings, func(s sibling) bool { return s.arrival == arrival }) {
				continue
			}
			if !yield(Retained{Version: &rec.version, Arrival: arrival}, nil) {
				return
			}
		}
		if err := v.Err(); err != nil {
			yield(Retained{}, err)
		}
	}
}
