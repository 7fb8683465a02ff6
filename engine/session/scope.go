package session

import (
	"fmt"
	"iter"

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
// Nobody adopts anything: a clock says what was seen of the whole namespace, and
// a part of it proves nothing about the rest. A session touches the receiver's
// clock only by the dots of the versions that it brings. So what one side
// deleted and has collected since is compared each time until both have synced
// everything, and a version with a gap below it stays (KERNEL K7): stuck says so.

// limit sets what the session is about, as the initiator wants it.
func (sp *space) limit(prefixes [][]byte) error {
	want := replica.Scope(prefixes)
	if len(prefixes) == 0 {
		want = nil
	}
	if !sp.s.cfg.Scope.Covers(want) {
		return fmt.Errorf("more of namespace %q asked for than is offered: %w", sp.name, errs.ErrUnsupported)
	}
	sp.scope = want
	return nil
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

// finishScoped is finishStream for a part of the namespace: nothing is given to
// adopt. What was neither sent, nor left out, nor is known to be dead is damage.
func (sp *space) finishScoped() error {
	st := sp.stream
	rest := st.snap.Clock().Minus(sp.has).Minus(st.outside)
	dead, err := st.snap.DeadWithin(rest)
	if err == nil {
		err = st.snap.Err()
	}
	if err != nil {
		return err
	}
	sp.lost(rest.Minus(dead))
	return sp.sendDone(wire.Done{
		NS: sp.index, Number: sp.number, Batches: sp.s.enc.Batches(), Adopt: crdt.NewClock(), Gone: crdt.NewClock(),
	})
}

// scopedAdoption is what a complete stream of a part of the namespace lets us
// do: drop what the peer knows to be dead, after a comparison (KERNEL K7).
func (sp *space) scopedAdoption() *Adoption {
	if sp.phase != repairing || sp.repair.dead.IsEmpty() {
		return nil
	}
	return &Adoption{
		Dots: crdt.NewClock(), Gone: crdt.NewClock(), Drop: sp.repair.dead, From: sp.report.Peer,
	}
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
