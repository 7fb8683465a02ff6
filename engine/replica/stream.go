package replica

import (
	"bytes"
	"encoding/binary"
	"iter"

	"bzzz/crdt"
	"bzzz/store"
)

// Missing yields the live versions, tombstones included, whose dots are not in
// have, by rising dot: what tier 1 streams (KERNEL K8). The view must have
// been taken when dots was current (see Current). A version that damage has
// taken is reported to lost and left out. Cost: one journal record a version.
func (v *View) Missing(have crdt.Clock, lost func(crdt.Dot)) iter.Seq2[*crdt.Version, error] {
	return func(yield func(*crdt.Version, error) bool) {
		j := journalWalk{bucket: v.journal, c: v.journal.Cursor()}
		for id, r := range v.ids.all() {
			for _, run := range v.clock.Of(r).Minus(have.Of(r)).Runs() {
				for e, err := range v.liveDots(uint32(id), run) {
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

// Current reports whether the dots view is up to the end of the journal.
func (v *View) Current() bool { return v.state.mark == v.state.arrival }

// liveDots yields the live dots of one replica within a run.
func (v *View) liveDots(id uint32, run crdt.Interval) iter.Seq2[dotEntry, error] {
	return func(yield func(dotEntry, error) bool) {
		bucket := v.tx.Bucket(v.names.dots)
		c := bucket.Cursor()
		first, last := run.Lo>>dotBlockBits, run.Hi>>dotBlockBits
		for k, b := c.Seek(blockKey(id, first)); k != nil; k, b = c.Next() {
			if len(k) != 12 || binary.BigEndian.Uint32(k) != id {
				return
			}
			block := binary.BigEndian.Uint64(k[4:])
			if block > last {
				return
			}
			entries, err := decodeDotBlock(b, block)
			if err != nil {
				yield(dotEntry{}, err)
				return
			}
			for _, e := range entries {
				if e.seq >= run.Lo && e.seq <= run.Hi && !yield(e, nil) {
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
