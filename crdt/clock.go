package crdt

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Clock is a set of dots: for each replica the sequence numbers that are in
// it, as runs, so that a gap is never taken for seen. A replica's clock is the
// set of dots it knows; other dot sets (dead, gone, what a peer has) use the
// same type. The zero value is an empty clock that must not be added to; use
// NewClock or Clone.
type Clock struct{ sets map[ReplicaID]*SeqSet }

// NewClock returns an empty clock.
func NewClock() Clock { return Clock{sets: map[ReplicaID]*SeqSet{}} }

// ClockOf returns the clock that holds a set of one replica's dots. It takes
// over the set's memory.
func ClockOf(r ReplicaID, s SeqSet) Clock {
	c := NewClock()
	c.Set(r, s)
	return c
}

// Of returns the sequence numbers of one replica. They belong to the clock.
func (c Clock) Of(r ReplicaID) SeqSet {
	if s := c.sets[r]; s != nil {
		return *s
	}
	return SeqSet{}
}

// Has reports whether d is in the clock.
func (c Clock) Has(d Dot) bool {
	s := c.sets[d.Replica]
	return s != nil && s.Has(d.Seq)
}

// Base returns the highest n such that all of the replica's first n dots are in
// the clock.
func (c Clock) Base(r ReplicaID) uint64 { return c.Of(r).Base() }

// IsEmpty reports whether no dot is in the clock.
func (c Clock) IsEmpty() bool { return len(c.sets) == 0 }

// Len returns the number of replicas that have a dot in the clock.
func (c Clock) Len() int { return len(c.sets) }

// Count returns the number of dots in the clock, the greatest number there is
// if that is not enough: what bounds a peer's claims must not wrap around.
func (c Clock) Count() uint64 {
	var n uint64
	for _, s := range c.sets {
		sum := n + s.Count()
		if sum < n {
			return math.MaxUint64
		}
		n = sum
	}
	return n
}

// Replicas returns the replicas that have a dot in the clock, in rising order.
func (c Clock) Replicas() []ReplicaID {
	ids := make([]ReplicaID, 0, len(c.sets))
	for r := range c.sets {
		ids = append(ids, r)
	}
	slices.SortFunc(ids, ReplicaID.Compare)
	return ids
}

// Add puts d into the clock.
func (c Clock) Add(d Dot) { c.AddRange(d.Replica, d.Seq, d.Seq) }

// AddRange puts lo..hi of a replica into the clock.
func (c Clock) AddRange(r ReplicaID, lo, hi uint64) {
	if lo == 0 || lo > hi {
		return
	}
	s := c.sets[r]
	if s == nil {
		s = &SeqSet{}
		c.sets[r] = s
	}
	s.AddRange(lo, hi)
}

// Set replaces what the clock holds of one replica by s, which it takes over; an
// empty set removes it.
func (c Clock) Set(r ReplicaID, s SeqSet) {
	if s.IsEmpty() {
		delete(c.sets, r)
		return
	}
	c.sets[r] = &s
}

// Merge puts all dots of o into the clock.
func (c Clock) Merge(o Clock) {
	for r, os := range o.sets {
		s := c.sets[r]
		if s == nil {
			s = &SeqSet{}
			c.sets[r] = s
		}
		s.Union(*os)
	}
}

// Minus returns the dots of c that are not in o.
func (c Clock) Minus(o Clock) Clock {
	out := NewClock()
	for r, s := range c.sets {
		if os := o.sets[r]; os == nil {
			out.Set(r, s.Clone())
		} else if d := s.Minus(*os); !d.IsEmpty() {
			out.Set(r, d)
		}
	}
	return out
}

// Meet returns the dots that are in both.
func (c Clock) Meet(o Clock) Clock {
	out := NewClock()
	for r, s := range c.sets {
		if os := o.sets[r]; os != nil {
			out.Set(r, s.Intersect(*os))
		}
	}
	return out
}

// Contains reports whether all dots of o are in c.
func (c Clock) Contains(o Clock) bool {
	for r, os := range o.sets {
		if !c.Of(r).Contains(*os) {
			return false
		}
	}
	return true
}

// Equal reports whether both hold the same dots.
func (c Clock) Equal(o Clock) bool {
	if len(c.sets) != len(o.sets) {
		return false
	}
	for r, s := range c.sets {
		if os := o.sets[r]; os == nil || !s.Equal(*os) {
			return false
		}
	}
	return true
}

// Clone returns a copy that shares nothing.
func (c Clock) Clone() Clock {
	out := Clock{sets: make(map[ReplicaID]*SeqSet, len(c.sets))}
	for r, s := range c.sets {
		cs := s.Clone()
		out.sets[r] = &cs
	}
	return out
}

// AppendSeqSet appends the canonical encoding of a set: the number of runs,
// then for each run the gap to the end of the one before it less one, and its
// length less one, all unsigned varints. The gap before the first run counts
// from 1, so a set without gaps costs its end alone.
func AppendSeqSet(b []byte, s SeqSet) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.runs)))
	prev := uint64(0)
	for i, r := range s.runs {
		gap := r.Lo - prev - 1
		if i > 0 {
			gap-- // runs never touch
		}
		b = binary.AppendUvarint(b, gap)
		b = binary.AppendUvarint(b, r.Hi-r.Lo)
		prev = r.Hi
	}
	return b
}

// DecodeSeqSet reads a set from the front of b and returns the rest. It
// refuses anything AppendSeqSet would not have written and numbers above
// MaxSeq. It allocates no more than O(len(b)).
func DecodeSeqSet(b []byte) (SeqSet, []byte, error) {
	n, b, err := uvarint(b)
	if err != nil || n > uint64(len(b)/2) {
		return SeqSet{}, nil, fmt.Errorf("sequence set: %w: bad number of runs", ErrInvalid)
	}
	s := SeqSet{runs: make([]Interval, 0, n)}
	prev := uint64(0)
	for i := range n {
		var gap, length uint64
		if gap, b, err = uvarint(b); err != nil {
			return SeqSet{}, nil, err
		}
		if length, b, err = uvarint(b); err != nil {
			return SeqSet{}, nil, err
		}
		if gap >= MaxSeq || length >= MaxSeq {
			return SeqSet{}, nil, fmt.Errorf("sequence set: %w: number above the cap", ErrInvalid)
		}
		lo := prev + 1 + gap
		if i > 0 {
			lo++
		}
		prev = lo + length
		if prev > MaxSeq {
			return SeqSet{}, nil, fmt.Errorf("sequence set: %w: number above the cap", ErrInvalid)
		}
		s.runs = append(s.runs, Interval{lo, prev})
	}
	return s, b, nil
}

// Append appends the canonical encoding of the clock: the number of node tags,
// and for each tag in rising order its 8 bytes, the number of its
// incarnations, and for each of those in rising order 8 bytes and its
// sequence set. Equal clocks have equal encodings.
func (c Clock) Append(b []byte) []byte {
	ids := c.Replicas()
	tags := 0
	for i, r := range ids {
		if i == 0 || r.Tag() != ids[i-1].Tag() {
			tags++
		}
	}
	b = binary.AppendUvarint(b, uint64(tags))
	for i := 0; i < len(ids); {
		tag := ids[i].Tag()
		j := i
		for j < len(ids) && ids[j].Tag() == tag {
			j++
		}
		b = append(b, tag[:]...)
		b = binary.AppendUvarint(b, uint64(j-i))
		for ; i < j; i++ {
			b = append(b, ids[i][8:]...)
			b = AppendSeqSet(b, *c.sets[ids[i]])
		}
	}
	return b
}

// DecodeClock reads a clock from the front of b and returns the rest. It
// refuses anything Append would not have written. It allocates no more than
// O(len(b)).
func DecodeClock(b []byte) (Clock, []byte, error) {
	bad := func(what string) (Clock, []byte, error) {
		return Clock{}, nil, fmt.Errorf("clock: %w: %s", ErrInvalid, what)
	}
	tags, b, err := uvarint(b)
	if err != nil || tags > uint64(len(b)/9) {
		return bad("bad number of node tags")
	}
	c := NewClock()
	var last ReplicaID
	for range tags {
		if len(b) < 8 {
			return bad("cut short")
		}
		tag := [8]byte(b[:8])
		if !c.IsEmpty() && slices.Compare(tag[:], last[:8]) <= 0 {
			return bad("node tags do not rise")
		}
		var n uint64
		if n, b, err = uvarint(b[8:]); err != nil || n == 0 || n > uint64(len(b)/8) {
			return bad("bad number of incarnations")
		}
		for i := range n {
			if len(b) < 8 {
				return bad("cut short")
			}
			id := NewReplicaID(tag, [8]byte(b[:8]))
			if i > 0 && id.Compare(last) <= 0 {
				return bad("incarnations do not rise")
			}
			last = id
			var s SeqSet
			if s, b, err = DecodeSeqSet(b[8:]); err != nil {
				return Clock{}, nil, err
			}
			if s.IsEmpty() {
				return bad("replica without a dot")
			}
			c.sets[id] = &s
		}
	}
	return c, b, nil
}

// uvarint reads a canonical (shortest) unsigned varint from the front of b.
func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("varint: %w: cut short or too long", ErrInvalid)
	}
	if n > 1 && b[n-1] == 0 {
		return 0, nil, fmt.Errorf("varint: %w: not the shortest form", ErrInvalid)
	}
	return v, b[n:], nil
}
