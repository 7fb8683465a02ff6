package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
	"bzzz/merkle/sketch"
	"bzzz/merkle/walk"
)

// A repair compares the live versions of two snapshots and brings what differs
// together, where clocks alone do not tell: the peer collected deletes that we
// have not seen (KERNEL K4), or equal clocks have unequal roots. Both sides take
// a snapshot after the other's CHECK arrived and keep it to the end.
//
//	REPAIR  both ways: how to compare, and the roots; equal ones need no more
//	CELLS   from the responder, as many as the initiator asks for (MORE), or
//	WALK    to and fro
//	OFFER   the dots of our live versions that the other may lack
//	FIX     which of them it wants, and which it knows to be dead
//	BATCH   what is wanted, and whatever the other's clock lacks besides
//	DONE    what may be adopted: everything has been compared and sent
//
// In the transaction of the last batch the receiver drops what the other knows
// to be dead, after what it sent was taken in (K7), and adopts its clock.
type repair struct {
	snap Snapshot
	mode wire.Mode
	mine wire.Repair

	enc  *sketch.Encoder
	dec  *sketch.Decoder
	walk *walk.Walk
	tree *replica.Tree // that is walked
	salt [16]byte
	part int // of the scope that is walked

	offer    crdt.Clock // of ours, what the peer may lack
	want     crdt.Clock // of ours, what the peer wants
	dead     crdt.Clock // of ours, what the peer knows to be dead
	answered bool       // the peer's REPAIR arrived
	offered  bool       // our OFFER was sent, or none is due
	fixed    bool       // our FIX was sent, or none is due
	gotFix   bool       // the peer's arrived, or none is due
	damaged  bool       // nothing may be dropped or adopted
}

// maxRounds is how many comparisons follow each other at most: one that does
// not bring agreement is followed by a walk with other salt and longer digests.
const maxRounds = 3

// maxOffer bounds the dots that one comparison brings together; what is beyond
// comes with the next.
const maxOffer = 1 << 20

// startRepair begins a comparison. Both sides know from both CHECKs that it is
// due.
func (sp *space) startRepair() error {
	snap, err := sp.s.host.Snapshot(sp.name)
	if err != nil {
		return err
	}
	r := &repair{snap: snap, mode: wire.ModeSketch, offer: crdt.NewClock(), want: crdt.NewClock(), dead: crdt.NewClock()}
	sp.phase, sp.repair, sp.sentDone, sp.gotDone = repairing, r, false, false
	switch {
	case sp.rounds == 0 && sp.scope == nil:
	case sp.rounds == 0 || sp.rounds == 1 && sp.scope == nil:
		r.mode = wire.ModeWalk // the sketch is one of the whole namespace
	default:
		r.mode = wire.ModeCareful
	}
	sp.rounds++
	sp.report.Rounds++
	if sp.s.cfg.Initiator {
		return sp.sendRepair()
	}
	return nil
}

// sendRepair shows our root, with a salt of our own.
func (sp *space) sendRepair() error {
	r := sp.repair
	root, err := sp.rootOf(r.snap)
	if err != nil {
		return err
	}
	r.mine = wire.Repair{NS: sp.index, Mode: r.mode, Root: root, Keys: sp.size}
	r.mine.Salt = sp.s.salt()
	if r.mode == wire.ModeSketch && sp.s.cfg.Initiator {
		r.mine.Cells = firstCells
	}
	sp.s.send(wire.TypeRepair, r.mine.Append(nil))
	return nil
}

// salt returns the next 8 bytes of salt: of the session's own, which is random,
// and a count.
func (s *Session) salt() [8]byte {
	s.salts++
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(append([]byte("repair"), s.own[:]...), s.salts))
	return [8]byte(sum[:8])
}

// repairOf returns the namespace of a frame that belongs to a comparison.
func (s *Session) repairOf(ns uint64, t wire.Type) (*space, error) {
	sp, err := s.space(ns)
	if err != nil {
		return nil, err
	}
	if sp.phase != repairing {
		return nil, fmt.Errorf("%s of %q out of turn: %w", t, sp.name, errs.ErrInvalid)
	}
	return sp, nil
}

// onRepair takes in how the peer wants to compare, or its agreement.
func (s *Session) onRepair(payload []byte) error {
	m, err := wire.DecodeRepair(payload)
	if err != nil {
		return err
	}
	sp, err := s.repairOf(m.NS, wire.TypeRepair)
	if err != nil {
		return err
	}
	r := sp.repair
	if sp.scope != nil && m.Mode == wire.ModeSketch {
		return fmt.Errorf("REPAIR of a part of %q by sketch: %w", sp.name, errs.ErrInvalid)
	}
	if r.fixed || r.offered {
		return fmt.Errorf("REPAIR of %q after its end: %w", sp.name, errs.ErrInvalid)
	}
	if s.cfg.Initiator {
		if r.answered || m.Mode != r.mode {
			return fmt.Errorf("REPAIR of %q out of turn: %w", sp.name, errs.ErrInvalid)
		}
	} else {
		if r.answered && m.Mode <= r.mode { // only to a surer way
			return fmt.Errorf("REPAIR of %q goes back to mode %d: %w", sp.name, m.Mode, errs.ErrInvalid)
		}
		r.mode, r.enc, r.walk, r.offer = m.Mode, nil, nil, crdt.NewClock()
		if err := sp.sendRepair(); err != nil {
			return err
		}
	}
	r.answered = true
	if m.Root == r.mine.Root && m.Root != [32]byte{} {
		sp.note("equal")
		r.offered, r.fixed, r.gotFix = true, true, true
		return sp.startStream()
	}
	return sp.compareBy(m)
}

// compareBy begins the comparison in the mode agreed upon.
func (sp *space) compareBy(m wire.Repair) error {
	r, initiator := sp.repair, sp.s.cfg.Initiator
	first, second := r.mine.Salt, m.Salt
	if !initiator {
		first, second = second, first
	}
	if r.mode == wire.ModeSketch {
		if r.mine.Root == [32]byte{} || m.Root == [32]byte{} {
			// Damage that the sketch does not see, which knows only the heads.
			if initiator {
				return sp.walkInstead()
			}
			return nil
		}
		sp.note("sketch")
		if initiator {
			return nil // cells are under way
		}
		own, err := r.snap.Sketch()
		if err != nil {
			return err
		}
		salt := binary.LittleEndian.Uint64(first[:]) ^ binary.LittleEndian.Uint64(second[:])
		if r.enc, err = sketch.NewEncoder(own.Sketch, salt|1, sp.s.sizes.cells); err != nil {
			return err
		}
		return sp.sendCells(m.Cells)
	}
	sp.note("tree")
	var err error
	if r.tree, err = r.snap.LenientTree(); err != nil {
		return err
	}
	r.salt, r.part = [16]byte(append(first[:], second[:]...)), 0
	return sp.startWalk()
}

// startWalk begins the walk of the tree, or of the next part of the scope.
func (sp *space) startWalk() error {
	r := sp.repair
	cfg := walk.Config{Initiator: sp.s.cfg.Initiator, Salt: r.salt, Cut: 4}
	if r.mode == wire.ModeCareful {
		cfg.Cut = 8
	}
	if sp.scope != nil {
		cfg.Prefix = sp.scope[r.part]
	}
	var err error
	if r.walk, err = walk.New(r.tree.Index, cfg); err != nil || !cfg.Initiator {
		return err
	}
	out, err := r.walk.Start()
	if err != nil {
		return err
	}
	sp.s.send(wire.TypeWalk, wire.Part{NS: sp.index, Data: out}.Append(nil))
	return nil
}

// endWalk goes on to the next part of the scope, or to what the walks found.
func (sp *space) endWalk() error {
	r := sp.repair
	if r.part++; r.part < len(sp.scope) {
		return sp.startWalk()
	}
	sp.sendOffer()
	return nil
}

// note keeps the deepest tier that a namespace needed.
func (sp *space) note(tier string) {
	if tier != "equal" {
		sp.report.Tier = tier
	}
}

// sendCells sends the next cells of the sketch.
func (sp *space) sendCells(n uint64) error {
	r := sp.repair
	if n == 0 || n > maxPart || r.enc.Sent() == r.enc.Header().Cells {
		return fmt.Errorf("%d cells of %q after %d asked for: %w", n, sp.name, r.enc.Sent(), errs.ErrInvalid)
	}
	var b []byte
	if r.enc.Sent() == 0 {
		b = r.enc.Header().Append([]byte{0})
		b[0] = byte(len(b) - 1)
	}
	m := wire.Part{NS: sp.index, Data: r.enc.AppendCells(b, int(n))}
	sp.s.send(wire.TypeCells, m.Append(nil))
	return nil
}

func (s *Session) onMore(payload []byte) error {
	m, err := wire.DecodeMore(payload)
	if err != nil {
		return err
	}
	sp, err := s.repairOf(m.NS, wire.TypeMore)
	if err != nil {
		return err
	}
	if sp.repair.enc == nil {
		return fmt.Errorf("MORE of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	return sp.sendCells(m.Cells)
}

// onCells peels the peer's sketch.
func (s *Session) onCells(payload []byte) error {
	m, err := wire.DecodePart(payload)
	if err != nil {
		return err
	}
	sp, err := s.repairOf(m.NS, wire.TypeCells)
	if err != nil {
		return err
	}
	r := sp.repair
	if !s.cfg.Initiator || !r.answered || r.mode != wire.ModeSketch || r.fixed {
		return fmt.Errorf("CELLS of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	err = sp.peel(m.Data)
	if errors.Is(err, sketch.ErrGiveUp) || errors.Is(err, sketch.ErrInconsistent) {
		return sp.walkInstead() // too much differs, or the cells are no set's
	}
	return err
}

// walkInstead begins the comparison anew, by the tree.
func (sp *space) walkInstead() error {
	r := sp.repair
	r.mode, r.dec, r.answered, r.offer = wire.ModeWalk, nil, false, crdt.NewClock()
	return sp.sendRepair()
}

// peel takes in cells and goes on from there.
func (sp *space) peel(cells []byte) error {
	r := sp.repair
	if r.dec == nil {
		if len(cells) == 0 || int(cells[0]) >= len(cells) {
			return fmt.Errorf("sketch without a header: %w", errs.ErrInvalid)
		}
		h, err := sketch.ParseHeader(cells[1 : 1+cells[0]])
		if err != nil {
			return err
		}
		rest := cells[1+cells[0]:]
		own, err := r.snap.Sketch()
		if err != nil {
			return err
		}
		if r.dec, err = sketch.NewDecoder(own.Sketch, h, 0); err != nil {
			return err
		}
		cells = rest
	}
	if err := r.dec.AddCells(cells); err != nil {
		return err
	}
	if r.dec.Done() {
		return sp.found()
	}
	n := moreCells(r.dec)
	if n == 0 {
		return sketch.ErrGiveUp
	}
	sp.s.send(wire.TypeMore, wire.More{NS: sp.index, Cells: uint64(n)}.Append(nil))
	return nil
}

// found tells what the sketch has shown: what only we have is offered, what only
// the peer has is wanted, unless it is known to be dead here.
func (sp *space) found() error {
	r := sp.repair
	names := tagged(sp.has, r.snap.Clock())
	theirs, ok := dotsOf(r.dec.Theirs(), names)
	ours, ok2 := dotsOf(r.dec.Ours(), names)
	if !ok || !ok2 {
		// A replica that neither clock knows: the peer has moved on since, or it
		// makes items up. Names are needed, so the tree has to tell.
		return fmt.Errorf("item of an unknown replica: %w", sketch.ErrInconsistent)
	}
	r.offer = ours
	r.want = ours.Meet(theirs) // used for two versions: the peer would say that it has them
	sp.sendOffer()
	return sp.sendFix(theirs, false)
}

// tagged returns the replicas of both clocks by the tags that items bear.
func tagged(clocks ...crdt.Clock) map[uint32][]crdt.ReplicaID {
	out := map[uint32][]crdt.ReplicaID{}
	seen := map[crdt.ReplicaID]bool{}
	for _, c := range clocks {
		for _, id := range c.Replicas() {
			if !seen[id] {
				seen[id] = true
				tag := replica.SketchTag(id)
				out[tag] = append(out[tag], id)
			}
		}
	}
	return out
}

// dotsOf returns the dots that items name, false if one is of no replica known.
// Of replicas with one tag (once in 2^32) each is named: a dot too many is
// looked up in vain.
func dotsOf(items []sketch.Item, names map[uint32][]crdt.ReplicaID) (crdt.Clock, bool) {
	out := crdt.NewClock()
	for _, it := range items {
		tag, seq, _ := replica.SketchItem(it)
		if len(names[tag]) == 0 || seq == 0 {
			return out, false
		}
		for _, id := range names[tag] {
			out.AddRange(id, seq, seq)
		}
	}
	return out, true
}

// onWalk goes on with the walk.
func (s *Session) onWalk(payload []byte) error {
	m, err := wire.DecodePart(payload)
	if err != nil {
		return err
	}
	sp, err := s.repairOf(m.NS, wire.TypeWalk)
	if err != nil {
		return err
	}
	r := sp.repair
	if r.walk == nil || r.offered || r.fixed && r.gotFix { // the stream has begun, which releases what the walk reads
		return fmt.Errorf("WALK of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	out, done, err := r.walk.Receive(m.Data)
	for key, err := range r.walk.Offers() {
		if err != nil {
			return err
		}
		if err := sp.offerKey(key); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if out != nil {
		s.send(wire.TypeWalk, wire.Part{NS: sp.index, Data: out}.Append(nil))
	}
	if done {
		return sp.endWalk()
	}
	return nil
}

// offerKey adds the live versions of a key that the walk found to differ.
func (sp *space) offerKey(key []byte) error {
	r := sp.repair
	if r.offer.Count() >= maxOffer {
		r.damaged = true // not all was compared: nothing may be adopted
		return nil
	}
	dots, err := r.snap.LiveDots(key)
	if errors.Is(err, errs.ErrCorrupt) {
		r.damaged = true // the peer's offer of this key will bring it back
		return nil
	}
	for _, d := range dots {
		r.offer.Add(d)
	}
	return err
}

func (sp *space) sendOffer() {
	r := sp.repair
	r.offered = true
	sp.s.send(wire.TypeOffer, wire.Offer{NS: sp.index, Dots: r.offer}.Append(nil, sp.s.cfg.Zstd))
}

// onOffer answers what the peer offers.
func (s *Session) onOffer(payload []byte) error {
	m, err := wire.DecodeOffer(payload, s.cfg.Zstd)
	if err != nil {
		return err
	}
	sp, err := s.repairOf(m.NS, wire.TypeOffer)
	if err != nil {
		return err
	}
	if !sp.repair.answered || sp.repair.fixed || sp.repair.mode == wire.ModeSketch && s.cfg.Initiator {
		return fmt.Errorf("OFFER of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	if n := m.Dots.Count(); n > 2*maxOffer {
		return fmt.Errorf("OFFER of %d versions of %q: %w", n, sp.name, errs.ErrTooLarge)
	}
	// At last everything is looked at again: a dot used for two versions is held
	// by both sides.
	return sp.sendFix(m.Dots, sp.repair.mode != wire.ModeCareful)
}

// sendFix sorts live versions of the peer into those that are wanted and those
// that are known to be dead here (KERNEL K3), in the snapshot that is compared.
// What is held already is neither; known tells that this has to be looked up.
func (sp *space) sendFix(theirs crdt.Clock, known bool) error {
	r := sp.repair
	dead, err := r.snap.DeadWithin(theirs)
	if err != nil {
		return err
	}
	if mutant("claim from absence") {
		if dead, err = r.snap.NotHeld(theirs.Meet(r.snap.Clock())); err != nil {
			return err
		}
	}
	want := theirs.Minus(dead)
	if known {
		if want, err = r.snap.NotHeld(want); err != nil {
			return err
		}
	}
	if err := r.snap.Err(); err != nil {
		return err
	}
	if seen := want.Meet(r.snap.Clock()); !seen.IsEmpty() {
		// Neither live nor dead here: damage. It is taken back, and whatever else
		// may be missing here must not be made dead by the peer's clock (K3).
		r.damaged = true
		sp.report.Missing += int(seen.Count())
	}
	r.fixed = true
	sp.report.Diverged += int(r.offer.Count() + theirs.Count())
	m := wire.Fix{NS: sp.index, Want: want, Dead: dead}
	if answer := r.mode != wire.ModeSketch || !sp.s.cfg.Initiator; answer && !dead.IsEmpty() && theirs.Minus(want).Equal(dead) {
		m.Dead, m.Rest, m.Sum = crdt.NewClock(), true, wire.SumOf(dead)
	}
	sp.s.send(wire.TypeFix, m.Append(nil, sp.s.cfg.Zstd))
	return sp.startStream()
}

// onFix takes in what the peer wants and knows to be dead.
func (s *Session) onFix(payload []byte) error {
	m, err := wire.DecodeFix(payload, s.cfg.Zstd)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if sp.phase == live && m.Dead.IsEmpty() && !m.Rest {
		sp.asked.Merge(m.Want) // damage was found there, or is feared
		return nil
	}
	if sp.phase != repairing || sp.repair.gotFix || !sp.repair.answered {
		return fmt.Errorf("FIX of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	r := sp.repair
	if m.Rest {
		m.Dead = r.offer.Minus(m.Want)
		if !r.offered || m.Dead.IsEmpty() || wire.SumOf(m.Dead) != m.Sum {
			return fmt.Errorf("FIX of %q answers no OFFER: %w", sp.name, errs.ErrInvalid)
		}
	}
	r.gotFix = true
	r.want.Merge(m.Want)
	if !m.Dead.IsEmpty() {
		if sp.scope != nil && !r.offer.Contains(m.Dead) {
			return fmt.Errorf("FIX of a part of %q that claims more than was offered: %w", sp.name, errs.ErrInvalid)
		}
		held, err := s.host.MayDrop(sp.name, sp.journal, m.Dead, r.mine.Keys)
		if err != nil {
			return err
		}
		if held != nil && !mutant("brake ignored") { // K7: what is sent is taken in, nothing is dropped or adopted
			r.damaged, sp.report.Held = true, held
		} else {
			r.dead = m.Dead
		}
	}
	if mutant("drop without the adds") {
		if _, err := s.host.Apply(sp.name, nil, &Adoption{Drop: r.dead}); err != nil {
			return err
		}
	}
	return sp.startStream()
}

// startStream sends what the peer wants, once both sides have said what that is.
func (sp *space) startStream() error {
	r := sp.repair
	if !r.fixed || !r.gotFix {
		return nil
	}
	sp.has = sp.has.Minus(r.want)
	sp.openStream(r.snap, sp.has)
	return nil
}

// endRepair states what we have after a comparison, once both streams are
// complete.
func (sp *space) endRepair() error {
	if !sp.sentDone || !sp.gotDone {
		return nil
	}
	sp.repair = nil
	return sp.sendCheck()
}
