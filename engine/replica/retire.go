package replica

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"bzzz/crdt"
	"bzzz/store"
)

// Retirement is this node's decision that a replica is lost for good: what is
// missing of it up to Last will not come any more, so its gaps no longer keep
// tombstones from being collected (KERNEL K6). It is a record of this node
// alone. A version out of such a gap that arrives after all is applied as usual
// and counted (Applied.Late): it may show a value that a collected delete had
// covered.
type Retirement struct {
	Replica crdt.ReplicaID
	Last    uint64   // gaps below count as closed
	Time    crdt.HLC // of this node's clock when it was decided
}

// Retire declares a replica lost for good. Again, it extends the decision to
// what was seen since. ErrNotFound for a replica that nothing was seen of,
// ErrInvalid for the one that writes here.
func (b *Batch) Retire(replica crdt.ReplicaID) error {
	r := b.r
	last := r.clock.Of(replica).Max()
	switch {
	case replica == r.self:
		return fmt.Errorf("replica %s writes here: %w", replica, ErrInvalid)
	case last == 0:
		return fmt.Errorf("replica %s: %w", replica, ErrNotFound)
	}
	id, err := b.intern(replica)
	if err != nil {
		return err
	}
	d := Retirement{replica, last, b.now}
	key := metaKey(metaRetired, id)
	if err := b.meta.Put(key, d.append(nil, key)); err != nil {
		return err
	}
	r.retired[replica] = d
	return nil
}

// Retired returns the replicas that this node has declared lost, by id.
func (v *View) Retired() []Retirement {
	return slices.SortedFunc(maps.Values(v.retired), func(a, b Retirement) int { return a.Replica.Compare(b.Replica) })
}

// append appends the record of a decision: last u64 | time u64 | crc32c u32.
func (d *Retirement) append(b, key []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, d.Last)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Time))
	return seal(b, start, key)
}

// decodeRetirement reads what append wrote for the replica of number n.
func decodeRetirement(b, key []byte, n uint32) (Retirement, error) {
	body, err := unseal(b, key, "retired replica", uint64(n))
	if err != nil {
		return Retirement{}, err
	}
	rd := reader{b: body}
	d := Retirement{Last: rd.u64(), Time: crdt.HLC(rd.u64())}
	if !rd.ok() {
		return Retirement{}, damaged("retired replica", uint64(n), "malformed")
	}
	return d, nil
}

// loadRetired reads the decisions of the meta bucket.
func loadRetired(meta store.Bucket, ids []crdt.ReplicaID) (map[crdt.ReplicaID]Retirement, error) {
	out := map[crdt.ReplicaID]Retirement{}
	c := meta.Cursor()
	for k, v := c.Seek([]byte{metaRetired}); len(k) == 5 && k[0] == metaRetired; k, v = c.Next() {
		n := binary.BigEndian.Uint32(k[1:])
		d, err := decodeRetirement(v, k, n)
		if err != nil {
			return nil, err
		}
		if int(n) >= len(ids) {
			return nil, damaged("retired replica", uint64(n), "names an unknown replica")
		}
		d.Replica = ids[n]
		out[d.Replica] = d
	}
	return out, nil
}

// isLate reports whether a dot lies where a retired replica's gaps count as
// closed.
func (r *Replica) isLate(dot crdt.Dot) bool {
	return dot.Seq <= r.retired[dot.Replica].Last
}

// gaps says which dots of the past could still arrive (KERNEL K6).
type gaps struct {
	clock   crdt.Clock // advertised
	retired map[crdt.ReplicaID]Retirement
	bases   map[crdt.ReplicaID]uint64 // found so far
}

func newGaps(advertised crdt.Clock, retired map[crdt.ReplicaID]Retirement) *gaps {
	return &gaps{advertised, retired, map[crdt.ReplicaID]uint64{}}
}

// base returns the highest number up to which no dot of a replica can arrive
// any more.
func (g *gaps) base(r crdt.ReplicaID) uint64 {
	n, known := g.bases[r]
	if !known {
		s := g.clock.Of(r)
		if last := g.retired[r].Last; last > 0 {
			s = s.Clone()
			s.AddRange(1, last)
		}
		n = s.Base()
		g.bases[r] = n
	}
	return n
}

// before returns a replica and the first of its dots that could still arrive
// and that a tombstone would have to cover; found is false if there is none.
func (g *gaps) before(t *crdt.Version) (first crdt.Dot, found bool) {
	if n := g.base(t.Dot.Replica); n < t.Dot.Seq {
		return crdt.Dot{Replica: t.Dot.Replica, Seq: n + 1}, true
	}
	for _, p := range t.Context {
		if n := g.base(p.Replica); n < p.Seq {
			return crdt.Dot{Replica: p.Replica, Seq: n + 1}, true
		}
	}
	return crdt.Dot{}, false
}

// end returns the last dot of the gap that begins with first, as far as t asks
// for it.
func (g *gaps) end(first crdt.Dot, t *crdt.Version) uint64 {
	for _, run := range g.clock.Of(first.Replica).Runs() {
		if run.Lo > first.Seq {
			return run.Lo - 1
		}
	}
	if first.Replica == t.Dot.Replica {
		return t.Dot.Seq
	}
	return t.Context.Seq(first.Replica)
}

// LiveOf returns how many live versions, tombstones included, each replica
// wrote. O(live versions), without reading them.
func (v *View) LiveOf() (map[crdt.ReplicaID]int, error) {
	d, err := replayDelta(v.journal, v.state.mark, v.ids)
	if err != nil {
		return nil, err
	}
	out := map[crdt.ReplicaID]int{}
	for e, err := range v.liveWithin(v.clock, &d) {
		if err != nil {
			return nil, err
		}
		out[v.ids.at(e.id)]++
	}
	return out, v.Err()
}
