package session

import (
	"errors"
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// phase is how far a namespace of a session has come.
type phase byte

const (
	opening    phase = iota // initiator: WELCOME has not arrived
	awaitState              // the peer's clock has not arrived
	reconcile               // both clocks are known, streams are under way
	checking                // both streams are complete, the peer's CHECK has not arrived
	repairing               // live versions are compared
	live                    // nothing is left to do but to push
	refused                 // by either side; nothing moves
)

// space is one namespace of a session: a sender and a receiver.
type space struct {
	s      *Session
	name   string
	index  uint64
	scope  replica.Scope // what of it the session is about
	own    replica.Scope // what of it this node holds
	size   uint64        // keys of that
	phase  phase
	digest [16]byte // of our state when the session opened
	base   *Base    // what both may once have agreed on
	report NamespaceReport

	// Sender. has is what the peer is known to have: what its clock said, what
	// it sent, and what we sent it.
	has      crdt.Clock
	stream   *stream
	given    crdt.Clock // what the last complete stream let the peer adopt
	cursor   uint64     // journal record up to which the peer has been served
	number   uint64     // of the next DONE
	sentDone bool       // that of the reconcile, or of the comparison under way
	notified bool       // the journal may have grown
	asked    crdt.Clock // what the peer wants again, having lost it

	// Receiver.
	shown   crdt.Clock // the clock we showed; adoption needs the peer's gone marks within it
	pending []*crdt.Version
	held    weight // of pending
	bytes   int64  // payload of pending batches, as far as it is not credited
	expect  uint64
	behind  bool       // the peer's gone marks are beyond us: they are not ours to take
	gotDone bool       // the peer's DONE of the same was applied
	noted   crdt.Clock // what we have found to be lost
	sought  crdt.Clock // what we lost and asked the peer for

	mine, theirs *wire.Check // of the last reconcile or comparison
	repair       *repair
	rounds       int
	journal      [16]byte // the peer's, zero until its STATE arrived

	// History: see extra.go.
	past      *past // being sent
	pastAsked bool  // by the peer
	pastHeld  []*crdt.Version
	pastBytes int64
	pastDone  bool // all that we asked for is here

	checked bool // the peer's state has been compared
}

// stream is a snapshot being sent.
type stream struct {
	snap Snapshot
	next func() (*crdt.Version, error, bool)
	stop func()
	held *crdt.Version // did not fit into the last batch

	outside crdt.Clock // of the versions that were left out, their keys being out of scope
}

// stop ends a stream and its snapshot.
func (sp *space) stop() {
	if sp.stream != nil {
		sp.stream.stop()
		sp.stream.snap.Release()
		sp.stream = nil
	}
	if sp.repair != nil {
		sp.repair.snap.Release()
	}
}

// openStream begins to send what have lacks of a snapshot.
func (sp *space) openStream(snap Snapshot, have crdt.Clock) {
	st := &stream{snap: snap, outside: crdt.NewClock()}
	st.next, st.stop = iter.Pull2(st.within(sp.scope, snap.Missing(have, func(crdt.Dot) {}))) // finishStream finds what is lost
	sp.stream = st
}

// rootOf returns the root of a snapshot. Where damage keeps it from being
// computed it is zero, that of nobody, and the version in question is noted.
func (sp *space) rootOf(snap Snapshot) ([32]byte, error) {
	root, err := sp.extent(snap)
	if !errors.Is(err, errs.ErrCorrupt) {
		return root, err
	}
	sp.report.Err = err
	var lost *replica.Damage
	if errors.As(err, &lost) && lost.Dot.Seq != 0 && !snap.Unknown().Has(lost.Dot) {
		sp.lost(crdt.ClockOf(lost.Dot.Replica, crdt.NewSeqSet(crdt.Interval{Lo: lost.Dot.Seq, Hi: lost.Dot.Seq})))
	}
	return [32]byte{}, nil
}

// lost has versions noted that damage has taken, once.
func (sp *space) lost(dots crdt.Clock) {
	if dots = dots.Minus(sp.noted); dots.IsEmpty() {
		return
	}
	sp.noted.Merge(dots)
	sp.s.host.Lost(sp.name, dots)
	sp.report.Lost += int(dots.Count())
}

// withSnapshot calls fn with the current state.
func (sp *space) withSnapshot(fn func(Snapshot) error) error {
	snap, err := sp.s.host.Snapshot(sp.name)
	if err != nil {
		return err
	}
	defer snap.Release()
	return fn(snap)
}

// helloDigest is the salted digest of our state now. If it is equal to the
// peer's, the peer has what our clock says: that is remembered.
func (sp *space) helloDigest() ([16]byte, error) {
	err := sp.withSnapshot(func(snap Snapshot) error {
		root, err := sp.extent(snap)
		switch {
		case err == nil:
			sp.report.Root = root
		case errors.Is(err, errs.ErrCorrupt): // a digest that equals nobody's: clocks will tell
			self, journal := snap.Self(), snap.Journal()
			root, err = [32]byte(append(self[:], journal[:]...)), nil
		}
		sp.has, sp.cursor = snap.Seen().Clone(), snap.Arrival()
		sp.digest = helloDigest(sp.s.cfg.Salt, sp.name, root, sp.clocks(snap))
		return err
	})
	return sp.digest, err
}

// judge compares a peer's HELLO entry with our state.
func (sp *space) judge(e wire.Entry) (wire.Verdict, error) {
	err := sp.s.host.Accept(e.Namespace)
	if err != nil {
		sp.refuse(err)
		return wire.Verdict{Code: wire.Refused, Kind: errs.KindOf(err)}, nil
	}
	if whole, err := sp.limit(e.Prefixes); err != nil || !whole {
		return wire.Verdict{Code: wire.Narrowed, Prefixes: sp.scope}, err
	}
	digest, err := sp.helloDigest()
	if err != nil {
		return wire.Verdict{}, err
	}
	if digest == e.Digest {
		return wire.Verdict{Code: wire.Equal, Proof: proof(digest)}, sp.agree()
	}
	sp.phase = awaitState
	if e.Met {
		err = sp.propose(e.Hint[:])
	}
	return wire.Verdict{Code: wire.Differs}, err
}

// verdict takes in what the responder said.
func (sp *space) verdict(v wire.Verdict) error {
	switch v.Code {
	case wire.Equal:
		if v.Proof != proof(sp.digest) {
			return fmt.Errorf("namespace %q: peer claims equality without proof: %w", sp.name, errs.ErrInvalid)
		}
		return sp.agree()
	case wire.Refused:
		err := errs.Sentinel(v.Kind)
		if err == nil {
			err = errs.ErrUnavailable
		}
		sp.refuse(fmt.Errorf("peer refused: %w", err))
	case wire.Narrowed:
		return sp.narrow(v.Prefixes)
	default:
		sp.phase = awaitState
	}
	return nil
}

// agree notes that both sides hold the same without having sent anything. What
// was committed since the digest was taken is still to be pushed.
func (sp *space) agree() error {
	sp.notified = true
	sp.phase, sp.number, sp.expect = live, 1, 1
	sp.checked = true
	sp.report.InSync, sp.report.Tier = true, "equal"
	return sp.noteAgreed(sp.has, crdt.NewClock())
}

func (sp *space) refuse(err error) {
	sp.phase, sp.checked = refused, true
	sp.report.Err = err
}

// sendState shows our clock.
func (sp *space) sendState() error {
	return sp.withSnapshot(func(snap Snapshot) error { return sp.sendStateOf(snap) })
}

func (sp *space) sendStateOf(snap Snapshot) error {
	root, err := sp.rootOf(snap)
	if err != nil {
		return err
	}
	sp.shown = snap.Seen().Clone()
	if mutant("dots in flight in HELLO") {
		sp.shown.Merge(sp.has) // the peer has them, so they are on their way
	}
	m := wire.State{NS: sp.index, Snapshot: wire.Snapshot{
		Node: snap.Self(), Epoch: sp.s.host.Epoch(), Journal: snap.Journal(), Root: root,
		Count: sp.size, Clock: sp.shown, Gone: snap.Gone(),
	}}
	if b := sp.base; b != nil && m.Clock.Contains(b.Clock) && m.Gone.Contains(b.Gone) {
		m.Based, m.Base = true, b.Digest
		m.Clock, m.Gone = m.Clock.Minus(b.Clock), m.Gone.Minus(b.Gone)
	}
	sp.s.send(wire.TypeState, m.Append(nil, sp.s.cfg.Zstd))
	return nil
}

// onState takes in the peer's clock and opens our stream: its snapshot is
// taken now, after the clock arrived (K5).
func (s *Session) onState(payload []byte) error {
	m, err := wire.DecodeState(payload, s.cfg.Zstd)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if sp.phase != awaitState {
		return fmt.Errorf("STATE of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	if err := sp.rebase(&m); err != nil {
		return err
	}
	if mutant("sender-side cursor") {
		m.Clock.Merge(believed(m.Journal, crdt.NewClock()))
	}
	snap, err := s.host.Snapshot(sp.name)
	if err != nil {
		return err
	}
	sp.openStream(snap, m.Clock)
	sp.phase = reconcile
	sp.has, sp.cursor = m.Clock, snap.Arrival()
	sp.journal, sp.report.Peer, sp.report.Tier = m.Journal, m.Node, "clocks"
	if s.cfg.Initiator {
		return sp.sendStateOf(snap)
	}
	return nil
}

// pump makes at most one batch of output.
func (sp *space) pump() (did bool, err error) {
	switch {
	case sp.stream != nil:
		return sp.pumpStream()
	case sp.phase == live && sp.notified && sp.s.cfg.Live && sp.s.credit > 0:
		return sp.pumpTail()
	}
	return false, nil
}

// pumpStream sends the next batch of the reconcile, and DONE at its end.
func (sp *space) pumpStream() (bool, error) {
	s, st := sp.s, sp.stream
	if s.credit <= 0 {
		return false, nil
	}
	for s.enc.Len() < s.sizes.batch {
		v := st.held
		if st.held = nil; v == nil {
			var err error
			var ok bool
			if v, err, ok = st.next(); err != nil {
				return false, err
			} else if !ok {
				return true, sp.finishStream()
			}
		}
		if !s.encode(v) {
			st.held = v
			break
		}
		sp.has.Add(v.Dot)
		sp.report.Sent++
	}
	sp.flush(sp.number)
	return true, nil
}

// flush sends what the encoder holds.
func (sp *space) flush(number uint64) {
	if sp.s.enc.Count() == 0 {
		return
	}
	payload := sp.s.enc.Flush(sp.index, number)
	sp.s.credit -= int64(len(payload))
	sp.s.send(wire.TypeBatch, payload)
}

// finishStream ends a stream: the receiver may adopt what the snapshot knows to
// be dead. A dot of its clock that was neither sent nor is known to be dead is
// damage here: nobody adopts it (KERNEL K3).
func (sp *space) finishStream() error {
	st := sp.stream
	sp.flush(sp.number)
	if mutant("clock newer than the listing") {
		var err error
		if st.snap, err = sp.s.host.Snapshot(sp.name); err != nil {
			return err
		}
	}
	if sp.scope != nil {
		return sp.finishScoped()
	}
	rest := st.snap.Clock().Minus(sp.has)
	adopt, err := st.snap.DeadWithin(rest)
	if err == nil {
		err = st.snap.Err()
	}
	if err != nil {
		return err
	}
	if mutant("lost dots adopted") {
		adopt = rest
	}
	sp.lost(rest.Minus(adopt))
	sp.has.Merge(adopt)
	sp.given = adopt
	m := wire.Done{NS: sp.index, Number: sp.number, Batches: sp.s.enc.Batches(), Adopt: adopt, Gone: st.snap.Gone()}
	return sp.sendDone(m)
}

// sendDone ends the stream.
func (sp *space) sendDone(m wire.Done) error {
	sp.s.send(wire.TypeDone, m.Append(nil, sp.s.cfg.Zstd))
	sp.stop()
	if mutant("sender-side cursor") {
		believed(sp.journal, sp.has)
	}
	sp.sentDone = true
	sp.number++
	if sp.phase == repairing {
		return sp.endRepair()
	}
	return sp.endReconcile()
}

// endReconcile states our result once both streams are complete.
func (sp *space) endReconcile() error {
	if !sp.sentDone || !sp.gotDone {
		return nil
	}
	return sp.sendCheck()
}

// onBatch gathers versions; a reconcile applies them in bounded transactions,
// a push all at once at its end.
func (s *Session) onBatch(payload []byte) error {
	b, err := s.dec.Decode(payload)
	if err != nil {
		return err
	}
	sp, err := s.space(b.NS)
	if err != nil {
		return err
	}
	if !sp.due(b.Number) {
		return fmt.Errorf("BATCH of stream %d of %q out of turn: %w", b.Number, sp.name, errs.ErrInvalid)
	}
	for i := range b.Versions {
		if !sp.scope.Has(b.Versions[i].Key) {
			return fmt.Errorf("BATCH of %q with a key out of scope: %w", sp.name, errs.ErrInvalid)
		}
		sp.pending = append(sp.pending, &b.Versions[i])
		sp.held.add(&b.Versions[i])
	}
	sp.bytes += int64(len(payload))
	switch {
	case sp.phase != live && (sp.bytes >= s.sizes.apply || sp.held.memory >= s.sizes.applyMemory):
		return sp.apply(nil)
	case sp.held.content > s.sizes.push || sp.held.memory > s.sizes.pushMemory:
		return fmt.Errorf("push of %d bytes to %q (at most %d): %w", sp.held.memory, sp.name, s.sizes.push, errs.ErrTooLarge)
	case sp.phase == live && sp.bytes >= window/2:
		sp.credit() // it cannot be applied in part: let the rest of the push come
	}
	return nil
}

// due reports whether a frame of the peer's stream may come now: stream 0 is
// the reconcile, then one of each comparison, the others are pushes.
func (sp *space) due(number uint64) bool {
	if mutant("push before reconcile") && number > 0 {
		return true
	}
	if number != sp.expect || sp.gotDone && sp.phase != live {
		return false
	}
	switch sp.phase {
	case reconcile, live:
		return true
	case repairing:
		return sp.repair.fixed && sp.repair.gotFix
	}
	return false
}

// credit returns what has not been credited of the pending bytes.
func (sp *space) credit() {
	sp.s.owed += sp.bytes
	sp.bytes = 0
}

// apply makes the pending versions durable, adopting in the same transaction
// where the stream is complete.
func (sp *space) apply(adopt *Adoption) error {
	if len(sp.pending) == 0 && adopt == nil {
		return nil
	}
	sum, err := sp.s.host.Apply(sp.name, sp.pending, adopt)
	if err != nil {
		return err
	}
	for _, v := range sp.pending {
		sp.has.Add(v.Dot)
	}
	sp.s.lacking(sp.pending)
	sp.report.Received += len(sp.pending)
	sp.report.Applied.Add(sum)
	sp.pending, sp.held = nil, weight{}
	sp.credit()
	return nil
}

// onDone ends a stream: the versions it brought are complete, so the sender's
// clock may be adopted with the last of them.
func (s *Session) onDone(payload []byte) error {
	m, err := wire.DecodeDone(payload, s.cfg.Zstd)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if !sp.due(m.Number) {
		return fmt.Errorf("DONE of stream %d of %q out of turn: %w", m.Number, sp.name, errs.ErrInvalid)
	}
	if got := s.dec.Batches(); m.Batches != got {
		return fmt.Errorf("DONE of stream %d of %q after batch %d, %d arrived: %w", m.Number, sp.name, m.Batches, got, errs.ErrInvalid)
	}
	adopt := &Adoption{Dots: m.Adopt, Gone: m.Gone}
	if mutant("adoption before the last batch") {
		if _, err := sp.s.host.Apply(sp.name, nil, adopt); err != nil {
			return err
		}
	}
	switch {
	case sp.phase == repairing && sp.repair.damaged && !mutant("adoption over damage"):
		adopt = nil
	case sp.scope != nil:
		adopt = sp.scopedAdoption(m)
	case sp.phase == repairing:
		adopt.Drop, adopt.From = sp.repair.dead, sp.report.Peer
		sp.behind = false
	case sp.phase == reconcile && !covers(sp.shown, m.Gone) && !mutant("adoption before effects"):
		// The peer collected tombstones that we have not seen: what they
		// covered must be compared key by key before its clock means anything
		// to us (K4).
		adopt, sp.behind = nil, true
	case sp.behind:
		adopt.Gone = crdt.NewClock() // a push stands for its own dots only
	}
	if err := sp.apply(adopt); err != nil {
		return err
	}
	if sp.scope == nil { // of a scope it has live versions, of which some may be wanted back
		sp.has.Merge(m.Adopt)
	}
	sp.expect++
	switch sp.phase {
	case reconcile:
		sp.gotDone = true
		return sp.endReconcile()
	case repairing:
		sp.gotDone = true
		return sp.endRepair()
	}
	return nil
}
