package car

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// link is the CID of a block as a DAG-CBOR link.
type link digest

// cidHead is what the binary form of every CID here begins with: version 1,
// dag-cbor, sha2-256, 32 bytes.
var cidHead = [4]byte{0x01, 0x71, 0x12, 0x20}

// linkHead is what every encoded link begins with: tag 42, a byte string of 37
// bytes, the zero byte of the DAG-CBOR specification, the CID's head.
var linkHead = [9]byte{0xd8, 42, 0x58, cidLen + 1, 0x00, cidHead[0], cidHead[1], cidHead[2], cidHead[3]}

// cidLen is the length of a binary CID.
const cidLen = 4 + sha256.Size

// MarshalCBOR returns the encoded link.
func (l link) MarshalCBOR() ([]byte, error) {
	return append(append(make([]byte, 0, len(linkHead)+len(l)), linkHead[:]...), l[:]...), nil
}

// UnmarshalCBOR reads what MarshalCBOR wrote.
func (l *link) UnmarshalCBOR(b []byte) error {
	if len(b) != len(linkHead)+len(l) || !bytes.HasPrefix(b, linkHead[:]) {
		return fmt.Errorf("no link to a DAG-CBOR block by SHA-256: %w", errs.ErrInvalid)
	}
	copy(l[:], b[len(linkHead):])
	return nil
}

// appendCID appends the binary CID of a block.
func appendCID(b []byte, d digest) []byte { return append(append(b, cidHead[:]...), d[:]...) }

// parseCID returns the digest of a block's CID.
func parseCID(b []byte) (digest, bool) {
	if len(b) != cidLen || !bytes.HasPrefix(b, cidHead[:]) {
		return digest{}, false
	}
	return digest(b[len(cidHead):]), true
}

// cidOf returns a block's CID.
func cidOf(d digest) cid.Cid { return crdt.DigestCID(d) }

// linkList is a block of links.
type linkList struct {
	Level uint64 `cbor:"level"`
	Links []link `cbor:"links"`
}

// encodeList returns the block of a list of 1 to fanout links.
func encodeList(level int, links []digest) ([]byte, error) {
	l := linkList{Level: uint64(level), Links: make([]link, len(links))}
	for i, d := range links {
		l.Links[i] = link(d)
	}
	return encMode.Marshal(l)
}

// decodeList reads a list of that level and number of links, and nothing but
// what encodeList writes.
func decodeList(b []byte, level, links int) ([]digest, error) {
	var l linkList
	if err := decMode.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("list of versions: %w: %v", errs.ErrInvalid, err)
	}
	if l.Level != uint64(level) || len(l.Links) != links {
		return nil, fmt.Errorf("list of level %d with %d links, want level %d with %d: %w", l.Level, len(l.Links), level, links, errs.ErrInvalid)
	}
	out := make([]digest, len(l.Links))
	for i, k := range l.Links {
		out[i] = digest(k)
	}
	again, err := encodeList(level, out)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("list of versions: %w: not the canonical encoding", errs.ErrInvalid)
	}
	return out, nil
}

// shape is how many links a list holds at most. It is fanout but in tests.
type shape uint64

// topLevel returns the level of the topmost list over n versions, -1 for none.
func (s shape) topLevel(n uint64) int {
	if n == 0 {
		return -1
	}
	level := 0
	for room := uint64(s); room < n; room *= uint64(s) {
		level++
	}
	return level
}

// below returns how many versions a link of a list of that level stands for.
func (s shape) below(level int) uint64 {
	n := uint64(1)
	for range level {
		n *= uint64(s)
	}
	return n
}
