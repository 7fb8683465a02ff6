package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"bzzz/crdt"
	"bzzz/store"
)

// Missing yields the live versions, tombstones included, whose dots are not in
// have, by rising dot: what tier 1 streams (KERNEL K8). A version that damage
// has taken is reported to lost and left out. Cost: one journal record a
// version, and those that the views lag behind.
func (v *View) Missing(have crdt.Clock, lost func(crdt.Dot)) iter.Seq2[*crdt.Version, error] {
	return func(yield func(*crdt.Version, error) bool) {
		d, err := replayDelta(v.journal, v.state.mark, v.ids)
		if err != nil {
			yield(nil, err)
			return
		}
		recent := d.byReplica()
		var at dotBlocks
		j := journalWalk{bucket: v.journal, c: v.journal.Cursor()}
		for id, r := range v.ids.all() {
			died := d.died.Of(r)
			for _, run := range v.clock.Of(r).Minus(have.Of(r)).Runs() {
				for e, err := range mergeDots(v.liveDots(uint32(id), run, &at), recent[r], run, died) {
					if err != nil {
						yield(nil, err)
						return
					}
					rec, err := decodeVersionRecord(j.at(e.arrival), e.arrival, v.ids)
					dot := crdt.Dot{Replica: r, Seq: e.seq}
					if err != nil || rec.version.Dot != dot {
						lost(dot)
						continue
					}
					if !yield(&rec.version, nil) {
						return
					}
				}
			}
		}
	}
}

// byReplica returns the live dots of the delta by replica, by rising seq.
func (d *delta) byReplica() map[crdt.ReplicaID][]dotEntry {
	out := map[crdt.ReplicaID][]dotEntry{}
	for dot, arrival := range d.lived {
		out[dot.Replica] = append(out[dot.Replica], dotEntry{dot.Seq, arrival})
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b dotEntry) int { return cmp.Compare(a.seq, b.seq) })
	}
	return out
}

// mergeDots merges the dots of the view, less those that died since, with the
// recent ones, within a run. A dot that is in both lies where recent says.
func mergeDots(old iter.Seq2[dotEntry, error], recent []dotEntry, run crdt.Interval, died crdt.SeqSet) iter.Seq2[dotEntry, error] {
	i, _ := slices.BinarySearchFunc(recent, run.Lo, func(e dotEntry, n uint64) int { return cmp.Compare(e.seq, n) })
	j, _ := slices.BinarySearchFunc(recent, run.Hi+1, func(e dotEntry, n uint64) int { return cmp.Compare(e.seq, n) })
	recent = recent[i:j]
	return func(yield func(dotEntry, error) bool) {
		next := 0
		for e, err := range old {
			for err == nil && next < len(recent) && recent[next].seq < e.seq {
				if !yield(recent[next], nil) {
					return
				}
				next++
			}
			switch {
			case err != nil:
			case next < len(recent) && recent[next].seq == e.seq, died.Has(e.seq):
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		for _, e := range recent[next:] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// dotBlocks reads blocks of the dots view in rising order. Many short runs may
// lie in one block, or between two: it is looked up and decoded once.
type dotBlocks struct {
	c       store.Cursor // nil before the first look-up
	id      uint32
	from    uint64 // the first block of id from this number on
	block   uint64 // is that one, or none if it is noBlock
	entries []dotEntry
}

// noBlock is above every block's number.
const noBlock = math.MaxUint64

// find goes to the first block of a replica from a number on.
func (at *dotBlocks) find(dots store.Bucket, id uint32, from uint64) {
	if at.c != nil && at.id == id && at.from <= from && from <= at.block {
		return
	}
	if at.c == nil {
		at.c = dots.Cursor()
	}
	at.id, at.from, at.block, at.entries = id, from, noBlock, nil
	k, b := at.c.Seek(blockKey(id, from))
	if len(k) != 12 || binary.BigEndian.Uint32(k) != id {
		return
	}
	at.block = binary.BigEndian.Uint64(k[4:])
	if entries, err := decodeDotBlock(b, k, at.block); err == nil {
		at.entries = entries // else damage: its dots are neither live nor dead (KERNEL K3)
	}
}

// reaches reports whether the view has a block that a run touches.
func (at *dotBlocks) reaches(dots store.Bucket, id uint32, run crdt.Interval) bool {
	at.find(dots, id, run.Lo>>dotBlockBits)
	return at.block <= run.Hi>>dotBlockBits
}

// liveDots yields the live dots of one replica within a run, as the dots view
// has them.
func (rd *Reader) liveDots(id uint32, run crdt.Interval, at *dotBlocks) iter.Seq2[dotEntry, error] {
	return func(yield func(dotEntry, error) bool) {
		dots := rd.tx.Bucket(rd.names.dots)
		for block := run.Lo >> dotBlockBits; ; block = at.block + 1 {
			at.find(dots, id, block)
			if at.block > run.Hi>>dotBlockBits {
				return
			}
			entries := at.entries
			i, _ := slices.BinarySearchFunc(entries, run.Lo, func(e dotEntry, n uint64) int { return cmp.Compare(e.seq, n) })
			for ; i < len(entries) && entries[i].seq <= run.Hi; i++ {
				if !yield(entries[i], nil) {
					return
				}
			}
		}
	}
}

// journalWalk reads journal records mostly in rising order: the next one costs
// a step of the cursor instead of a search.
type journalWalk struct {
	bucket store.Bucket
	c      store.Cursor
	last   uint64
}

// at returns the record with that number, nil if there is none.
func (j *journalWalk) at(arrival uint64) []byte {
	var k, v []byte
	if arrival == j.last+1 && j.last != 0 {
		k, v = j.c.Next()
	} else {
		k, v = j.c.Seek(arrivalKey(arrival))
	}
	j.last = arrival
	if !bytes.Equal(k, arrivalKey(arrival)) {
		j.last = 0
		return j.bucket.Get(arrivalKey(arrival))
	}
	return v
}
