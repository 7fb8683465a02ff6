package session

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// A session may be about a part of a namespace: the keys that begin with some
// prefixes, which HELLO names. Both sides then compare the roots of these
// prefixes instead of clocks, stream only live versions and tombstones with keys
// in scope, and walk the tree below each prefix where that was not enough.
//
// The namespace's clock is adopted by nobody: it says what was seen of all of it,
// and a part proves nothing about the rest. Such a session touches the receiver's
// clock only by the dots of the versions that it brings. So a full replica drops
// a version with a gap below it only once both have synced everything (KERNEL
// K7): stuck says so. A partial replica adopts for its scope.
//
// What a session is about is what both sides hold and were told to sync: the
// initiator names what it wants, the responder narrows that to what it has.

// offer says which part of a namespace the session may be about: what this node
// holds of it and was told to sync.
func (sp *space) offer() (part replica.Scope, common bool, err error) {
	err = sp.withSnapshot(func(snap Snapshot) error {
		sp.own = snap.Scope()
		return nil
	})
	part, common = sp.s.cfg.Scope.Meet(sp.own)
	return part, common, err
}

// choose sets what the initiator asks for: all that this node offers, and of a
// namespace that the responder named no more than it said. common is false if
// that is nothing.
func (sp *space) choose(named replica.Scope) (common bool, err error) {
	part, common, err := sp.offer()
	if err != nil || !common {
		return false, err
	}
	sp.scope, common = part.Meet(named)
	return common, sp.fits()
}

// fits returns an error if what two scopes have in common has more prefixes than
// a message names.
func (sp *space) fits() error {
	if len(sp.scope) > replica.MaxPrefixes {
		return fmt.Errorf("namespace %q: both sides have %d prefixes in common (at most %d): %w",
			sp.name, len(sp.scope), replica.MaxPrefixes, errs.ErrTooLarge)
	}
	return nil
}

// limit sets what the responder makes of what the initiator asks for, as far as
// it is offered here; whole says that this is all of it. Otherwise the
// initiator has to be told.
func (sp *space) limit(asked [][]byte) (whole bool, err error) {
	part, common, err := sp.offer()
	if err != nil {
		return false, err
	}
	want := replica.Scope(asked)
	if common {
		sp.scope, common = part.Meet(want)
	}
	if !common {
		sp.idle()
		return false, nil
	}
	sp.phase = awaitState
	return sp.scope.Equal(want), sp.fits()
}

// narrow takes in that the responder holds only a part of what was asked for.
func (sp *space) narrow(prefixes [][]byte) error {
	part := replica.Scope(prefixes)
	if part == nil {
		sp.idle()
		return nil
	}
	if !sp.scope.Covers(part) || sp.scope.Equal(part) {
		return fmt.Errorf("namespace %q: narrowed to what is not less than was asked for: %w", sp.name, errs.ErrInvalid)
	}
	sp.scope, sp.phase = part, awaitState
	return nil
}

// idle ends a namespace of which both sides hold nothing in common.
func (sp *space) idle() {
	sp.scope, sp.phase, sp.checked = nil, refused, true
	sp.report.Tier, sp.report.InSync = "none", true
}

// setAside takes back the newest namespace, which is not worth a word on the wire.
func (s *Session) setAside() {
	last := s.spaces[len(s.spaces)-1]
	s.spaces = s.spaces[:len(s.spaces)-1]
	if last.idle(); !slices.ContainsFunc(s.aside, func(r NamespaceReport) bool { return r.Name == last.name }) {
		s.aside = append(s.aside, last.report)
	}
}

// offer names a namespace that the initiator did not, or the part of it that
// this node offers.
func (s *Session) offer(w *wire.Welcome, name string) error {
	sp := &space{s: s, name: name}
	part, common, err := sp.offer()
	switch {
	case errors.Is(err, errs.ErrNotFound): // dropped meanwhile
	case err != nil:
		return err
	case !common:
	case part == nil:
		w.Extra = append(w.Extra, name)
	default:
		w.Parts = append(w.Parts, wire.Offered{Namespace: name, Prefixes: part})
	}
	return nil
}

// offered lists what a responder named.
func offered(m wire.Welcome) []wire.Offered {
	var out []wire.Offered
	for _, name := range m.Extra {
		out = append(out, wire.Offered{Namespace: name})
	}
	return append(out, m.Parts...)
}

// extent returns the root of what the session is about, and counts its keys.
func (sp *space) extent(snap Snapshot) (root [32]byte, err error) {
	if sp.scope == nil {
		sp.size = snap.Keys()
		return snap.Root()
	}
	root, sp.size, err = snap.RootWithin(sp.scope)
	return root, err
}

// clocks is the digest of clock and gone marks: nothing in a scope, where they
// are not compared.
func (sp *space) clocks(snap Snapshot) [16]byte {
	if sp.scope != nil {
		return [16]byte{}
	}
	return clockDigest(snap.Clock(), snap.Gone())
}

// noteAgreed tells the host that both sides hold the same of the whole namespace.
func (sp *space) noteAgreed(clock, gone crdt.Clock) error {
	if sp.scope != nil {
		return nil
	}
	return sp.s.host.Agreed(sp.name, sp.journal, sp.report.Root, clock, gone)
}

// within yields the versions whose keys are in scope and remembers the others.
func (st *stream) within(scope replica.Scope, versions iter.Seq2[*crdt.Version, error]) iter.Seq2[*crdt.Version, error] {
	if scope == nil {
		return versions
	}
	return func(yield func(*crdt.Version, error) bool) {
		for v, err := range versions {
			if err == nil && !scope.Has(v.Key) {
				st.outside.Add(v.Dot)
				continue
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// finishScoped is finishStream for a part of the namespace. The receiver may
// adopt our whole clock for this part: all but what was neither sent, nor is out
// of scope, nor is known to be dead, which is damage (KERNEL K3).
func (sp *space) finishScoped() error {
	st := sp.stream
	seen := st.snap.Seen()
	rest := seen.Minus(sp.has).Minus(st.outside)
	dead, err := st.snap.DeadWithin(rest)
	if err == nil {
		err = st.snap.Err()
	}
	if err != nil {
		return err
	}
	lost := rest.Minus(dead)
	sp.lost(lost)
	return sp.sendDone(wire.Done{
		NS: sp.index, Number: sp.number, Batches: sp.s.enc.Batches(), Adopt: seen.Minus(lost), Gone: st.snap.Gone(),
	})
}

// scopedAdoption is what a complete stream of a part of the namespace lets us
// do. The sender's clock says what it has seen of this part: a partial replica
// adopts it for its scope, if the session was about all of that (KERNEL K5), and
// after a comparison where the sender's gone marks are beyond us (K4). For the
// namespace nobody adopts it. After a comparison what the sender knows to be dead
// is dropped (K7).
func (sp *space) scopedAdoption(m wire.Done) *Adoption {
	a := &Adoption{Dots: crdt.NewClock(), Gone: m.Gone, Scoped: true}
	if sp.own != nil && sp.scope.Covers(sp.own) {
		a.Dots = m.Adopt
	}
	if mutant("scope clock into the namespace clock") && sp.own == nil {
		a.Dots, a.Scoped = m.Adopt, false
	}
	if sp.phase == repairing {
		a.Drop, a.From = sp.repair.dead, sp.report.Peer
		sp.behind = false
	}
	switch {
	case sp.phase == live || a.Dots.IsEmpty() && a.Drop.IsEmpty():
		return nil
	case sp.phase == reconcile && !covers(sp.shown, m.Gone):
		sp.behind = true // what was collected has to be compared first
		return nil
	}
	return a
}

// stuck tells why both sides may still differ in scope, if they do.
func (sp *space) stuck(equal bool) error {
	if equal || sp.report.Applied.Kept == 0 {
		return nil
	}
	return fmt.Errorf("%d deletes that the peer has collected cannot be followed before all of the namespace was synced: %w",
		sp.report.Applied.Kept, errs.ErrUnsupported)
}

// limit leaves in a push what is in scope.
func (p *push) limit(scope replica.Scope) {
	if scope == nil {
		return
	}
	kept := p.versions[:0]
	p.dots = crdt.NewClock()
	for _, v := range p.versions {
		if scope.Has(v.Key) {
			kept = append(kept, v)
			p.dots.Add(v.Dot)
		}
	}
	p.versions = kept
}
