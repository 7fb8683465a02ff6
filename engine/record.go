package engine

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"bzzz/crdt"
)

// Version is one version of a key as people and programs see it. Its slices
// are the caller's.
type Version struct {
	CID         string         // CIDv1, dag-cbor, sha2-256
	Author      crdt.ReplicaID // who wrote it
	Seq         uint64         // as which of its writes
	Time        time.Time      // by the author's clock, milliseconds
	HLC         crdt.HLC       // the whole stamp
	Kind        crdt.Kind      //
	Value       []byte         // nil for a delete and for a large value
	Blob        string         // CID of a large value, "" if it is in Value: see GetReader and OpenBlob
	Size        int64          // of the value in bytes, -1 if it is a large one that is not here yet
	ContentType string         // "" if not given
	Expires     time.Time      // zero if never
	Parents     []crdt.Dot     // what it directly replaced
	Live        bool           // not superseded, as far as is known
}

// sizer knows how long large values are.
type sizer interface{ sizeOf(v *crdt.Version) int64 }

func newVersion(src sizer, v *crdt.Version, live bool) Version {
	out := Version{
		CID: v.CID().String(), Author: v.Dot.Replica, Seq: v.Dot.Seq, Time: v.Time.Time(), HLC: v.Time,
		Kind: v.Kind, Value: bytes.Clone(v.Value), ContentType: string(v.Attr(crdt.AttrType)),
		Parents: v.Context.Direct(), Live: live, Size: src.sizeOf(v),
		Blob: blobName(v),
	}
	if e := v.Expiry(); e != 0 {
		out.Expires = time.UnixMilli(e).UTC()
	}
	return out
}

// Record is everything known of one register.
type Record struct {
	Key []byte
	// Shown are the versions a reader sees, the main one first: one for most
	// resolvers, several for "mv", none if the key is absent.
	Shown []Version
	// Siblings are all versions that nothing known supersedes, winner first,
	// deletes included.
	Siblings []Version
	// Mixed: values of several kinds stand side by side; the highest is shown.
	Mixed bool
	// Token names this state for PutIf and DeleteIf; NoToken for an absent key
	// that was never written, or whose delete was collected.
	Token Token
}

// Conflict reports whether more than one value stands side by side.
func (r Record) Conflict() bool {
	n := 0
	for _, s := range r.Siblings {
		if s.Kind != crdt.Delete {
			n++
		}
	}
	return n > 1
}

// Value returns the main value; ErrNotFound if the key is absent, ErrTooLarge
// if it is a large one: Get, GetReader and OpenBlob read it.
func (r Record) Value() ([]byte, error) {
	if len(r.Shown) == 0 {
		return nil, ErrNotFound
	}
	if r.Shown[0].Blob != "" {
		return nil, fmt.Errorf("a value of %d bytes is not part of its record: %w", r.Shown[0].Size, ErrTooLarge)
	}
	return r.Shown[0].Value, nil
}

// Token is what a conditional write compares: the digest of the sorted CIDs of
// a key's siblings.
type Token [32]byte

// NoToken is the token of a key that was never written.
var NoToken = Token(crdt.TokenOf(nil))

// String returns the token as 64 hexadecimal digits.
func (t Token) String() string { return hex.EncodeToString(t[:]) }

// ParseToken reads what String printed.
func ParseToken(s string) (Token, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		return Token{}, fmt.Errorf("token %q: want 64 hexadecimal digits: %w", s, ErrInvalid)
	}
	return Token(b), nil
}

// Conflict is the error of a conditional write that saw another state than the
// key has. It matches ErrConflict.
type Conflict struct {
	Current Record // what the key holds now
}

// Error says how many versions stand there now.
func (c *Conflict) Error() string {
	return fmt.Sprintf("conflict: the key changed since it was read; it has %d current version(s) now", len(c.Current.Siblings))
}

// Is makes errors.Is(c, ErrConflict) true.
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// newRecord describes what src sees of a register.
func newRecord(src source, name []byte, s crdt.Siblings) Record {
	w := fold(src, name, s)
	r := Record{Key: bytes.Clone(name), Mixed: w.Mixed, Token: Token(w.Siblings.Token())}
	for _, v := range w.Shown {
		r.Shown = append(r.Shown, newVersion(src, v, true))
	}
	for _, v := range w.Siblings {
		r.Siblings = append(r.Siblings, newVersion(src, v, true))
	}
	return r
}
