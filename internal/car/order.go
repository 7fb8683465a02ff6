package car

import (
	"bytes"
	"fmt"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/list"
)

// folder takes in versions in order and folds them to what the manifest says
// of them. O(1) memory, but for the digests of one key's versions.
type folder struct {
	prefix []byte
	clock  crdt.Clock

	key      []byte          // of the last version
	last     digest          // of the last version
	live     []merkle.Digest // of the key's versions that are no tombstones
	versions uint64
	blobs    int
	tree     merkle.Builder
	seal     list.Builder
}

// add takes in a version with this digest. ErrInvalid if it is out of order,
// outside the prefix or not in the clock.
func (f *folder) add(v *crdt.Version, d digest) error {
	c := bytes.Compare(f.key, v.Key)
	switch {
	case f.versions > 0 && (c > 0 || c == 0 && bytes.Compare(f.last[:], d[:]) >= 0):
		return fmt.Errorf("version %s: out of order: %w", v.Dot, errs.ErrInvalid)
	case !bytes.HasPrefix(v.Key, f.prefix):
		return fmt.Errorf("version %s: its key does not begin with the prefix: %w", v.Dot, errs.ErrInvalid)
	case !f.clock.Has(v.Dot):
		return fmt.Errorf("version %s: not in the clock: %w", v.Dot, errs.ErrInvalid)
	}
	if c != 0 {
		f.endKey()
		f.key = append(f.key[:0], v.Key...)
	}
	f.last = d
	f.versions++
	if v.Blob.Defined() {
		f.blobs++
	}
	if v.Kind != crdt.Delete {
		f.live = append(f.live, d)
	}
	f.seal.Add(d[:])
	return nil
}

// endKey adds the last key to the tree.
func (f *folder) endKey() {
	if len(f.live) > 0 {
		f.tree.Add(f.key, merkle.Leaf(f.live))
		f.live = f.live[:0]
	}
}

// manifest returns what the versions come to. Nothing can be added afterwards.
func (f *folder) manifest(namespace string) Manifest {
	f.endKey()
	s := f.tree.Sum()
	return Manifest{
		Namespace: namespace, Prefix: f.prefix, Root: merkle.Root(namespace, f.prefix, s),
		Keys: s.Count, Versions: f.versions, Seal: f.seal.Root(), Clock: f.clock,
	}
}
