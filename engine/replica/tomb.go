package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
)

// Retention says what collection keeps. A superseded version stays if either
// Versions or Since keeps it.
type Retention struct {
	Versions int      // the newest so many of a key, live ones included
	Since    crdt.HLC // and everything written at or after this stamp
	// Tombstones written at or after this stamp stay, and so do records of
	// adoptions, drops and collections; 0 keeps them all. A tombstone whose key
	// has superseded versions that Since keeps stays with them.
	Tombstones crdt.HLC
}

// Collected counts what a collection looked at and removed.
type Collected struct {
	Keys       int    // looked at
	Tombstones int    // that are no siblings any more
	Removed    int    // versions removed from the journal, tombstones included
	Records    int    // records of adoptions, drops and collections removed
	Bytes      int64  // of everything removed from the journal
	Next       []byte // where to go on from, nil at the end
}

// Collect removes what retention does not keep, in a bounded part of the work:
// superseded versions, tombstones that have nothing left to cover, and the
// journal's own records. start is nil or Next of the part before. It looks at
// no more than limit keys, or 64 times as many journal records.
//
// A tombstone is collected when every dot that it could still have to cover was
// seen here, whatever other replicas hold (KERNEL K6): none of the replicas in
// its context has a gap below it in the advertised clock, gaps of retired
// replicas aside. Its dot becomes dead and its author's gone mark rises. If
// nothing else stands under its key, the whole history of the key goes with it;
// else it becomes part of that history. A partial replica collects none, nor the
// journal's own records.
//
// Records above the arrival until stay: until is how far everything else that
// derives its state from the journal has read. The facts of the records that go
// are in the dead view and the gone marks before, in the same transaction
// (KERNEL K3).
func (b *Batch) Collect(start []byte, keep Retention, until uint64, limit int) (Collected, error) {
	if limit < 1 {
		return Collected{}, fmt.Errorf("collection of %d keys at a time: %w", limit, ErrInvalid)
	}
	c := newCollector(b.Reader, &b.r.partial, b.r.clock, b.r.unknown, b.r.retired, keep, min(until, b.r.state.arrival))
	if len(start) > 0 && start[0] == inJournal {
		return b.collectRecords(c, start[1:], limit)
	}
	var sum Collected
	var plans []plan
	if len(start) > 0 {
		start = start[1:]
	}
	sum.Next = []byte{inJournal}
	for key := range b.Heads(start, nil) {
		if sum.Keys == limit {
			sum.Next = append([]byte{inKeys}, key...)
			break
		}
		sum.Keys++
		p, err := c.plan(key)
		if errors.Is(err, ErrCorrupt) {
			continue // verify reports it; nothing of a damaged key is removed
		}
		if err != nil {
			return sum, err
		}
		if p != nil {
			plans = append(plans, *p)
		}
	}
	return sum, b.carryOut(plans, &sum)
}

// What Collected.Next begins with.
const (
	inKeys    = 'k' // a stored key follows
	inJournal = 'j' // an arrival follows, or nothing
)

// going is a journal record that is to go.
type going struct {
	arrival uint64
	expiry  int64
}

// plan is what is to be done with one key.
type plan struct {
	key    []byte
	leave  []Retained // tombstones that are no siblings any more
	remove []going    // journal records
	adrift []uint64   // arrivals of kept records that only removed ones led to
}

// plan judges a key; nil if everything stays. One journal look-up a version.
func (c *collector) plan(key []byte) (*plan, error) {
	history, err := c.rd.History(key)
	if err != nil {
		return nil, err
	}
	v := c.judge(history)
	var p plan
	kept := map[uint64]bool{}
	for i, r := range history {
		if v.leaves[i] {
			p.leave = append(p.leave, r)
		}
		if v.reasons[i] == isRemovable {
			p.remove = append(p.remove, going{r.Arrival, r.Expiry()})
		} else {
			kept[r.Arrival] = true
		}
	}
	if len(p.leave)+len(p.remove) == 0 {
		return nil, nil
	}
	p.key = bytes.Clone(key)
	if !v.whole {
		p.adrift, err = c.rd.adrift(history, kept, p.leave)
	}
	return &p, err
}

// adrift returns the kept superseded versions that no kept record leads to once
// the others are gone and some siblings have left. rd.head is that of the key.
func (rd *Reader) adrift(history []Retained, kept map[uint64]bool, left []Retained) ([]uint64, error) {
	led := map[uint64]bool{}
	for _, r := range history {
		if !kept[r.Arrival] {
			continue
		}
		rec, err := rd.record(r.Arrival)
		if err != nil {
			return nil, err
		}
		for _, s := range rec.replaced {
			led[s.arrival] = true
		}
		for _, o := range rec.orphans {
			led[o] = true
		}
	}
	var out []uint64
	for _, r := range history {
		if !kept[r.Arrival] || led[r.Arrival] || slices.Contains(rd.head.orphans, r.Arrival) {
			continue
		}
		leaving := slices.ContainsFunc(left, func(l Retained) bool { return l.Arrival == r.Arrival })
		if !r.Live || leaving {
			out = append(out, r.Arrival)
		}
	}
	return out, nil
}

// carryOut does what was planned: the facts first, then the heads, then the
// records.
func (b *Batch) carryOut(plans []plan, sum *Collected) error {
	if len(plans) == 0 {
		return nil
	}
	dead := crdt.NewClock()
	for _, p := range plans {
		for _, t := range p.leave {
			dead.Add(t.Dot)
		}
	}
	if !dead.IsEmpty() {
		marks := dead
		if mutant("no gone mark") {
			marks = crdt.NewClock()
		}
		if err := b.raiseGone(marks); err != nil {
			return err
		}
		if err := b.appendDots(RecordCollection, dead); err != nil {
			return err
		}
		b.r.delta.dieAll(dead)
	}
	if err := b.writeFacts(); err != nil {
		return err
	}
	for _, p := range plans {
		if err := b.collectKey(p, sum); err != nil {
			return err
		}
	}
	return nil
}

// writeFacts brings the views to the journal's end, so that what the records
// that go now have proved stands there first (KERNEL K3).
func (b *Batch) writeFacts() error {
	if mutant("facts not written") {
		return nil
	}
	return b.r.catchUp(b.tx)
}

// collectKey rewrites a key's head and removes records of its history.
func (b *Batch) collectKey(p plan, sum *Collected) error {
	if err := b.readHead(p.key); err != nil {
		return err
	}
	h := &b.head
	before := h.tally()
	for _, t := range p.leave {
		if i := h.find(b.r.ids.byID[t.Dot.Replica], t.Dot.Seq); i >= 0 {
			h.siblings = slices.Delete(h.siblings, i, i+1)
			sum.Tombstones++
		}
	}
	orphans := slices.DeleteFunc(append(slices.Clone(h.orphans), p.adrift...), func(o uint64) bool {
		return slices.ContainsFunc(p.remove, func(g going) bool { return g.arrival == o })
	})
	if len(p.leave) > 0 || !slices.Equal(orphans, h.orphans) {
		h.orphans = orphans
		if err := b.putHead(p.key, h, before); err != nil {
			return err
		}
	}
	for _, g := range p.remove {
		if err := b.remove(g, sum); err != nil {
			return err
		}
		sum.Removed++
	}
	return nil
}

// remove deletes a journal record and what the expiry index has of it.
func (b *Batch) remove(g going, sum *Collected) error {
	key := arrivalKey(g.arrival)
	old := b.journal.Get(key)
	if old == nil {
		return nil
	}
	sum.Bytes += int64(len(key) + len(old))
	if g.expiry != 0 {
		if err := b.expiry.Delete(expiryKey(g.expiry, g.arrival)); err != nil {
			return err
		}
	}
	b.r.state.removed++
	b.r.state.collected = max(b.r.state.collected, g.arrival)
	return b.journal.Delete(key)
}

// recordStride is how many journal records count as much as one key.
const recordStride = 64

// collectRecords is the second half of a collection: records of adoptions,
// drops and collections that retention does not keep, and the versions that
// only a drop's record leads to.
func (b *Batch) collectRecords(c *collector, from []byte, limit int) (Collected, error) {
	var sum Collected
	var gone []going
	cur := b.journal.Cursor()
	seen := 0
	k, v := cur.First()
	if len(from) > 0 {
		k, v = cur.Seek(from)
	}
	for ; len(k) == 8; k, v = cur.Next() {
		arrival := binary.BigEndian.Uint64(k)
		if arrival > c.until {
			break
		}
		if seen++; seen > recordStride*limit || len(gone) >= limit {
			sum.Next = append([]byte{inJournal}, k...)
			break
		}
		var err error
		if gone, err = c.recordsBy(v, arrival, gone); errors.Is(err, ErrCorrupt) {
			continue // verify reports it
		}
		if err != nil {
			return sum, err
		}
	}
	if len(gone) == 0 {
		return sum, nil
	}
	if err := b.writeFacts(); err != nil {
		return sum, err
	}
	for _, g := range gone {
		removed, kind := b.r.state.removed, recordKind(b.journal.Get(arrivalKey(g.arrival)))
		if err := b.remove(g, &sum); err != nil {
			return sum, err
		}
		switch {
		case b.r.state.removed == removed: // two drops led to it
		case kind == RecordVersion || kind == RecordBackfill:
			sum.Removed++
		default:
			sum.Records++
		}
	}
	return sum, nil
}

// recordsBy appends what goes because of one journal record: itself, and what
// nothing but it leads to.
func (c *collector) recordsBy(b []byte, arrival uint64, out []going) ([]going, error) {
	switch recordKind(b) {
	case RecordAdoption, RecordCollection:
		a, err := decodeAdoption(b, arrival)
		if err == nil && a.time < c.keep.Tombstones {
			out = append(out, going{arrival: arrival})
		}
		return out, err
	case RecordDrop:
		d, err := decodeDrop(b, arrival, c.rd.ids)
		if err != nil || d.time >= c.keep.Tombstones {
			return out, err
		}
		out, ok, err := c.dropped(d, out)
		if ok {
			out = append(out, going{arrival: arrival})
		}
		return out, err
	}
	return out, nil
}

// dropped appends the versions that were dropped and their history, as far as
// the key's head does not lead to them. ok is false if some of them must stay.
func (c *collector) dropped(d drop, out []going) (_ []going, ok bool, err error) {
	reached := map[uint64]bool{}
	if d.key != nil {
		history, err := c.rd.History(d.key)
		if err != nil {
			return out, false, err
		}
		for _, r := range history {
			reached[r.Arrival] = true
		}
	}
	ok = true
	var todo []uint64
	for _, s := range d.versions {
		todo = append(todo, s.arrival)
	}
	for len(todo) > 0 {
		arrival := todo[0]
		todo = todo[1:]
		raw := c.rd.journal.Get(arrivalKey(arrival))
		if reached[arrival] || raw == nil {
			continue
		}
		reached[arrival] = true
		if arrival > c.until {
			ok = false
			continue
		}
		rec, err := decodeVersionRecord(raw, arrival, c.rd.ids)
		if err != nil {
			return out, false, err
		}
		if !bytes.Equal(rec.version.Key, d.key) {
			return out, false, damaged("journal record", arrival, "of another key than the drop that names it")
		}
		out = append(out, going{arrival, rec.version.Expiry()})
		for _, s := range rec.replaced {
			todo = append(todo, s.arrival)
		}
		todo = append(todo, rec.orphans...)
	}
	return out, ok, nil
}
