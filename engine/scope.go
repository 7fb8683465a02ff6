package engine

import (
	"bzzz/crdt"
	"bzzz/engine/replica"
)

// MaxScope is how many prefixes a scope may have.
const MaxScope = replica.MaxPrefixes - 1 // the namespace's own records are one more

// CheckScope returns what is wrong with the prefixes of a scope: ErrInvalid for
// more than MaxScope of them, an empty or too long one, or one that is the
// beginning of another. None at all is everything.
func CheckScope(prefixes [][]byte) error {
	_, err := newScope(prefixes)
	return err
}

// newScope returns the stored form of a scope of names. The namespace's own
// records, such as rules of how values are shown, belong to every scope: so
// what is equal is shown alike.
func newScope(prefixes [][]byte) (replica.Scope, error) {
	if len(prefixes) == 0 {
		return nil, nil
	}
	stored := make([][]byte, 0, len(prefixes)+1)
	for _, p := range prefixes {
		stored = append(stored, crdt.AppendName(nil, p))
	}
	if _, err := replica.NewScope(stored...); err != nil { // faults are the caller's, as they were given
		return nil, err
	}
	return replica.NewScope(append(stored, crdt.AppendMark(nil, crdt.MarkSystem))...)
}
