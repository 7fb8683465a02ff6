package crdt

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"bzzz/internal/errs"
)

// Sentinels that this package wraps; match them with errors.Is.
var (
	// ErrInvalid: malformed bytes, a field out of its bounds, a wrong order.
	ErrInvalid = errs.ErrInvalid
	// ErrTooLarge: a key, value, context or attribute above its cap.
	ErrTooLarge = errs.ErrTooLarge
)

// ReplicaIDLen is the length of a ReplicaID in bytes.
const ReplicaIDLen = 16

// ReplicaID names one incarnation of one node's store: 8 bytes that are the
// node's tag and 8 random bytes drawn when the incarnation began. It is never
// used by two stores that could write apart from each other.
type ReplicaID [ReplicaIDLen]byte

// NewReplicaID joins a node tag and an incarnation.
func NewReplicaID(tag, incarnation [8]byte) ReplicaID {
	var r ReplicaID
	copy(r[:8], tag[:])
	copy(r[8:], incarnation[:])
	return r
}

// Tag returns the node's part of the id.
func (r ReplicaID) Tag() [8]byte { return [8]byte(r[:8]) }

// IsZero reports whether r is the zero id, which names nobody.
func (r ReplicaID) IsZero() bool { return r == ReplicaID{} }

// Compare orders ids by their bytes.
func (r ReplicaID) Compare(o ReplicaID) int { return bytes.Compare(r[:], o[:]) }

// String returns the id as 32 hexadecimal digits.
func (r ReplicaID) String() string { return hex.EncodeToString(r[:]) }

// Short returns the 6 digits of the tag and 4 of the incarnation that people
// are shown; it is not unique.
func (r ReplicaID) Short() string {
	return hex.EncodeToString(r[:3]) + "-" + hex.EncodeToString(r[8:10])
}

// ParseReplicaID reads what String printed.
func ParseReplicaID(s string) (ReplicaID, error) {
	var r ReplicaID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ReplicaIDLen {
		return r, fmt.Errorf("replica id %q: %w: want 32 hexadecimal digits", s, ErrInvalid)
	}
	copy(r[:], b)
	return r, nil
}

// MaxSeq is the highest sequence number accepted from anybody: at a million
// writes a second it lasts nine years, and it keeps sums far from overflow.
const MaxSeq = 1 << 48

// Dot names one version: the Seq-th write of a replica in a namespace, counted
// from 1 without gaps. A dot is never used for two versions.
type Dot struct {
	Replica ReplicaID
	Seq     uint64
}

// Compare orders dots by replica, then sequence.
func (d Dot) Compare(o Dot) int {
	if c := d.Replica.Compare(o.Replica); c != 0 {
		return c
	}
	switch {
	case d.Seq < o.Seq:
		return -1
	case d.Seq > o.Seq:
		return 1
	}
	return 0
}

// String returns "replica:seq".
func (d Dot) String() string { return fmt.Sprintf("%s:%d", d.Replica, d.Seq) }
