package session

import (
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// What follows once every namespace has been brought together: blocks of large
// values that a side lacks, and retained history for a side that wants it. Both
// change neither what is live nor a clock, so a cut costs only what was under
// way, and both go behind pushes.
//
// Blocks: who lacks some asks for a bounded number at a time (WANT), the other
// answers each (BLOCK), and they are stored before more are asked for. An empty
// WANT says that nothing more is wanted, for now. It is said at all only by who
// lacked blocks as the session opened, or was sent versions that name some: so
// both sides know who will ask.
//
// History: PAST asks for what lies behind a record of the other's journal;
// HISTORY brings versions and PASTAT how far that is, which the receiver stores
// together.

// Capabilities, as bits of HELLO and WELCOME.
const (
	capBlocks  = 1 << 0 // answers WANT
	capLacks   = 1 << 1 // lacks blocks as the session opens
	capHistory = 1 << 2 // will ask for retained history, once for every namespace
)

const (
	// askBytes is how many bytes of blocks are asked for at once, and askItems
	// how many blocks: one answer fills the window and is one commit.
	askBytes = window / 2
	askItems = 64
)

// extra is the state of what follows.
type extra struct {
	peer    uint64 // the peer's capabilities
	started bool

	asked   []wire.Item // not answered yet
	got     []wire.Item // answered, not stored
	data    [][]byte
	size    int64 // payloads of got
	absent  map[[32]byte]bool
	asking  bool // we lack some, or were sent versions that name some
	settled bool // we have said that we want nothing more
	answers bool // the peer lacks some, or was sent versions that name some
	rested  bool // it has said that it wants nothing more
	serving []wire.Item

	pastServed int
}

// caps returns what this side says of itself in its opening.
func (s *Session) caps() (uint64, error) {
	caps := uint64(capBlocks)
	lacks, err := s.host.Lacks()
	if lacks {
		caps |= capLacks
	}
	if s.cfg.History {
		caps |= capHistory
	}
	s.after.asking = lacks
	return caps, err
}

// setPeer takes in what the peer says of itself in its opening.
func (s *Session) setPeer(caps uint64) {
	s.after.peer = caps
	s.after.answers = caps&capLacks != 0
}

// Finished reports whether all is done that a session does which does not stay
// open for pushes.
func (s *Session) Finished() bool {
	if !s.Reconciled() {
		return false
	}
	x := &s.after
	if x.asking && !x.settled || x.answers && !x.rested {
		return false
	}
	open := 0
	for _, sp := range s.spaces {
		if sp.phase == live {
			open++
			if s.cfg.History && !sp.pastDone {
				return false
			}
		}
	}
	return x.peer&capHistory == 0 || x.pastServed >= open
}

// pumpExtra makes the next piece of what follows.
func (s *Session) pumpExtra() (did bool, err error) {
	x := &s.after
	if len(x.serving) > 0 && s.credit > 0 {
		return true, s.serveBlock()
	}
	for _, sp := range s.spaces {
		if sp.past != nil && s.credit > 0 {
			return true, sp.pumpPast()
		}
	}
	if !s.Reconciled() {
		return false, nil
	}
	if !x.started {
		x.started = true
		if s.cfg.History {
			if err := s.askPast(); err != nil {
				return true, err
			}
		}
	}
	if x.asking && !x.settled && len(x.asked) == 0 {
		return true, s.askBlocks()
	}
	return false, nil
}

// askBlocks asks for some of the blocks that are lacking, or says that none are.
func (s *Session) askBlocks() error {
	x := &s.after
	items, err := s.host.Wants(x.absent, askItems, askBytes)
	if err != nil {
		return err
	}
	x.settled = len(items) == 0
	x.asked = items
	s.send(wire.TypeWant, wire.Want{Items: items}.Append(nil))
	return nil
}

// onWant takes in what the peer asks for.
func (s *Session) onWant(payload []byte) error {
	m, err := wire.DecodeWant(payload)
	if err != nil {
		return err
	}
	if len(s.after.serving) > 0 {
		return fmt.Errorf("WANT before the last was answered: %w", errs.ErrInvalid)
	}
	s.after.rested = len(m.Items) == 0
	s.after.serving = m.Items
	return nil
}

// serveBlock answers the next question.
func (s *Session) serveBlock() error {
	x := &s.after
	m := wire.Block{Item: x.serving[0]}
	x.serving = x.serving[1:]
	data, err := s.host.Block(m.Item)
	if err != nil {
		return err
	}
	if data != nil {
		m.Here, m.Data = true, data
		s.report.BlocksOut++
	}
	b := m.Append(nil)
	s.credit -= int64(len(b))
	s.send(wire.TypeBlock, b)
	return nil
}

// onBlock takes in an answer; blocks are stored together.
func (s *Session) onBlock(payload []byte) error {
	m, err := wire.DecodeBlock(payload)
	if err != nil {
		return err
	}
	x := &s.after
	if len(x.asked) == 0 || x.asked[0] != m.Item {
		return fmt.Errorf("BLOCK %x that was not asked for: %w", m.Digest[:8], errs.ErrInvalid)
	}
	x.asked = x.asked[1:]
	x.size += int64(len(payload))
	if m.Here {
		x.got, x.data = append(x.got, m.Item), append(x.data, m.Data)
	} else {
		x.absent[m.Digest] = true
	}
	if len(x.asked) > 0 {
		return nil
	}
	if len(x.got) > 0 {
		if err := s.host.PutBlocks(x.got, x.data); err != nil {
			return err
		}
	}
	s.report.BlocksIn += len(x.got)
	s.owed += x.size
	x.got, x.data, x.size = nil, nil, 0
	return nil
}

// lacking notes that versions have arrived whose blocks may not be here.
func (s *Session) lacking(versions []*crdt.Version) {
	for _, v := range versions {
		if v.Blob.Defined() {
			s.after.asking, s.after.settled = s.after.peer&capBlocks != 0, false
			return
		}
	}
}

// encode adds a version to the batch that is being gathered; false if it does
// not fit. The receiver may have to ask for what it links to.
func (s *Session) encode(v *crdt.Version) bool {
	if !s.enc.Add(v) {
		return false
	}
	if v.Blob.Defined() && s.after.peer&capBlocks != 0 {
		s.after.answers, s.after.rested = true, false
	}
	return true
}

// past is a namespace's history being sent.
type past struct {
	snap Snapshot
	next func() (replica.Retained, error, bool)
	stop func()
	at   uint64
}

func (sp *space) stopPast() {
	if sp.past != nil {
		sp.past.stop()
		sp.past.snap.Release()
		sp.past = nil
	}
}

// askPast asks for the history of every namespace.
func (s *Session) askPast() error {
	for _, sp := range s.spaces {
		if sp.phase != live {
			continue
		}
		at, err := s.host.PastCursor(sp.name, sp.journal)
		if err != nil {
			return err
		}
		s.send(wire.TypePast, wire.Past{NS: sp.index, At: at}.Append(nil))
	}
	return nil
}

// onPast opens a namespace's history for the peer, once.
func (s *Session) onPast(payload []byte) error {
	m, err := wire.DecodePast(payload)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if s.after.peer&capHistory == 0 || sp.pastAsked || m.Last || sp.phase != live && sp.phase != checking {
		return fmt.Errorf("PAST of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	snap, err := s.host.Snapshot(sp.name)
	if err != nil {
		return err
	}
	sp.pastAsked = true
	sp.past = &past{snap: snap, at: m.At}
	sp.past.next, sp.past.stop = iter.Pull2(snap.HistoryMissing(m.At))
	return nil
}

// pumpPast sends the next batch of history.
func (sp *space) pumpPast() error {
	s, p := sp.s, sp.past
	last := false
	for s.enc.Len() < s.sizes.batch {
		r, err, ok := p.next()
		if err != nil {
			return err
		}
		if !ok {
			last, p.at = true, p.snap.Arrival()
			break
		}
		if !s.enc.Add(r.Version) {
			sp.flushPast()
			s.enc.Add(r.Version) // an empty batch takes any version
		}
		p.at = r.Arrival
		sp.report.PastSent++
	}
	sp.flushPast()
	s.send(wire.TypePastAt, wire.Past{NS: sp.index, At: p.at, Last: last}.Append(nil))
	if last {
		sp.stopPast()
		s.after.pastServed++
	}
	return nil
}

func (sp *space) flushPast() {
	if sp.s.enc.Count() == 0 {
		return
	}
	payload := sp.s.enc.Flush(sp.index, 0)
	sp.s.credit -= int64(len(payload))
	sp.s.send(wire.TypeHistory, payload)
}

// pastSpace returns the namespace of a frame of history that we asked for.
func (s *Session) pastSpace(ns uint64, t wire.Type) (*space, error) {
	sp, err := s.space(ns)
	if err != nil {
		return nil, err
	}
	if !s.cfg.History || !s.after.started || sp.phase != live || sp.pastDone {
		return nil, fmt.Errorf("%s of %q that was not asked for: %w", t, sp.name, errs.ErrInvalid)
	}
	return sp, nil
}

// onHistory holds versions until PASTAT says how far they reach.
func (s *Session) onHistory(payload []byte) error {
	b, err := s.dec.Decode(payload)
	if err != nil {
		return fmt.Errorf("HISTORY: %w", err)
	}
	sp, err := s.pastSpace(b.NS, wire.TypeHistory)
	if err != nil {
		return err
	}
	sp.pastBytes += int64(len(payload))
	if sp.pastBytes > window {
		return fmt.Errorf("%d bytes of HISTORY of %q without a PASTAT: %w", sp.pastBytes, sp.name, errs.ErrTooLarge)
	}
	for i := range b.Versions {
		sp.pastHeld = append(sp.pastHeld, &b.Versions[i])
	}
	return nil
}

// onPastAt stores what came, and how far that is.
func (s *Session) onPastAt(payload []byte) error {
	m, err := wire.DecodePast(payload)
	if err != nil {
		return err
	}
	sp, err := s.pastSpace(m.NS, wire.TypePastAt)
	if err != nil {
		return err
	}
	n, err := s.host.Backfill(sp.name, sp.pastHeld, sp.journal, m.At)
	if err != nil {
		return err
	}
	sp.report.PastReceived += n
	s.owed += sp.pastBytes
	sp.pastHeld, sp.pastBytes, sp.pastDone = nil, 0, m.Last
	return nil
}
