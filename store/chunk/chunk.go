// Package chunk keeps large values in a store.KV: a blob is cut into chunks
// where its content says so, each chunk is stored once under its digest, and a
// manifest lists them under one root.
//
// A [Cutter] reads a blob and hands out batches of chunks; a [Writer] stores
// them in write transactions of the caller, a [Reader] reads and verifies them
// in any transaction, and a [Collection] finds and removes what nothing names
// any more. The package has no goroutine, no clock and no I/O of its own.
//
// # Identity
//
// A blob's CID is that of its descriptor: format, size, number of chunks and
// the RFC 6962 root (merkle/list) over the chunk list, in which each leaf is
// offset, length and digest of one chunk. So who holds nothing but the CID can
// check the whole list ([ParseManifest]) as well as any single range
// ([VerifyChunk], about 500 bytes of proof for a blob of 1 GiB).
//
// # Collection
//
// Every chunk and manifest bears the epoch in which it was last written or
// found to be there already. A collection raises the epoch, marks in memory
// what the caller's records name, and then removes, in bounded write
// transactions, what is not marked and bears an older stamp than the
// collection and every lease. Each of these transactions looks again at the
// leases, at the stamps, and at the manifests stored meanwhile, and its caller
// marks what was linked meanwhile; so no order of uploads, links and removals
// takes a chunk from a blob that a record names. A crash forgets the marks,
// which costs nothing but the next collection.
package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"bzzz/internal/errs"
)

// Sentinels of this package; match them with errors.Is.
var (
	// ErrNotFound: no manifest of that blob is here.
	ErrNotFound = errs.ErrNotFound
	// ErrCorrupt: stored or received bytes are not what their digest says.
	ErrCorrupt = errs.ErrCorrupt
	// ErrUnavailable: a chunk of the blob is not here.
	ErrUnavailable = errs.ErrUnavailable
	// ErrTooLarge: a chunk, blob or manifest above its cap.
	ErrTooLarge = errs.ErrTooLarge
	// ErrInvalid: a malformed argument.
	ErrInvalid = errs.ErrInvalid
	// ErrUnsupported: a format or CID that this build does not read.
	ErrUnsupported = errs.ErrUnsupported
)

// Sizes of chunks in bytes. They are part of what makes two nodes cut one
// content alike, and so store it once: changing them loses deduplication
// against what is stored, nothing else.
const (
	// MinChunk is the shortest chunk but for a blob's last.
	MinChunk = 16 << 10
	// NormalChunk is where FastCDC makes cuts more likely; the mean over random
	// content is 75 KB. 64 KiB keep a manifest below 1/1000 of
	// its blob and a chunk within a few dozen pages.
	NormalChunk = 64 << 10
	// MaxChunk is the longest chunk.
	MaxChunk = 256 << 10
)

// Caps on one blob.
const (
	// MaxChunks bounds a blob's chunks so that its manifest fits one frame of a
	// session: about 14 GiB of random content, 3 GiB at the least.
	MaxChunks = 200_000
	// MaxManifest is the longest encoded manifest in bytes: 7 MB.
	MaxManifest = maxDescriptor + MaxChunks*maxListEntry
	// MaxSize is the largest blob in bytes: all chunks of the greatest length.
	MaxSize = MaxChunks * MaxChunk
)

const (
	maxDescriptor = 1 + 2*binary.MaxVarintLen64 + sha256.Size
	maxListEntry  = sha256.Size + 3 // lengths up to MaxChunk take at most 3 bytes
	minListEntry  = sha256.Size + 1
)

// Digest is the SHA-256 of a chunk's bytes, or of a blob's descriptor.
type Digest = [sha256.Size]byte

// Ref names a chunk.
type Ref struct {
	Digest Digest
	Size   int // in bytes
}

// Chunk is a piece of content with its digest. The bytes are shared, never
// changed.
type Chunk struct {
	ref  Ref
	data []byte
}

// NewChunk hashes data, which the chunk refers to. ErrInvalid if it is empty,
// ErrTooLarge above MaxChunk.
func NewChunk(data []byte) (Chunk, error) {
	switch {
	case len(data) == 0:
		return Chunk{}, fmt.Errorf("empty chunk: %w", ErrInvalid)
	case len(data) > MaxChunk:
		return Chunk{}, fmt.Errorf("chunk of %d bytes, at most %d: %w", len(data), MaxChunk, ErrTooLarge)
	}
	return Chunk{Ref{sha256.Sum256(data), len(data)}, data}, nil
}

// Ref returns the chunk's name.
func (c Chunk) Ref() Ref { return c.ref }

// Data returns the chunk's bytes.
func (c Chunk) Data() []byte { return c.data }

// CID returns the CID of the blob whose descriptor has this digest: CIDv1, raw,
// sha2-256.
func CID(blob Digest) cid.Cid {
	h := make(mh.Multihash, 0, 2+sha256.Size)
	h = append(h, mh.SHA2_256, sha256.Size)
	h = append(h, blob[:]...)
	return cid.NewCidV1(cid.Raw, h)
}

// DigestOf reads a blob's CID. ErrUnsupported for anything but CIDv1, raw,
// sha2-256.
func DigestOf(blob cid.Cid) (Digest, error) {
	if !blob.Defined() {
		return Digest{}, fmt.Errorf("no blob CID: %w", ErrUnsupported)
	}
	p := blob.Prefix()
	if p.Version != 1 || p.Codec != cid.Raw || p.MhType != mh.SHA2_256 || p.MhLength != sha256.Size {
		return Digest{}, fmt.Errorf("blob CID %s is not CIDv1, raw, sha2-256: %w", blob, ErrUnsupported)
	}
	return Digest(blob.Hash()[2:]), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the CRC32C of a row's body and of the key it will lie under: a
// row that damage moved to another key does not pass.
func seal(body, key []byte) []byte {
	return binary.BigEndian.AppendUint32(body, sumOf(body, key))
}

// unseal checks and strips what seal appended; false for anything else.
func unseal(row, key []byte) (body []byte, ok bool) {
	if len(row) < crc32.Size {
		return nil, false
	}
	body = row[:len(row)-crc32.Size]
	return body, binary.BigEndian.Uint32(row[len(body):]) == sumOf(body, key)
}

func sumOf(body, key []byte) uint32 {
	return crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, key)
}

// hintRepair is the next step that damage reports name.
const hintRepair = "run verify; writing the same content again, or a sync with a peer that holds it, repairs it"

// damaged returns a corruption error for a row that cannot be read.
func damaged(what string, d Digest) error {
	return &errs.Corruption{What: what + " " + hex.EncodeToString(d[:]), Hint: hintRepair}
}
