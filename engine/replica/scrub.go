package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
)

// phase is what a Pass looks at. The numbers are stored.
type phase byte

const (
	phaseDead    phase = iota // chunks of the dead view, by checksum
	phaseJournal              // records, and that what they made live is a sibling or dead
	phaseExpiry               // entries of the expiry index
	phaseHeads                // heads, the versions they name, and what is listed beside them
	phaseDots                 // entries of the dots view
	phaseClock                // clock = live + dead
	phaseTree                 // tiles of the Merkle index
	phaseSums                 // counters and the sketch
	phases
)

// Scrub checks the next part of a pass: some limit keys, records or entries, at
// least one, and reports what is wrong. done is true when the pass has come to
// its end; it then begins anew. The counters and the sketch at the end are
// checked in one go: a walk of the heads, about 0.3 us a key. After an error,
// which is one of the store itself, what was reported says nothing.
func (v *View) Scrub(p *Pass, limit int, report func(Problem)) (done bool, err error) {
	s := &scrubber{View: v, facts: newFacts(v), pass: p, left: max(limit, 1), tell: report}
	if p.lost.IsEmpty() {
		p.lost = crdt.NewClock()
	}
	before := s.left
	next, err := s.step()
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		return false, err
	}
	if next != nil && p.at != nil && bytes.Compare(next, p.at) <= 0 {
		s.found("order", next, crdt.Dot{}, fixNone, damaged("bucket", uint64(p.phase), "keys out of order"))
		next = nil // there is no way on
	}
	p.checked += uint64(before - s.left)
	if p.at = next; next != nil {
		return false, nil
	}
	if p.phase++; p.phase < phases {
		return false, nil
	}
	*p = Pass{}
	return true, nil
}

// ScrubKey checks one stored key as Scrub does, and reports it also if it has no
// head: the journal may know better.
func (v *View) ScrubKey(key []byte, report func(Problem)) error {
	s := &scrubber{View: v, facts: newFacts(v), pass: &Pass{phase: phaseHeads, at: key, lost: crdt.NewClock()}, left: 2, tell: report, end: append(bytes.Clone(key), 0)}
	if v.heads.Get(key) == nil {
		s.found("head", key, crdt.Dot{}, fixHead, damaged("head", 0, "not there"))
	}
	if _, err := s.keys(); err != nil {
		return err
	}
	return v.Err()
}

// scrubber is one step of a Pass.
type scrubber struct {
	*View
	facts *facts
	pass  *Pass
	left  int    // of the step
	end   []byte // of the keys to look at, nil = no bound
	tell  func(Problem)
}

// step does some of the current phase. It returns where to go on, nil at the end
// of the phase.
func (s *scrubber) step() ([]byte, error) {
	switch s.pass.phase {
	case phaseDead:
		return s.deadChunks(), nil
	case phaseJournal:
		return s.journalRecords()
	case phaseExpiry:
		return s.expiries(), nil
	case phaseHeads:
		return s.keys()
	case phaseDots:
		return s.dotBlocks()
	case phaseClock:
		return s.clockRanges()
	case phaseTree:
		return s.tiles()
	}
	if err := s.counters(); err != nil {
		return nil, err
	}
	return nil, s.verifySketch(s.tell)
}

// found reports a problem that can be mended here.
func (s *scrubber) found(what string, key []byte, dot crdt.Dot, fix fix, err error) {
	s.tell(Problem{What: what, Key: bytes.Clone(key), Dot: dot, Err: err, View: fix.derives(), fix: fix})
}

// lose reports a version that cannot be read, once.
func (s *scrubber) lose(what string, key []byte, dot crdt.Dot, err error) {
	if !s.pass.lost.Has(dot) {
		s.pass.lost.Add(dot)
		s.tell(Problem{What: what, Key: bytes.Clone(key), Dot: dot, Err: err, Lost: true})
	}
}

// deadChunks checks that the chunks of the dead view can be read.
func (s *scrubber) deadChunks() []byte {
	bucket := s.tx.Bucket(s.names.dead)
	c := bucket.Cursor()
	k, _ := c.Seek(s.pass.at)
	for ; k != nil; k, _ = c.Next() {
		if s.left == 0 {
			return bytes.Clone(k)
		}
		s.left--
		if err := s.checkBlockKey("dead chunk", k); err != nil {
			s.found("dead chunk", k, crdt.Dot{}, fixDead, err)
		} else if _, err := loadDeadChunk(bucket, binary.BigEndian.Uint32(k), binary.BigEndian.Uint64(k[4:])); err != nil {
			s.found("dead chunk", k, crdt.Dot{}, fixDead, err)
		}
	}
	return nil
}

// checkBlockKey checks a key of the dots or dead view.
func (s *scrubber) checkBlockKey(what string, k []byte) error {
	if len(k) != 12 || uint64(binary.BigEndian.Uint32(k)) >= uint64(len(s.ids.all())) {
		return damaged(what+" key", uint64(len(k)), "malformed")
	}
	return nil
}

// journalRecords checks records, and at the end that none is missing.
func (s *scrubber) journalRecords() ([]byte, error) {
	p := s.pass
	if p.at == nil {
		p.records, p.removed = 0, s.state.removed
	}
	c := s.journal.Cursor()
	k, b := c.Seek(p.at)
	for ; k != nil; k, b = c.Next() {
		if s.left == 0 {
			return bytes.Clone(k), nil
		}
		s.left--
		p.records++
		if err := s.journalRecord(k, b); err != nil {
			return nil, err
		}
	}
	if want := s.state.arrival - s.state.removed; p.records != want && p.removed == s.state.removed {
		s.found("journal", nil, crdt.Dot{}, fixCounts, damaged("journal", s.state.arrival, fmt.Sprintf("%d records, want %d", p.records, want)))
	}
	return nil, nil
}

func (s *scrubber) journalRecord(k, b []byte) error {
	if len(k) != 8 {
		s.found("journal key", k, crdt.Dot{}, fixRecord, damaged("journal key", uint64(len(k)), "not 8 bytes"))
		return nil
	}
	arrival := binary.BigEndian.Uint64(k)
	if s.journal.Get(k) == nil {
		s.found("journal record", nil, crdt.Dot{}, fixNone, damaged("journal record", arrival, "found by walking, but not by its number"))
	}
	var err error
	switch kind := recordKind(b); kind {
	case RecordAdoption, RecordCollection:
		_, err = decodeAdoption(b, arrival)
	case RecordDrop:
		_, err = decodeDrop(b, arrival, s.ids)
	default:
		var rec *record
		if rec, err = decodeVersionRecord(b, arrival, s.ids); err == nil && kind == RecordVersion && rec.flags&flagDeadOnArrival == 0 {
			return s.joined(rec, arrival)
		}
	}
	if err != nil {
		s.tell(Problem{What: "journal record", Err: err, fix: fixRecord, arrival: arrival})
	}
	return nil
}

// joined checks that a version that became a sibling is one now, or dead.
func (s *scrubber) joined(rec *record, arrival uint64) error {
	v := &rec.version
	if decodeHead(s.heads.Get(v.Key), v.Key, &s.head) != nil {
		return nil // the walk of the heads finds it
	}
	if s.head.find(s.facts.number(v.Dot.Replica), v.Dot.Seq) >= 0 || s.unknown.Has(v.Dot) {
		return nil
	}
	dead, readable, err := s.facts.isDead(v.Dot)
	if err != nil || dead || !readable {
		return err
	}
	if held, err := s.facts.elsewhere(v.Dot, arrival); err != nil || held {
		return err
	}
	s.found("head", v.Key, v.Dot, fixHead, damaged("head", arrival, "a version that the journal has as live is no sibling of its key"))
	return nil
}

// expiries checks that entries of the expiry index say what their records say.
// Entries of versions that are live no more may stand until they are due.
func (s *scrubber) expiries() []byte {
	c := s.tx.Bucket(s.names.expiry).Cursor()
	k, key := c.Seek(s.pass.at)
	for ; k != nil; k, key = c.Next() {
		if s.left == 0 {
			return bytes.Clone(k)
		}
		s.left--
		if len(k) != 16 {
			s.found("expiry", k, crdt.Dot{}, fixExpiry, damaged("expiry index", uint64(len(k)), "key not 16 bytes"))
			continue
		}
		arrival := binary.BigEndian.Uint64(k[8:])
		rec, err := s.record(arrival)
		if err == nil && (!bytes.Equal(rec.version.Key, key) || !bytes.Equal(expiryKey(rec.version.Expiry(), arrival), k)) {
			s.found("expiry", k, rec.version.Dot, fixExpiry, damaged("expiry index", arrival, "not what the version says"))
		}
	}
	return nil
}

// keys checks heads, what they name and what is listed beside them.
func (s *scrubber) keys() ([]byte, error) {
	start := s.pass.at
	var next, previous []byte
	for key, e := range s.Heads(start, s.end) {
		if s.left == 0 {
			next = bytes.Clone(key)
			break
		}
		s.left--
		if previous != nil && bytes.Compare(previous, key) >= 0 {
			s.found("head", key, crdt.Dot{}, fixNone, damaged("head", 0, "keys out of order"))
		}
		previous = append(previous[:0], key...)
		if s.heads.Get(key) == nil {
			s.found("head", key, crdt.Dot{}, fixNone, damaged("head", 0, "found by walking, but not by its key"))
		}
		if !s.partial.ranges.Has(key) {
			s.found("head", key, crdt.Dot{}, fixNone, damaged("head", 0, "out of the scope that is held here"))
		}
		if err := decodeHead(e.raw, key, &s.head); err != nil {
			s.found("head", key, crdt.Dot{}, fixHead, err)
			continue
		}
		if s.head.tally().conflict && s.tx.Bucket(s.names.conflicts).Get(key) == nil {
			s.found("conflict", key, crdt.Dot{}, fixIndex, damaged("conflict index", 0, "a key is missing"))
		}
		s.siblings(key)
	}
	bound := next
	if bound == nil {
		bound = s.end
	}
	for key := range s.Conflicts(start, bound) {
		if decodeHead(s.heads.Get(key), key, &s.head) == nil && !s.head.tally().conflict {
			s.found("conflict", key, crdt.Dot{}, fixIndex, damaged("conflict index", 0, "a key without conflict"))
		}
	}
	return next, nil
}

// siblings checks the versions that the head just decoded names.
func (s *scrubber) siblings(key []byte) {
	for _, l := range s.head.siblings {
		dot := s.dotOf(l)
		if dot.Replica.IsZero() || dot.Seq == 0 {
			s.found("head", key, crdt.Dot{}, fixHead, damaged("head", l.arrival, "names no version"))
			continue
		}
		version, err := s.load(key, l)
		if err != nil {
			if _, unread := s.record(l.arrival); unread != nil {
				s.lose("version", key, dot, err)
			} else { // another version lies there
				s.found("version", key, dot, fixHead, err)
			}
			continue
		}
		ms := version.Expiry()
		if ms != 0 && !bytes.Equal(s.tx.Bucket(s.names.expiry).Get(expiryKey(ms, l.arrival)), key) {
			s.found("expiry", key, dot, fixIndex, damaged("expiry index", l.arrival, "missing"))
		}
		switch {
		case s.unknown.Has(dot):
			s.found("dot", key, dot, fixIndex, damaged("dot "+dot.String(), l.arrival, "taken for lost, but it can be read"))
		case !s.clock.Has(dot):
			s.found("dot", key, dot, fixIndex, damaged("dot "+dot.String(), l.arrival, "held, but not in the clock"))
		case l.arrival <= s.state.mark && s.facts.listed(l.id, l.seq) != l.arrival:
			s.found("dot", key, dot, fixIndex, damaged("dots view of "+dot.String(), l.arrival, "live, but not listed"))
		}
	}
}

// dotBlocks checks that what the dots view lists is live.
func (s *scrubber) dotBlocks() ([]byte, error) {
	c := s.tx.Bucket(s.names.dots).Cursor()
	k, b := c.Seek(s.pass.at)
	for ; k != nil; k, b = c.Next() {
		if s.left <= 0 {
			return bytes.Clone(k), nil
		}
		s.left--
		if err := s.checkBlockKey("dots block", k); err != nil {
			s.found("dots block", k, crdt.Dot{}, fixBlock, err)
			continue
		}
		id := binary.BigEndian.Uint32(k)
		entries, err := decodeDotBlock(b, k, binary.BigEndian.Uint64(k[4:]))
		if err != nil {
			s.found("dots block", k, crdt.Dot{}, fixBlock, err)
		}
		for _, e := range entries {
			s.left--
			if err := s.dotEntry(id, e); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// dotEntry checks one entry of the dots view.
func (s *scrubber) dotEntry(id uint32, e dotEntry) error {
	dot := crdt.Dot{Replica: s.ids.at(id), Seq: e.seq}
	dead, _ := s.facts.inBitmap(id, e.seq)
	rec, err := s.record(e.arrival)
	unread := errors.Is(err, ErrCorrupt)
	if err != nil && !unread {
		return err
	}
	var key []byte
	held := false
	if !unread && rec.version.Dot == dot {
		key = rec.version.Key
		if decodeHead(s.heads.Get(key), key, &s.head) != nil {
			return nil // the walk of the heads found it
		}
		i := s.head.find(id, e.seq)
		held = i >= 0 && s.head.siblings[i].arrival == e.arrival
	}
	if held && dead {
		s.found("dot", key, dot, fixHead, damaged("dot "+dot.String(), e.seq, "both live and dead"))
	}
	if held {
		return nil
	}
	d, err := s.facts.delta()
	if err != nil {
		return err
	}
	if _, moved := d.lived[dot]; moved || d.died.Has(dot) || s.unknown.Has(dot) {
		return nil
	}
	if unread && !dead {
		s.lose("version", nil, dot, damaged("version "+dot.String(), e.arrival, "its record cannot be read"))
		return nil
	}
	s.tell(Problem{
		What: "dot", Key: bytes.Clone(key), Dot: dot, View: true, fix: fixEntry,
		Err: damaged("dots view of "+dot.String(), e.arrival, "listed, but not live there"),
	})
	return nil
}

// tiles compares a part of the Merkle index, brought to now, with the live
// versions.
func (s *scrubber) tiles() ([]byte, error) {
	if s.tx.Bucket(s.names.tree) == nil {
		return nil, nil
	}
	var next []byte
	t, err := s.storedTree(s.leaves(), nil)
	if t != nil && err == nil {
		next, err = t.Index.VerifyPart(s.pass.at, uint64(s.left))
		s.left = 0
	}
	var lost *Damage
	if errors.As(err, &lost) {
		return nil, nil // reported already; no leaf can be compared with it
	}
	if errors.Is(err, ErrCorrupt) {
		s.found("tree", nil, crdt.Dot{}, fixTree, err)
		return nil, nil
	}
	return slices.Clone(next), err
}

// counters compares the counts that commits keep with the heads. O(keys).
func (s *scrubber) counters() error {
	var sum drift
	c := s.heads.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if decodeHead(b, k, &s.head) != nil {
			return nil // it is derived again first
		}
		sum.add(s.head.tally())
	}
	sum = drift{
		keys: s.state.keys - sum.keys, versions: s.state.versions - sum.versions,
		tombs: s.state.tombs - sum.tombs, conflicts: s.state.conflicts - sum.conflicts,
	}
	if sum != (drift{}) {
		s.tell(Problem{
			What: "counts", View: true, fix: fixDrift, drift: sum,
			Err: damaged("counts", s.state.arrival, fmt.Sprintf("off by %d keys, %d versions, %d tombstones, %d conflicts",
				int64(sum.keys), int64(sum.versions), int64(sum.tombs), int64(sum.conflicts))),
		})
	}
	return nil
}

// drift is by how much the namespace's counters are too high, modulo 2^64.
type drift struct{ keys, versions, tombs, conflicts uint64 }

func (d *drift) add(t tally) {
	d.keys += uint64(min(t.live, 1))
	d.versions += uint64(t.live)
	d.tombs += uint64(t.tombs)
	if t.conflict {
		d.conflicts++
	}
}
