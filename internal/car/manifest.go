package car

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/list"
)

// digest is the SHA-256 of a block: all that its CID says.
type digest = [sha256.Size]byte

const (
	// manifestType is the manifest's own name, for who finds the block alone.
	manifestType = "bzzz-snapshot"
	// format is the number of the layout that the package comment describes.
	format = 1
	// fanout is how many links a list holds at most: 42 KB, well below the
	// 1 MiB that exchanges of blocks take.
	fanout = 1000
	// MaxVersions is how many versions a file may hold: three levels of lists.
	MaxVersions = fanout * fanout * fanout
	// maxManifest bounds the manifest in bytes; only its clock can be long.
	maxManifest = 1 << 20
	// maxNamespace is the longest name of a namespace in bytes.
	maxNamespace = 255
)

// Manifest says what a file holds.
type Manifest struct {
	Namespace string
	Prefix    []byte        // of the stored keys; empty for all
	Root      merkle.Digest // of the keys that begin with Prefix
	Keys      uint64        // that have a version which is no tombstone
	Versions  uint64        // in the file, tombstones included
	Seal      list.Digest   // RFC 6962 root over the versions' digests
	Clock     crdt.Clock    // what the writer knew, live and dead

	entries *link // the topmost list; nil without versions
}

// manifestRecord is the manifest as it is encoded.
type manifestRecord struct {
	Type      string `cbor:"type"`
	Format    uint64 `cbor:"format"`
	Namespace string `cbor:"namespace"`
	Prefix    []byte `cbor:"prefix"`
	Root      []byte `cbor:"root"`
	Keys      uint64 `cbor:"keys"`
	Versions  uint64 `cbor:"versions"`
	Seal      []byte `cbor:"seal"`
	Clock     []byte `cbor:"clock"`
	Entries   *link  `cbor:"entries"`
}

// encode returns the manifest's block.
func (m *Manifest) encode() ([]byte, error) {
	b, err := encMode.Marshal(manifestRecord{
		Type: manifestType, Format: format, Namespace: m.Namespace, Prefix: notNil(m.Prefix),
		Root: m.Root[:], Keys: m.Keys, Versions: m.Versions, Seal: m.Seal[:],
		Clock: m.Clock.Append(nil), Entries: m.entries,
	})
	if err == nil && len(b) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, its clock of %d replicas (at most %d): %w", len(b), m.Clock.Len(), maxManifest, errs.ErrTooLarge)
	}
	return b, err
}

// decodeManifest reads a manifest and nothing but what encode writes.
func decodeManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes (at most %d): %w", len(b), maxManifest, errs.ErrTooLarge)
	}
	var r manifestRecord
	if err := decMode.Unmarshal(b, &r); err != nil {
		return nil, notSnapshot(err.Error())
	}
	switch {
	case r.Type != manifestType:
		return nil, notSnapshot(fmt.Sprintf("type %q", r.Type))
	case r.Format != format:
		return nil, fmt.Errorf("snapshot of format %d, this build reads %d: %w", r.Format, format, errs.ErrUnsupported)
	case r.Namespace == "" || len(r.Namespace) > maxNamespace:
		return nil, notSnapshot(fmt.Sprintf("namespace name of %d bytes", len(r.Namespace)))
	case len(r.Prefix) > crdt.MaxKey:
		return nil, notSnapshot(fmt.Sprintf("prefix of %d bytes", len(r.Prefix)))
	case len(r.Root) != sha256.Size || len(r.Seal) != sha256.Size:
		return nil, notSnapshot("a digest of another length")
	case r.Versions > MaxVersions || r.Keys > r.Versions:
		return nil, notSnapshot(fmt.Sprintf("%d keys, %d versions", r.Keys, r.Versions))
	case (r.Versions == 0) != (r.Entries == nil):
		return nil, notSnapshot("versions without a list, or a list without versions")
	}
	clock, rest, err := crdt.DecodeClock(r.Clock)
	if err != nil || len(rest) > 0 {
		return nil, notSnapshot("malformed clock")
	}
	m := &Manifest{
		Namespace: r.Namespace, Prefix: r.Prefix, Root: merkle.Digest(r.Root), Keys: r.Keys,
		Versions: r.Versions, Seal: list.Digest(r.Seal), Clock: clock, entries: r.Entries,
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, notSnapshot("not the canonical encoding")
	}
	return m, nil
}

func notSnapshot(why string) error {
	return fmt.Errorf("the CAR's root is no snapshot of a namespace: %s: %w", why, errs.ErrInvalid)
}

// notNil makes an empty byte string of nil, which would be encoded as null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// encMode writes DAG-CBOR: shortest forms, map keys by length and then by bytes.
var encMode = func() cbor.EncMode {
	m, err := cbor.EncOptions{Sort: cbor.SortLengthFirst}.EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// decMode bounds what a hostile block can make the decoder do.
var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  fanout,
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()
