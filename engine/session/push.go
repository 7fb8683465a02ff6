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
		sp.seek(snap)
		if !sp.asked.IsEmpty() {
			more = true
			return sp.pushAsked(snap)
		}
		if snap.Arrival() <= sp.cursor {
			return nil
		}
		push, end, err := collectTail(snap, sp.cursor, s.sizes)
		if err != nil {
			return err
		}
		more = end < snap.Arrival()
		sp.cursor = end
		push.limit(sp.scope)
		adopt := push.dots.Minus(sp.has)
		if adopt.IsEmpty() {
			return nil
		}
		for _, v := range push.versions {
			if sp.has.Has(v.Dot) {
				continue // the peer sent it, or has it from the reconcile
			}
			if !s.encode(v) {
				sp.flush(sp.number)
				s.encode(v) // an empty batch takes any version
			}
			if s.enc.Len() >= s.sizes.batch {
				sp.flush(sp.number)
			}
			sp.report.Sent++
		}
		sp.has.Merge(adopt)
		sp.endPush(adopt, snap.Gone())
		return nil
	})
	sp.notified = sp.notified || more
	return more, err
}

// endPush sends what the encoder holds and the end of the push.
func (sp *space) endPush(adopt, gone crdt.Clock) {
	s := sp.s
	sp.flush(sp.number)
	if sp.scope != nil {
		adopt, gone = crdt.NewClock(), crdt.NewClock()
	}
	m := wire.Done{NS: sp.index, Number: sp.number, Batches: s.enc.Batches(), Adopt: adopt, Gone: gone}
	s.send(wire.TypeDone, m.Append(nil, s.cfg.Zstd))
	sp.number++
	sp.report.Pushes++
}

// seek asks the peer for what damage has taken since it was last asked.
func (sp *space) seek(snap Snapshot) {
	lost := snap.Unknown().Minus(sp.sought)
	if lost.IsEmpty() {
		return
	}
	sp.sought.Merge(lost)
	sp.s.send(wire.TypeFix, wire.Fix{NS: sp.index, Want: lost, Dead: crdt.NewClock()}.Append(nil, sp.s.cfg.Zstd))
}

// pushAsked pushes live versions that the peer has asked for, some at a time.
func (sp *space) pushAsked(snap Snapshot) error {
	s := sp.s
	var size weight
	sent := crdt.NewClock()
	for v, err := range snap.Missing(snap.Clock().Minus(sp.asked), func(crdt.Dot) {}) {
		if err != nil {
			return err
		}
		if !sp.asked.Has(v.Dot) || !sp.scope.Has(v.Key) {
			continue // lost here too, and not asked for; or not to be had in this session
		}
		if size.add(v); !sent.IsEmpty() && size.memory >= s.sizes.memory {
			break
		}
		if !s.encode(v) {
			sp.flush(sp.number)
			s.encode(v)
		}
		sent.Add(v.Dot)
		sp.report.Sent++
	}
	if sent.IsEmpty() {
		sp.asked = crdt.NewClock() // no more of it is here
		return nil
	}
	sp.asked = sp.asked.Minus(sent)
	sp.endPush(crdt.NewClock(), crdt.NewClock())
	return nil
}

// push is a stretch of the journal.
type push struct {
	versions []*crdt.Version
	dots     crdt.Clock
	records  int
	size     weight
}

// weight is what versions weigh: their keys and values, and their memory.
type weight struct{ content, memory int64 }

// versionMemory is what a decoded version takes beside its bytes, rounded up.
const versionMemory = 200

func (w *weight) add(v *crdt.Version) {
	content := int64(len(v.Key) + len(v.Value))
	w.content += content
	w.memory += content + versionMemory + 32*int64(len(v.Context))
	for _, a := range v.Attrs {
		w.memory += int64(len(a.Name) + len(a.Value) + 40)
	}
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
