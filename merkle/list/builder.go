package list

import (
	"crypto/sha256"
	"math/bits"
)

// Builder computes the root of a list from its leaves in order, for lists that
// are too long to be held: the root that [Build] gives, in O(log n) memory and
// without proofs. A list may be longer than [MaxLeaves]; then no proof of it
// passes [Verify]. The zero value is an empty list. Not safe for concurrent use.
type Builder struct {
	n    uint64
	open []Digest // the full subtrees, largest first: one for each bit of n that is set
}

// The bytes that RFC 6962 section 2.1 puts before a leaf and before the two
// halves of a node.
const (
	leafByte = 0x00
	nodeByte = 0x01
)

// Add appends a leaf: two hashes on average.
func (b *Builder) Add(leaf []byte) {
	h := sha256.New()
	h.Write([]byte{leafByte})
	h.Write(leaf)
	top := Digest(h.Sum(nil))
	for range bits.TrailingZeros64(^b.n) {
		last := len(b.open) - 1
		top = node(b.open[last], top)
		b.open = b.open[:last]
	}
	b.open = append(b.open, top)
	b.n++
}

// Len returns how many leaves were added.
func (b *Builder) Len() uint64 { return b.n }

// Root returns the root of the leaves added so far; more may follow. O(log n).
func (b *Builder) Root() Digest {
	if b.n == 0 {
		return sha256.Sum256(nil)
	}
	root := b.open[len(b.open)-1]
	for i := len(b.open) - 2; i >= 0; i-- {
		root = node(b.open[i], root)
	}
	return root
}

// node hashes two halves.
func node(left, right Digest) Digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodeByte
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}
