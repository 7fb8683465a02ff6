package replica

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"bzzz/crdt"
	"bzzz/merkle"
)

// MaxPrefixes is how many prefixes a scope has at most: what one entry of a
// session's opening may name.
const MaxPrefixes = 256

// Scope is a part of a namespace: the stored keys that begin with one of some
// prefixes, which are in rising order and none of them the beginning of another.
// nil is the whole namespace. It is not changed once it is made.
type Scope [][]byte

// NewScope returns the scope of some prefixes of stored keys, in any order.
// ErrInvalid if there are none or too many, if one is empty or longer than a key
// may be, or if one is the beginning of another, or twice there.
func NewScope(prefixes ...[]byte) (Scope, error) {
	if len(prefixes) == 0 || len(prefixes) > MaxPrefixes {
		return nil, fmt.Errorf("scope of %d prefixes (1..%d): %w", len(prefixes), MaxPrefixes, ErrInvalid)
	}
	s := make(Scope, len(prefixes))
	for i, p := range prefixes {
		if len(p) == 0 || len(p) > crdt.MaxKey {
			return nil, fmt.Errorf("scope with a prefix of %d bytes (1..%d): %w", len(p), crdt.MaxKey, ErrInvalid)
		}
		s[i] = bytes.Clone(p)
	}
	slices.SortFunc(s, bytes.Compare)
	for i := 1; i < len(s); i++ {
		if bytes.HasPrefix(s[i], s[i-1]) {
			return nil, fmt.Errorf("scope with prefixes %q and %q, one within the other: %w", s[i-1], s[i], ErrInvalid)
		}
	}
	return s, nil
}

// Has reports whether a stored key is in the scope. O(log prefixes).
func (s Scope) Has(key []byte) bool {
	if s == nil {
		return true
	}
	// Only the last prefix that is not behind key can be its beginning: between
	// a beginning of key and key lie only keys that begin with it too.
	i, found := slices.BinarySearchFunc(s, key, bytes.Compare)
	return found || i > 0 && bytes.HasPrefix(key, s[i-1])
}

// Covers reports whether every key of o is in s.
func (s Scope) Covers(o Scope) bool {
	if s == nil || o == nil {
		return s == nil
	}
	return !slices.ContainsFunc(o, func(p []byte) bool { return !s.Has(p) })
}

// Meet returns the scope of the keys that are in both, and false if there are
// none.
func (s Scope) Meet(o Scope) (Scope, bool) {
	switch {
	case s == nil:
		return o, true
	case o == nil:
		return s, true
	}
	var out Scope
	for _, p := range s {
		if o.Has(p) {
			out = append(out, p)
		}
	}
	for _, p := range o {
		if s.Has(p) && !slices.ContainsFunc(out, func(q []byte) bool { return bytes.Equal(p, q) }) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return out, len(out) > 0
}

// Equal reports whether both are the same keys.
func (s Scope) Equal(o Scope) bool {
	return (s == nil) == (o == nil) && slices.EqualFunc(s, o, bytes.Equal)
}

// Within returns 32 bytes that are equal for all replicas that hold the same
// values in a scope, and the number of its keys: the hash of the roots of its
// prefixes, or the root of the namespace. O(log n) a prefix.
func (t *Tree) Within(s Scope) (root merkle.Digest, keys uint64, err error) {
	if s == nil {
		return t.Root(), t.view.state.keys, nil
	}
	h := sha256.New()
	h.Write([]byte("scope"))
	for _, p := range s {
		part, err := t.Prefix(p)
		if err != nil {
			return merkle.Digest{}, 0, err
		}
		sum := merkle.Root(t.view.cfg.Name, p, part)
		h.Write(sum[:])
		keys += part.Count
	}
	return merkle.Digest(h.Sum(nil)), keys, nil
}

// RootWithin is Within of the tree of what v sees. Its cost is that of Tree.
func (v *View) RootWithin(s Scope) (root merkle.Digest, keys uint64, err error) {
	t, err := v.Tree()
	if err != nil {
		return merkle.Digest{}, 0, err
	}
	return t.Within(s)
}
