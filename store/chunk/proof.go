package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ipfs/go-cid"

	"bzzz/merkle/list"
)

// Proof shows to who knows a blob's CID that a chunk belongs to the blob, and
// where.
type Proof struct {
	Descriptor Descriptor
	Index      int    // of the chunk, counted from 0
	Offset     uint64 // where it begins within the blob
	Path       list.Proof
}

// MaxProofLen bounds an encoded proof in bytes.
const MaxProofLen = maxDescriptor + 2*binary.MaxVarintLen64 + list.MaxProofLen

// Prove returns the proof of chunk i, counted from 0. ErrInvalid outside the
// list. O(log n); the first call builds the tree, which takes 280 bytes and
// 0.4 us a chunk and stays with the manifest.
func (m *Manifest) Prove(i int) (Proof, error) {
	if i < 0 || i >= len(m.refs) {
		return Proof{}, fmt.Errorf("chunk %d of %d: %w", i, len(m.refs), ErrInvalid)
	}
	tree, err := m.tree()
	if err != nil {
		return Proof{}, err
	}
	path, err := tree.Prove(i)
	return Proof{m.desc, i, m.offsets[i], path}, err
}

// VerifyChunk returns nil if data is a chunk of the blob, at the index and
// offset that the proof states: the bytes from p.Offset on are data. It needs
// nothing but its arguments. ErrCorrupt if not, ErrUnsupported for another kind
// of CID. At most 27 hashes besides that of data.
func VerifyChunk(blob cid.Cid, p Proof, data []byte) error {
	want, err := DigestOf(blob)
	if err != nil {
		return err
	}
	d := p.Descriptor
	switch {
	case d.Digest() != want:
		return fmt.Errorf("the descriptor is not that of blob %s: %w", blob, ErrCorrupt)
	case p.Index < 0 || p.Index >= d.Count || p.Offset > d.Size || uint64(len(data)) > d.Size-p.Offset || len(data) > MaxChunk:
		return fmt.Errorf("chunk %d of %d at %d, %d bytes: not within blob %s: %w", p.Index, d.Count, p.Offset, len(data), blob, ErrCorrupt)
	}
	leaf := appendLeaf(make([]byte, 0, leafLen), p.Offset, Ref{sha256.Sum256(data), len(data)})
	if err := list.Verify(d.Root, d.Count, p.Index, leaf, p.Path); err != nil {
		return fmt.Errorf("blob %s: %w", blob, err)
	}
	return nil
}

// AppendBinary appends the canonical encoding to b:
//
//	descriptor | index uvarint | offset uvarint | path (merkle/list)
//
// It never fails for a proof of [Manifest.Prove].
func (p Proof) AppendBinary(b []byte) ([]byte, error) {
	b = p.Descriptor.AppendBinary(b)
	b = binary.AppendUvarint(b, uint64(p.Index))
	b = binary.AppendUvarint(b, p.Offset)
	return p.Path.AppendBinary(b)
}

// ParseProof decodes what [Proof.AppendBinary] wrote, and nothing else; see
// [VerifyChunk] for what it proves. ErrCorrupt, ErrUnsupported, ErrTooLarge.
func ParseProof(b []byte) (Proof, error) {
	d, b, err := readDescriptor(b)
	if err != nil {
		return Proof{}, err
	}
	index, b, ok := uvarint(b)
	offset, b, ok2 := uvarint(b)
	if !ok || !ok2 || index >= uint64(d.Count) || offset >= d.Size {
		return Proof{}, fmt.Errorf("malformed chunk proof: %w", ErrCorrupt)
	}
	path, err := list.ParseProof(b)
	return Proof{d, int(index), offset, path}, err
}
