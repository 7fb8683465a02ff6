package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Caps that every replica enforces alike, in bytes.
const (
	MaxKey      = 1 << 10  // a key as stored
	MaxValue    = 64 << 10 // an inline value; larger ones become blobs
	MaxLink     = 128      // the CID of a blob
	MaxAttrs    = 16       // attributes of a version
	MaxAttrName = 64
	MaxAttrSize = 4 << 10  // all attributes of a version together
	MaxBatch    = 16 << 20 // keys and values of one transaction together
)

// Kind says what a version does. Numbers are part of the identity of versions
// and never change their meaning. Among siblings of several kinds the highest
// number folds and the rest show as a type conflict.
type Kind byte

// The kinds.
const (
	Delete Kind = 1 // tombstone of a register, set element, map field or list element
	Put    Kind = 2 // value of a register
	Max    Kind = 3 // value of a max register: a number
	Min    Kind = 4 // value of a min register: a number
	Count  Kind = 5 // totals and floors of a counter's slot
	Add    Kind = 6 // element of a set
	Remove Kind = 7 // removal in a remove-wins set
	Insert Kind = 8 // element of a list
	Bind   Kind = 9 // binding of a list's short writer id to its replica
)

// kindNames is indexed by Kind.
var kindNames = [...]string{"", "delete", "put", "max", "min", "count", "add", "remove", "insert", "bind"}

// String returns the kind's name, "kind(n)" for one this build does not know.
func (k Kind) String() string {
	if k != 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", byte(k))
}

// Names of well-known attributes.
const (
	AttrType   = "type"   // content type, UTF-8
	AttrExpiry = "expiry" // moment after which readers do not see the version: 8 bytes big-endian, milliseconds since 1970
)

// Attr is one optional attribute of a version.
type Attr struct {
	Name  string
	Value []byte
}

// FormatVersion is the first element of a version's canonical encoding.
const FormatVersion = 1

// Version is one immutable write of one key. Slices are shared, never changed
// once the version exists.
type Version struct {
	Key     []byte  // as stored, 1..MaxKey bytes
	Kind    Kind    //
	Dot     Dot     // who wrote it, as which of its writes
	Time    HLC     // above that of everything it covers
	First   uint64  // first sequence number of the transaction it was written in
	Last    uint64  // and the last one
	Context Context // what it supersedes
	Value   []byte  // inline value; nil for Delete
	Blob    cid.Cid // link to a blob instead of an inline value
	Attrs   []Attr  // by rising name length, then name, as DAG-CBOR orders map keys
}

// Covers reports whether v supersedes the version of the same key that d
// names: its context has it, or it is an earlier write of the same replica.
func (v *Version) Covers(d Dot) bool {
	if d.Replica == v.Dot.Replica {
		return d.Seq < v.Dot.Seq
	}
	return v.Context.Seq(d.Replica) >= d.Seq
}

// Attr returns the value of an attribute, nil if there is none.
func (v *Version) Attr(name string) []byte {
	for _, a := range v.Attrs {
		if a.Name == name {
			return a.Value
		}
	}
	return nil
}

// Expiry returns the millisecond after which readers do not see v, 0 if never.
func (v *Version) Expiry() int64 {
	if b := v.Attr(AttrExpiry); len(b) == 8 {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// Before is the order among concurrent versions: time, then replica, then
// digest. The greatest wins in a last-writer-wins register.
func (v *Version) Before(o *Version) bool {
	if v.Time != o.Time {
		return v.Time < o.Time
	}
	if c := v.Dot.Compare(o.Dot); c != 0 {
		return c < 0
	}
	a, b := v.Digest(), o.Digest()
	return slices.Compare(a[:], b[:]) < 0
}

// SortAttrs puts attributes into their canonical order.
func SortAttrs(attrs []Attr) {
	slices.SortFunc(attrs, func(a, b Attr) int {
		if len(a.Name) != len(b.Name) {
			return len(a.Name) - len(b.Name)
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// Validate checks what every replica refuses alike (KERNEL rule K2 (0)):
// sizes, numbers, order. It does not look at any state.
func (v *Version) Validate() error {
	switch {
	case len(v.Key) == 0:
		return fmt.Errorf("version %s: empty key: %w", v.Dot, ErrInvalid)
	case len(v.Key) > MaxKey:
		return fmt.Errorf("version %s: key of %d bytes (at most %d): %w", v.Dot, len(v.Key), MaxKey, ErrTooLarge)
	case len(v.Value) > MaxValue:
		return fmt.Errorf("version %s: value of %d bytes (at most %d): %w", v.Dot, len(v.Value), MaxValue, ErrTooLarge)
	case v.Blob.ByteLen() > MaxLink:
		return fmt.Errorf("version %s: link of %d bytes (at most %d): %w", v.Dot, v.Blob.ByteLen(), MaxLink, ErrTooLarge)
	case v.Kind == 0:
		return fmt.Errorf("version %s: kind 0: %w", v.Dot, ErrInvalid)
	case v.Dot.Replica.IsZero() || v.Dot.Seq == 0 || v.Dot.Seq > MaxSeq:
		return fmt.Errorf("version %s: bad dot: %w", v.Dot, ErrInvalid)
	case v.Time >= MaxHLC:
		return fmt.Errorf("version %s: time %#x beyond the range: %w", v.Dot, uint64(v.Time), ErrInvalid)
	case v.First == 0 || v.First > v.Dot.Seq || v.Last < v.Dot.Seq || v.Last > MaxSeq:
		return fmt.Errorf("version %s: not within its batch %d..%d: %w", v.Dot, v.First, v.Last, ErrInvalid)
	case v.Kind == Delete && (v.Value != nil || v.Blob.Defined()):
		return fmt.Errorf("version %s: delete with a value: %w", v.Dot, ErrInvalid)
	case v.Kind != Delete && v.Value == nil && !v.Blob.Defined():
		return fmt.Errorf("version %s: %s without a value: %w", v.Dot, v.Kind, ErrInvalid)
	case v.Value != nil && v.Blob.Defined():
		return fmt.Errorf("version %s: both value and blob: %w", v.Dot, ErrInvalid)
	}
	if err := validateAttrs(v.Attrs); err != nil {
		return fmt.Errorf("version %s: %w", v.Dot, err)
	}
	return v.Context.validate(v.Dot)
}

func validateAttrs(attrs []Attr) error {
	if len(attrs) > MaxAttrs {
		return fmt.Errorf("%d attributes (at most %d): %w", len(attrs), MaxAttrs, ErrTooLarge)
	}
	size := 0
	for i, a := range attrs {
		size += len(a.Name) + len(a.Value)
		switch {
		case a.Name == "" || len(a.Name) > MaxAttrName || !utf8.ValidString(a.Name):
			return fmt.Errorf("attribute name of %d bytes: %w", len(a.Name), ErrInvalid)
		case a.Name == AttrExpiry && len(a.Value) != 8:
			return fmt.Errorf("attribute %s of %d bytes: %w", a.Name, len(a.Value), ErrInvalid)
		case a.Name == AttrExpiry && a.Value[0] >= 0x80:
			return fmt.Errorf("attribute %s beyond the range: %w", a.Name, ErrInvalid)
		}
		if i > 0 {
			p := attrs[i-1].Name
			if len(p) > len(a.Name) || (len(p) == len(a.Name) && p >= a.Name) {
				return fmt.Errorf("attributes are not in rising order: %w", ErrInvalid)
			}
		}
	}
	if size > MaxAttrSize {
		return fmt.Errorf("attributes of %d bytes (at most %d): %w", size, MaxAttrSize, ErrTooLarge)
	}
	return nil
}

// Digest returns the SHA-256 of the canonical encoding. O(size), about 0.3 us
// for a small version.
func (v *Version) Digest() [32]byte {
	var buf [512]byte
	return sha256.Sum256(v.AppendCanonical(buf[:0]))
}

// CID returns the version's identity: CIDv1, dag-cbor, sha2-256 of the
// canonical encoding.
func (v *Version) CID() cid.Cid { return DigestCID(v.Digest()) }

// DigestCID returns the CID of a version whose digest is known.
func DigestCID(digest [32]byte) cid.Cid {
	h := make(mh.Multihash, 0, 34)
	h = append(h, mh.SHA2_256, 32)
	h = append(h, digest[:]...)
	return cid.NewCidV1(cid.DagCBOR, h)
}

// ParseCID reads a version's CID and returns its digest. ErrInvalid for
// anything but CIDv1, dag-cbor, sha2-256.
func ParseCID(s string) ([32]byte, error) {
	c, err := cid.Decode(s)
	if err != nil {
		return [32]byte{}, fmt.Errorf("cid %q: %w: %v", s, ErrInvalid, err)
	}
	p := c.Prefix()
	if p.Version != 1 || p.Codec != cid.DagCBOR || p.MhType != mh.SHA2_256 || p.MhLength != 32 {
		return [32]byte{}, fmt.Errorf("cid %q: %w: not a version's (CIDv1, dag-cbor, sha2-256)", s, ErrInvalid)
	}
	return [32]byte(c.Hash()[2:]), nil
}
