package crdt

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
)

// CBOR major types (RFC 8949 section 3.1), shifted into place.
const (
	majorUint  = 0 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
	majorTag   = 6 << 5
	cborFalse  = 0xf4
	cborTrue   = 0xf5
	cborNull   = 0xf6
)

// cborLink is the tag of a CID (DAG-CBOR specification, "Links").
const cborLink = 42

// appendHead appends a CBOR head in its shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return append(b, major|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, major|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendBytes(b []byte, v []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(v))), v...)
}

// AppendCanonical appends the canonical DAG-CBOR encoding of v, the bytes its
// CID is the hash of: the array
//
//	[format, key, kind, replica, seq, time, first, last, context, value, attributes]
//
// where context is an array of [replica, seq, direct], value is a byte string,
// a link (tag 42) to a blob, or null for a delete, and attributes is a map of
// text to byte strings. Nothing local is part of it.
func (v *Version) AppendCanonical(b []byte) []byte {
	b = append(b, majorArray|11, FormatVersion)
	b = appendBytes(b, v.Key)
	b = appendHead(b, majorUint, uint64(v.Kind))
	b = appendBytes(b, v.Dot.Replica[:])
	b = appendHead(b, majorUint, v.Dot.Seq)
	b = appendHead(b, majorUint, uint64(v.Time))
	b = appendHead(b, majorUint, v.First)
	b = appendHead(b, majorUint, v.Last)
	b = appendHead(b, majorArray, uint64(len(v.Context)))
	for _, p := range v.Context {
		b = append(b, majorArray|3)
		b = appendBytes(b, p.Replica[:])
		b = appendHead(b, majorUint, p.Seq)
		if p.Direct {
			b = append(b, cborTrue)
		} else {
			b = append(b, cborFalse)
		}
	}
	switch {
	case v.Blob.Defined():
		link := v.Blob.Bytes()
		b = append(b, majorTag|24, cborLink)
		b = appendHead(b, majorBytes, uint64(len(link))+1)
		b = append(append(b, 0), link...)
	case v.Value == nil:
		b = append(b, cborNull)
	default:
		b = appendBytes(b, v.Value)
	}
	b = appendHead(b, majorMap, uint64(len(v.Attrs)))
	for _, a := range v.Attrs {
		b = append(appendHead(b, majorText, uint64(len(a.Name))), a.Name...)
		b = appendBytes(b, a.Value)
	}
	return b
}

// canonicalVersion mirrors the array for decoding.
type canonicalVersion struct {
	_       struct{} `cbor:",toarray"`
	Format  uint64
	Key     []byte
	Kind    uint64
	Replica []byte
	Seq     uint64
	Time    uint64
	First   uint64
	Last    uint64
	Context []canonicalParent
	Value   cbor.RawMessage
	Attrs   map[string][]byte
}

type canonicalParent struct {
	_       struct{} `cbor:",toarray"`
	Replica []byte
	Seq     uint64
	Direct  bool
}

// decMode bounds what a hostile record can make the decoder do.
var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  4,
		MaxArrayElements: MaxContext,
		MaxMapPairs:      MaxAttrs,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// DecodeCanonical reads a canonical encoding, refuses any other encoding of the
// same version, and validates it.
func DecodeCanonical(b []byte) (*Version, error) {
	var c canonicalVersion
	if err := decMode.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("version record: %w: %v", ErrInvalid, err)
	}
	v, err := c.version()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(v.AppendCanonical(nil), b) {
		return nil, fmt.Errorf("version record: %w: not the canonical encoding", ErrInvalid)
	}
	if err := v.Validate(); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *canonicalVersion) version() (*Version, error) {
	if c.Format != FormatVersion {
		return nil, fmt.Errorf("version record of format %d, this build reads %d: %w", c.Format, FormatVersion, ErrInvalid)
	}
	if c.Kind > 255 || len(c.Replica) != ReplicaIDLen {
		return nil, fmt.Errorf("version record: %w: bad kind or replica", ErrInvalid)
	}
	v := &Version{
		Key: c.Key, Kind: Kind(c.Kind), Dot: Dot{ReplicaID(c.Replica), c.Seq},
		Time: HLC(c.Time), First: c.First, Last: c.Last,
	}
	for _, p := range c.Context {
		if len(p.Replica) != ReplicaIDLen {
			return nil, fmt.Errorf("version record: %w: bad replica in the context", ErrInvalid)
		}
		v.Context = append(v.Context, Parent{ReplicaID(p.Replica), p.Seq, p.Direct})
	}
	for name, val := range c.Attrs {
		v.Attrs = append(v.Attrs, Attr{name, val})
	}
	SortAttrs(v.Attrs)
	return v, c.value(v)
}

// value decodes the value element: byte string, link or null.
func (c *canonicalVersion) value(v *Version) error {
	switch raw := c.Value; {
	case len(raw) == 1 && raw[0] == cborNull:
		return nil
	case len(raw) > 0 && raw[0]&0xe0 == majorBytes:
		v.Value = []byte{}
		if err := decMode.Unmarshal(raw, &v.Value); err != nil {
			return fmt.Errorf("version record: %w: %v", ErrInvalid, err)
		}
		return nil
	default:
		var tag cbor.RawTag
		if err := decMode.Unmarshal(raw, &tag); err != nil || tag.Number != cborLink {
			return fmt.Errorf("version record: %w: value is neither bytes, link nor null", ErrInvalid)
		}
		var link []byte
		if err := decMode.Unmarshal(tag.Content, &link); err != nil || len(link) < 2 || link[0] != 0 {
			return fmt.Errorf("version record: %w: malformed link", ErrInvalid)
		}
		id, err := cid.Cast(link[1:])
		if err != nil {
			return fmt.Errorf("version record: %w: malformed link: %v", ErrInvalid, err)
		}
		v.Blob = id
		return nil
	}
}
