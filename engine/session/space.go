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
	live                    // both streams are complete
	refused                 // by either side; nothing moves
)

// space is one namespace of a session: a sender and a receiver.
type space struct {
	s      *Session
	name   string
	index  uint64
	phase  phase
	digest [16]byte // of our state when the session opened
	report NamespaceReport

	// Sender. has is what the peer is known to have: what its clock said, what
	// it sent, and what we sent it.
	has       crdt.Clock
	stream    *stream
	cursor    uint64 // journal record up to which the peer has been served
	number    uint64 // of the next DONE
	sentDone  bool   // the first one
	notified  bool   // the journal may have grown
	checkSent bool

	// Receiver.
	shown     crdt.Clock // the clock we showed; adoption needs the peer's gone marks within it
	pending   []*crdt.Version
	bytes     int64 // payload of pending batches
	expect    uint64
	gotDone   bool // the first one was applied
	checked   bool // the peer's state has been compared
	peerCheck *wire.Check
}

// stream is a snapshot being sent.
type stream struct {
	snap Snapshot
	next func() (*crdt.Version, error, bool)
	stop func()
	held *crdt.Version // did not fit into the last batch
}

func (sp *space) stop() {
	if sp.stream != nil {
		sp.stream.stop()
		sp.stream.snap.Release()
		sp.stream = nil
	}
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
		root, err := snap.Root()
		if errors.Is(err, errs.ErrCorrupt) {
			err = nil // a digest that equals nobody's: clocks will tell
			root = [32]byte{1}
		}
		sp.has, sp.cursor = snap.Clock().Clone(), snap.Arrival()
		sp.report.Root = root
		sp.digest = helloDigest(sp.s.cfg.Salt, sp.name, root, clockDigest(snap.Clock(), snap.Gone()))
		return err
	})
	return sp.digest, err
}

// judge compares a peer's HELLO entry with our state.
func (sp *space) judge(e wire.Entry) (wire.Verdict, error) {
	err := sp.s.host.Accept(e.Namespace)
	if err == nil && len(e.Prefixes) > 0 {
		err = fmt.Errorf("scoped session: %w", errs.ErrUnsupported)
	}
	if err != nil {
		sp.refuse(err)
		return wire.Verdict{Code: wire.Refused, Kind: errs.KindOf(err)}, nil
	}
	digest, err := sp.helloDigest()
	if err != nil {
		return wire.Verdict{}, err
	}
	if digest == e.Digest {
		sp.agree()
		return wire.Verdict{Code: wire.Equal, Proof: proof(digest)}, nil
	}
	sp.phase = awaitState
	return wire.Verdict{Code: wire.Differs}, nil
}

// verdict takes in what the responder said.
func (sp *space) verdict(v wire.Verdict) error {
	switch v.Code {
	case wire.Equal:
		if v.Proof != proof(sp.digest) {
			return fmt.Errorf("namespace %q: peer claims equality without proof: %w", sp.name, errs.ErrInvalid)
		}
		sp.agree()
	case wire.Refused:
		err := errs.Sentinel(v.Kind)
		if err == nil {
			err = errs.ErrUnavailable
		}
		sp.refuse(fmt.Errorf("peer refused: %w", err))
	default:
		sp.phase = awaitState
	}
	return nil
}

// agree notes that both sides hold the same without having sent anything.
func (sp *space) agree() {
	sp.phase, sp.number, sp.expect = live, 1, 1
	sp.sentDone, sp.gotDone, sp.checkSent, sp.checked = true, true, true, true
	sp.report.InSync, sp.report.Tier = true, "equal"
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
	root, err := snap.Root()
	if err != nil && !errors.Is(err, errs.ErrCorrupt) {
		return err
	}
	sp.shown = snap.Clock().Clone()
	m := wire.State{NS: sp.index, Snapshot: wire.Snapshot{
		Node: snap.Self(), Epoch: sp.s.host.Epoch(), Journal: snap.Journal(), Root: root,
		Count: snap.Keys(), Clock: snap.Clock(), Gone: snap.Gone(),
	}}
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
	snap, err := s.host.Snapshot(sp.name)
	if err != nil {
		return err
	}
	st := &stream{snap: snap}
	st.next, st.stop = iter.Pull2(snap.Missing(m.Clock, func(crdt.Dot) {})) // finishStream finds what is lost
	sp.phase, sp.stream = reconcile, st
	sp.has, sp.cursor = m.Clock, snap.Arrival()
	sp.report.Peer, sp.report.Tier = m.Node, "clocks"
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
	for s.enc.Len() < batchBytes {
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
		if !s.enc.Add(v) {
			st.held = v
			break
		}
		sp.has.Add(v.Dot)
		sp.report.Sent++
	}
	sp.flush(0)
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

// finishStream ends the reconcile's stream: the receiver may adopt what the
// snapshot knows to be dead. A dot of its clock that was neither sent nor is
// known to be dead is damage here: nobody adopts it (KERNEL K3).
func (sp *space) finishStream() error {
	st := sp.stream
	sp.flush(0)
	rest := st.snap.Clock().Minus(sp.has)
	adopt, err := st.snap.DeadWithin(rest)
	if err == nil {
		err = st.snap.Err()
	}
	if err != nil {
		return err
	}
	if lost := rest.Minus(adopt); !lost.IsEmpty() {
		sp.s.host.Lost(sp.name, lost)
		sp.report.Lost += int(lost.Count())
	}
	sp.has.Merge(adopt)
	m := wire.Done{NS: sp.index, Number: 0, Adopt: adopt, Gone: st.snap.Gone()}
	sp.s.send(wire.TypeDone, m.Append(nil, sp.s.cfg.Zstd))
	sp.stop()
	sp.sentDone, sp.number = true, 1
	return sp.maybeLive()
}

// maybeLive moves on once both streams are complete, and states our result.
func (sp *space) maybeLive() error {
	if !sp.sentDone || !sp.gotDone || sp.phase == live {
		return nil
	}
	sp.phase, sp.notified = live, true
	err := sp.withSnapshot(func(snap Snapshot) error {
		root, err := snap.Root()
		if errors.Is(err, errs.ErrCorrupt) {
			root, err = [32]byte{}, nil // in sync with nobody
		}
		m := wire.Check{NS: sp.index, Root: root, Clock: clockDigest(snap.Clock(), snap.Gone())}
		sp.s.send(wire.TypeCheck, m.Append(nil))
		return err
	})
	sp.checkSent = true
	if err == nil && sp.peerCheck != nil {
		err = sp.compare(*sp.peerCheck)
	}
	return err
}

// onCheck takes in what the peer has after the reconcile.
func (s *Session) onCheck(payload []byte) error {
	m, err := wire.DecodeCheck(payload)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if sp.checked || sp.peerCheck != nil || sp.phase != reconcile && sp.phase != live {
		return fmt.Errorf("CHECK of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	if sp.phase != live {
		sp.peerCheck = &m
		return nil
	}
	return sp.compare(m)
}

// compare tells whether both sides agree now: equal clocks and roots prove it,
// unequal roots at equal clocks are damage.
func (sp *space) compare(m wire.Check) error {
	sp.checked = true
	return sp.withSnapshot(func(snap Snapshot) error {
		root, err := snap.Root()
		if err != nil {
			if errors.Is(err, errs.ErrCorrupt) {
				sp.report.Err = err
				return nil
			}
			return err
		}
		sameClock := m.Clock == clockDigest(snap.Clock(), snap.Gone())
		sp.report.Root = root
		sp.report.InSync = sameClock && m.Root == root
		if sameClock && m.Root != root {
			sp.report.Err = fmt.Errorf("equal clocks with unequal roots: %w", errs.ErrCorrupt)
		}
		return nil
	})
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
	if sp.phase != reconcile && sp.phase != live || b.Number != sp.expect {
		return fmt.Errorf("BATCH %d of %q out of turn: %w", b.Number, sp.name, errs.ErrInvalid)
	}
	for i := range b.Versions {
		sp.pending = append(sp.pending, &b.Versions[i])
	}
	sp.bytes += int64(len(payload))
	if b.Number == 0 && sp.bytes >= applyBytes {
		return sp.apply(nil)
	}
	if sp.bytes > maxPush {
		return fmt.Errorf("push of more than %d bytes: %w", maxPush, errs.ErrTooLarge)
	}
	if b.Number > 0 && sp.bytes >= window/2 {
		sp.credit() // the receiver holds it all: let the rest of the push come
	}
	return nil
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
	sp.report.Received += len(sp.pending)
	sp.report.Applied.Add(sum)
	sp.pending = nil
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
	if sp.phase != reconcile && sp.phase != live || m.Number != sp.expect {
		return fmt.Errorf("DONE %d of %q out of turn: %w", m.Number, sp.name, errs.ErrInvalid)
	}
	adopt := &Adoption{m.Adopt, m.Gone}
	if m.Number == 0 && !covers(sp.shown, m.Gone) {
		// The peer collected tombstones that we have not seen: what they
		// covered must be compared key by key before its clock means anything
		// to us (K4).
		adopt = nil
		sp.report.Err = fmt.Errorf("peer collected deletes this node has not seen: %w", errs.ErrUnsupported)
	}
	if err := sp.apply(adopt); err != nil {
		return err
	}
	sp.has.Merge(m.Adopt)
	sp.expect++
	if m.Number == 0 {
		sp.gotDone = true
		return sp.maybeLive()
	}
	return nil
}

// covers reports whether base >= gone for every replica (K4).
func covers(clock, gone crdt.Clock) bool {
	for _, r := range gone.Replicas() {
		if clock.Base(r) < gone.Of(r).Max() {
			return false
		}
	}
	return true
}

// Notify tells that a namespace's journal may have grown; "" means any.
func (s *Session) Notify(namespace string) {
	for _, sp := range s.spaces {
		if namespace == "" || sp.name == namespace {
			sp.notified = true
		}
	}
}

// pumpTail pushes what the journal got since the last push: the versions in
// whole transactions, then the dots that became known with them (K5 in small).
func (sp *space) pumpTail() (bool, error) {
	s := sp.s
	sp.notified = false
	more := false
	err := sp.withSnapshot(func(snap Snapshot) error {
		if snap.Arrival() <= sp.cursor {
			return nil
		}
		push, end, err := collectTail(snap, sp.cursor)
		if err != nil {
			return err
		}
		more = end < snap.Arrival()
		sp.cursor = end
		adopt := push.dots.Minus(sp.has)
		if adopt.IsEmpty() {
			return nil
		}
		for _, v := range push.versions {
			if sp.has.Has(v.Dot) {
				continue // the peer sent it, or has it from the reconcile
			}
			if !s.enc.Add(v) {
				sp.flush(sp.number)
				s.enc.Add(v) // an empty batch takes any version
			}
			if s.enc.Len() >= batchBytes {
				sp.flush(sp.number)
			}
			sp.report.Sent++
		}
		sp.flush(sp.number)
		sp.has.Merge(adopt)
		m := wire.Done{NS: sp.index, Number: sp.number, Adopt: adopt, Gone: snap.Gone()}
		s.send(wire.TypeDone, m.Append(nil, s.cfg.Zstd))
		sp.number++
		sp.report.Pushes++
		return nil
	})
	sp.notified = sp.notified || more
	return more, err
}

// push is a stretch of the journal.
type push struct {
	versions []*crdt.Version
	dots     crdt.Clock
}

// collectTail reads a stretch of whole transactions after a journal record.
func collectTail(snap Snapshot, after uint64) (push, uint64, error) {
	p := push{dots: crdt.NewClock()}
	add := func(c replica.Change) error {
		p.versions = append(p.versions, c.Version)
		return nil
	}
	end, err := snap.Tail(after, tailRecords, add, p.dots.Add, p.dots.Merge)
	// Do not cut a transaction: go on to the last sequence of its batch.
	for err == nil && end < snap.Arrival() && len(p.versions) > 0 && unfinished(p) {
		end, err = snap.Tail(end, 1, add, p.dots.Add, p.dots.Merge)
	}
	return p, end, err
}

// unfinished reports whether the last version's transaction goes on behind it.
func unfinished(p push) bool {
	last := p.versions[len(p.versions)-1]
	return last.Last > last.Dot.Seq && !p.dots.Has(crdt.Dot{Replica: last.Dot.Replica, Seq: last.Last})
}
