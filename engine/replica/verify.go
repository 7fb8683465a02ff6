package replica

import (
	"math"

	"bzzz/crdt"
)

// Problem is one finding of Scrub or Verify.
type Problem struct {
	What string   // what was looked at
	Key  []byte   // stored key, if known
	Dot  crdt.Dot // version, if known
	Err  error
	Lost bool // the version cannot be read: a peer has to send it again
	View bool // of something that is derived: it can be made anew from the rest

	fix     fix
	arrival uint64     // of a journal record
	dots    crdt.Clock // if it is about more than Dot
	drift   drift      // of the counters
}

// Dots returns the versions that a Problem is about: more than one where a
// whole run of them is missing.
func (p *Problem) Dots() crdt.Clock {
	if p.dots.IsEmpty() && p.Dot.Seq != 0 {
		return crdt.ClockOf(p.Dot.Replica, crdt.NewSeqSet(crdt.Interval{Lo: p.Dot.Seq, Hi: p.Dot.Seq}))
	}
	return p.dots
}

// Mendable reports whether Plan and Mend do something about it on this node: make
// it anew from the rest, or, of a damaged record that nothing live is in, let
// go of what it said of the past.
func (p *Problem) Mendable() bool { return p.fix != fixNone }

// fix is what Mend does about a Problem.
type fix byte

const (
	fixNone   fix = iota
	fixHead       // derive the key's head from the journal
	fixIndex      // list beside a head what it says: dots, conflicts, expiry, clock
	fixExpiry     // remove the entry of the expiry index whose key is Key
	fixBlock      // remove the block of the dots view whose key is Key
	fixEntry      // remove the dot from the dots view
	fixDead       // derive the chunk of the dead view whose key is Key from the journal
	fixClock      // add the dots to the clock
	fixRecord     // remove the journal record if no head names it
	fixCounts     // set the count of removed records
	fixDrift      // correct the counters
	fixTree       // drop the Merkle index
	fixSketch     // drop the sketch
)

// derives reports whether nothing is lost by the fix.
func (f fix) derives() bool {
	switch f {
	case fixNone, fixRecord, fixCounts:
		return false
	}
	return true
}

// verifyStep is how many keys and records pass between calls of step.
const verifyStep = 1024

// Verify checks the whole namespace as one Pass, in one state: every head and
// the version behind it by digest, every journal record by checksum, that no
// record is missing, that the views and indexes hold what the heads say, and
// that clock = live + dead. It calls report for each finding and step now and
// then with how many keys, records and entries were looked at. It never stops at
// damage; an error is one of the store itself, or one of step. O(everything).
func (v *View) Verify(report func(Problem), step func(n int) error) error {
	var p Pass
	for {
		before, phase := p.checked, p.phase
		limit := verifyStep
		if phase == phaseTree {
			limit = math.MaxInt32
		}
		done, err := v.Scrub(&p, limit, report)
		if err != nil || done {
			return err
		}
		if phase == phaseJournal || phase == phaseHeads {
			if err := step(int(p.checked - before)); err != nil {
				return err
			}
		}
	}
}
