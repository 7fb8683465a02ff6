package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"bzzz/crdt"
)

// Problem is one finding of Verify.
type Problem struct {
	What string   // what was looked at
	Key  []byte   // stored key, if known
	Dot  crdt.Dot // version, if known
	Err  error
	Lost bool // the version cannot be read: a peer has to send it again
	View bool // of something that is derived: it can be made anew from the rest
}

// Verify checks the whole namespace: every head and the version behind it by
// digest, every journal record by checksum, that no record is missing, that the
// views and indexes hold what the heads say, and that clock = live + dead. It
// calls report for each finding and step after every key or record. It never
// stops at damage; an error is one of the store itself, or one of step. O(everything).
func (v *View) Verify(report func(Problem), step func(n int) error) error {
	live, err := v.verifyHeads(report, step)
	if err != nil {
		return err
	}
	if err := v.verifyDots(live, report); err != nil {
		return err
	}
	died, err := v.verifyJournal(report, step)
	if err != nil {
		return err
	}
	dead, err := v.allDead(report)
	if err == nil {
		err = v.Err() // after damage to its pages the store answers nothing: what is missing then says nothing
	}
	if err != nil {
		return err
	}
	dead.Merge(died)
	v.verifyClock(live.dots(), dead, report)
	if err := v.verifyTree(report); err != nil {
		return err
	}
	return v.verifySketch(report)
}

// verifyTree recomputes the Merkle index from the live versions and compares it
// with the stored tiles brought to now.
func (v *View) verifyTree(report func(Problem)) error {
	if v.tx.Bucket(v.names.tree) == nil {
		return nil
	}
	t, err := v.storedTree(v.leaves())
	if t != nil && err == nil {
		err = t.Index.Verify()
	}
	var lost *Damage
	if errors.As(err, &lost) {
		return nil // reported already
	}
	if errors.Is(err, ErrCorrupt) {
		report(Problem{What: "tree", View: true, Err: err})
		return nil
	}
	return err
}

// verifyClock checks that clock = live + dead + unknown.
func (v *View) verifyClock(liveDots, dead crdt.Clock, report func(Problem)) {
	for _, d := range dots(liveDots.Meet(dead)) {
		report(Problem{What: "dot", Dot: d, Err: damaged("dot "+d.String(), d.Seq, "both live and dead")})
	}
	known := liveDots.Clone()
	known.Merge(dead)
	known.Merge(v.unknown)
	for _, d := range dots(v.clock.Minus(known)) {
		report(Problem{
			What: "dot", Dot: d, Lost: true,
			Err: damaged("dot "+d.String(), d.Seq, "seen, but neither live nor dead"),
		})
	}
	for _, d := range dots(known.Minus(v.clock)) {
		report(Problem{What: "dot", Dot: d, Err: damaged("dot "+d.String(), d.Seq, "held, but not in the clock")})
	}
}

// dots lists up to 1,000 dots of a set: enough to name, bounded for the reader.
func dots(c crdt.Clock) []crdt.Dot {
	var out []crdt.Dot
	for _, r := range c.Replicas() {
		for _, run := range c.Of(r).Runs() {
			for n := run.Lo; n <= run.Hi; n++ {
				if out = append(out, crdt.Dot{Replica: r, Seq: n}); len(out) == 1000 {
					return out
				}
			}
		}
	}
	return out
}

// liveSet is what the heads say is live: of each replica, by rising seq.
type liveSet map[crdt.ReplicaID][]dotEntry

func (l liveSet) dots() crdt.Clock {
	out := crdt.NewClock()
	for r, list := range l {
		for _, e := range list {
			out.AddRange(r, e.seq, e.seq)
		}
	}
	return out
}

// verifyHeads checks every head and what it names, and the indexes beside the
// heads.
func (v *View) verifyHeads(report func(Problem), step func(int) error) (liveSet, error) {
	live := liveSet{} // in key order: sorted at the end, in one go
	conflicts := uint64(0)
	var previous []byte
	for key, e := range v.Heads(nil, nil) {
		if err := step(1); err != nil {
			return nil, err
		}
		if previous != nil && bytes.Compare(previous, key) >= 0 {
			report(Problem{What: "head", Key: slices.Clone(key), Err: damaged("head", 0, "keys out of order")})
		}
		previous = append(previous[:0], key...)
		if v.heads.Get(key) == nil {
			report(Problem{What: "head", Key: slices.Clone(key), Err: damaged("head", 0, "found by walking, but not by its key")})
		}
		if !v.partial.ranges.Has(key) {
			report(Problem{What: "head", Key: slices.Clone(key), Err: damaged("head", 0, "out of the scope that is held here")})
		}
		if err := decodeHead(e.raw, key, &v.head); err != nil {
			report(Problem{What: "head", Key: slices.Clone(key), Err: err})
			continue
		}
		if v.head.tally().conflict {
			conflicts++
			if v.tx.Bucket(v.names.conflicts).Get(key) == nil {
				report(Problem{What: "conflict", Key: slices.Clone(key), Err: damaged("conflict index", 0, "a key is missing")})
			}
		}
		v.verifySiblings(key, live, report)
	}
	for k := range v.Conflicts(nil, nil) {
		conflicts--
		if v.heads.Get(k) == nil {
			report(Problem{What: "conflict", Key: slices.Clone(k), Err: damaged("conflict index", 0, "a key that is not there")})
		}
	}
	if conflicts != 0 {
		report(Problem{What: "conflict", Err: damaged("conflict index", 0, "keys without conflict")})
	}
	for _, list := range live {
		slices.SortFunc(list, func(a, b dotEntry) int { return cmp.Compare(a.seq, b.seq) })
	}
	return live, nil
}

// verifySiblings checks the versions that the head just decoded names.
func (v *View) verifySiblings(key []byte, live liveSet, report func(Problem)) {
	for _, s := range v.head.siblings {
		dot := v.dotOf(s)
		version, err := v.load(key, s)
		if err != nil {
			var d *Damage
			lost := errors.As(err, &d)
			report(Problem{What: "version", Key: slices.Clone(key), Dot: dot, Err: err, Lost: lost})
		} else if ms := version.Expiry(); ms != 0 && v.tx.Bucket(v.names.expiry).Get(expiryKey(ms, s.arrival)) == nil {
			report(Problem{What: "expiry", Key: slices.Clone(key), Dot: dot, Err: damaged("expiry index", s.arrival, "missing")})
		}
		if !dot.Replica.IsZero() && dot.Seq != 0 {
			live[dot.Replica] = append(live[dot.Replica], dotEntry{s.seq, s.arrival})
		}
	}
}

// verifyDots compares the dots view, brought up to date by the journal, with
// what the heads say: what it lacks is not streamed to peers.
func (v *View) verifyDots(live liveSet, report func(Problem)) error {
	c := v.tx.Bucket(v.names.dots).Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if len(k) != 12 {
			report(Problem{What: "dots block", Err: damaged("dots block", uint64(len(k)), "key not 12 bytes")})
		} else if _, err := decodeDotBlock(b, k, binary.BigEndian.Uint64(k[4:])); err != nil {
			report(Problem{What: "dots block", Err: err})
		}
	}
	d, err := replayDelta(v.journal, v.state.mark, v.ids)
	if err != nil {
		return err
	}
	recent := d.byReplica()
	all := crdt.Interval{Lo: 1, Hi: math.MaxUint64 - 1}
	for id, r := range v.ids.all() {
		want := live[r]
		missing := func(e dotEntry, how string) {
			dot := crdt.Dot{Replica: r, Seq: e.seq}
			report(Problem{What: "dot", Dot: dot, Err: damaged("dots view of "+dot.String(), e.arrival, how)})
		}
		for e, err := range mergeDots(v.liveDots(uint32(id), all), recent[r], all, d.died.Of(r)) {
			if err != nil {
				return err
			}
			for len(want) > 0 && want[0].seq < e.seq {
				missing(want[0], "live, but not listed")
				want = want[1:]
			}
			if len(want) > 0 && want[0] == e {
				want = want[1:]
			} else {
				missing(e, "listed, but not live there")
			}
		}
		for _, e := range want {
			missing(e, "live, but not listed")
		}
	}
	return nil
}

// verifyJournal checks every record and returns the dots that the records
// after the views' mark made dead.
func (v *View) verifyJournal(report func(Problem), step func(int) error) (crdt.Clock, error) {
	died := crdt.NewClock()
	records := uint64(0)
	c := v.journal.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		records++
		if err := step(1); err != nil {
			return died, err
		}
		if len(k) != 8 {
			report(Problem{What: "journal key", Err: damaged("journal key", uint64(len(k)), "not 8 bytes")})
			continue
		}
		arrival := binary.BigEndian.Uint64(k)
		if v.journal.Get(k) == nil {
			report(Problem{What: "journal record", Err: damaged("journal record", arrival, "found by walking, but not by its number")})
		}
		dots, err := v.diedBy(b, arrival)
		if err != nil {
			report(Problem{What: "journal record", Err: err})
		} else if arrival > v.state.mark {
			died.Merge(dots)
		}
	}
	if want := v.state.arrival - v.state.removed; records != want {
		report(Problem{What: "journal", Err: damaged("journal", v.state.arrival, fmt.Sprintf("%d records, want %d", records, want))})
	}
	return died, nil
}

// diedBy returns the dots that a journal record made dead. It checks the record.
func (v *View) diedBy(b []byte, arrival uint64) (crdt.Clock, error) {
	died := crdt.NewClock()
	switch recordKind(b) {
	case RecordAdoption, RecordCollection:
		a, err := decodeAdoption(b, arrival)
		return a.dots, err
	case RecordDrop:
		d, err := decodeDrop(b, arrival, v.ids)
		if err != nil {
			return died, err
		}
		for _, s := range d.versions {
			died.Add(crdt.Dot{Replica: v.ids.at(s.id), Seq: s.seq})
		}
		died.Merge(d.lost)
		return died, nil
	}
	rec, err := decodeVersionRecord(b, arrival, v.ids)
	if err != nil || rec.kind == RecordBackfill { // its dot was dead before
		return died, err
	}
	if rec.flags&flagDeadOnArrival != 0 {
		died.Add(rec.version.Dot)
	}
	for _, s := range rec.replaced {
		died.Add(crdt.Dot{Replica: v.ids.at(s.id), Seq: s.seq})
	}
	return died, nil
}

// allDead reads the whole dead view.
func (v *View) allDead(report func(Problem)) (crdt.Clock, error) {
	out := crdt.NewClock()
	bucket := v.tx.Bucket(v.names.dead)
	ids := v.ids.all()
	c := bucket.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if len(k) != 12 || int(binary.BigEndian.Uint32(k)) >= len(ids) {
			report(Problem{What: "dead chunk", Err: damaged("dead chunk key", uint64(len(k)), "malformed")})
			continue
		}
		id, chunk := binary.BigEndian.Uint32(k), binary.BigEndian.Uint64(k[4:])
		m, err := loadDeadChunk(bucket, id, chunk)
		if err != nil {
			report(Problem{What: "dead chunk", Err: err})
			continue
		}
		set := crdt.SeqSet{}
		addRuns(&set, m, chunk<<deadChunkBits)
		out.Merge(crdt.ClockOf(ids[id], set))
	}
	return out, nil
}
