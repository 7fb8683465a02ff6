package replica

import (
	"errors"
	"slices"
	"testing"

	"bzzz/crdt"
)

// resealed gives the decoder behind a checksum what passes it, too.
func resealed(b, key []byte) []byte {
	if len(b) < sumLen {
		return b
	}
	return seal(slices.Clone(b[:len(b)-sumLen]), 0, key)
}

func mustBeCorrupt(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error %v is not of the kind corrupt", err)
	}
}

func FuzzDecodeDrop(f *testing.F) {
	ids := newIDTable()
	for i := range byte(3) {
		if _, err := ids.add(crdt.ReplicaID{i + 1}); err != nil {
			f.Fatal(err)
		}
	}
	d := drop{time: 5, peer: crdt.ReplicaID{2}, key: []byte("k"), versions: []superseded{{1, 7, 3}, {2, 1, 9}}, lost: crdt.NewClock()}
	d.lost.AddRange(crdt.ReplicaID{3}, 2, 4)
	f.Add(d.append(nil, 10), uint64(10))
	f.Add((&drop{lost: crdt.NewClock()}).append(nil, 1), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, arrival uint64) {
		d, err := decodeDrop(resealed(b, arrivalKey(arrival)), arrival, ids)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		again, err := decodeDrop(d.append(nil, arrival), arrival, ids)
		if err != nil || !slices.Equal(again.versions, d.versions) || string(again.key) != string(d.key) || !again.lost.Equal(d.lost) {
			t.Fatalf("decoded %+v, then %+v, %v", d, again, err)
		}
	})
}

func FuzzDecodeAdoption(f *testing.F) {
	dots := crdt.NewClock()
	dots.AddRange(crdt.ReplicaID{1}, 2, 9)
	dots.AddRange(crdt.ReplicaID{1, 1}, 4, 4)
	for _, kind := range []RecordKind{RecordAdoption, RecordCollection} {
		f.Add(seal(dots.Append([]byte{byte(kind), 0, 0, 0, 0, 0, 0, 0, 7}), 0, arrivalKey(3)), uint64(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, arrival uint64) {
		a, err := decodeAdoption(resealed(b, arrivalKey(arrival)), arrival)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		if got := len(a.dots.Append(nil)) + 1 + 8 + sumLen; got != len(b) {
			t.Fatalf("%d bytes decoded to dots that take %d", len(b), got)
		}
	})
}

func FuzzDecodeRetirement(f *testing.F) {
	key := metaKey(metaRetired, 1)
	f.Add((&Retirement{Last: 5, Time: 7}).append(nil, key))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeRetirement(resealed(b, key), key, 1)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		if got := d.append(nil, key); !slices.Equal(got, resealed(b, key)) {
			t.Fatalf("decoded and encoded again: %x, was %x", got, b)
		}
	})
}

func FuzzDecodePartial(f *testing.F) {
	p := partial{ranges: Scope{[]byte("a/"), []byte("b")}, clock: crdt.NewClock(), gone: crdt.NewClock()}
	f.Add(p.append(nil))
	p.clock.AddRange(crdt.ReplicaID{1}, 2, 9)
	p.gone.AddRange(crdt.ReplicaID{2}, 1, 3)
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePartial(resealed(b, metaScope))
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		again, err := decodePartial(p.append(nil))
		if err != nil || !again.ranges.Equal(p.ranges) || !again.clock.Equal(p.clock) || !again.gone.Equal(p.gone) {
			t.Fatalf("decoded %+v, then %+v, %v", p, again, err)
		}
	})
}
