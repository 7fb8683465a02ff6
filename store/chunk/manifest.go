package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sort"
	"sync"

	"github.com/ipfs/go-cid"

	"bzzz/merkle/list"
)

// formatVersion is the first byte of a descriptor.
const formatVersion = 1

// Descriptor is what a blob's CID stands for.
type Descriptor struct {
	Size  uint64      // of the content in bytes
	Count int         // of chunks
	Root  list.Digest // RFC 6962 root over the chunk list
}

// AppendBinary appends the canonical encoding to b:
//
//	format u8 = 1 | size uvarint | count uvarint | root 32
func (d Descriptor) AppendBinary(b []byte) []byte {
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, d.Size)
	b = binary.AppendUvarint(b, uint64(d.Count))
	return append(b, d.Root[:]...)
}

// Digest returns the SHA-256 of the encoding: the blob's name within a store.
func (d Descriptor) Digest() Digest {
	return sha256.Sum256(d.AppendBinary(make([]byte, 0, maxDescriptor)))
}

// CID returns the blob's CID.
func (d Descriptor) CID() cid.Cid { return CID(d.Digest()) }

// readDescriptor decodes a descriptor at the beginning of b and returns the
// rest. ErrUnsupported for another format, ErrCorrupt for numbers that are not
// canonical or make no sense together, ErrTooLarge above the caps.
func readDescriptor(b []byte) (Descriptor, []byte, error) {
	var d Descriptor
	if len(b) == 0 {
		return d, nil, fmt.Errorf("empty blob descriptor: %w", ErrCorrupt)
	}
	if b[0] != formatVersion {
		return d, nil, fmt.Errorf("blob descriptor of format %d, this build reads %d: %w", b[0], formatVersion, ErrUnsupported)
	}
	size, b, ok := uvarint(b[1:])
	count, b, ok2 := uvarint(b)
	if !ok || !ok2 || len(b) < len(d.Root) {
		return d, nil, fmt.Errorf("malformed blob descriptor: %w", ErrCorrupt)
	}
	switch {
	case count > MaxChunks || size > MaxSize:
		return d, nil, fmt.Errorf("blob of %d chunks and %d bytes (at most %d and %d): %w", count, size, MaxChunks, uint64(MaxSize), ErrTooLarge)
	case size < count || size > count*MaxChunk:
		return d, nil, fmt.Errorf("blob of %d bytes in %d chunks: %w", size, count, ErrCorrupt)
	}
	d.Size, d.Count = size, int(count)
	return d, b[copy(d.Root[:], b):], nil
}

// uvarint reads an unsigned varint in its shortest form. After a fault it
// returns no rest.
func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// Manifest is a descriptor with its chunk list. It is immutable and safe for
// concurrent use. It takes 48 bytes a chunk.
type Manifest struct {
	desc    Descriptor
	digest  Digest // of desc
	refs    []Ref
	offsets []uint64 // where each chunk begins
	tree    func() (*list.Tree, error)
}

// NewManifest makes the manifest of a chunk list, which it keeps: do not change
// it. ErrTooLarge above MaxChunks, ErrInvalid for lengths outside 1..MaxChunk.
// O(n), about 0.4 us a chunk.
func NewManifest(refs []Ref) (*Manifest, error) {
	if len(refs) > MaxChunks {
		return nil, fmt.Errorf("blob of %d chunks, at most %d: %w", len(refs), MaxChunks, ErrTooLarge)
	}
	m := &Manifest{refs: refs, offsets: make([]uint64, len(refs))}
	for i, r := range refs {
		if r.Size < 1 || r.Size > MaxChunk {
			return nil, fmt.Errorf("chunk %d of %d bytes: %w", i, r.Size, ErrInvalid)
		}
		m.offsets[i] = m.desc.Size
		m.desc.Size += uint64(r.Size)
	}
	root, err := list.Root(m.leaves())
	if err != nil {
		return nil, err
	}
	m.desc.Count, m.desc.Root = len(refs), root
	m.digest = m.desc.Digest()
	m.tree = sync.OnceValues(func() (*list.Tree, error) { return list.Build(m.leaves()) })
	return m, nil
}

// leafLen is the length of a leaf of the list: see appendLeaf.
const leafLen = 8 + 4 + sha256.Size

// appendLeaf appends what the root commits to about one chunk:
//
//	offset u64 | length u32 | digest 32
func appendLeaf(b []byte, offset uint64, r Ref) []byte {
	b = binary.BigEndian.AppendUint64(b, offset)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Size))
	return append(b, r.Digest[:]...)
}

func (m *Manifest) leaves() [][]byte {
	leaves := make([][]byte, len(m.refs))
	buf := make([]byte, 0, len(m.refs)*leafLen)
	for i, r := range m.refs {
		buf = appendLeaf(buf, m.offsets[i], r)
		leaves[i] = buf[i*leafLen : (i+1)*leafLen]
	}
	return leaves
}

// Descriptor returns what the blob's CID stands for.
func (m *Manifest) Descriptor() Descriptor { return m.desc }

// CID returns the blob's CID.
func (m *Manifest) CID() cid.Cid { return CID(m.digest) }

// Digest returns the blob's name within a store.
func (m *Manifest) Digest() Digest { return m.digest }

// Size returns the content's length in bytes.
func (m *Manifest) Size() int64 { return int64(m.desc.Size) }

// Len returns the number of chunks.
func (m *Manifest) Len() int { return len(m.refs) }

// Ref returns the name of chunk i, counted from 0.
func (m *Manifest) Ref(i int) Ref { return m.refs[i] }

// Offset returns where chunk i begins.
func (m *Manifest) Offset(i int) int64 { return int64(m.offsets[i]) }

// At returns the chunk that holds the byte at an offset within the blob: O(log n).
func (m *Manifest) At(offset int64) int {
	return sort.Search(len(m.offsets), func(i int) bool { return m.offsets[i] > uint64(offset) }) - 1
}

// AppendBinary appends the canonical encoding to b: the descriptor, then for
// each chunk
//
//	digest 32 | length uvarint
func (m *Manifest) AppendBinary(b []byte) []byte {
	return appendList(m.desc.AppendBinary(b), m.refs)
}

func appendList(b []byte, refs []Ref) []byte {
	for _, r := range refs {
		b = append(b, r.Digest[:]...)
		b = binary.AppendUvarint(b, uint64(r.Size))
	}
	return b
}

// ParseManifest decodes what [Manifest.AppendBinary] wrote and checks the list
// against the descriptor, root included; the caller compares the CID with the
// one it wants. ErrCorrupt for anything else, ErrUnsupported for another
// format, ErrTooLarge above the caps. The result does not refer to b. It
// allocates in proportion to b. One thing it cannot know is whether a chunk is
// as long as the list says; reading the chunk finds that out.
func ParseManifest(b []byte) (*Manifest, error) {
	d, rest, err := readDescriptor(b)
	if err != nil {
		return nil, err
	}
	return parseList(d, rest)
}

// parseList decodes the list that belongs to a descriptor.
func parseList(d Descriptor, b []byte) (*Manifest, error) {
	if len(b) < d.Count*minListEntry || len(b) > d.Count*maxListEntry {
		return nil, fmt.Errorf("list of %d chunks in %d bytes: %w", d.Count, len(b), ErrCorrupt)
	}
	refs := make([]Ref, d.Count)
	for i := range refs {
		if len(b) < minListEntry {
			return nil, fmt.Errorf("chunk list cut short: %w", ErrCorrupt)
		}
		n, rest, ok := uvarint(b[copy(refs[i].Digest[:], b):])
		if !ok || n == 0 || n > MaxChunk {
			return nil, fmt.Errorf("chunk %d: bad length: %w", i, ErrCorrupt)
		}
		refs[i].Size, b = int(n), rest
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes behind the chunk list: %w", len(b), ErrCorrupt)
	}
	m, err := NewManifest(refs)
	if err != nil {
		return nil, err
	}
	if m.desc != d {
		return nil, fmt.Errorf("the chunk list is not the one that the blob's root commits to: %w", ErrCorrupt)
	}
	return m, nil
}
