package engine

import (
	"bytes"
	"context"
	"fmt"

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

// CreatePartial is CreateNamespace for a namespace of which this node holds only
// the names that begin with one of some prefixes, for ever: see CheckScope for
// what these may be. Writes to other names are refused (ErrInvalid), versions of
// them are not taken in, and every sync is about this part at most. What full
// replicas have deleted goes here too; the deletes that are made here are kept,
// however old. ErrExists if the namespace is there with another scope.
func (db *DB) CreatePartial(ctx context.Context, name string, prefixes [][]byte) (*Namespace, error) {
	if len(prefixes) == 0 {
		return nil, fmt.Errorf("scope of no prefix: %w", ErrInvalid)
	}
	scope, err := newScope(prefixes)
	if err != nil {
		return nil, err
	}
	ns, err := db.createNamespace(ctx, name, scope)
	if err == nil && !ns.scope.Equal(scope) {
		return nil, fmt.Errorf("namespace %q with another scope: %w", name, ErrExists)
	}
	return ns, err
}

// Scope returns the prefixes of the names that this node holds of the namespace,
// in order; nil if it holds all of it.
func (ns *Namespace) Scope() [][]byte {
	var out [][]byte
	for _, p := range ns.scope {
		if name, rest, err := crdt.SplitName(p); err == nil && len(rest) == 0 {
			out = append(out, bytes.Clone(name))
		}
	}
	return out
}
