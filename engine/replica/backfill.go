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
// returns how many it took. An invalid version fails the whole batch before
// anything is written. Cost: the history of each key once.
func (b *Batch) Backfill(versions []*crdt.Version) (int, error) {
	var keys []string
	groups := map[string][]*crdt.Version{}
	for _, v := range versions {
		if err := v.Validate(); err != nil {
			return 0, err
		}
		if groups[string(v.Key)] == nil {
			keys = append(keys, string(v.Key))
		}
		groups[string(v.Key)] = append(groups[string(v.Key)], v)
	}
	taken := 0
	for _, key := range keys {
		wanted, err := b.wantedHistory([]byte(key), groups[key])
		if err != nil {
			return taken, err
		}
		if err := b.backfill(wanted); err != nil {
			return taken, err
		}
		taken += len(wanted)
	}
	return taken, nil
}

// wantedHistory returns those versions of a key that are to be taken in.
// b.head is that of the key if there are any.
func (b *Batch) wantedHistory(key []byte, versions []*crdt.Version) ([]*crdt.Version, error) {
	history, err := b.History(key)
	if errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	if err != nil || len(history) == 0 {
		return nil, err
	}
	retained := map[crdt.Dot]bool{}
	for _, r := range history {
		retained[r.Dot] = true
	}
	var wanted []*crdt.Version
	for _, v := range versions {
		dead, err := b.r.isDead(b.tx, v.Dot)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		if err == nil && dead && !retained[v.Dot] { // what is not known to be dead is not history
			retained[v.Dot] = true
			wanted = append(wanted, v)
		}
	}
	return wanted, nil
}

// backfill appends records of versions of the key of b.head. The last one leads
// to the others and to whatever hung on the head, so that a head stays small
// however long its history.
func (b *Batch) backfill(versions []*crdt.Version) error {
	r := b.r
	h := &b.head
	hanging := slices.Clone(h.orphans)
	for i, v := range versions {
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
		var orphans []uint64
		if i == len(versions)-1 {
			orphans = hanging
		}
		record := appendVersionRecord(nil, RecordBackfill, 0, v, arrival,
			func(id crdt.ReplicaID) uint32 { return r.ids.byID[id] }, nil, orphans)
		if err := b.journal.Put(arrivalKey(arrival), record); err != nil {
			return err
		}
		hanging = append(hanging, arrival)
	}
	if len(versions) == 0 {
		return nil
	}
	h.orphans = hanging[len(hanging)-1:]
	return b.putHead(versions[0].Key, h, h.tally())
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
