package replica

import (
	"encoding/binary"
	"fmt"
	"math"

	"bzzz/crdt"
)

// clockRanges checks that every dot seen is live, dead or known to be lost, and
// that no other is live or dead.
func (s *scrubber) clockRanges() ([]byte, error) {
	id, lo := uint32(0), uint64(1)
	if len(s.pass.at) == 12 {
		id, lo = binary.BigEndian.Uint32(s.pass.at), max(1, binary.BigEndian.Uint64(s.pass.at[4:]))
	}
	for ids := s.ids.all(); int64(id) < int64(len(ids)); id, lo = id+1, 1 {
		for {
			if s.left <= 0 {
				return blockKey(id, lo), nil
			}
			s.left -= 1 << (deadChunkBits - dotBlockBits)
			run := s.stored(id, lo)
			if err := s.clockRange(id, ids[id], run); err != nil {
				return nil, err
			}
			if run.Hi >= math.MaxUint64-1 {
				break
			}
			lo = run.Hi + 1
		}
	}
	return nil, nil
}

// stored returns the run from lo to the end of its chunk of the dead view, or as
// far as neither view has anything of the replica.
func (s *scrubber) stored(id uint32, lo uint64) crdt.Interval {
	run := crdt.Interval{Lo: lo, Hi: math.MaxUint64 - 1}
	for bucket, bits := range map[string]int{s.names.dots: dotBlockBits, s.names.dead: deadChunkBits} {
		k, _ := s.tx.Bucket(bucket).Cursor().Seek(blockKey(id, lo>>bits))
		if len(k) != 12 || binary.BigEndian.Uint32(k) != id {
			continue
		}
		n := binary.BigEndian.Uint64(k[4:])
		if n < lo>>bits || n > math.MaxUint64>>bits {
			continue // out of order or malformed: found where the view is walked
		}
		if first := n << bits; first > lo {
			run.Hi = min(run.Hi, first-1)
		} else {
			run.Hi = min(run.Hi, lo|(1<<deadChunkBits-1))
		}
	}
	return run
}

// clockRange compares the clock with the views within a run that lies in one
// chunk of the dead view, or in which the views have nothing.
func (s *scrubber) clockRange(id uint32, r crdt.ReplicaID, run crdt.Interval) error {
	within := crdt.NewSeqSet(run)
	var known, live, unsure crdt.SeqSet
	if m, err := s.facts.deadChunk(id, run.Lo>>deadChunkBits); err != nil {
		return nil // it is made anew first
	} else if m != nil {
		addRuns(&known, m, run.Lo>>deadChunkBits<<deadChunkBits)
		known = known.Intersect(within)
	}
	c := s.tx.Bucket(s.names.dots).Cursor()
	k, b := c.Seek(blockKey(id, run.Lo>>dotBlockBits))
	for ; len(k) == 12 && binary.BigEndian.Uint32(k) == id; k, b = c.Next() {
		block := binary.BigEndian.Uint64(k[4:])
		if block<<dotBlockBits > run.Hi {
			break
		}
		entries, err := decodeDotBlock(b, k, block)
		if err != nil {
			unsure.AddRange(block<<dotBlockBits, block<<dotBlockBits|(1<<dotBlockBits-1))
		}
		for _, e := range entries {
			live.Add(e.seq) // rising: at the end
		}
	}
	known.Union(live.Intersect(within))
	seen := s.clock.Of(r).Intersect(within)
	if more := known.Minus(seen); !more.IsEmpty() {
		s.runs(more, r, func(dots crdt.Clock, first crdt.Dot) {
			s.tell(Problem{
				What: "dot", Dot: first, View: true, fix: fixClock, dots: dots,
				Err: damaged("dot "+first.String(), first.Seq, "held, but not in the clock"),
			})
		})
	}
	lost := seen.Minus(known).Minus(unsure).Minus(s.unknown.Of(r))
	if lost.IsEmpty() {
		return nil
	}
	d, err := s.facts.delta()
	if err != nil {
		return err
	}
	lost = lost.Minus(d.died.Of(r)).Minus(s.pass.lost.Of(r))
	s.runs(lost.Minus(d.livedOf(r)), r, func(dots crdt.Clock, first crdt.Dot) {
		s.pass.lost.Merge(dots)
		s.tell(Problem{
			What: "dot", Dot: first, Lost: true, dots: dots,
			Err: damaged("dot "+first.String(), first.Seq, fmt.Sprintf("%d seen from here on, but neither live nor dead", dots.Count())),
		})
	})
	return nil
}

// livedOf returns the dots of a replica that the delta has as live.
func (d *delta) livedOf(r crdt.ReplicaID) crdt.SeqSet {
	var runs []crdt.Interval
	for dot := range d.lived {
		if dot.Replica == r {
			runs = append(runs, crdt.Interval{Lo: dot.Seq, Hi: dot.Seq})
		}
	}
	return crdt.NewSeqSet(runs...)
}

// runs calls fn with each run of a set.
func (s *scrubber) runs(set crdt.SeqSet, r crdt.ReplicaID, fn func(dots crdt.Clock, first crdt.Dot)) {
	for _, run := range set.Runs() {
		fn(crdt.ClockOf(r, crdt.NewSeqSet(run)), crdt.Dot{Replica: r, Seq: run.Lo})
	}
}
