package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
)

// Applied counts what a Batch took in from others.
type Applied struct {
	New       int // versions that were not known
	Known     int // versions that were live or dead here already
	Repaired  int // versions that damage had taken from here
	Conflicts int // new versions that stand beside others of their key
	Forks     int // dots that were used for two versions (KERNEL K2 (1)): an alarm
	Adopted   int // dots taken over as dead
	Dropped   int // live versions dropped on the peer's claim
	Kept      int // live versions that a claim named and that stay for now: see Batch.Drop
	Outside   int // versions that were not taken: their keys are out of scope here
	Late      int // versions out of gaps of retired replicas: see Retirement
}

// Add sums counts.
func (a *Applied) Add(o Applied) {
	a.New += o.New
	a.Known += o.Known
	a.Repaired += o.Repaired
	a.Conflicts += o.Conflicts
	a.Forks += o.Forks
	a.Adopted += o.Adopted
	a.Dropped += o.Dropped
	a.Kept += o.Kept
	a.Outside += o.Outside
	a.Late += o.Late
}

// Apply takes in versions from outside (KERNEL K2). Versions that are live or
// dead here are ignored, so that order, repetition and overlap do not matter.
// An invalid version fails the whole batch.
func (b *Batch) Apply(versions []*crdt.Version) (Applied, error) {
	var sum Applied
	for _, v := range versions {
		if err := v.Validate(); err != nil {
			return sum, err
		}
		if err := b.receive(v, &sum); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// receive applies one version.
func (b *Batch) receive(v *crdt.Version, sum *Applied) error {
	r := b.r
	if !r.partial.ranges.Has(v.Key) {
		sum.Outside++
		return nil
	}
	if r.outdated(v) {
		sum.Known++
		return nil
	}
	if v.Dot.Replica == r.self && v.Dot.Seq > r.clock.Of(r.self).Max() {
		r.forked = true // someone else writes under our id
	}
	if r.isLate(v.Dot) && (r.unknown.Has(v.Dot) || !r.clock.Has(v.Dot)) {
		sum.Late++
	}
	switch {
	case r.unknown.Has(v.Dot):
		sum.Repaired++
		if err := b.evict(v.Key, v.Dot, v.Kind); err != nil {
			return err
		}
		b.forget(v.Dot)
	case r.clock.Has(v.Dot):
		known, err := b.settle(v, sum)
		if known || err != nil {
			return err
		}
	default:
		sum.New++
	}
	r.state.hlc = r.state.hlc.Observe(v.Time, b.now, r.cfg.MaxDrift)
	if err := b.insert(v); err != nil {
		return err
	}
	if len(b.head.siblings) > 1 {
		sum.Conflicts++
	}
	return nil
}

// settle handles a version whose dot was seen before. It returns known if
// nothing is left to do.
func (b *Batch) settle(v *crdt.Version, sum *Applied) (known bool, err error) {
	r := b.r
	dead, err := r.isDead(b.tx, v.Dot)
	if err != nil {
		return false, err
	}
	if dead {
		sum.Known++
		return true, nil
	}
	arrival, err := r.liveArrival(b.tx, v.Dot)
	if err != nil {
		return false, err
	}
	if arrival == 0 { // in the clock, neither live nor dead: damage took it
		sum.Repaired++
		return false, b.evict(v.Key, v.Dot, v.Kind)
	}
	rec, err := b.record(arrival)
	if errors.Is(err, ErrCorrupt) {
		sum.Repaired++
		return false, b.evict(v.Key, v.Dot, v.Kind)
	}
	if err != nil {
		return false, err
	}
	mine := rec.version
	theirs, ours := v.Digest(), mine.Digest()
	if theirs == ours {
		held, err := b.holds(v.Dot, r.ids.byID[v.Dot.Replica], arrival)
		if err != nil || held {
			sum.Known++
			return true, err
		}
		sum.Repaired++ // the head has lost it
		return false, b.evict(v.Key, v.Dot, v.Kind)
	}
	sum.Forks++
	if v.Dot.Replica == r.self {
		r.forked = true // somebody else writes under our id, or this store went back in time
	}
	if bytes.Compare(theirs[:], ours[:]) > 0 || mutant("tie by arrival") {
		return true, nil // ours keeps the dot; its other holder writes theirs anew
	}
	return false, b.yieldDot(&mine)
}

// yieldDot gives a dot up to another version (KERNEL K2 (1)): ours is taken
// out and its content written again under a dot of our own, with the same
// context.
func (b *Batch) yieldDot(mine *crdt.Version) error {
	r := b.r
	if r.self.IsZero() || r.forked {
		return fmt.Errorf("dot %s used twice: %w", mine.Dot, ErrForked)
	}
	again := *mine
	again.Key, again.Value = slices.Clone(mine.Key), slices.Clone(mine.Value)
	if mine.Value != nil && again.Value == nil {
		again.Value = []byte{}
	}
	if err := b.evict(again.Key, mine.Dot, mine.Kind); err != nil {
		return err
	}
	seq := r.clock.Of(r.self).Max() + 1
	again.Dot = crdt.Dot{Replica: r.self, Seq: seq}
	again.First, again.Last = seq, seq
	// A context must not name the dot's own future; ours never does.
	return b.insert(&again)
}

// evict removes a sibling from its key's head without a word in the journal:
// its record is lost, or its dot belongs to another version now.
func (b *Batch) evict(key []byte, dot crdt.Dot, kind crdt.Kind) error {
	b.healing = true
	id, known := b.r.ids.byID[dot.Replica]
	if !known {
		return nil
	}
	if err := b.readHead(key); err != nil {
		return err
	}
	i := b.head.find(id, dot.Seq)
	if i < 0 {
		return b.uncount(key, dot, kind)
	}
	if err := b.discard(b.head.siblings[i]); err != nil {
		return err
	}
	before := b.head.tally()
	b.head.siblings = slices.Delete(b.head.siblings, i, i+1)
	return b.putHead(key, &b.head, before)
}

// discard removes the record of a version if it cannot be read any more: what
// replaces it is there, and damage that is healed is no finding.
func (b *Batch) discard(s sibling) error {
	rec, err := b.record(s.arrival)
	if err == nil && rec.version.Dot == b.dotOf(s) || err != nil && !errors.Is(err, ErrCorrupt) {
		return nil
	}
	b.r.state.removed++
	return b.journal.Delete(arrivalKey(s.arrival))
}

// MarkUnknown notes dots whose versions damage has taken: they leave the
// advertised clock, so that a peer sends them again (KERNEL K3). Dots that are
// not in the clock are ignored.
func (b *Batch) MarkUnknown(dots crdt.Clock) error {
	for _, r := range dots.Replicas() {
		lost := b.r.clock.Of(r).Intersect(dots.Of(r))
		if lost.IsEmpty() {
			continue
		}
		b.r.unknown.Merge(crdt.ClockOf(r, lost))
		if err := b.putSet(metaUnknown, r, b.r.unknown.Of(r)); err != nil {
			return err
		}
	}
	return nil
}

// forget takes a dot out of the unknown ones; Finish writes the change.
func (b *Batch) forget(d crdt.Dot) {
	s := b.r.unknown.Of(d.Replica).Clone()
	s.RemoveRange(d.Seq, d.Seq)
	b.r.unknown.Set(d.Replica, s)
	b.healed[d.Replica] = true
}

// Adopt takes over a sender's clock after its complete stream was applied in
// this batch or before (KERNEL K5): the dots that are not known here become
// dead, and the gone marks join ours. The caller vouches that everything live
// among these dots has arrived.
func (b *Batch) Adopt(dots, gone crdt.Clock) (Applied, error) {
	r := b.r
	if r.partial.ranges != nil {
		return Applied{}, fmt.Errorf("clock of a namespace of which only a part is held: %w", ErrInvalid)
	}
	fresh := dots.Minus(r.clock)
	fresh.Merge(dots.Meet(r.unknown)) // damage had taken them: now they are known to be dead
	for _, id := range fresh.Replicas() {
		theirs := fresh.Of(id)
		jump := theirs.Max() > r.clock.Of(id).Max()+maxJump || theirs.Count() > maxJump
		if jump && !mutant("poisoned clock") {
			return Applied{}, fmt.Errorf("clock of %s jumps to %d: %w", id, theirs.Max(), ErrInvalid)
		}
		if id == r.self && theirs.Max() > r.clock.Of(id).Max() {
			r.forked = true
		}
	}
	for _, id := range gone.Replicas() {
		if n := gone.Of(id).Max(); n > max(r.clock.Of(id).Max(), dots.Of(id).Max())+maxJump && !mutant("poisoned clock") {
			return Applied{}, fmt.Errorf("gone mark of %s jumps to %d: %w", id, n, ErrInvalid)
		}
	}
	if err := b.raiseGone(gone); err != nil {
		return Applied{}, err
	}
	b.adopted = b.adopted || !dots.IsEmpty() || !gone.IsEmpty()
	if fresh.IsEmpty() {
		return Applied{}, nil
	}
	for _, id := range fresh.Replicas() {
		if _, err := b.intern(id); err != nil {
			return Applied{}, err
		}
		b.dirty[id] = true
	}
	if lost := fresh.Meet(r.unknown); !lost.IsEmpty() {
		if _, err := b.dropStray(lost, crdt.ReplicaID{}); err != nil {
			return Applied{}, err
		}
	}
	if err := b.appendDots(RecordAdoption, fresh); err != nil {
		return Applied{}, err
	}
	b.found(fresh)
	r.clock.Merge(fresh)
	r.delta.dieAll(fresh)
	return Applied{Adopted: int(fresh.Count())}, nil
}

// raiseGone joins gone marks by the maximum.
func (b *Batch) raiseGone(gone crdt.Clock) error {
	for _, id := range gone.Replicas() {
		if n := gone.Of(id).Max(); n > b.r.gone.Of(id).Max() {
			b.r.gone.AddRange(id, 1, n)
			if err := b.putSet(metaGone, id, b.r.gone.Of(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// found takes dots out of the unknown ones; Finish writes the change.
func (b *Batch) found(dots crdt.Clock) {
	unknown := b.r.unknown
	for _, id := range unknown.Replicas() {
		if lost := unknown.Of(id); !dots.Of(id).IsEmpty() {
			unknown.Set(id, lost.Minus(dots.Of(id)))
			b.healed[id] = true
		}
	}
}

// appendDots appends a record of dots that became dead without a version: of
// an adoption or a collection.
//
//	kind u8 | time u64 | clock | crc32c u32
func (b *Batch) appendDots(kind RecordKind, dots crdt.Clock) error {
	b.r.state.arrival++
	key := arrivalKey(b.r.state.arrival)
	rec := binary.BigEndian.AppendUint64([]byte{byte(kind)}, uint64(b.now))
	return b.journal.Put(key, seal(dots.Append(rec), 0, key))
}

// adoption is a decoded record of an adoption or a collection.
type adoption struct {
	time crdt.HLC // of this node's clock when it was written
	dots crdt.Clock
}

// decodeAdoption reads what appendDots wrote.
func decodeAdoption(b []byte, arrival uint64) (adoption, error) {
	body, err := unsealJournal(b, arrival)
	if err != nil {
		return adoption{}, err
	}
	rd := reader{b: body}
	kind := RecordKind(rd.byte())
	a := adoption{time: crdt.HLC(rd.u64())}
	if rd.bad || kind != RecordAdoption && kind != RecordCollection {
		return adoption{}, damaged("journal record", arrival, "malformed adoption or collection")
	}
	dots, rest, err := crdt.DecodeClock(rd.b)
	if err != nil || len(rest) > 0 {
		return adoption{}, damaged("journal record", arrival, "malformed adoption or collection")
	}
	a.dots = dots
	return a, nil
}
