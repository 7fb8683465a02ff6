package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"bzzz/crdt"
)

// Retained is one retained version of a key's history.
type Retained struct {
	*crdt.Version
	Arrival uint64 // its number in the journal
	Live    bool   // a sibling now
}

// History returns the retained versions of a stored key, live and superseded,
// newest first in the linear order (time, replica, digest). Records that
// collection removed are left out; damaged ones are an error. One journal
// look-up a version.
func (rd *Reader) History(key []byte) ([]Retained, error) {
	entry := rd.heads.Get(key)
	if entry == nil {
		return nil, nil
	}
	if err := decodeHead(entry, key, &rd.head); err != nil {
		return nil, err
	}
	var out []Retained
	seen := map[uint64]bool{}
	var todo []uint64
	for _, s := range rd.head.siblings {
		if _, err := rd.load(key, s); err != nil {
			return nil, err
		}
		todo = append(todo, s.arrival)
	}
	live := len(todo)
	todo = append(todo, rd.head.orphans...)
	for i := 0; i < len(todo); i++ {
		arrival := todo[i]
		if seen[arrival] {
			continue
		}
		seen[arrival] = true
		if rd.journal.Get(arrivalKey(arrival)) == nil {
			continue // collected; verify counts the records
		}
		rec, err := rd.record(arrival)
		if err != nil {
			return nil, err
		}
		out = append(out, Retained{&rec.version, arrival, i < live})
		for _, s := range rec.replaced {
			todo = append(todo, s.arrival)
		}
		todo = append(todo, rec.orphans...)
	}
	slices.SortFunc(out, func(a, b Retained) int {
		switch {
		case a.Dot == b.Dot:
			return int(int64(b.Arrival) - int64(a.Arrival))
		case a.Before(b.Version):
			return 1
		}
		return -1
	})
	return out, nil
}

// At is a point in the history of a key or namespace.
type At struct {
	Steps int         // > 0: that many steps back along direct parents
	Time  crdt.HLC    // > 0: as known now, at that time
	CID   *[32]byte   // exactly the version with this digest
	Clock *crdt.Clock // the state that a clock stands for
}

// SiblingsAt returns what a key's siblings were at a point, as far as is known
// now. ErrNotRetained if that needs a version that is no longer retained,
// ErrNotFound if there is no version with that digest.
func (rd *Reader) SiblingsAt(key []byte, at At) (crdt.Siblings, error) {
	if at == (At{}) {
		return rd.Siblings(key)
	}
	history, err := rd.History(key)
	if err != nil {
		return nil, err
	}
	switch {
	case at.CID != nil:
		for _, v := range history {
			if v.Digest() == *at.CID {
				return crdt.Siblings{v.Version}, nil
			}
		}
		return nil, fmt.Errorf("no retained version with CID %s: %w", crdt.DigestCID(*at.CID), ErrNotFound)
	case at.Steps > 0:
		return stepsBack(history, at.Steps)
	case at.Time > 0:
		return stateWhere(history, func(v *crdt.Version) bool { return v.Time <= at.Time })
	case at.Clock != nil:
		return stateWhere(history, func(v *crdt.Version) bool { return at.Clock.Has(v.Dot) })
	}
	return live(history), nil
}

func live(history []Retained) crdt.Siblings {
	var out crdt.Siblings
	for _, v := range history {
		if v.Live {
			out = append(out, v.Version)
		}
	}
	return out
}

// stepsBack follows, n times, the winner among the direct parents (KERNEL
// "Steps back").
func stepsBack(history []Retained, n int) (crdt.Siblings, error) {
	byDot := map[crdt.Dot]*crdt.Version{}
	for _, v := range history {
		byDot[v.Dot] = v.Version
	}
	at := live(history)
	for range n {
		if len(at) == 0 {
			return nil, fmt.Errorf("history does not go back that far: %w", ErrNotFound)
		}
		var parents crdt.Siblings
		for _, d := range at.Sorted()[0].Context.Direct() {
			v := byDot[d]
			if v == nil {
				return nil, fmt.Errorf("version %s: %w", d, ErrNotRetained)
			}
			parents = append(parents, v)
		}
		at = parents
	}
	if len(at) == 0 {
		return nil, fmt.Errorf("history does not go back that far: %w", ErrNotFound)
	}
	return at.Sorted()[:1], nil
}

// stateWhere returns the maximal versions among those that in holds for. If a
// version outside replaced one that is not retained, and that one might have
// been inside, the answer is not known.
func stateWhere(history []Retained, in func(*crdt.Version) bool) (crdt.Siblings, error) {
	retained := map[crdt.Dot]bool{}
	var inside []*crdt.Version
	for _, v := range history {
		retained[v.Dot] = true
		if in(v.Version) {
			inside = append(inside, v.Version)
		}
	}
	for _, v := range history {
		if in(v.Version) {
			continue
		}
		for _, d := range v.Context.Direct() {
			if !retained[d] {
				return nil, fmt.Errorf("version %s: %w", d, ErrNotRetained)
			}
		}
	}
	return crdt.Maximal(inside), nil
}

// Change is one change of visible state that the journal holds.
type Change struct {
	Arrival    uint64
	Version    *crdt.Version // that joined its key's siblings; nil if some were dropped on a claim
	Concurrent bool          // others stood beside it when it joined
	Dropped    []byte        // the stored key whose siblings were dropped on a claim
}

// Tail reads the journal after an arrival, in order, up to limit records. It
// calls change for every version that joined its key's siblings and for every
// key that lost some on a claim; seen for the dot of every version, right after
// its change; and adopted for every set of dots that became known without their
// versions. It returns the last arrival it read.
// ErrNotRetained if records after that arrival were collected.
func (v *View) Tail(after uint64, limit int, change func(Change) error, seen func(crdt.Dot), adopted func(crdt.Clock)) (uint64, error) {
	if after < v.state.collected {
		return after, fmt.Errorf("journal before record %d: %w", v.state.collected+1, ErrNotRetained)
	}
	c := v.journal.Cursor()
	for k, b := c.Seek(arrivalKey(after + 1)); k != nil && limit > 0; k, b = c.Next() {
		limit--
		arrival := binary.BigEndian.Uint64(k)
		switch recordKind(b) {
		case RecordVersion:
			rec, err := decodeVersionRecord(b, arrival, v.ids)
			if err != nil {
				return after, err
			}
			if rec.flags&flagDeadOnArrival == 0 {
				if err := change(Change{Arrival: arrival, Version: &rec.version, Concurrent: rec.flags&flagConcurrent != 0}); err != nil {
					return after, err
				}
			}
			seen(rec.version.Dot)
		case RecordAdoption:
			a, err := decodeAdoption(b, arrival)
			if err != nil {
				return after, err
			}
			adopted(a.dots)
		case RecordDrop:
			d, err := decodeDrop(b, arrival, v.ids)
			if err != nil {
				return after, err
			}
			if d.key != nil {
				if err := change(Change{Arrival: arrival, Dropped: d.key}); err != nil {
					return after, err
				}
			}
			if !d.lost.IsEmpty() {
				adopted(d.lost)
			}
		}
		after = arrival
	}
	return after, nil
}
