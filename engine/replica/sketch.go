package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"bzzz/crdt"
	"bzzz/merkle/sketch"
	"bzzz/store"
)

// Sketch is the rateless sketch of the live versions that are no tombstones, as
// of one journal record. Its items say which dot they are of, so that what two
// replicas find to differ can be looked up without an index of its own:
//
//	item = first 4 bytes of SHA-256(replica id) | seq u48 big-endian | first 6 bytes of the version's digest
//
// A Sketch is never changed once it was returned.
type Sketch struct {
	*sketch.Sketch
	Arrival uint64
}

const (
	// sketchKept is from how many versions on a sketch is stored, and how many
	// journal records a stored one may be behind: making one of so many takes
	// some 20 ms, storing it writes up to 1.7 MB.
	sketchKept = 16 << 10
	// minCells bounds a sketch from below: 32 KiB of memory.
	minCells = 1 << 10
)

// sketchCells returns how many cells a sketch of n versions has: twice as many,
// since more differences than n + n are not to be had, as a power of two.
func sketchCells(n uint64) int {
	if n >= sketch.MaxCells/2 {
		return sketch.MaxCells
	}
	return max(minCells, 1<<bits.Len64(2*n))
}

// SketchTag returns the 4 bytes by which items name a replica.
func SketchTag(r crdt.ReplicaID) uint32 {
	sum := sha256.Sum256(r[:])
	return binary.BigEndian.Uint32(sum[:4])
}

// SketchItem reads an item: its replica's tag, its seq and the beginning of its
// version's digest.
func SketchItem(it sketch.Item) (tag uint32, seq uint64, digest [6]byte) {
	var wide [8]byte
	copy(wide[2:], it[4:10])
	return binary.BigEndian.Uint32(it[:4]), binary.BigEndian.Uint64(wide[:]), [6]byte(it[10:])
}

// maxSketchSeq is the first seq that does not fit an item.
const maxSketchSeq = 1 << 48

// items makes items of a namespace, remembering the replicas' tags.
type items struct {
	ids  *idTable
	tags []uint32                  // by number
	byID map[crdt.ReplicaID]uint32 // of those; the table's own map is the writer's
}

// number returns the number of a replica that a record of the journal names.
func (m *items) number(r crdt.ReplicaID) uint32 {
	if n, known := m.byID[r]; known {
		return n
	}
	m.byID = map[crdt.ReplicaID]uint32{}
	for n, id := range m.ids.all() {
		m.byID[id] = uint32(n)
	}
	return m.byID[r]
}

func (m *items) of(id uint32, seq uint64, digest []byte) [32]byte {
	for n := uint32(len(m.tags)); n <= id; n++ {
		m.tags = append(m.tags, SketchTag(m.ids.at(n)))
	}
	var out [32]byte
	binary.BigEndian.PutUint64(out[2:], seq%maxSketchSeq)
	binary.BigEndian.PutUint32(out[:], m.tags[id])
	copy(out[10:16], digest)
	return out
}

// sketchHash keys the hash of items by the namespace.
func (v *View) sketchHash() sketch.Key {
	sum := sha256.Sum256(append([]byte("bzzz sketch\x00"), v.cfg.Name...))
	return sketch.Key(sum[:16])
}

// Sketch returns the sketch of what v sees. It begins with cached, which may be
// nil, or with the stored one, whichever is nearer, and replays the journal from
// there: about 1 us a version. O(versions) if neither helps.
func (v *View) Sketch(cached *Sketch) (*Sketch, error) {
	from := cached
	if stored := v.storedSketch(); stored != nil && (from == nil || from.Arrival > v.state.arrival || stored.Arrival > from.Arrival) {
		from = stored
	}
	if from != nil && from.Arrival == v.state.arrival {
		return from, nil
	}
	if from != nil && from.Arrival < v.state.arrival && from.Arrival >= v.state.collected &&
		from.Cells() >= sketchCells(v.state.versions)/2 && v.state.arrival-from.Arrival <= 1024+v.state.versions/2 {
		s := &Sketch{from.Clone(), v.state.arrival}
		if v.replaySketch(s.Sketch, from.Arrival) {
			return s, v.Err()
		}
	}
	return v.newSketch()
}

// newSketch makes the sketch from the heads.
func (v *View) newSketch() (*Sketch, error) {
	s, err := sketch.New(v.sketchHash(), sketchCells(v.state.versions))
	if err != nil {
		return nil, err
	}
	return &Sketch{s, v.state.arrival}, v.fillSketch(s)
}

// fillSketch adds every live version that is no tombstone.
func (v *View) fillSketch(s *sketch.Sketch) error {
	m := items{ids: v.ids}
	known := uint32(len(v.ids.all()))
	var h head
	c := v.heads.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if decodeHead(b, k, &h) != nil {
			continue // damage: the walk of the tree finds it
		}
		for _, l := range h.siblings {
			if l.kind != crdt.Delete && l.id < known {
				s.Add(m.of(l.id, l.seq, l.digest[:]))
			}
		}
	}
	return v.Err()
}

// replaySketch brings s from a journal record to the end, and reports whether
// the journal told all that is needed.
func (v *View) replaySketch(s *sketch.Sketch, after uint64) bool {
	m := items{ids: v.ids}
	c := v.journal.Cursor()
	for k, b := c.Seek(arrivalKey(after + 1)); k != nil; k, b = c.Next() {
		if len(k) != 8 || binary.BigEndian.Uint64(k) != after+1 {
			return false
		}
		after++
		if !v.sketchRecord(s, &m, b, after) {
			return false
		}
	}
	return after == v.state.arrival
}

// sketchRecord enters one journal record.
func (v *View) sketchRecord(s *sketch.Sketch, m *items, b []byte, arrival uint64) bool {
	switch recordKind(b) {
	case RecordVersion:
	case RecordDrop:
		d, err := decodeDrop(b, arrival, v.ids)
		return err == nil && d.lost.IsEmpty() && v.sketchRemoveAll(s, m, d.versions)
	default: // of dots that are not live, or of tombstones
		_, err := unsealJournal(b, arrival)
		return err == nil
	}
	rec, err := decodeVersionRecord(b, arrival, v.ids)
	if err != nil || rec.flags&flagHealed != 0 {
		return false
	}
	if !v.sketchRemoveAll(s, m, rec.replaced) {
		return false
	}
	if rec.flags&flagDeadOnArrival == 0 && rec.version.Kind != crdt.Delete {
		digest := rec.version.Digest()
		s.Add(m.of(m.number(rec.version.Dot.Replica), rec.version.Dot.Seq, digest[:]))
	}
	return true
}

// sketchRemoveAll takes out versions that are live no more.
func (v *View) sketchRemoveAll(s *sketch.Sketch, m *items, gone []superseded) bool {
	for _, old := range gone {
		rec, err := v.record(old.arrival)
		if err != nil || rec.version.Dot != (crdt.Dot{Replica: v.ids.at(old.id), Seq: old.seq}) {
			return false
		}
		if rec.version.Kind != crdt.Delete {
			digest := rec.version.Digest()
			s.Remove(m.of(old.id, old.seq, digest[:]))
		}
	}
	return true
}

// sketchKey is the one key of the sketch bucket: arrival u64 | the sketch's own
// checkpoint | crc32c u32.
var sketchKey = []byte("c")

// storedSketch returns the checkpoint, nil if there is none that can be read.
func (v *View) storedSketch() *Sketch {
	bucket := v.tx.Bucket(v.names.sketch)
	if bucket == nil {
		return nil
	}
	at, rest, err := splitCheckpoint(bucket.Get(sketchKey))
	if err != nil || at > v.state.arrival {
		return nil
	}
	s, err := sketch.Load(rest)
	if err != nil || s.Key() != v.sketchHash() {
		return nil
	}
	return &Sketch{s, at}
}

func splitCheckpoint(b []byte) (arrival uint64, rest []byte, err error) {
	body, err := unseal(b, sketchKey, "sketch", 0)
	if err != nil {
		return 0, nil, err
	}
	if len(body) < 8 {
		return 0, nil, damaged("sketch", 0, "cut short")
	}
	return binary.BigEndian.Uint64(body), body[8:], nil
}

// WorthStoring reports whether a sketch is so far from the stored one, and so
// large, that it should be stored.
func (v *View) WorthStoring(s *Sketch) bool {
	if s.Len() < sketchKept {
		return false
	}
	bucket := v.tx.Bucket(v.names.sketch)
	if bucket == nil {
		return true
	}
	at, _, err := splitCheckpoint(bucket.Get(sketchKey))
	return err != nil || at+sketchKept <= s.Arrival
}

// StoreSketch stores a sketch as the checkpoint, unless a later one is stored.
// Up to 1.7 MB. One that has become too small to be kept goes.
func (b *Batch) StoreSketch(s *Sketch) error {
	bucket := b.tx.Bucket(b.names.sketch)
	if s.Len() < sketchKept && bucket != nil {
		return b.tx.DeleteBucket(b.names.sketch)
	}
	if bucket == nil {
		var err error
		if bucket, err = b.tx.CreateBucket(b.names.sketch, store.Ordered); err != nil {
			return err
		}
	}
	if at, _, err := splitCheckpoint(bucket.Get(sketchKey)); err == nil && at >= s.Arrival {
		return nil
	}
	value, err := s.AppendBinary(binary.BigEndian.AppendUint64(nil, s.Arrival))
	if err != nil {
		return err
	}
	return bucket.Put(sketchKey, seal(value, 0, sketchKey))
}

// verifySketch compares a stored sketch, brought to now, with one made anew.
func (v *View) verifySketch(report func(Problem)) error {
	bucket := v.tx.Bucket(v.names.sketch)
	if bucket == nil {
		return nil
	}
	bad := func(how string) {
		report(Problem{What: "sketch", View: true, fix: fixSketch, Err: damaged("sketch", v.state.arrival, how)})
	}
	stored := v.storedSketch()
	if stored == nil {
		bad("does not decode")
		return nil
	}
	if stored.Arrival < v.state.collected {
		return nil // the journal does not say what came since: it will be made anew
	}
	now := stored.Clone()
	if !v.replaySketch(now, stored.Arrival) {
		return nil // likewise
	}
	fresh, err := sketch.New(v.sketchHash(), now.Cells())
	if err != nil {
		return err
	}
	if err := v.fillSketch(fresh); err != nil {
		return err
	}
	if !now.Equal(fresh) {
		bad("not what the live versions give")
	}
	return nil
}
