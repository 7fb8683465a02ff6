// Package list is a static Merkle tree over a sealed list: the chunks of a
// blob, the records of a batch, the entries of a snapshot manifest. One root of
// 32 bytes commits to every leaf and to its place; a proof of at most
// 32*ceil(log2 n) bytes shows one leaf to who holds the root and the length.
//
// Roots and audit paths are those of RFC 6962 section 2.1, computed by
// github.com/cbergoon/merkletree with WithRFC6962: leaf hash = SHA-256(0x00 ||
// leaf), node hash = SHA-256(0x01 || left || right), a list of n is split at the
// largest power of two below n. The library's default mode is never used: it
// hashes leaves and nodes alike, so a node passes for a leaf, and it doubles an
// odd leaf, so [A B C] and [A B C C] have one root.
//
// A root does not commit to the length of the list by itself (RFC 6962 signs
// both together): keep the length beside the root, in the manifest that names
// them, and hand both to [Verify].
package list

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cbergoon/merkletree"

	"bzzz/internal/errs"
)

// Digest is a SHA-256 value.
type Digest = [32]byte

// MaxLeaves bounds a list: 16 Mi leaves are 1 TiB in chunks of 64 KiB. A tree
// takes about 280 bytes a leaf (BenchmarkBuild).
const MaxLeaves = 1 << 24

// MaxProofLen bounds an encoded proof in bytes: one count, then a digest for
// each of at most log2(MaxLeaves) = 24 levels.
const MaxProofLen = 1 + maxSteps*sha256.Size

// maxSteps is the longest audit path: log2(MaxLeaves).
const maxSteps = 24

// The sentinels of this package; match them with errors.Is.
var (
	// ErrInvalid: the arguments make no sense together (index outside the
	// list, negative length).
	ErrInvalid = errs.ErrInvalid
	// ErrTooLarge: more than MaxLeaves leaves.
	ErrTooLarge = errs.ErrTooLarge
	// ErrCorrupt: a proof that cannot be read, or does not lead to the root.
	ErrCorrupt = errs.ErrCorrupt
)

// Proof is the audit path of a leaf, from the leaf's sibling up to a child of
// the root (RFC 6962 section 2.1.1). Which side each sibling is on follows from
// the index and the length, so it is not in the proof.
type Proof []Digest

// Tree is a list sealed for many proofs. It is immutable and safe for
// concurrent use. It keeps the slices it was built from: do not change them.
type Tree struct {
	n    int
	root Digest
	tree *merkletree.MerkleTree // nil if the list is empty
}

// content hands a leaf to the library, which in RFC 6962 mode hashes
// SHA-256(0x00 || CalculateHash()).
type content []byte

// CalculateHash returns the leaf itself.
func (c content) CalculateHash() ([]byte, error) { return c, nil }

// Equals compares bytes.
func (c content) Equals(other merkletree.Content) (bool, error) {
	o, ok := other.(content)
	return ok && string(c) == string(o), nil
}

// Build seals a list: O(n) memory and 2n-1 hashes. An empty list is allowed.
// More than [MaxLeaves] give ErrTooLarge.
func Build(leaves [][]byte) (*Tree, error) {
	if len(leaves) > MaxLeaves {
		return nil, fmt.Errorf("list of %d leaves, at most %d: %w", len(leaves), MaxLeaves, ErrTooLarge)
	}
	if len(leaves) == 0 {
		// RFC 6962: the hash of an empty list is the hash of an empty string.
		// The library refuses to build one.
		return &Tree{root: sha256.Sum256(nil)}, nil
	}
	cs := make([]merkletree.Content, len(leaves))
	for i, leaf := range leaves {
		cs[i] = content(leaf)
	}
	t, err := merkletree.NewTreeWithOptions(cs, merkletree.WithRFC6962())
	if err != nil {
		return nil, fmt.Errorf("merkle list: %w", err)
	}
	return &Tree{n: len(leaves), root: Digest(t.MerkleRoot()), tree: t}, nil
}

// Len returns the number of leaves.
func (t *Tree) Len() int { return t.n }

// Root returns the root: SHA-256 of nothing for an empty list.
func (t *Tree) Root() Digest { return t.root }

// Prove returns the audit path of leaf i, counted from 0: O(log n). An index
// outside the list gives ErrInvalid.
func (t *Tree) Prove(i int) (Proof, error) {
	if i < 0 || i >= t.n {
		return nil, fmt.Errorf("leaf %d of %d: %w", i, t.n, ErrInvalid)
	}
	path, _, err := t.tree.GetMerklePathByIndex(i)
	if err != nil {
		return nil, fmt.Errorf("merkle list: %w", err)
	}
	p := make(Proof, len(path))
	for k, d := range path {
		p[k] = Digest(d)
	}
	return p, nil
}

// Root returns the RFC 6962 root of a list; see [Build].
func Root(leaves [][]byte) (Digest, error) {
	t, err := Build(leaves)
	if err != nil {
		return Digest{}, err
	}
	return t.root, nil
}

// Prove returns the audit path of leaf i. It builds the whole tree: for more
// than one proof of a list use [Build].
func Prove(leaves [][]byte, i int) (Proof, error) {
	t, err := Build(leaves)
	if err != nil {
		return nil, err
	}
	return t.Prove(i)
}

// Verify returns nil if leaf is number i, counted from 0, of the list of n
// leaves with this root; it needs nothing but its arguments. root and n must
// come from one trusted place: the same proof may hold for another n of the
// same shape on that path. At most 25 hashes, whatever the input. ErrInvalid:
// i outside the list; ErrTooLarge: n above [MaxLeaves]; ErrCorrupt: the proof
// has the wrong length or leads to another root.
func Verify(root Digest, n, i int, leaf []byte, p Proof) error {
	if n > MaxLeaves {
		return fmt.Errorf("list of %d leaves, at most %d: %w", n, MaxLeaves, ErrTooLarge)
	}
	if i < 0 || i >= n {
		return fmt.Errorf("leaf %d of %d: %w", i, n, ErrInvalid)
	}
	sides := sides(n, i)
	if len(p) != len(sides) {
		return fmt.Errorf("proof of leaf %d of %d has %d steps, want %d: %w", i, n, len(p), len(sides), ErrCorrupt)
	}
	path := make([][]byte, len(p))
	for k := range p {
		path[k] = p[k][:]
	}
	ok, err := merkletree.VerifyProof(content(leaf), path, sides, root[:], merkletree.WithRFC6962())
	if err != nil {
		return fmt.Errorf("merkle list: %w: %w", err, ErrCorrupt)
	}
	if !ok {
		return fmt.Errorf("leaf %d of %d does not lead to root %x: %w", i, n, root, ErrCorrupt)
	}
	return nil
}

// sides says for each step of the path of leaf i of n, from the leaf up,
// whether the sibling is the right one (1) or the left one (0), as the library
// wants it. It is the walk of RFC 9162 section 2.1.3.2 without the hashes.
func sides(n, i int) []int64 {
	at, last := uint(i), uint(n-1)
	s := make([]int64, 0, bits.Len(last))
	for last > 0 {
		if at&1 == 0 && at == last {
			// The right edge: no sibling at this level, climb on.
			at, last = at>>1, last>>1
			continue
		}
		s = append(s, int64(1-at&1))
		at, last = at>>1, last>>1
	}
	return s
}

// AppendBinary appends the encoded proof to b:
//
//	uvarint steps (0..24) | steps digests of 32 bytes, from the leaf up
//
// The encoding is canonical. It never fails for a proof of [Prove].
func (p Proof) AppendBinary(b []byte) ([]byte, error) {
	if len(p) > maxSteps {
		return nil, fmt.Errorf("proof of %d steps, at most %d: %w", len(p), maxSteps, ErrTooLarge)
	}
	b = binary.AppendUvarint(b, uint64(len(p)))
	for i := range p {
		b = append(b, p[i][:]...)
	}
	return b, nil
}

// ParseProof decodes what [Proof.AppendBinary] wrote, and nothing else: a step
// count above 24, missing bytes and trailing bytes give ErrCorrupt. The result
// does not refer to b.
func ParseProof(b []byte) (Proof, error) {
	// Counts up to 24 take one byte, so a longer form is never canonical.
	if len(b) == 0 || b[0] > maxSteps {
		return nil, fmt.Errorf("proof without a step count of at most %d: %w", maxSteps, ErrCorrupt)
	}
	steps := int(b[0])
	if len(b) != 1+steps*sha256.Size {
		return nil, fmt.Errorf("proof of %d bytes, want %d: %w", len(b), 1+steps*sha256.Size, ErrCorrupt)
	}
	p := make(Proof, steps)
	for k := range p {
		copy(p[k][:], b[1+k*sha256.Size:])
	}
	return p, nil
}
