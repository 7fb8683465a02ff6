package session

import (
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// sendCheck states what we have.
func (sp *space) sendCheck() error {
	sp.phase = checking
	err := sp.withSnapshot(func(snap Snapshot) error {
		root, err := sp.rootOf(snap)
		sp.mine = &wire.Check{NS: sp.index, Root: root, Clock: sp.clocks(snap), Behind: sp.behind && sp.report.Held == nil}
		if root == [32]byte{} && err == nil {
			_, e := snap.LenientTree()
			sp.mine.Broken = e != nil || snap.Err() != nil
		}
		sp.s.send(wire.TypeCheck, sp.mine.Append(nil))
		return err
	})
	if err != nil {
		return err
	}
	return sp.settle()
}

// onCheck takes in what the peer has after a reconcile or comparison. The peer
// has our DONE then, and we have had its own: both streams are complete.
func (s *Session) onCheck(payload []byte) error {
	m, err := wire.DecodeCheck(payload)
	if err != nil {
		return err
	}
	sp, err := s.space(m.NS)
	if err != nil {
		return err
	}
	if sp.phase != checking || sp.theirs != nil {
		return fmt.Errorf("CHECK of %q out of turn: %w", sp.name, errs.ErrInvalid)
	}
	sp.theirs = &m
	return sp.settle()
}

// settle decides, once both sides have stated what they have, whether that is
// enough. Both come to the same answer, since both look at the same two
// statements: a comparison is due where a clock was not to be adopted without
// one, and where equal clocks have unequal roots, which is damage.
func (sp *space) settle() error {
	if sp.mine == nil || sp.theirs == nil {
		return nil
	}
	mine, theirs := sp.mine, sp.theirs
	sp.mine, sp.theirs = nil, nil
	if theirs.Behind {
		sp.has = sp.has.Minus(sp.given) // it did not adopt that
	}
	due := mine.Behind || theirs.Behind || mine.Clock == theirs.Clock && mine.Root != theirs.Root
	broken := mine.Root == [32]byte{} || theirs.Root == [32]byte{} // it stays broken, if one walk did not heal it
	if mine.Broken || theirs.Broken {
		due = false
	}
	if due && sp.rounds < maxRounds && !(broken && sp.rounds > 0) {
		return sp.startRepair()
	}
	sp.phase, sp.notified, sp.checked = live, true, true
	return sp.compare(*theirs)
}

// compare tells whether both sides agree now: equal clocks and roots prove it,
// unequal roots at equal clocks are damage that no comparison could heal.
func (sp *space) compare(m wire.Check) error {
	var clock, gone crdt.Clock
	err := sp.withSnapshot(func(snap Snapshot) error {
		clock, gone = snap.Clock(), snap.Gone()
		root, err := sp.rootOf(snap)
		if err != nil || root == [32]byte{} {
			return err
		}
		sameClock := m.Clock == sp.clocks(snap)
		sp.report.Root = root
		sp.report.InSync = sameClock && m.Root == root
		switch {
		case sp.report.Held != nil:
			sp.report.Err = sp.report.Held
		case sp.scope != nil:
			sp.report.Err = sp.stuck(m.Root == root)
		case sameClock && m.Root != root:
			sp.report.Err = fmt.Errorf("equal clocks with unequal roots: %w", errs.ErrCorrupt)
		}
		return nil
	})
	if err == nil && sp.report.InSync {
		sp.report.Err, sp.report.Held = nil, nil
		err = sp.noteAgreed(clock, gone)
	}
	return err
}
