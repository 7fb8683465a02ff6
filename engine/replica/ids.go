package replica

import (
	"fmt"
	"sync/atomic"

	"bzzz/crdt"
)

// idTable interns ReplicaIDs as small numbers, which is how the store's own
// records name them; the numbers never leave the store. The one writer adds,
// any number of readers look up beside it.
type idTable struct {
	byNumber atomic.Pointer[[]crdt.ReplicaID]
	byID     map[crdt.ReplicaID]uint32 // the writer's alone
}

func newIDTable() *idTable {
	t := &idTable{byID: map[crdt.ReplicaID]uint32{}}
	t.byNumber.Store(&[]crdt.ReplicaID{})
	return t
}

// get returns the id of a number that a record names; an unknown number marks
// the record bad.
func (t *idTable) get(n uint64, rd *reader) crdt.ReplicaID {
	ids := *t.byNumber.Load()
	if n >= uint64(len(ids)) {
		rd.bad = true
		return crdt.ReplicaID{}
	}
	return ids[n]
}

// at returns the id of a number known to be in the table.
func (t *idTable) at(n uint32) crdt.ReplicaID { return (*t.byNumber.Load())[n] }

// all returns the ids by number.
func (t *idTable) all() []crdt.ReplicaID { return *t.byNumber.Load() }

// add appends an id. Appending may write into spare room behind the slice that
// readers hold, never into what they can see.
func (t *idTable) add(r crdt.ReplicaID) (uint32, error) {
	ids := *t.byNumber.Load()
	if _, dup := t.byID[r]; dup {
		return 0, fmt.Errorf("replica %s interned twice: %w", r, ErrCorrupt)
	}
	n := uint32(len(ids))
	ids = append(ids, r)
	t.byNumber.Store(&ids)
	t.byID[r] = n
	return n, nil
}
