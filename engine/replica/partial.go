package replica

import (
	"encoding/binary"
	"fmt"

	"bzzz/crdt"
	"bzzz/store"
)

// A partial replica holds one fixed scope of its namespace, and remembers what
// complete streams of that scope proved: a clock and gone marks that hold for
// the keys in scope and for nothing else (docs/KERNEL.md, Scopes). The
// namespace's own clock has the dots of versions that were received here or
// written here, and no others. So a dot that only the scope's clock has is, for
// a key in scope, known to be dead; of other keys it says nothing.
//
// It never collects tombstones, but streams them to whoever lacks them: nobody
// can adopt what it knows of the namespace, so what it deleted would be told of
// by nothing else. Deletes that full replicas have collected it follows.

// metaScope is the key of the scope's record in the meta bucket.
var metaScope = []byte("S")

// partial is the record of a partial replica; its ranges are nil for a full one.
type partial struct {
	ranges Scope
	clock  crdt.Clock
	gone   crdt.Clock
}

// append appends the record:
//
//	n uv, n x (length uv, prefix) | clock | gone | crc32c u32
func (p *partial) append(b []byte) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(p.ranges)))
	for _, r := range p.ranges {
		b = append(binary.AppendUvarint(b, uint64(len(r))), r...)
	}
	return seal(p.gone.Append(p.clock.Append(b)), start, metaScope)
}

// decodePartial reads what append wrote. It takes up no more than the bytes do.
func decodePartial(b []byte) (partial, error) {
	malformed := damaged("scope", 0, "malformed")
	body, err := unseal(b, metaScope, "scope", 0)
	if err != nil {
		return partial{}, err
	}
	rd := reader{b: body}
	n := rd.uvarint()
	if rd.bad || n > MaxPrefixes {
		return partial{}, malformed
	}
	var prefixes [][]byte
	for range n {
		prefixes = append(prefixes, rd.bytes(rd.uvarint()))
	}
	var p partial
	if p.ranges, err = NewScope(prefixes...); err != nil || rd.bad {
		return partial{}, malformed
	}
	for i := range prefixes {
		if string(prefixes[i]) != string(p.ranges[i]) {
			return partial{}, malformed // out of order
		}
	}
	var rest []byte
	if p.clock, rest, err = crdt.DecodeClock(rd.b); err != nil {
		return partial{}, malformed
	}
	if p.gone, rest, err = crdt.DecodeClock(rest); err != nil || len(rest) > 0 {
		return partial{}, malformed
	}
	return p, nil
}

// loadPartial reads the record of the meta bucket, if there is one.
func loadPartial(meta store.Bucket) (partial, error) {
	b := meta.Get(metaScope)
	if b == nil {
		return partial{clock: crdt.NewClock(), gone: crdt.NewClock()}, nil
	}
	return decodePartial(b)
}

// count is 1 for a partial replica: what state.sets has of it.
func (p *partial) count() int {
	if p.ranges == nil {
		return 0
	}
	return 1
}

// seen returns the clock that holds for every key that is held here: the
// namespace's and the scope's, less the dots that damage has taken.
func (p *partial) seen(clock, unknown crdt.Clock) crdt.Clock {
	if p.ranges != nil {
		clock = clock.Clone()
		clock.Merge(p.clock)
	}
	if unknown.IsEmpty() {
		return clock
	}
	return clock.Minus(unknown)
}

// Scope returns what the replica holds, nil if that is the whole namespace. It is
// the same for ever, but not to be asked for beside the one writer.
func (r *Replica) Scope() Scope { return r.partial.ranges }

// Scope returns what the replica holds, nil if that is the whole namespace.
func (v *View) Scope() Scope { return v.partial.ranges }

// Seen returns the clock that holds for every key that is held here: a dot in it
// is live or known to be dead if its key is in Scope. Of a full replica it is
// Clock.
func (v *View) Seen() crdt.Clock { return v.partial.seen(v.clock, v.unknown) }

// AdoptScoped is Adopt after a complete stream of a part of the namespace, applied
// in this batch or before. Dots are adopted by a partial replica alone, if the
// stream was of all that is held here: they are all that the sender has seen, and
// join the clock of the scope; the namespace's clock stays as it is. Only then
// Drop takes versions that have a gap below them.
//
// The gone marks are the sender's. They are taken also where a claim alone is
// dropped: what such a version had replaced is told of by nothing that is held
// here, and a mark too many only asks for a comparison (KERNEL K4).
//
// ErrInvalid for dots in a full replica, and for those beyond belief, as in Adopt.
func (b *Batch) AdoptScoped(dots, gone crdt.Clock) (Applied, error) {
	if b.r.partial.ranges != nil {
		return b.adoptScope(dots, gone)
	}
	if !dots.IsEmpty() {
		return Applied{}, fmt.Errorf("clock of a scope for a full replica: %w", ErrInvalid)
	}
	return Applied{}, b.raiseGone(gone)
}

// adoptScope joins a clock and gone marks with those of the scope.
func (b *Batch) adoptScope(clock, gone crdt.Clock) (Applied, error) {
	r := b.r
	before := r.partial.seen(r.clock, crdt.NewClock())
	fresh := clock.Minus(before)
	for _, id := range fresh.Replicas() {
		theirs := fresh.Of(id)
		if theirs.Max() > before.Of(id).Max()+maxJump || theirs.Count() > maxJump {
			return Applied{}, fmt.Errorf("clock of %s jumps to %d: %w", id, theirs.Max(), ErrInvalid)
		}
		if id == r.self && theirs.Max() > r.clock.Of(id).Max() {
			r.forked = true // somebody else writes under our id
		}
	}
	b.adopted = b.adopted || !clock.IsEmpty()
	if lost := clock.Meet(r.unknown); !lost.IsEmpty() { // damage had taken them: now they are known to be dead
		if _, err := b.dropStray(lost, crdt.ReplicaID{}); err != nil {
			return Applied{}, err
		}
	}
	if r.partial.clock.Contains(clock) && r.partial.gone.Contains(gone) {
		return Applied{}, nil // as it was
	}
	r.partial.clock.Merge(clock)
	for _, id := range gone.Replicas() {
		if n := gone.Of(id).Max(); n > r.partial.gone.Of(id).Max() {
			r.partial.gone.AddRange(id, 1, n)
		}
	}
	return Applied{Adopted: int(fresh.Count())}, b.meta.Put(metaScope, r.partial.append(nil))
}

// outdated reports whether a version that was not seen here is known to be dead
// all the same: a stream of the scope was complete without it.
func (r *Replica) outdated(v *crdt.Version) bool {
	return r.partial.ranges != nil && r.partial.clock.Has(v.Dot) && !r.clock.Has(v.Dot)
}
