package replica

import (
	"encoding/binary"
	"errors"

	"bzzz/crdt"
)

// Size is how many records there are of a class, and the bytes of their keys
// and values. What the store adds to them is not counted.
type Size struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

func (s *Size) add(bytes int) {
	s.Count++
	s.Bytes += int64(bytes)
}

// Explained says what a namespace keeps and why, and what a collection by the
// same rule would remove. The records of the journal are each in one of the
// classes from Values to Unlinked.
type Explained struct {
	Values Size `json:"values"` // live versions that are no tombstones

	// Tombstones, by what keeps them.
	Young   Size `json:"young"`   // retention
	Guards  Size `json:"guards"`  // a dot that they might still have to cover: see Blocking
	Witness Size `json:"witness"` // superseded versions of the key that retention keeps by age

	// Superseded versions, by what keeps them.
	Recent Size `json:"recent"` // among the newest of their key
	Aged   Size `json:"aged"`   // written since the stamp of retention

	Unread    Size `json:"unread"`    // versions above the arrival until that nothing else keeps
	Removable Size `json:"removable"` // what a collection would remove now
	Records   Size `json:"records"`   // of adoptions, drops and collections, kept
	Unlinked  Size `json:"unlinked"`  // versions that no readable head leads to, kept

	Heads   Size `json:"heads"`
	Dots    Size `json:"dots"`    // where live versions lie
	Dead    Size `json:"dead"`    // which dots are known to be dead
	Meta    Size `json:"meta"`    // clock, gone marks, replica table
	Local   Size `json:"local"`   // records of this node alone
	Indexes Size `json:"indexes"` // of conflicts and expiry

	Damaged  int        `json:"damaged"` // keys that could not be read
	Blocking []Blocking `json:"blocking"`
}

// Blocking is a gap in what is known of a replica that keeps tombstones: a dot
// out of it could still arrive and has to find them. It closes by a sync with a
// peer that has the dots, or by retiring the replica.
type Blocking struct {
	Replica    crdt.ReplicaID
	First      uint64 // first missing dot
	Last       uint64 // last one of this gap
	Tombstones int    // that name it first; others may block them, too
}

// Explain looks at everything the namespace holds, as Collect with the same
// arguments would judge it. step is called after every key and record; an error
// of it ends the work. O(everything).
func (v *View) Explain(keep Retention, until uint64, step func(n int) error) (Explained, error) {
	c := newCollector(v.Reader, &v.partial, v.clock, v.unknown, v.retired, keep, min(until, v.state.arrival))
	e := explanation{c: c, blocking: map[crdt.ReplicaID]*Blocking{}}
	for key := range v.Heads(nil, nil) {
		if err := step(1); err != nil {
			return Explained{}, err
		}
		if err := e.key(key); errors.Is(err, ErrCorrupt) {
			e.sum.Damaged++
		} else if err != nil {
			return Explained{}, err
		}
	}
	if err := e.journal(step); err != nil {
		return Explained{}, err
	}
	for _, b := range []struct {
		name string
		size *Size
	}{
		{v.names.heads, &e.sum.Heads}, {v.names.dots, &e.sum.Dots}, {v.names.dead, &e.sum.Dead},
		{v.names.meta, &e.sum.Meta}, {v.names.local, &e.sum.Local},
		{v.names.conflicts, &e.sum.Indexes}, {v.names.expiry, &e.sum.Indexes},
	} {
		cur := v.tx.Bucket(b.name).Cursor()
		for k, val := cur.First(); k != nil; k, val = cur.Next() {
			b.size.add(len(k) + len(val))
		}
		if err := step(b.size.Count); err != nil {
			return Explained{}, err
		}
	}
	e.sum.Blocking = []Blocking{}
	for _, r := range v.ids.all() {
		if b := e.blocking[r]; b != nil {
			e.sum.Blocking = append(e.sum.Blocking, *b)
		}
	}
	return e.sum, v.Err()
}

// explanation is an Explained in the making.
type explanation struct {
	c        *collector
	sum      Explained
	judged   Size // versions that heads lead to
	blocking map[crdt.ReplicaID]*Blocking
}

// key adds what a key's head leads to.
func (e *explanation) key(key []byte) error {
	history, err := e.c.rd.History(key)
	if err != nil {
		return err
	}
	verdict := e.c.judge(history)
	classes := [reasons]*Size{
		isValue: &e.sum.Values, isYoung: &e.sum.Young, isGuard: &e.sum.Guards, isWitness: &e.sum.Witness,
		isUnread: &e.sum.Unread, isRecent: &e.sum.Recent, isAged: &e.sum.Aged, isRemovable: &e.sum.Removable,
	}
	for i, r := range history {
		size := recordSize(e.c.rd.journal.Get(arrivalKey(r.Arrival)))
		e.judged.add(size)
		classes[verdict.reasons[i]].add(size)
		if verdict.reasons[i] == isGuard {
			e.block(r.Version)
		}
	}
	return nil
}

// recordSize is what a journal record takes with its key.
func recordSize(b []byte) int { return 8 + len(b) }

// block notes the gap that keeps a tombstone.
func (e *explanation) block(t *crdt.Version) {
	first, found := e.c.gaps.before(t)
	if !found {
		return
	}
	b := e.blocking[first.Replica]
	if b == nil {
		b = &Blocking{Replica: first.Replica, First: first.Seq}
		e.blocking[first.Replica] = b
	}
	b.Tombstones++
	b.Last = max(b.Last, e.c.gaps.end(first, t))
}

// journal adds what the records say that no head leads to.
func (e *explanation) journal(step func(int) error) error {
	rd := e.c.rd
	var versions Size
	var gone []going
	led := map[uint64]bool{} // versions that only drops lead to
	cur := rd.journal.Cursor()
	for k, b := cur.First(); len(k) == 8; k, b = cur.Next() {
		if err := step(1); err != nil {
			return err
		}
		arrival := binary.BigEndian.Uint64(k)
		switch recordKind(b) {
		case RecordVersion, RecordBackfill:
			versions.add(recordSize(b))
			continue
		}
		var err error
		if gone, err = e.c.recordsBy(b, arrival, gone[:0]); err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		kept := true
		for _, g := range gone {
			if led[g.arrival] { // by the drop of another sibling
				continue
			}
			led[g.arrival] = true
			raw := rd.journal.Get(arrivalKey(g.arrival))
			e.sum.Removable.add(recordSize(raw))
			if g.arrival == arrival {
				kept = false
			} else {
				e.judged.add(recordSize(raw))
			}
		}
		if kept {
			e.sum.Records.add(recordSize(b))
		}
	}
	e.sum.Unlinked = Size{versions.Count - e.judged.Count, versions.Bytes - e.judged.Bytes}
	return nil
}
