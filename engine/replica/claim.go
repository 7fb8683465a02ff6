package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"bzzz/crdt"
)

// Dropped counts what a claim removed, or would remove.
type Dropped struct {
	Keys     int        // that lost a sibling
	Versions int        // live ones, tombstones included
	Bytes    int64      // of their keys and values
	Lost     int        // dots that damage had taken from here, known to be dead now
	Held     crdt.Clock // dots of live versions that stay for now: see Drop
}

// Drop removes what a peer proved to be dead (KERNEL K3, K7): of the claimed
// dots those that are live here leave their keys' siblings and become dead,
// and so do those that damage had taken. Dots that were not seen here stay
// unseen, those that are dead already change nothing. A dropped version stays
// in its key's history while the key has siblings. Apply the peer's siblings
// first, in the same batch.
//
// A version that might still have to cover one that has not arrived (a gap
// below it: see Collect) is held back until the adoption closes the gap: else
// what it overwrote could arrive and be shown. So a claim may be dropped in
// parts, before the adoption; what was held back is claimed again in the batch
// that adopts, after Adopt, where nothing but tombstones is held back any more.
// Those are invisible, and collected here once nothing keeps them.
//
// The caller vouches that the claim lists dots of this node for which the peer
// answered from one snapshot, and that the peer may claim; it bounds the work by
// splitting the claim. O(dots claimed that are live); where damage has taken
// some, a scan of the heads.
func (b *Batch) Drop(claim crdt.Clock, peer crdt.ReplicaID) (Dropped, error) {
	r := b.r
	victims, stray, err := b.victims(claim.Meet(r.clock), &r.delta, newGaps(r.partial.seen(r.clock, r.unknown), r.retired))
	if err != nil {
		return Dropped{}, err
	}
	sum := Dropped{Held: crdt.NewClock()}
	victims = slices.DeleteFunc(victims, func(x victim) bool {
		held := x.guards && (x.kind == crdt.Delete || !b.adopted) && !mutant("drop before adoption")
		if held {
			sum.Held.AddRange(b.ids.at(x.at.id), x.at.seq, x.at.seq)
		}
		return held
	})
	slices.SortFunc(victims, func(a, b victim) int { return bytes.Compare(a.key, b.key) })
	for len(victims) > 0 {
		n := 1
		for n < len(victims) && bytes.Equal(victims[n].key, victims[0].key) {
			n++
		}
		if err := b.dropOf(victims[:n], peer, &sum); err != nil {
			return sum, err
		}
		victims = victims[n:]
	}
	if stray.IsEmpty() {
		return sum, nil
	}
	part, err := b.dropStray(stray, peer)
	sum.Keys += part.Keys
	sum.Versions += part.Versions
	sum.Bytes += part.Bytes
	sum.Lost += part.Lost
	return sum, err
}

// ClaimSize returns what Drop would remove, without removing it: what the brake
// on mass removal looks at. O(dots claimed that are live).
func (v *View) ClaimSize(claim crdt.Clock) (keys, versions int, bytes int64, err error) {
	d, err := replayDelta(v.journal, v.state.mark, v.ids)
	if err != nil {
		return 0, 0, 0, err
	}
	victims, _, err := v.victims(claim.Meet(v.clock), &d, newGaps(v.Seen(), v.retired))
	if err != nil {
		return 0, 0, 0, err
	}
	seen := map[string]struct{}{}
	for _, x := range victims {
		seen[string(x.key)] = struct{}{}
		bytes += x.size
	}
	return len(seen), len(victims), bytes, nil
}

// victim is a live version that a claim names.
type victim struct {
	key     []byte
	at      superseded
	kind    crdt.Kind
	expiry  int64
	size    int64
	guards  bool // it might still have to cover a version that has not arrived
	strayed bool // its record cannot be read
}

// victims finds the live versions among dots, and as stray those dots that are
// neither dead nor live as far as can be read.
func (rd *Reader) victims(dots crdt.Clock, d *delta, g *gaps) (found []victim, stray crdt.Clock, err error) {
	stray = dots.Minus(rd.deadWithin(dots, d))
	for e, err := range rd.liveWithin(stray.Clone(), d) {
		if err != nil {
			return nil, stray, err
		}
		dot := crdt.Dot{Replica: rd.ids.at(e.id), Seq: e.seq}
		rec, err := rd.record(e.arrival)
		if errors.Is(err, ErrCorrupt) || err == nil && rec.version.Dot != dot {
			continue
		}
		if err != nil {
			return nil, stray, err
		}
		v := &rec.version
		_, guards := g.before(v)
		found = append(found, victim{
			key: bytes.Clone(v.Key), at: e, kind: v.Kind, expiry: v.Expiry(), size: int64(len(v.Key) + len(v.Value)),
			guards: guards,
		})
	}
	read := crdt.NewClock()
	for _, x := range found {
		read.AddRange(rd.ids.at(x.at.id), x.at.seq, x.at.seq)
	}
	return found, stray.Minus(read), nil
}

// liveWithin yields those of the given dots that are live, with their arrivals.
func (rd *Reader) liveWithin(dots crdt.Clock, d *delta) iter.Seq2[superseded, error] {
	return func(yield func(superseded, error) bool) {
		recent := d.byReplica()
		var at dotBlocks
		view := rd.tx.Bucket(rd.names.dots)
		for id, r := range rd.ids.all() {
			for _, run := range dots.Of(r).Runs() {
				if len(recent[r]) == 0 && !at.reaches(view, uint32(id), run) {
					continue
				}
				for e, err := range mergeDots(rd.liveDots(uint32(id), run, &at), recent[r], run, d.died.Of(r)) {
					if !yield(superseded{uint32(id), e.seq, e.arrival}, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// dropOf removes siblings of one key and appends the record that says so.
func (b *Batch) dropOf(group []victim, peer crdt.ReplicaID, sum *Dropped) error {
	key := group[0].key
	if err := b.readHead(key); err != nil {
		return err
	}
	h := &b.head
	before := h.tally()
	d := drop{time: b.now, peer: peer, key: key, lost: crdt.NewClock()}
	gone := crdt.NewClock()
	h.orphans = slices.Clone(h.orphans)
	for _, x := range group {
		dot := crdt.Dot{Replica: b.ids.at(x.at.id), Seq: x.at.seq}
		if i := h.find(x.at.id, x.at.seq); i >= 0 {
			h.siblings = slices.Delete(h.siblings, i, i+1)
			sum.Versions++
		}
		if x.kind == crdt.Delete {
			gone.Add(dot)
		}
		if b.r.unknown.Has(dot) {
			d.lost.Add(dot)
		}
		if !x.strayed {
			h.orphans = append(h.orphans, x.at.arrival)
		}
		if x.expiry != 0 {
			if err := b.expiry.Delete(expiryKey(x.expiry, x.at.arrival)); err != nil {
				return err
			}
		}
		d.versions = append(d.versions, x.at)
		sum.Bytes += x.size
	}
	sum.Keys++
	sum.Lost += int(d.lost.Count())
	if err := b.putHead(key, h, before); err != nil {
		return err
	}
	if err := b.raiseGone(gone); err != nil {
		return err
	}
	return b.appendDrop(d)
}

// dropStray makes dots dead whose versions cannot be read, and takes them from
// the heads that still name them. O(keys).
func (b *Batch) dropStray(stray crdt.Clock, peer crdt.ReplicaID) (Dropped, error) {
	sum := Dropped{Lost: int(stray.Count())}
	if err := b.healHeads(); err != nil {
		return sum, err
	}
	var groups [][]victim
	listed := crdt.NewClock()
	for key, e := range b.Heads(nil, nil) {
		if err := decodeHead(e.raw, key, &b.head); err != nil {
			return sum, err
		}
		var group []victim
		for _, s := range b.head.siblings {
			if dot := b.dotOf(s); stray.Has(dot) {
				listed.Add(dot)
				group = append(group, b.strayed(key, s))
			}
		}
		if group != nil {
			groups = append(groups, group)
		}
	}
	for _, group := range groups {
		lost := sum.Lost
		if err := b.dropOf(group, peer, &sum); err != nil {
			return sum, err
		}
		sum.Lost = lost // counted above
		for _, x := range group {
			if err := b.discard(sibling{arrival: x.at.arrival, id: x.at.id, seq: x.at.seq}); err != nil {
				return sum, err
			}
		}
	}
	if rest := stray.Minus(listed); !rest.IsEmpty() {
		return sum, b.appendDrop(drop{time: b.now, peer: peer, lost: rest})
	}
	return sum, nil
}

// strayed describes a sibling that the dots view or the journal lost.
func (b *Batch) strayed(key []byte, s sibling) victim {
	x := victim{key: bytes.Clone(key), at: superseded{s.id, s.seq, s.arrival}, kind: s.kind}
	rec, err := b.record(s.arrival)
	if x.strayed = err != nil || rec.version.Dot != b.dotOf(s); !x.strayed {
		x.expiry, x.size = rec.version.Expiry(), int64(len(key)+len(rec.version.Value))
	}
	return x
}

// appendDrop appends the record of a drop and enters it into the delta.
func (b *Batch) appendDrop(d drop) error {
	r := b.r
	r.state.arrival++
	number := arrivalKey(r.state.arrival)
	if err := b.journal.Put(number, d.append(nil, r.state.arrival)); err != nil {
		return err
	}
	b.found(d.lost)
	r.delta.drop(r.ids, d)
	return nil
}

// drop is the record of siblings of one key that a peer proved to be dead.
type drop struct {
	time     crdt.HLC // of this node's clock when it was written
	peer     crdt.ReplicaID
	key      []byte       // nil if no head named the dots
	versions []superseded // that were live, with their arrivals
	lost     crdt.Clock   // dots that damage had taken before
}

// append appends the journal form:
//
//	kind u8 | time u64 | peer 16 | key length uv | key
//	n uv, n x (replica uv, seq uv, arrival distance uv)
//	clock | crc32c u32
func (d *drop) append(b []byte, arrival uint64) []byte {
	start := len(b)
	b = append(b, byte(RecordDrop))
	b = binary.BigEndian.AppendUint64(b, uint64(d.time))
	b = append(b, d.peer[:]...)
	b = binary.AppendUvarint(b, uint64(len(d.key)))
	b = append(b, d.key...)
	b = binary.AppendUvarint(b, uint64(len(d.versions)))
	for _, s := range d.versions {
		b = binary.AppendUvarint(b, uint64(s.id))
		b = binary.AppendUvarint(b, s.seq)
		b = binary.AppendUvarint(b, arrival-s.arrival)
	}
	return seal(d.lost.Append(b), start, arrivalKey(arrival))
}

// decodeDrop reads what append wrote. The key points into b.
func decodeDrop(b []byte, arrival uint64, ids *idTable) (drop, error) {
	body, err := unsealJournal(b, arrival)
	if err != nil {
		return drop{}, err
	}
	rd := reader{b: body}
	kind := RecordKind(rd.byte())
	d := drop{time: crdt.HLC(rd.u64())}
	copy(d.peer[:], rd.bytes(crdt.ReplicaIDLen))
	if key := rd.bytes(rd.uvarint()); len(key) > 0 {
		d.key = key
	}
	d.versions = make([]superseded, rd.count())
	for i := range d.versions {
		id := rd.uvarint()
		ids.get(id, &rd) // marks an unknown one
		d.versions[i] = superseded{uint32(id), rd.uvarint(), arrival - rd.uvarint()}
	}
	bad := rd.bad || kind != RecordDrop
	if !bad {
		var rest []byte
		d.lost, rest, err = crdt.DecodeClock(rd.b)
		bad = err != nil || len(rest) > 0
	}
	if bad {
		return drop{}, damaged("journal record", arrival, "malformed drop")
	}
	return d, nil
}

// drop enters a drop into the delta.
func (d *delta) drop(ids *idTable, x drop) {
	for _, s := range x.versions {
		d.die(crdt.Dot{Replica: ids.at(s.id), Seq: s.seq})
	}
	d.dieAll(x.lost)
}
