package proof

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
)

// Source is what proofs are made from: the index of a namespace and the
// versions behind its leaves, of the same moment.
type Source struct {
	Namespace string
	Index     *merkle.Index
	// Versions returns the siblings of a stored key; tombstones are left out.
	Versions func(key []byte) (crdt.Siblings, error)
}

// Key proves what a stored key holds: an envelope of kind Inclusion, or of kind
// Absence if it holds nothing. O(log n).
func (s Source) Key(key []byte) (*Envelope, error) {
	m, steps, err := s.Index.ProveInclusion(key)
	if errors.Is(err, errs.ErrNotFound) {
		if m, steps, err = s.Index.ProveAbsence(key); err != nil {
			return nil, err
		}
		return s.seal(Absence, key, m, steps)
	}
	if err != nil {
		return nil, err
	}
	return s.seal(Inclusion, key, m, steps)
}

// Prefix proves how many keys begin with a prefix of stored keys, empty for
// all. O(log n).
func (s Source) Prefix(prefix []byte) (*Envelope, error) {
	m, steps, err := s.Index.ProvePrefixByMember(prefix)
	switch {
	case errors.Is(err, errs.ErrNotFound) && len(prefix) == 0:
		m, steps, err = merkle.Member{}, []byte{0}, nil
	case errors.Is(err, errs.ErrNotFound):
		m, steps, err = s.Index.ProveAbsence(prefix)
	}
	if err != nil {
		return nil, err
	}
	return s.seal(Prefix, prefix, m, steps)
}

// seal puts the member's records into an envelope and verifies it: one that
// would not hold, because records and index disagree, is ErrCorrupt.
func (s Source) seal(kind Kind, key []byte, m merkle.Member, steps []byte) (*Envelope, error) {
	e := &Envelope{Kind: kind, Namespace: s.Namespace, Root: s.Index.Root(s.Namespace), Key: bytes.Clone(key), Steps: steps}
	if len(m.Key) > 0 {
		siblings, err := s.Versions(m.Key)
		if err != nil {
			return nil, err
		}
		e.Records = records(siblings)
	}
	if _, err := Verify(e, e.Root); err != nil {
		return nil, fmt.Errorf("index and versions disagree on a key: %w: %v", errs.ErrCorrupt, err)
	}
	return e, nil
}

// records returns the canonical records of the siblings that are no tombstones,
// by rising digest.
func records(siblings crdt.Siblings) [][]byte {
	live := siblings.Live()
	slices.SortFunc(live, func(a, b *crdt.Version) int {
		da, db := a.Digest(), b.Digest()
		return bytes.Compare(da[:], db[:])
	})
	out := make([][]byte, len(live))
	for i, v := range live {
		out[i] = v.AppendCanonical(nil)
	}
	return out
}
