package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"bzzz/crdt"
	"bzzz/store"
)

// Plan is what Mend needs to know to do something about problems: gathered in a
// read transaction, carried out in bounded write transactions.
type Plan struct {
	at      uint64              // journal record that it was made at
	chunks  []chunkPlan         // of the dead view
	records []uint64            // damaged journal records that no head names
	raw     map[string][]string // bucket -> keys of malformed entries
	heads   []string            // keys to derive, sorted
	past    map[string][]uint64 // their journal records
	indexes []string            // keys to list again, sorted
	entries []crdt.Dot          // to look at in the dots view
	blocks  []string            // of the dots view, by key
	unseen  crdt.Clock          // to add to the clock
	lost    crdt.Clock          // to mark
	drift   drift
	counts  bool
	tree    bool
	sketch  bool
}

// chunkPlan is a chunk of the dead view with what the journal proves of it.
type chunkPlan struct {
	id   uint32
	n    uint64
	dead crdt.SeqSet
}

// Plan gathers what is needed to mend problems that a Scrub or Verify of this
// View reported. O(problems); a walk of the journal if heads or chunks of the
// dead view have to be derived, one of the heads if journal records are damaged.
func (v *View) Plan(problems []Problem) (*Plan, error) {
	p := &Plan{at: v.state.arrival, raw: map[string][]string{}, past: map[string][]uint64{}, unseen: crdt.NewClock(), lost: crdt.NewClock()}
	damaged := map[uint64]bool{}
	for i := range problems {
		x := &problems[i]
		if x.Lost {
			p.lost.Merge(x.Dots())
		}
		switch x.fix {
		case fixHead:
			p.past[string(x.Key)] = nil
		case fixIndex:
			p.indexes = append(p.indexes, string(x.Key))
		case fixExpiry:
			p.raw[v.names.expiry] = append(p.raw[v.names.expiry], string(x.Key))
		case fixBlock:
			p.blocks = append(p.blocks, string(x.Key))
		case fixEntry:
			p.entries = append(p.entries, x.Dot)
		case fixDead:
			if s := (&scrubber{View: v}); s.checkBlockKey("", x.Key) != nil {
				p.raw[v.names.dead] = append(p.raw[v.names.dead], string(x.Key))
			} else {
				p.chunks = append(p.chunks, chunkPlan{id: binary.BigEndian.Uint32(x.Key), n: binary.BigEndian.Uint64(x.Key[4:])})
			}
		case fixClock:
			p.unseen.Merge(x.Dots())
		case fixRecord:
			if x.Key != nil {
				p.raw[v.names.journal] = append(p.raw[v.names.journal], string(x.Key))
			} else {
				damaged[x.arrival] = true
			}
		case fixDrift:
			p.drift = x.drift
		}
		p.counts = p.counts || x.fix == fixCounts
		p.tree = p.tree || x.fix == fixTree
		p.sketch = p.sketch || x.fix == fixSketch
	}
	for key := range p.past {
		p.heads = append(p.heads, key)
	}
	slices.Sort(p.heads)
	slices.Sort(p.indexes)
	p.indexes = slices.Compact(p.indexes)
	p.records = v.unnamed(damaged)
	if len(p.heads)+len(p.chunks) == 0 {
		return p, v.Err()
	}
	if err := v.recordsOf(p.past, p.chunks, 0); err != nil {
		return nil, err
	}
	return p, v.Err()
}

// unnamed returns those of the journal records that no head names. O(keys),
// nothing if there are none.
func (v *View) unnamed(damaged map[uint64]bool) []uint64 {
	if len(damaged) == 0 {
		return nil
	}
	c := v.heads.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if decodeHead(b, k, &v.head) != nil {
			continue // it is derived from what can be read
		}
		for _, s := range v.head.siblings {
			delete(damaged, s.arrival)
		}
	}
	out := make([]uint64, 0, len(damaged))
	for arrival := range damaged {
		out = append(out, arrival)
	}
	slices.Sort(out)
	return out
}

// recordsOf walks the journal after a record. It appends to past, for each of
// its keys, the records of its versions, and to chunks what records prove dead.
func (rd *Reader) recordsOf(past map[string][]uint64, chunks []chunkPlan, after uint64) error {
	c := rd.journal.Cursor()
	for k, b := c.Seek(arrivalKey(after + 1)); k != nil; k, b = c.Next() {
		if len(k) != 8 {
			continue
		}
		arrival := binary.BigEndian.Uint64(k)
		if kind := recordKind(b); kind == RecordVersion || kind == RecordBackfill {
			rec, err := decodeVersionRecord(b, arrival, rd.ids)
			if err != nil {
				continue
			}
			if list, wanted := past[string(rec.version.Key)]; wanted {
				past[string(rec.version.Key)] = append(list, arrival)
			}
		}
		if len(chunks) == 0 {
			continue
		}
		died, err := rd.diedBy(b, arrival)
		if err != nil {
			continue // damage: it proves nothing
		}
		for i := range chunks {
			x := &chunks[i]
			run := crdt.Interval{Lo: max(1, x.n<<deadChunkBits), Hi: x.n<<deadChunkBits | (1<<deadChunkBits - 1)}
			if of := died.Of(rd.ids.at(x.id)); !of.IsEmpty() {
				x.dead.Union(of.Intersect(crdt.NewSeqSet(run)))
			}
		}
	}
	return nil
}

// diedBy returns the dots that a journal record made dead, or that were when it
// was written. It checks the record.
func (rd *Reader) diedBy(b []byte, arrival uint64) (crdt.Clock, error) {
	died := crdt.NewClock()
	switch recordKind(b) {
	case RecordAdoption, RecordCollection:
		a, err := decodeAdoption(b, arrival)
		return a.dots, err
	case RecordDrop:
		d, err := decodeDrop(b, arrival, rd.ids)
		if err != nil {
			return died, err
		}
		for _, s := range d.versions {
			died.Add(crdt.Dot{Replica: rd.ids.at(s.id), Seq: s.seq})
		}
		died.Merge(d.lost)
		return died, nil
	}
	rec, err := decodeVersionRecord(b, arrival, rd.ids)
	if err != nil {
		return died, err
	}
	if rec.flags&flagDeadOnArrival != 0 || rec.kind == RecordBackfill {
		died.Add(rec.version.Dot)
	}
	for _, s := range rec.replaced {
		died.Add(crdt.Dot{Replica: rd.ids.at(s.id), Seq: s.seq})
	}
	return died, nil
}

// Mend carries out a part of a plan: some limit keys and blocks. It reports
// whether that was the last part. What it did not do is done by calling it again
// in another transaction; a plan whose transaction failed is void. Whatever it
// finds sound by now it leaves alone.
func (b *Batch) Mend(p *Plan, limit int) (done bool, err error) {
	if err := b.r.catchUp(b.tx); err != nil {
		return false, err
	}
	if err := b.mendRest(p); err != nil {
		return false, err
	}
	if p.at < b.r.state.arrival && len(p.heads) > 0 {
		if err := b.recordsOf(p.past, nil, p.at); err != nil {
			return false, err
		}
		p.at = b.r.state.arrival
	}
	for ; len(p.heads) > 0 && limit > 0; limit-- {
		key := []byte(p.heads[0])
		if err := b.mendHead(key, p.past[p.heads[0]]); err != nil {
			return false, err
		}
		p.heads = p.heads[1:]
	}
	for ; len(p.blocks) > 0 && limit > 0; limit-- {
		if err := b.mendBlock([]byte(p.blocks[0])); err != nil {
			return false, err
		}
		p.blocks = p.blocks[1:]
	}
	for ; len(p.indexes) > 0 && limit > 0; limit-- {
		if err := b.list([]byte(p.indexes[0])); err != nil {
			return false, err
		}
		p.indexes = p.indexes[1:]
	}
	for ; len(p.entries) > 0 && limit > 0; limit-- {
		if err := b.mendEntry(p.entries[0]); err != nil {
			return false, err
		}
		p.entries = p.entries[1:]
	}
	return len(p.heads)+len(p.blocks)+len(p.indexes)+len(p.entries) == 0, nil
}

// mendRest does what is little work, once.
func (b *Batch) mendRest(p *Plan) error {
	st := &b.r.state
	for _, x := range p.chunks {
		if err := b.addDead(x.id, x.n, x.dead); err != nil {
			return err
		}
	}
	for bucket, keys := range p.raw {
		for _, k := range keys {
			if err := b.tx.Bucket(bucket).Delete([]byte(k)); err != nil {
				return err
			}
		}
	}
	for _, arrival := range p.records {
		if arrival > st.arrival || b.journal.Get(arrivalKey(arrival)) == nil {
			continue
		}
		if err := b.journal.Delete(arrivalKey(arrival)); err != nil {
			return err
		}
		st.removed++
		st.collected = max(st.collected, arrival)
	}
	if p.counts {
		if err := b.recount(); err != nil {
			return err
		}
	}
	st.keys, st.versions = st.keys-p.drift.keys, st.versions-p.drift.versions
	st.tombs, st.conflicts = st.tombs-p.drift.tombs, st.conflicts-p.drift.conflicts
	for _, r := range p.unseen.Replicas() {
		b.r.clock.Merge(crdt.ClockOf(r, p.unseen.Of(r)))
		b.dirty[r] = true
	}
	for name, due := range map[string]bool{b.names.tree: p.tree, b.names.sketch: p.sketch} {
		if !due {
			continue
		}
		if err := b.tx.DeleteBucket(name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	err := b.MarkUnknown(p.lost)
	p.chunks, p.raw, p.records, p.drift, p.counts, p.tree, p.sketch = nil, nil, nil, drift{}, false, false, false
	p.unseen, p.lost = crdt.NewClock(), crdt.NewClock()
	return err
}

// recount sets the number of removed journal records to what is missing: what
// they held of the past is gone, and cursors below the last one are void.
func (b *Batch) recount() error {
	st := &b.r.state
	var records, gap uint64
	next := uint64(1)
	c := b.journal.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if len(k) != 8 {
			continue
		}
		records++
		if n := binary.BigEndian.Uint64(k); n >= next && n <= st.arrival {
			if n > next {
				gap = n - 1
			}
			next = n + 1
		}
	}
	if next <= st.arrival {
		gap = st.arrival
	}
	st.removed = st.arrival - records
	st.collected = max(st.collected, gap)
	return nil
}

// addDead adds dots to a chunk of the dead view, making a damaged one anew.
func (b *Batch) addDead(id uint32, n uint64, dead crdt.SeqSet) error {
	bucket := b.tx.Bucket(b.names.dead)
	m, err := loadDeadChunk(bucket, id, n)
	if err != nil || m == nil {
		m = roaring.New()
	}
	for _, run := range dead.Runs() {
		m.AddRange(run.Lo-n<<deadChunkBits, run.Hi-n<<deadChunkBits+1)
	}
	if m.IsEmpty() {
		return bucket.Delete(blockKey(id, n))
	}
	return putDeadChunk(bucket, id, n, m)
}

// mendBlock removes a block of the dots view that cannot be read: what is live is
// listed again where the heads are looked at.
func (b *Batch) mendBlock(key []byte) error {
	bucket := b.tx.Bucket(b.names.dots)
	if s := (&scrubber{View: &View{Reader: b.Reader}}); s.checkBlockKey("", key) != nil {
		return bucket.Delete(key)
	}
	if _, err := decodeDotBlock(bucket.Get(key), key, binary.BigEndian.Uint64(key[4:])); err == nil {
		return nil
	}
	return bucket.Delete(key)
}

// mendEntry takes a dot out of the dots view unless its key's head names it.
func (b *Batch) mendEntry(dot crdt.Dot) error {
	arrival, err := b.r.liveArrival(b.tx, dot)
	if err != nil || arrival == 0 {
		return err
	}
	id := b.r.ids.byID[dot.Replica]
	if held, err := b.holds(dot, id, arrival); err != nil || held {
		return err
	}
	return changeDotBlock(b.tx.Bucket(b.names.dots), id, dot.Seq>>dotBlockBits, []dotChange{{id: id, lo: dot.Seq, hi: dot.Seq}})
}

// mendHead derives a key's head and lists it. The views are up to date.
func (b *Batch) mendHead(key []byte, past []uint64) error {
	over, err := b.derive(key, past)
	if err != nil {
		return err
	}
	if len(b.head.siblings) == 0 {
		err = b.heads.Delete(key)
	} else {
		err = b.heads.Put(key, b.head.append(nil, key))
	}
	if err != nil {
		return err
	}
	dots := b.tx.Bucket(b.names.dots)
	for _, dot := range over.dead {
		id := b.r.ids.byID[dot.Replica]
		seq := crdt.NewSeqSet(crdt.Interval{Lo: dot.Seq, Hi: dot.Seq})
		if err := b.addDead(id, dot.Seq>>deadChunkBits, seq); err != nil {
			return err
		}
		if err := changeDotBlock(dots, id, dot.Seq>>dotBlockBits, []dotChange{{id: id, lo: dot.Seq, hi: dot.Seq}}); err != nil {
			return err
		}
	}
	if err := b.MarkUnknown(over.lost); err != nil {
		return err
	}
	return b.list(key)
}

// list makes what lies beside a key's head agree with it: the dots view, the
// clock, and the indexes of conflicts and expiry. The views are up to date.
func (b *Batch) list(key []byte) error {
	if decodeHead(b.heads.Get(key), key, &b.head) != nil {
		return nil // it is derived again first
	}
	if b.head.tally().conflict {
		if err := b.conflicts.Put(key, nil); err != nil {
			return err
		}
	} else if err := b.conflicts.Delete(key); err != nil {
		return err
	}
	for _, s := range slices.Clone(b.head.siblings) {
		version, err := b.load(key, s)
		if errors.Is(err, ErrCorrupt) {
			continue // a peer has to send it again
		}
		if err != nil {
			return err
		}
		if err := b.listVersion(key, s, version); err != nil {
			return err
		}
	}
	return nil
}

// listVersion is list for one live version that can be read.
func (b *Batch) listVersion(key []byte, s sibling, v *crdt.Version) error {
	if dead, err := b.r.isDead(b.tx, v.Dot); dead || err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if b.r.unknown.Has(v.Dot) {
		b.forget(v.Dot)
	}
	if !b.r.clock.Has(v.Dot) {
		b.r.clock.Add(v.Dot)
		b.dirty[v.Dot.Replica] = true
	}
	if ms := v.Expiry(); ms != 0 {
		if err := b.expiry.Put(expiryKey(ms, s.arrival), bytes.Clone(key)); err != nil {
			return err
		}
	}
	if at, err := b.r.liveArrival(b.tx, v.Dot); err != nil || at == s.arrival {
		return err
	}
	return changeDotBlock(b.tx.Bucket(b.names.dots), s.id, s.seq>>dotBlockBits,
		[]dotChange{{id: s.id, lo: s.seq, hi: s.seq, arrival: s.arrival}})
}
