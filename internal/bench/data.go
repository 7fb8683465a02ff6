package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// valueLen is the length of every value.
const valueLen = 100

// pair is a key with its value.
type pair struct{ key, value []byte }

// keys says how the keys of a scenario look.
type keys string

const (
	sequential keys = "seq"    // key-%09d, rising
	scattered  keys = "random" // 16 bytes, the i-th of a permutation-like sequence
)

// key returns the i-th key. Scattered keys are distinct: SplitMix64 is a
// bijection (Steele et al., Fast Splittable Pseudorandom Number Generators,
// OOPSLA 2014).
func (k keys) key(i int) []byte {
	if k == sequential {
		return fmt.Appendf(nil, "key-%09d", i)
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), mix(uint64(i)))
	return binary.BigEndian.AppendUint64(b, mix(^uint64(i)))
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// valueOf returns the value of write number i of a round of writes: PRNG bytes.
func valueOf(i, round int) []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 0x62656e6368+uint64(round)))
	b := make([]byte, 0, valueLen+8)
	for len(b) < valueLen {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:valueLen]
}

// pairs returns the keys from..from+n-1 with the values of a round of writes.
func (k keys) pairs(from, n, round int) []pair {
	out := make([]pair, n)
	for i := range out {
		out[i] = pair{k.key(from + i), valueOf(from+i, round)}
	}
	return out
}
