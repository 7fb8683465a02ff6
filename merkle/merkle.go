// Package merkle computes the root that two replicas compare: a binary Patricia
// (critbit) Merkle tree over the raw keys of the live versions of a namespace.
//
// The tree is a pure function of the set {key -> digests of its live versions}:
// independent of history, order of arrival and storage layout. A key is read
// as a bit string in which each byte is a 1 followed by its 8 bits and the end
// is a 0, so that no key is a prefix of another and byte order is kept. An
// inner node commits to the bit position in which its two halves differ and to
// the number of keys below it; docs/DESIGN.md has the byte layouts.
//
// Builder computes a digest from keys in order. Index keeps the digests of all
// larger subtrees as tiles in a store's bucket, brings them up to date from the
// sorted list of keys that changed, makes proofs and compares itself with
// another index. VerifyInclusion, VerifyAbsence and VerifyPrefix check a proof
// against 32 bytes and need no store.
package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Digest is a SHA-256 value.
type Digest = [32]byte

// SuiteSHA256 is the suite byte of roots whose digests are all SHA-256.
const SuiteSHA256 = 1

// Domain bytes: the first byte hashed. Version records begin with 0x80..0x9f,
// so nothing a leaf commits to can be read as an inner node.
const (
	domainNode     = 0x01
	domainSiblings = 0x02
	domainRoot     = 0x03
)

// Leaf returns the digest of a key whose live versions have these digests: the
// digest itself if there is one, else a hash over them, sorted. It sorts them.
func Leaf(versions []Digest) Digest {
	if len(versions) == 1 {
		return versions[0]
	}
	slices.SortFunc(versions, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	var head [5]byte
	head[0] = domainSiblings
	binary.BigEndian.PutUint32(head[1:], uint32(len(versions)))
	h.Write(head[:])
	for i := range versions {
		h.Write(versions[i][:])
	}
	return Digest(h.Sum(nil))
}

// Crit returns the position of the first bit in which two different keys
// differ, counted from 0 over the 9-bit groups.
func Crit(a, b []byte) int {
	i := mismatch(a, b)
	if i == min(len(a), len(b)) {
		return 9 * i
	}
	return 9*i + 1 + bits.LeadingZeros8(a[i]^b[i])
}

// bitAt returns the bit at position p of a key's bit string, 0 behind its end.
func bitAt(key []byte, p int) byte {
	i, r := p/9, p%9
	switch {
	case i >= len(key):
		return 0
	case r == 0:
		return 1
	}
	return key[i] >> (8 - r) & 1
}

// Subtree is a set of keys as its parent sees it.
type Subtree struct {
	Count  uint64
	Digest Digest // zero if Count is 0
}

// join returns the node over two halves that first differ in bit p.
func join(p int, left, right Subtree) Subtree {
	var b [77]byte
	b[0] = domainNode
	binary.BigEndian.PutUint32(b[1:], uint32(p))
	binary.BigEndian.PutUint64(b[5:], left.Count+right.Count)
	copy(b[13:], left.Digest[:])
	copy(b[45:], right.Digest[:])
	return Subtree{left.Count + right.Count, sha256.Sum256(b[:])}
}

// Builder folds keys in strictly rising order to their subtree. Memory is
// O(depth), time one hash a key. The zero value is ready to use.
type Builder struct {
	last  []byte
	right Subtree   // the subtree that ends with the last key
	open  []pending // left halves whose right half is still growing, by rising bit
}

type pending struct {
	bit  int
	left Subtree
}

// Add appends a key. It panics if key does not rise: the caller's order is
// that of a store's cursor.
func (b *Builder) Add(key []byte, leaf Digest) {
	if b.right.Count > 0 {
		if bytes.Compare(b.last, key) >= 0 {
			panic("merkle: keys do not rise")
		}
		b.branch(Crit(b.last, key), Subtree{1, leaf})
	} else {
		b.right = Subtree{1, leaf}
	}
	b.last = append(b.last[:0], key...)
}

// branch appends a subtree that first differs from what is left of it in bit p.
func (b *Builder) branch(p int, s Subtree) {
	b.close(p)
	b.open = append(b.open, pending{p, b.right})
	b.right = s
}

// close joins all nodes that branch behind bit p.
func (b *Builder) close(p int) {
	for n := len(b.open) - 1; n >= 0 && b.open[n].bit > p; n-- {
		b.right = join(b.open[n].bit, b.open[n].left, b.right)
		b.open = b.open[:n]
	}
}

// Sum returns the subtree of all keys added. The builder is empty afterwards.
func (b *Builder) Sum() Subtree {
	b.close(-1)
	s := b.right
	*b = Builder{}
	return s
}

// Root binds a subtree to its namespace and key prefix (empty for the whole
// namespace): the 32 bytes that replicas compare.
func Root(namespace string, prefix []byte, s Subtree) Digest {
	b := make([]byte, 0, 2+20+len(namespace)+len(prefix)+40)
	b = append(b, domainRoot, SuiteSHA256)
	b = binary.AppendUvarint(b, uint64(len(namespace)))
	b = append(b, namespace...)
	b = binary.AppendUvarint(b, uint64(len(prefix)))
	b = append(b, prefix...)
	b = binary.BigEndian.AppendUint64(b, s.Count)
	b = append(b, s.Digest[:]...)
	return sha256.Sum256(b)
}
