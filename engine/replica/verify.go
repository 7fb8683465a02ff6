package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
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
}

// Verify checks the whole namespace: every head and the version behind it by
// digest, every journal record by checksum, and that clock = live + dead. It
// calls report for each finding and step after every key or record. It never
// stops at damage; an error is one of the store itself, or one of step. O(everything).
func (v *View) Verify(report func(Problem), step func(n int) error) error {
	liveDots, err := v.verifyHeads(report, step)
	if err != nil {
		return err
	}
	died, err := v.verifyJournal(report, step)
	if err != nil {
		return err
	}
	dead, err := v.allDead(report)
	if err != nil {
		return err
	}
	dead.Merge(died)
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
	return nil
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

// verifyHeads checks every head and what it names, and returns the live dots.
func (v *View) verifyHeads(report func(Problem), step func(int) error) (crdt.Clock, error) {
	seqs := map[crdt.ReplicaID][]uint64{} // in key order: sorted at the end, in one go
	var previous []byte
	for key, e := range v.Heads(nil, nil) {
		if err := step(1); err != nil {
			return crdt.Clock{}, err
		}
		if previous != nil && bytes.Compare(previous, key) >= 0 {
			report(Problem{What: "head", Key: slices.Clone(key), Err: damaged("head", 0, "keys out of order")})
		}
		previous = append(previous[:0], key...)
		if err := decodeHead(e.raw, &v.head); err != nil {
			report(Problem{What: "head", Key: slices.Clone(key), Err: err})
			continue
		}
		for _, s := range v.head.siblings {
			dot := v.dotOf(s)
			if _, err := v.load(key, s); err != nil {
				var d *Damage
				lost := errors.As(err, &d)
				report(Problem{What: "version", Key: slices.Clone(key), Dot: dot, Err: err, Lost: lost})
			}
			if !dot.Replica.IsZero() && dot.Seq != 0 {
				seqs[dot.Replica] = append(seqs[dot.Replica], dot.Seq)
			}
		}
	}
	out := crdt.NewClock()
	for r, list := range seqs {
		slices.Sort(list)
		for _, n := range list {
			out.AddRange(r, n, n)
		}
	}
	return out, nil
}

// verifyJournal checks every record and returns the dots that the records
// after the views' mark made dead.
func (v *View) verifyJournal(report func(Problem), step func(int) error) (crdt.Clock, error) {
	died := crdt.NewClock()
	c := v.journal.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if err := step(1); err != nil {
			return died, err
		}
		if len(k) != 8 {
			report(Problem{What: "journal key", Err: damaged("journal key", uint64(len(k)), "not 8 bytes")})
			continue
		}
		arrival := binary.BigEndian.Uint64(k)
		switch recordKind(b) {
		case RecordAdoption:
			d, err := decodeAdoption(b, arrival)
			if err != nil {
				report(Problem{What: "journal record", Err: err})
			} else if arrival > v.state.mark {
				died.Merge(d)
			}
		default:
			rec, err := decodeVersionRecord(b, arrival, v.ids)
			if err != nil {
				report(Problem{What: "journal record", Err: err})
				continue
			}
			if arrival <= v.state.mark {
				continue
			}
			if rec.flags&flagDeadOnArrival != 0 {
				died.Add(rec.version.Dot)
			}
			for _, s := range rec.replaced {
				died.Add(crdt.Dot{Replica: v.ids.at(s.id), Seq: s.seq})
			}
		}
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
