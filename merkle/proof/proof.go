// Package proof makes proofs about the keys of a namespace that somebody checks
// who has nothing but its 32 bytes of root: that a key holds these values, that
// it holds none, or how many keys begin with a prefix.
//
// Inner nodes of the tree commit to the bits in which keys differ and not to
// whole keys (package merkle, Member). So an Envelope carries the canonical
// records of a member's live versions, and Verify takes the key from them,
// hashes them and climbs from there: nothing in it is believed. What it shows it
// shows of a root that was built honestly.
//
// An Envelope travels as JSON, in one canonical form up to the white space
// between its parts:
//
//	{"type": "bzzz-proof", "format": 1, "kind": "inclusion", "absence" or "prefix",
//	 "namespace": text, "root": 64 hexadecimal digits,
//	 "key": stored key or prefix in base64, "text": the same, quoted for people,
//	 "records": [{"cid": CID, "record": DAG-CBOR in base64}, ...],
//	 "steps": the proof of package merkle in base64}
//
// records are those of the key itself, for absence those of its neighbour in
// the tree, for a prefix those of one key that begins with it (of a neighbour,
// if none does), by rising digest; none if the namespace is empty.
package proof

import (
	"bytes"
	"fmt"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
)

// MaxSize bounds an encoded envelope in bytes: a few values of 64 KiB.
const MaxSize = 1 << 20

// Kind says what a proof is about.
type Kind string

// The kinds.
const (
	Inclusion Kind = "inclusion" // the key holds these values
	Absence   Kind = "absence"   // the key holds none
	Prefix    Kind = "prefix"    // so many keys begin with the prefix
)

// Envelope is a proof with everything needed to check it, but for a root that
// is known to be right.
type Envelope struct {
	Kind      Kind
	Namespace string
	Root      merkle.Digest // what the proof leads to
	Key       []byte        // as stored (crdt.AppendName); for Prefix the prefix
	Records   [][]byte      // canonical records of the live versions of one key, by rising digest
	Steps     []byte        // the proof as package merkle encodes it
}

// Statement is what a proof has shown.
type Statement struct {
	Kind      Kind
	Namespace string
	Root      merkle.Digest
	Key       []byte // as stored; for Prefix the prefix
	// Versions are all that Key holds, by rising digest: one, or several that
	// stand side by side. For Inclusion.
	Versions []*crdt.Version
	// Keys is how many keys begin with the prefix, Digest that of their subtree
	// (merkle.Subtree). For Prefix.
	Keys   uint64
	Digest merkle.Digest
	// NoneBelow: no key begins with Key either. For Absence.
	NoneBelow bool
}

// String says it in one sentence.
func (s Statement) String() string {
	switch {
	case s.Kind == Inclusion && len(s.Versions) == 1:
		return fmt.Sprintf("key %q of namespace %q holds this one value", s.Key, s.Namespace)
	case s.Kind == Inclusion:
		return fmt.Sprintf("key %q of namespace %q holds these %d values side by side", s.Key, s.Namespace, len(s.Versions))
	case s.Kind == Absence && s.NoneBelow:
		return fmt.Sprintf("key %q of namespace %q holds no value, and neither does any that begins with it", s.Key, s.Namespace)
	case s.Kind == Absence:
		return fmt.Sprintf("key %q of namespace %q holds no value", s.Key, s.Namespace)
	}
	return fmt.Sprintf("%d keys of namespace %q begin with %q", s.Keys, s.Namespace, s.Key)
}

// refused is the error of a proof that does not hold. It matches errs.ErrInvalid.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: proof refused: %s", errs.ErrInvalid, fmt.Sprintf(format, args...))
}

// Verify checks an envelope against the root of its namespace, which the caller
// has from somebody it trusts, and returns what is proven. The error of one that
// does not hold matches errs.ErrInvalid. It needs no store: a hash a record and
// a hash a step.
func Verify(e *Envelope, root merkle.Digest) (Statement, error) {
	if e.Root != root {
		return Statement{}, refused("it is about the root %x, not %x", e.Root, root)
	}
	if err := e.check(); err != nil {
		return Statement{}, err
	}
	m, versions, err := e.member()
	if err != nil {
		return Statement{}, err
	}
	s := Statement{Kind: e.Kind, Namespace: e.Namespace, Root: root, Key: e.Key}
	switch e.Kind {
	case Inclusion:
		if !bytes.Equal(m.Key, e.Key) {
			return Statement{}, refused("its records are of another key")
		}
		s.Versions = versions
		err = merkle.VerifyInclusion(root, e.Namespace, m, e.Steps)
	case Absence:
		s.NoneBelow = !bytes.HasPrefix(m.Key, e.Key)
		err = merkle.VerifyAbsence(root, e.Namespace, e.Key, m, e.Steps)
	case Prefix:
		s.Keys, s.Digest, err = e.prefix(m)
	}
	if err != nil {
		return Statement{}, err
	}
	return s, nil
}

// check looks at what Verify and Encode both refuse.
func (e *Envelope) check() error {
	switch {
	case e.Kind != Inclusion && e.Kind != Absence && e.Kind != Prefix:
		return refused("of unknown kind %q", e.Kind)
	case !validName(e.Namespace):
		return refused("a namespace name of %d bytes", len(e.Namespace))
	case len(e.Key) > crdt.MaxKey, len(e.Key) == 0 && e.Kind != Prefix:
		return refused("a key of %d bytes", len(e.Key))
	}
	return nil
}

// member decodes the records and returns the key they are of, with its leaf:
// the zero Member if there are none.
func (e *Envelope) member() (m merkle.Member, versions []*crdt.Version, err error) {
	if len(e.Records) == 0 {
		return m, nil, nil
	}
	digests := make([]merkle.Digest, len(e.Records))
	for i, b := range e.Records {
		v, err := crdt.DecodeCanonical(b)
		if err != nil {
			return m, nil, refused("record %d: %v", i, err)
		}
		digests[i] = v.Digest()
		switch {
		case v.Kind == crdt.Delete:
			return m, nil, refused("record %d is a delete", i)
		case i > 0 && !bytes.Equal(v.Key, versions[0].Key):
			return m, nil, refused("record %d is of another key than the first", i)
		case i > 0 && bytes.Compare(digests[i-1][:], digests[i][:]) >= 0:
			return m, nil, refused("record %d is out of order", i)
		}
		versions = append(versions, v)
	}
	return merkle.Member{Key: versions[0].Key, Leaf: merkle.Leaf(digests)}, versions, nil
}

// prefix returns how many keys begin with the prefix, by a member that does or
// by a neighbour that shows that there are none.
func (e *Envelope) prefix(m merkle.Member) (keys uint64, digest merkle.Digest, err error) {
	switch {
	case len(m.Key) > 0 && bytes.HasPrefix(m.Key, e.Key):
		s, err := merkle.VerifyPrefixByMember(e.Root, e.Namespace, e.Key, m, e.Steps)
		return s.Count, s.Digest, err
	case len(e.Key) > 0:
		return 0, digest, merkle.VerifyAbsence(e.Root, e.Namespace, e.Key, m, e.Steps)
	}
	// All keys, and no record: the namespace must be empty.
	if !bytes.Equal(e.Steps, []byte{0}) || merkle.Root(e.Namespace, nil, merkle.Subtree{}) != e.Root {
		return 0, digest, refused("the set is not empty")
	}
	return 0, digest, nil
}
