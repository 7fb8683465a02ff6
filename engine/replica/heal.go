package replica

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"bzzz/crdt"
)

// readHead decodes the head entry of a key into b.head. A damaged one is
// derived again from the journal, so that what a peer sends of the key finds
// its siblings.
func (b *Batch) readHead(key []byte) error {
	err := decodeHead(b.heads.Get(key), key, &b.head)
	if errors.Is(err, ErrCorrupt) {
		return b.rebuildHead(key)
	}
	return err
}

// healHeads derives every damaged head again: one that names nothing live any
// more is touched by no later version. O(keys), and O(journal) a damaged one.
func (b *Batch) healHeads() error {
	var damaged [][]byte
	for key, e := range b.Heads(nil, nil) {
		if err := decodeHead(e.raw, key, &b.head); err != nil {
			damaged = append(damaged, bytes.Clone(key))
		}
	}
	for _, key := range damaged {
		if err := b.rebuildHead(key); err != nil {
			return err
		}
		if err := b.putHead(key, &b.head, b.head.tally()); err != nil {
			return err
		}
	}
	return b.healConflicts()
}

// healConflicts takes keys out of the conflict index that have no head: damage
// took it, and what it stood for is dead now. O(keys with conflicts).
func (b *Batch) healConflicts() error {
	var stale [][]byte
	c := b.conflicts.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if b.heads.Get(k) == nil {
			stale = append(stale, bytes.Clone(k))
		}
	}
	for _, k := range stale {
		b.r.state.conflicts--
		if err := b.conflicts.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// rebuildHead derives a key's head from the journal. O(journal).
func (b *Batch) rebuildHead(key []byte) error {
	b.healing = true
	past := map[string][]uint64{string(key): nil}
	if err := b.recordsOf(past, nil, 0); err != nil {
		return err
	}
	over, err := b.derive(key, past[string(key)])
	if err != nil {
		return err
	}
	return b.MarkUnknown(over.lost)
}

// derived is what else derive finds of a key.
type derived struct {
	dead []crdt.Dot // proven by the journal, but not in the dead view
	lost crdt.Clock // nobody here can say whether they are live
}

// candidate is a version of the key that derive looks at.
type candidate struct {
	sibling
	dot crdt.Dot
}

// derive derives b.head from the records of a key's versions: whatever became a
// sibling and is neither covered by another version of the key nor dead. The
// rest hangs on the head or on records, for history's sake. Damaged records are
// passed over: their dots are neither live nor dead then. O(records).
func (b *Batch) derive(key []byte, past []uint64) (derived, error) {
	out := derived{lost: crdt.NewClock()}
	var joined []candidate
	covered := crdt.NewClock() // of each replica everything up to its highest seq
	cover := func(r crdt.ReplicaID, seq uint64) {
		if seq > covered.Of(r).Max() {
			covered.AddRange(r, 1, seq)
		}
	}
	hung := map[uint64]bool{} // records that another one points to
	for _, arrival := range past {
		rec, err := b.record(arrival)
		if err != nil {
			continue
		}
		v := &rec.version
		for _, p := range v.Context {
			cover(p.Replica, p.Seq)
		}
		cover(v.Dot.Replica, v.Dot.Seq-1)
		for _, s := range rec.replaced {
			hung[s.arrival] = true
		}
		for _, o := range rec.orphans {
			hung[o] = true
		}
		if rec.kind != RecordVersion || rec.flags&flagDeadOnArrival != 0 {
			continue
		}
		digest := v.Digest()
		s := sibling{arrival, b.r.ids.byID[v.Dot.Replica], v.Dot.Seq, v.Kind, [digestLen]byte(digest[:digestLen])}
		joined = slices.DeleteFunc(joined, func(c candidate) bool { return c.dot == v.Dot }) // sent again
		joined = append(joined, candidate{s, v.Dot})
	}
	var h head
	for _, c := range joined {
		live, err := b.stands(key, c, covered.Has(c.dot), &out)
		if err != nil {
			return out, err
		}
		if live {
			hung[c.arrival] = true
			h.siblings = append(h.siblings, c.sibling)
		}
	}
	for _, arrival := range past {
		if !hung[arrival] && b.journal.Get(arrivalKey(arrival)) != nil {
			h.orphans = append(h.orphans, arrival)
		}
	}
	slices.SortFunc(h.siblings, func(a, b sibling) int { return cmp.Compare(a.arrival, b.arrival) })
	b.head = h
	return out, nil
}

// stands decides whether a version that became a sibling of key is one now.
func (b *Batch) stands(key []byte, c candidate, covered bool, out *derived) (bool, error) {
	r := b.r
	dead, err := r.isDead(b.tx, c.dot)
	unproven := errors.Is(err, ErrCorrupt)
	if err != nil && !unproven {
		return false, err
	}
	at, err := r.liveArrival(b.tx, c.dot)
	if err != nil {
		return false, err
	}
	switch {
	case covered && !dead, dead && at != 0:
		out.dead = append(out.dead, c.dot)
		return false, nil
	case dead:
		return false, nil
	case at == c.arrival:
		return true, nil
	case b.takenBy(at, c.dot, key):
		return false, nil
	case r.state.removed == 0: // the journal has all that ever made something dead
		return true, nil
	case r.unknown.Has(c.dot):
		return false, nil
	case unproven:
		out.lost.Add(c.dot)
		return false, nil
	}
	return true, nil
}

// takenBy reports whether a dot is live at an arrival as the version of another
// key: it was used twice.
func (b *Batch) takenBy(arrival uint64, dot crdt.Dot, key []byte) bool {
	if arrival == 0 {
		return false
	}
	rec, err := b.record(arrival)
	if err != nil || rec.version.Dot != dot || bytes.Equal(rec.version.Key, key) {
		return false
	}
	held, err := b.holds(dot, b.r.ids.byID[dot.Replica], arrival)
	return err == nil && held
}

// uncount takes out of the namespace's counters a version that is listed as live
// but that its key's head, which is in b.head, has lost: it is counted again when
// it joins.
func (b *Batch) uncount(key []byte, dot crdt.Dot, kind crdt.Kind) error {
	at, err := b.r.liveArrival(b.tx, dot)
	if err != nil || at == 0 {
		return err
	}
	st, has := &b.r.state, b.head.tally()
	switch {
	case kind == crdt.Delete:
		st.tombs--
	case has.live == 0:
		st.keys--
		st.versions--
	default:
		st.versions--
	}
	if !has.conflict && b.conflicts.Get(key) != nil {
		st.conflicts--
		return b.conflicts.Delete(key)
	}
	return nil
}
