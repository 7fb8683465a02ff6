package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"bzzz/crdt"
	"bzzz/store"
)

// The views dots (live dot -> arrival) and dead (dots known to be superseded,
// collected, dropped or adopted) lag behind the journal by a delta that is
// held in memory, and are brought up to date in sorted batches.

const (
	dotBlockBits  = 9  // 512 dots a block of the dots view: about 1 KiB
	deadChunkBits = 16 // 64 Ki dots a chunk of the dead view: at most 8 KiB
)

// delta is what the journal records since the views' mark changed.
type delta struct {
	lived map[crdt.Dot]uint64 // live dot -> arrival
	died  crdt.Clock
}

func newDelta() delta { return delta{map[crdt.Dot]uint64{}, crdt.NewClock()} }

func (d *delta) live(dot crdt.Dot, arrival uint64) { d.lived[dot] = arrival }

func (d *delta) die(dot crdt.Dot) {
	delete(d.lived, dot)
	d.died.Add(dot)
}

// dieAll makes a set of dots dead. Either side may be far larger than the other.
func (d *delta) dieAll(dots crdt.Clock) {
	d.died.Merge(dots)
	if dots.Count() > uint64(len(d.lived)) {
		maps.DeleteFunc(d.lived, func(dot crdt.Dot, _ uint64) bool { return dots.Has(dot) })
		return
	}
	for _, r := range dots.Replicas() {
		for _, run := range dots.Of(r).Runs() {
			for n := run.Lo; n <= run.Hi; n++ {
				delete(d.lived, crdt.Dot{Replica: r, Seq: n})
			}
		}
	}
}

// replayDelta derives from the journal what its records after mark changed. A
// damaged record says nothing: its dot is then neither live nor dead, which is
// what damage looks like (KERNEL K3), and the rest goes on.
func replayDelta(journal store.Bucket, mark uint64, ids *idTable) (delta, error) {
	d := newDelta()
	c := journal.Cursor()
	for k, v := c.Seek(arrivalKey(mark + 1)); k != nil; k, v = c.Next() {
		if len(k) != 8 {
			return d, damaged("journal key", uint64(len(k)), "not 8 bytes")
		}
		arrival := binary.BigEndian.Uint64(k)
		switch recordKind(v) {
		case RecordVersion:
			if rec, err := decodeVersionRecord(v, arrival, ids); err == nil {
				d.version(ids, rec.version.Dot, arrival, rec.flags&flagDeadOnArrival != 0, rec.replaced)
			}
		case RecordAdoption, RecordCollection:
			if a, err := decodeAdoption(v, arrival); err == nil {
				d.dieAll(a.dots)
			}
		case RecordDrop:
			if drop, err := decodeDrop(v, arrival, ids); err == nil {
				d.drop(ids, drop)
			}
		case RecordBackfill:
		default:
			if _, err := unsealJournal(v, arrival); err != nil {
				continue
			}
			return d, fmt.Errorf("journal record %d of kind %d: %w", arrival, recordKind(v), ErrUnsupported)
		}
	}
	return d, nil
}

// version enters a version record into the delta.
func (d *delta) version(ids *idTable, dot crdt.Dot, arrival uint64, dead bool, replaced []superseded) {
	for _, s := range replaced {
		d.die(crdt.Dot{Replica: ids.at(s.id), Seq: s.seq})
	}
	if dead {
		d.die(dot)
		return
	}
	d.live(dot, arrival)
}

// isDead reports whether dot is known to be dead (KERNEL K3): the bitmap and
// the delta since its mark.
func (r *Replica) isDead(tx store.Tx, dot crdt.Dot) (bool, error) {
	if r.delta.died.Has(dot) && !mutant("lagging dead") {
		return true, nil
	}
	if _, lives := r.delta.lived[dot]; lives {
		return false, nil
	}
	id, known := r.ids.byID[dot.Replica]
	if !known {
		return false, nil
	}
	m, err := loadDeadChunk(tx.Bucket(r.names.dead), id, dot.Seq>>deadChunkBits)
	if err != nil || m == nil {
		return false, err
	}
	return m.Contains(uint32(dot.Seq & (1<<deadChunkBits - 1))), nil
}

// liveArrival returns where the record of a live dot lies, 0 if it is not live.
func (r *Replica) liveArrival(tx store.Tx, dot crdt.Dot) (uint64, error) {
	if n := r.delta.lived[dot]; n != 0 || r.delta.died.Has(dot) {
		return n, nil
	}
	id, known := r.ids.byID[dot.Replica]
	if !known {
		return 0, nil
	}
	block := dot.Seq >> dotBlockBits
	key := blockKey(id, block)
	entries, err := decodeDotBlock(tx.Bucket(r.names.dots).Get(key), key, block)
	if err != nil {
		return 0, nil // damage: whoever sends the version heals it
	}
	i, found := slices.BinarySearchFunc(entries, dot.Seq, func(e dotEntry, seq uint64) int { return cmp.Compare(e.seq, seq) })
	if !found {
		return 0, nil
	}
	return entries[i].arrival, nil
}

// catchUp brings dots and dead to the end of the journal. The memory form of
// the delta is sorted by replica and sequence so that each block is touched once.
func (r *Replica) catchUp(tx store.Tx) error {
	if r.state.mark == r.state.arrival {
		return nil
	}
	if err := r.catchUpDots(tx.Bucket(r.names.dots)); err != nil {
		return err
	}
	if err := r.catchUpDead(tx); err != nil {
		return err
	}
	if len(r.delta.lived) > 2*ViewBatch {
		r.delta = newDelta()
	} else {
		clear(r.delta.lived) // keeps its room for the next round
		r.delta.died = crdt.NewClock()
	}
	r.state.mark = r.state.arrival
	return nil
}

// dotEntry is one live dot of a block.
type dotEntry struct{ seq, arrival uint64 }

func blockKey(id uint32, n uint64) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 12), id)
	return binary.BigEndian.AppendUint64(b, n)
}

// appendDotBlock packs entries by rising seq: the gap to the seq before less
// one, and the arrival's distance to that of the entry before, both varints;
// then a CRC32C.
func appendDotBlock(b, key []byte, block uint64, entries []dotEntry) []byte {
	start, prev := len(b), dotEntry{seq: block<<dotBlockBits - 1}
	for _, e := range entries {
		b = binary.AppendUvarint(b, e.seq-prev.seq-1)
		b = binary.AppendVarint(b, int64(e.arrival-prev.arrival))
		prev = e
	}
	return seal(b, start, key)
}

func decodeDotBlock(b, key []byte, block uint64) ([]dotEntry, error) {
	if b == nil {
		return nil, nil
	}
	body, err := unseal(b, key, "dots block", block)
	if err != nil {
		return nil, err
	}
	entries := make([]dotEntry, 0, len(body)/2)
	prev := dotEntry{seq: block<<dotBlockBits - 1}
	for len(body) > 0 {
		gap, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, damaged("dots block", block, "malformed")
		}
		step, m := binary.Varint(body[n:])
		if m <= 0 {
			return nil, damaged("dots block", block, "malformed")
		}
		body = body[n+m:]
		prev = dotEntry{prev.seq + gap + 1, prev.arrival + uint64(step)}
		entries = append(entries, prev)
	}
	return entries, nil
}

// catchUpDots merges the delta into the dots view.
func (r *Replica) catchUpDots(dots store.Bucket) error {
	live := make([]dotChange, 0, len(r.delta.lived))
	for d, arrival := range r.delta.lived {
		live = append(live, dotChange{r.ids.byID[d.Replica], d.Seq, d.Seq, arrival})
	}
	for _, id := range r.delta.died.Replicas() {
		for _, run := range r.delta.died.Of(id).Runs() {
			live = appendRemovals(live, dots, r.ids.byID[id], run)
		}
	}
	slices.SortFunc(live, func(a, b dotChange) int {
		if a.id != b.id {
			return cmp.Compare(a.id, b.id)
		}
		return cmp.Compare(a.lo, b.lo)
	})
	for len(live) > 0 {
		id, block := live[0].id, live[0].lo>>dotBlockBits
		n := 1
		for n < len(live) && live[n].id == id && live[n].lo>>dotBlockBits == block {
			n++
		}
		if err := changeDotBlock(dots, id, block, live[:n]); err != nil {
			return err
		}
		live = live[n:]
	}
	return nil
}

// dotChange makes the dots lo..hi of a replica live at arrival, or removes
// them if arrival is 0. It never crosses a block.
type dotChange struct {
	id      uint32
	lo, hi  uint64
	arrival uint64
}

// appendRemovals appends the removal of a run from the blocks that there are: a
// run may be far longer than what was ever live.
func appendRemovals(out []dotChange, dots store.Bucket, id uint32, run crdt.Interval) []dotChange {
	c := dots.Cursor()
	for k, _ := c.Seek(blockKey(id, run.Lo>>dotBlockBits)); len(k) == 12; k, _ = c.Next() {
		block := binary.BigEndian.Uint64(k[4:])
		first, last := block<<dotBlockBits, block<<dotBlockBits|(1<<dotBlockBits-1)
		if binary.BigEndian.Uint32(k) != id || first > run.Hi {
			break
		}
		out = append(out, dotChange{id: id, lo: max(run.Lo, first), hi: min(run.Hi, last)})
	}
	return out
}

func changeDotBlock(dots store.Bucket, id uint32, block uint64, changes []dotChange) error {
	key := blockKey(id, block)
	stored := dots.Get(key)
	old, err := decodeDotBlock(stored, key, block)
	if err != nil {
		old = nil // damage: what it held is neither live nor dead now (KERNEL K3)
	}
	merged := make([]dotEntry, 0, len(old)+len(changes))
	for _, c := range changes {
		for len(old) > 0 && old[0].seq < c.lo {
			merged, old = append(merged, old[0]), old[1:]
		}
		for len(old) > 0 && old[0].seq <= c.hi {
			old = old[1:]
		}
		if c.arrival != 0 {
			merged = append(merged, dotEntry{c.lo, c.arrival})
		}
	}
	merged = append(merged, old...)
	if len(merged) == 0 {
		if stored == nil {
			return nil
		}
		return dots.Delete(key)
	}
	return dots.Put(key, appendDotBlock(nil, key, block, merged))
}

// loadDeadChunk reads one bitmap of the dead view, nil if there is none.
func loadDeadChunk(dead store.Bucket, id uint32, chunk uint64) (*roaring.Bitmap, error) {
	b := dead.Get(blockKey(id, chunk))
	if b == nil {
		return nil, nil
	}
	body, err := unseal(b, blockKey(id, chunk), "dead chunk", chunk)
	if err != nil {
		return nil, err
	}
	m := roaring.New()
	if _, err := m.ReadFrom(bytes.NewReader(body)); err != nil {
		return nil, damaged("dead chunk", chunk, err.Error())
	}
	return m, nil
}

// catchUpDead merges the delta into the dead view, once the dots view is up to
// date.
func (r *Replica) catchUpDead(tx store.Tx) error {
	dead := tx.Bucket(r.names.dead)
	for _, rid := range r.delta.died.Replicas() {
		id := r.ids.byID[rid]
		runs := slices.Clone(r.delta.died.Of(rid).Runs())
		for len(runs) > 0 {
			chunk := runs[0].Lo >> deadChunkBits
			m, err := loadDeadChunk(dead, id, chunk)
			if err != nil {
				m, err = r.reviveChunk(tx, id, chunk)
			}
			if err != nil {
				return err
			}
			if m == nil {
				m = roaring.New()
			}
			first, last := chunk<<deadChunkBits, chunk<<deadChunkBits|(1<<deadChunkBits-1)
			for len(runs) > 0 && runs[0].Lo <= last {
				hi := min(runs[0].Hi, last)
				m.AddRange(runs[0].Lo-first, hi-first+1)
				if hi == runs[0].Hi {
					runs = runs[1:]
				} else {
					runs[0].Lo = hi + 1
				}
			}
			if err := putDeadChunk(dead, id, chunk, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeadWithin returns those of the given dots that are known to be dead here; of
// a partial replica they are of keys in its scope, or the answer means nothing.
// A damaged chunk proves nothing: its dots are left out. O(chunks that there
// are), however long the runs.
func (v *View) DeadWithin(dots crdt.Clock) (crdt.Clock, error) {
	d, err := replayDelta(v.journal, v.state.mark, v.ids)
	if err != nil {
		return crdt.Clock{}, err
	}
	dead := v.deadWithin(dots, &d)
	dead.Merge(dots.Meet(v.partial.clock).Minus(v.clock))
	return dead, nil
}

// deadWithin is DeadWithin for a delta that was replayed before.
func (rd *Reader) deadWithin(dots crdt.Clock, d *delta) crdt.Clock {
	out := dots.Meet(d.died)
	bucket := rd.tx.Bucket(rd.names.dead)
	c := bucket.Cursor()
	for id, r := range rd.ids.all() {
		var dead crdt.SeqSet
		next := uint64(0) // chunk
		for _, run := range dots.Of(r).Runs() {
			k, _ := c.Seek(blockKey(uint32(id), max(next, run.Lo>>deadChunkBits)))
			for ; len(k) == 12 && binary.BigEndian.Uint32(k) == uint32(id); k, _ = c.Next() {
				chunk := binary.BigEndian.Uint64(k[4:])
				if chunk > run.Hi>>deadChunkBits {
					break
				}
				next = chunk + 1
				if m, err := loadDeadChunk(bucket, uint32(id), chunk); err == nil && m != nil {
					addRuns(&dead, m, chunk<<deadChunkBits)
				}
			}
		}
		out.Merge(crdt.ClockOf(r, dead.Intersect(dots.Of(r))))
	}
	return out
}

// addRuns adds a bitmap's runs to a set.
func addRuns(set *crdt.SeqSet, m *roaring.Bitmap, first uint64) {
	it := m.Iterator()
	for it.HasNext() {
		lo := uint64(it.Next())
		hi := lo
		for it.HasNext() && uint64(it.PeekNext()) == hi+1 {
			hi = uint64(it.Next())
		}
		set.AddRange(first+lo, first+hi)
	}
}

func putDeadChunk(dead store.Bucket, id uint32, chunk uint64, m *roaring.Bitmap) error {
	m.RunOptimize()
	b, err := m.ToBytes()
	if err != nil {
		return fmt.Errorf("dead chunk: %w", err)
	}
	key := blockKey(id, chunk)
	return dead.Put(key, seal(b, 0, key))
}
