package sketch

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
)

// ItemSize is the length of an item in bytes.
const ItemSize = 16

// Item names a member of the set: the first 16 bytes of its digest. Among n
// members two share an item with probability n^2/2^129: 1e-27 at 1 M, 1e-21 at
// 1e9. An author who wants such a pair on purpose hashes 2^64 records; the
// sketch is then blind to that pair, and the roots, which hold whole digests,
// still differ and send both sides to the tree.
type Item [ItemSize]byte

// ItemOf returns the item of a digest.
func ItemOf(digest [32]byte) Item { return Item(digest[:ItemSize]) }

// Key keys the hash of items. Both sides must use the same, for example one
// derived from the name of the namespace; it need not be secret.
type Key [16]byte

// domainEntry is the first byte hashed by [Entry]; merkle uses 0x01..0x03.
const domainEntry = 0x04

// Entry returns the digest of a key with the digest of its live versions:
//
//	SHA-256(0x04 || u32be len(key) || key || leaf)
//
// Where a leaf digest commits to its key already, as version digests do, the
// leaf itself serves as well and costs no hash.
func Entry(key []byte, leaf [32]byte) [32]byte {
	h := sha256.New()
	var head [5]byte
	head[0] = domainEntry
	binary.BigEndian.PutUint32(head[1:], uint32(len(key)))
	h.Write(head[:])
	h.Write(key)
	h.Write(leaf[:])
	return [32]byte(h.Sum(nil))
}

// words is an item as two little-endian words, to XOR quickly.
type words [2]uint64

func (it Item) words() words {
	return words{binary.LittleEndian.Uint64(it[:8]), binary.LittleEndian.Uint64(it[8:])}
}

func (w words) item() Item {
	var it Item
	binary.LittleEndian.PutUint64(it[:8], w[0])
	binary.LittleEndian.PutUint64(it[8:], w[1])
	return it
}

// hash is SipHash-2-4 of the 16 bytes of an item (Aumasson and Bernstein,
// "SipHash: a fast short-input PRF", INDOCRYPT 2012).
func (k *Key) hash(m words) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	// The last block holds the length, 16, in its top byte.
	for _, b := range [3]uint64{m[0], m[1], ItemSize << 56} {
		v3 ^= b
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= b
	}
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

// mapping walks the indices of the cells an item is in, ascending from 0.
type mapping struct {
	at    uint64
	state uint64
}

// mapItem starts at cell 0; the hash of the item seeds the walk.
func mapItem(check uint64) mapping { return mapping{state: check} }

// next moves to the item's next cell.
//
// The probability that an item of cell i is in none of i+1..j is the product of
// 1-rho(k) = k/(k+2), that is (i+1)(i+2) / ((j+1)(j+2)) (the paper, section
// 4.2, has its approximation; here it is inverted exactly, in integers, so that
// every machine agrees): draw u in 1..2^31, go to the smallest j with
// (j+1)(j+2)*u > (i+1)(i+2)*2^31. Past [MaxCells] it stops at MaxCells. The
// draws are SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func (m *mapping) next() {
	m.state += 0x9e3779b97f4a7c15
	z := m.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	u := z>>33 + 1
	// at < MaxCells and r <= MaxCells+1, so no product below reaches 2^64.
	a := (m.at + 1) * (m.at + 2) << 31
	if a >= MaxCells*(MaxCells+1)*u {
		m.at = MaxCells
		return
	}
	// The smallest r with r(r+1)u > a. Floating point guesses, for it divides
	// faster (BenchmarkAdd: 0.6 us against 1.3); integers decide.
	r := uint64(math.Sqrt(float64(a) / float64(u)))
	for r*(r+1)*u <= a {
		r++
	}
	for (r-1)*r*u > a {
		r--
	}
	m.at = r - 1
}
