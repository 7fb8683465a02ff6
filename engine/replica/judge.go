package replica

import (
	"bzzz/crdt"
)

// reason says why collection leaves a version, or that it does not.
type reason byte

const (
	isValue     reason = iota // a live version that is no tombstone
	isYoung                   // a tombstone that retention keeps
	isGuard                   // a tombstone that a dot might still arrive for
	isWitness                 // a tombstone beside history that retention keeps
	isUnread                  // something that derives from the journal has not read it yet
	isRecent                  // superseded: one of the newest of its key
	isAged                    // superseded: written since the stamp of retention
	isRemovable               // nothing keeps it
	reasons
)

// collector judges versions by one rule and one state.
type collector struct {
	rd    *Reader
	keep  Retention
	until uint64
	gaps  *gaps
}

func newCollector(rd *Reader, p *partial, clock, unknown crdt.Clock, retired map[crdt.ReplicaID]Retirement, keep Retention, until uint64) *collector {
	if p.ranges != nil {
		keep.Tombstones = 0 // it keeps them all
	}
	seen := p.seen(clock, unknown)
	return &collector{rd, keep, until, newGaps(seen, retired)}
}

// verdict is what becomes of a key's history.
type verdict struct {
	reasons []reason // of each version
	leaves  []bool   // whether it is a tombstone that is no sibling any more
	whole   bool     // nothing stays
}

// judge decides about a key's history, newest first.
func (c *collector) judge(history []Retained) verdict {
	v := verdict{reasons: make([]reason, len(history)), leaves: make([]bool, len(history)), whole: true}
	witness, unread := false, false
	for _, r := range history {
		witness = witness || !r.Live && r.Time >= c.keep.Since
		unread = unread || r.Arrival > c.until
	}
	for i, r := range history {
		if r.Live {
			v.reasons[i] = c.judgeLive(r, witness)
			v.leaves[i] = v.reasons[i] == isRemovable
			v.whole = v.whole && v.leaves[i]
		}
	}
	if v.whole && unread { // its history has to go with it, and cannot yet
		for i := range v.leaves {
			if v.leaves[i] {
				v.leaves[i], v.reasons[i], v.whole = false, isUnread, false
			}
		}
	}
	for i, r := range history {
		if r.Live && !v.leaves[i] {
			continue
		}
		switch {
		case v.whole:
			v.reasons[i] = isRemovable
		case r.Time >= c.keep.Since:
			v.reasons[i] = isAged
		case i < c.keep.Versions:
			v.reasons[i] = isRecent
		case r.Arrival > c.until:
			v.reasons[i] = isUnread
		default:
			v.reasons[i] = isRemovable
		}
	}
	return v
}

// judgeLive decides about a sibling.
func (c *collector) judgeLive(r Retained, witness bool) reason {
	if r.Kind != crdt.Delete {
		return isValue
	}
	_, gap := c.gaps.before(r.Version)
	switch {
	case r.Time >= c.keep.Tombstones:
		return isYoung
	case gap && !mutant("collection over a gap"):
		return isGuard
	case witness:
		return isWitness
	case r.Arrival > c.until:
		return isUnread
	}
	return isRemovable
}
