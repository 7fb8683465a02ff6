package crdt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// TokenOf is Token for digests that are known already. It sorts them.
func TokenOf(digests [][32]byte) [32]byte {
	slices.SortFunc(digests, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	for i := range digests {
		h.Write(digests[i][:])
	}
	return [32]byte(h.Sum(nil))
}

// AppendNumber appends the value of a max or min register: 8 bytes whose byte
// order is the order of the numbers.
func AppendNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n)^1<<63)
}

// DecodeNumber reads what AppendNumber wrote. ErrInvalid for other lengths.
func DecodeNumber(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("number of %d bytes (want 8): %w", len(b), ErrInvalid)
	}
	return int64(binary.BigEndian.Uint64(b) ^ 1<<63), nil
}

// extreme returns the version that holds the greatest (Max) or least (Min)
// number, the first of equals; malformed numbers lose.
func extreme(live Siblings, kind Kind) *Version {
	best := live[0]
	bestN, bestErr := DecodeNumber(best.Value)
	for _, v := range live[1:] {
		n, err := DecodeNumber(v.Value)
		if err != nil {
			continue
		}
		if bestErr != nil || (kind == Max && n > bestN) || (kind == Min && n < bestN) {
			best, bestN, bestErr = v, n, nil
		}
	}
	return best
}

// Slot is the state of one replica's share of a counter: what it has added and
// taken away since its id was drawn, and up to where resets have swallowed
// that. Only the owner raises totals; anybody may raise floors to totals seen.
type Slot struct {
	Plus, Minus           uint64 // totals
	PlusFloor, MinusFloor uint64 // floors
}

// Join returns the greatest totals and the greatest floors of both: what every
// version of a slot carries of all it covers, and how siblings fold.
func (s Slot) Join(o Slot) Slot {
	return Slot{
		max(s.Plus, o.Plus), max(s.Minus, o.Minus),
		max(s.PlusFloor, o.PlusFloor), max(s.MinusFloor, o.MinusFloor),
	}
}

// above returns a - b, 0 if that is negative.
func above(a, b uint64) uint64 {
	if a <= b {
		return 0
	}
	return a - b
}

// Value returns what the slot adds to its counter.
func (s Slot) Value() int64 {
	return int64(above(s.Plus, s.PlusFloor)) - int64(above(s.Minus, s.MinusFloor))
}

// IsFloored reports whether nothing of the slot is above its floors.
func (s Slot) IsFloored() bool { return s.Plus <= s.PlusFloor && s.Minus <= s.MinusFloor }

// Reset returns the slot with its floors raised to the totals.
func (s Slot) Reset() Slot { return s.Join(Slot{PlusFloor: s.Plus, MinusFloor: s.Minus}) }

// maxTotal keeps sums of totals within int64 for up to 4,096 full slots.
const maxTotal = math.MaxInt64 >> 12

// Count returns the slot after its owner counted delta. ErrTooLarge once a
// total would pass 2^51.
func (s Slot) Count(delta int64) (Slot, error) {
	plus, minus := s.Plus, s.Minus
	if delta >= 0 {
		plus += uint64(delta)
	} else {
		minus += uint64(-(delta + 1)) + 1
	}
	if plus > maxTotal || minus > maxTotal {
		return s, fmt.Errorf("counter total above %d: %w", int64(maxTotal), ErrTooLarge)
	}
	s.Plus, s.Minus = plus, minus
	return s, nil
}

// Append appends the slot as four unsigned varints: plus, minus and their floors.
func (s Slot) Append(b []byte) []byte {
	for _, n := range [...]uint64{s.Plus, s.Minus, s.PlusFloor, s.MinusFloor} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// DecodeSlot reads what Append wrote and refuses anything else.
func DecodeSlot(b []byte) (Slot, error) {
	var n [4]uint64
	var err error
	for i := range n {
		if n[i], b, err = uvarint(b); err != nil || n[i] > maxTotal {
			return Slot{}, fmt.Errorf("counter slot: %w: bad number", ErrInvalid)
		}
	}
	if len(b) != 0 {
		return Slot{}, fmt.Errorf("counter slot: %w: %d bytes too many", ErrInvalid, len(b))
	}
	return Slot{n[0], n[1], n[2], n[3]}, nil
}

// FoldSlot joins the siblings of one slot; malformed ones count as nothing.
func FoldSlot(s Siblings) Slot {
	var sum Slot
	for _, v := range s {
		if v.Kind == Count {
			if one, err := DecodeSlot(v.Value); err == nil {
				sum = sum.Join(one)
			}
		}
	}
	return sum
}

// InAddWins reports whether an add-wins set holds the element with these
// siblings: some add was not removed by a write that saw it.
func InAddWins(s Siblings) bool {
	return slices.ContainsFunc(s, func(v *Version) bool { return v.Kind == Add })
}

// InRemoveWins reports whether a remove-wins set holds the element: some add
// stands and no concurrent or later removal does.
func InRemoveWins(s Siblings) bool {
	return InAddWins(s) && !slices.ContainsFunc(s, func(v *Version) bool { return v.Kind == Remove })
}
