package session

import (
	"errors"
	"math"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
)

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
		push, end, err := collectTail(snap, sp.cursor, s.sizes)
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
			if s.enc.Len() >= s.sizes.batch {
				sp.flush(sp.number)
			}
			sp.report.Sent++
		}
		sp.flush(sp.number)
		sp.has.Merge(adopt)
		m := wire.Done{NS: sp.index, Number: sp.number, Batches: s.enc.Batches(), Adopt: adopt, Gone: snap.Gone()}
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
	records  int
	size     weight
}

// errFull ends the reading of a stretch.
var errFull = errors.New("push is full")

// collectTail reads a stretch of whole transactions after a journal record.
func collectTail(snap Snapshot, after uint64, until sizes) (push, uint64, error) {
	p := push{dots: crdt.NewClock()}
	end, err := snap.Tail(after, math.MaxInt, func(c replica.Change) error {
		if c.Version == nil {
			return nil // dropped on a claim: nothing that a push could carry
		}
		if p.full(until) && !p.continues(c.Version, until) {
			return errFull
		}
		p.versions = append(p.versions, c.Version)
		p.size.add(c.Version)
		return nil
	}, func(d crdt.Dot) {
		p.dots.Add(d)
		p.records++
	}, func(dots crdt.Clock) {
		p.dots.Merge(dots)
		p.records++
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return p, end, err
}

func (p *push) full(until sizes) bool {
	return p.records >= until.records || p.size.memory >= until.memory
}

// continues reports whether v belongs to the transaction of the version before
// it: they lie side by side in the journal, whoever wrote them. One above the
// largest size, which only a liar makes up, is cut.
func (p *push) continues(v *crdt.Version, until sizes) bool {
	if len(p.versions) == 0 || p.size.content+int64(len(v.Key)+len(v.Value)) > until.push {
		return false
	}
	last := p.versions[len(p.versions)-1]
	return v.Dot.Replica == last.Dot.Replica && v.First == last.First && v.Last == last.Last
}
