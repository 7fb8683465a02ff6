package replica

import (
	"errors"

	"bzzz/crdt"
)

// LiveDots returns the dots of a stored key's live versions that are no
// tombstones. The versions are not read.
func (rd *Reader) LiveDots(key []byte) ([]crdt.Dot, error) {
	if err := decodeHead(rd.heads.Get(key), key, &rd.head); err != nil {
		return nil, &Damage{Err: err}
	}
	var out []crdt.Dot
	for _, s := range rd.head.siblings {
		if s.kind != crdt.Delete {
			out = append(out, rd.dotOf(s))
		}
	}
	return out, nil
}

// NotHeld returns those of the given dots whose versions are not among the
// siblings of their keys and readable: what to ask a peer for, if it is not dead
// either. O(live versions within the dots' runs).
func (v *View) NotHeld(dots crdt.Clock) (crdt.Clock, error) {
	d, err := replayDelta(v.journal, v.state.mark, v.ids)
	if err != nil {
		return crdt.Clock{}, err
	}
	held := crdt.NewClock()
	for e, err := range v.liveWithin(dots, &d) {
		if err != nil {
			return held, err
		}
		dot := crdt.Dot{Replica: v.ids.at(e.id), Seq: e.seq}
		if ok, err := v.holds(dot, e.id, e.arrival); err != nil {
			return held, err
		} else if ok {
			held.Add(dot)
		}
	}
	return dots.Minus(held), v.Err()
}

// holds reports whether the version of a dot can be read, and whether its key's
// head names it: an index that says so is not enough.
func (rd *Reader) holds(dot crdt.Dot, id uint32, arrival uint64) (bool, error) {
	rec, err := rd.record(arrival)
	if errors.Is(err, ErrCorrupt) || err == nil && rec.version.Dot != dot {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	key := rec.version.Key
	if decodeHead(rd.heads.Get(key), key, &rd.head) != nil {
		return false, nil
	}
	i := rd.head.find(id, dot.Seq)
	return i >= 0 && rd.head.siblings[i].arrival == arrival, nil
}
