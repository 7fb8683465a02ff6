package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"bzzz/crdt"
	"bzzz/merkle"
	"bzzz/store"
)

// Tree is the Merkle index of a View: the stored tiles with what the journal
// holds since their watermark folded in, in memory. It serves one goroutine, as
// long as its View's transaction lasts.
type Tree struct {
	*merkle.Index
	view    *View
	over    *merkle.Overlay
	base    uint64 // watermark of the stored tiles
	rebuilt bool   // nothing of them was used
}

// Tree returns the index of what v sees. O(changes since the stored tiles log n):
// some 30 us a changed key, for the keys around it are read and verified; O(keys)
// if there are no tiles, or damaged ones, or more changes than are worth it. A
// live version that cannot be read and whose digest is needed is an error that
// matches ErrCorrupt.
func (v *View) Tree() (*Tree, error) {
	return v.treeOf(v.leaves(), nil)
}

// TreeAfter is Tree that goes on from an update that an earlier Tree of the
// namespace found and that was not stored since: O(changes since then log n), and
// a copy of what the update holds. nil, or one that does not fit, is ignored.
func (v *View) TreeAfter(u *TreeUpdate) (*Tree, error) {
	return v.treeOf(v.leaves(), u)
}

// Stored reports whether tiles and a sketch are stored.
func (v *View) Stored() (tree, sketch bool) {
	return v.tx.Bucket(v.names.tree) != nil, v.tx.Bucket(v.names.sketch) != nil
}

// LenientTree is Tree for a comparison with a peer: a version that cannot be read
// gets a leaf that nobody else has, so that the comparison finds it missing
// here. Its root is no proof of anything, and it must not be stored.
func (v *View) LenientTree() (*Tree, error) {
	l := v.leaves()
	l.lenient = true
	return v.treeOf(l, nil)
}

func (v *View) treeOf(l *leaves, u *TreeUpdate) (*Tree, error) {
	t, err := v.storedTree(l, u)
	var lost *Damage
	if err != nil && (!errors.Is(err, ErrCorrupt) || errors.As(err, &lost)) {
		return nil, err
	}
	if t == nil || err != nil {
		t = &Tree{view: v, over: merkle.NewOverlay(nil), rebuilt: true}
		if t.Index, err = merkle.Rebuild(t.over, l, v.state.arrival); err != nil {
			return nil, err
		}
	}
	return t, v.Err()
}

// storedTree returns the stored tiles, with an update if it fits, brought to now;
// nil if there are none or if that would cost more than to make them anew.
func (v *View) storedTree(l *leaves, u *TreeUpdate) (*Tree, error) {
	tiles := v.tx.Bucket(v.names.tree)
	t := &Tree{view: v, over: merkle.NewOverlay(tiles)}
	var err error
	if t.Index, err = merkle.Open(t.over, l); err != nil {
		return nil, err
	}
	t.base = t.Watermark()
	if !v.worthCatchUp(t.base) {
		return nil, nil
	}
	at := t.base
	if u != nil && !u.rebuilt && u.base == t.base && u.reached <= v.state.arrival {
		t.over = u.over.Over(tiles)
		if t.Index, err = merkle.Open(t.over, l); err != nil {
			return nil, err
		}
		at = t.Watermark()
	}
	if at == v.state.arrival {
		return t, nil
	}
	changed, whole := v.changedKeys(at)
	if !whole {
		return nil, nil
	}
	return t, t.CatchUp(changed, v.state.arrival)
}

// worthCatchUp reports whether tiles of a watermark can be brought to now, and
// for less than making them anew.
func (v *View) worthCatchUp(watermark uint64) bool {
	if watermark > v.state.arrival || watermark < v.state.collected {
		return false
	}
	return watermark == v.state.arrival || watermark > 0 && v.state.arrival-watermark <= 1024+v.state.keys/2
}

// changedKeys returns the keys, sorted and each once, whose siblings may have
// changed after a journal record, and false if a record is missing or damaged
// so that nobody can say.
func (v *View) changedKeys(after uint64) ([][]byte, bool) {
	var keys [][]byte
	c := v.journal.Cursor()
	for k, b := c.Seek(arrivalKey(after + 1)); k != nil; k, b = c.Next() {
		if len(k) != 8 || binary.BigEndian.Uint64(k) != after+1 {
			return nil, false
		}
		after++
		more, err := recordKeys(b, after, v.ids)
		if err != nil {
			return nil, false
		}
		keys = append(keys, more...)
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal), after == v.state.arrival
}

// recordKeys returns the keys whose siblings a journal record changed.
func recordKeys(b []byte, arrival uint64, ids *idTable) ([][]byte, error) {
	switch recordKind(b) {
	case RecordVersion:
		rec, err := decodeVersionRecord(b, arrival, ids)
		if err != nil {
			return nil, err
		}
		return [][]byte{rec.version.Key}, nil
	case RecordDrop:
		d, err := decodeDrop(b, arrival, ids)
		if err != nil || d.key == nil {
			return nil, err
		}
		return [][]byte{d.key}, nil
	default: // of dots that are not live, or tombstones
		_, err := unsealJournal(b, arrival)
		return nil, err
	}
}

// Root returns the 32 bytes that prove agreement with a peer that has them too.
func (t *Tree) Root() merkle.Digest { return t.Index.Root(t.view.cfg.Name) }

// PrefixRoot returns the root over the keys that begin with prefix alone. An
// empty prefix gives Root.
func (t *Tree) PrefixRoot(prefix []byte) (merkle.Digest, error) {
	s, err := t.Prefix(prefix)
	return merkle.Root(t.view.cfg.Name, prefix, s), err
}

// Behind returns how many journal records the stored tiles lack.
func (t *Tree) Behind() uint64 { return t.view.state.arrival - t.base }

// TreeUpdate is what would bring the stored tiles to a Tree's state.
type TreeUpdate struct {
	base, reached uint64
	rebuilt       bool
	over          *merkle.Overlay
}

// Update returns the change that StoreTree writes. It refers to nothing of the
// View's transaction. The Tree must not be used any more.
func (t *Tree) Update() *TreeUpdate {
	return &TreeUpdate{t.base, t.view.state.arrival, t.rebuilt, t.over.Detached()}
}

// StoreTree writes an update unless the stored tiles are not those that it
// began with. O(tiles changed).
func (b *Batch) StoreTree(u *TreeUpdate) error {
	name := b.names.tree
	tiles := b.tx.Bucket(name)
	var have uint64
	if tiles != nil {
		x, err := merkle.Open(tiles, b.leaves())
		if err == nil {
			have = x.Watermark()
		} else if !errors.Is(err, ErrCorrupt) {
			return err
		}
	}
	switch {
	case u.rebuilt && have >= u.reached, !u.rebuilt && (tiles == nil || have != u.base):
		return nil // somebody else was faster
	case u.rebuilt && tiles != nil:
		if err := b.tx.DeleteBucket(name); err != nil {
			return err
		}
		tiles = nil
	}
	if tiles == nil {
		var err error
		if tiles, err = b.tx.CreateBucket(name, store.Ordered); err != nil {
			return err
		}
	}
	return u.over.Flush(tiles)
}

// leaves are the live keys as the Merkle index reads them: each leaf is the
// digest of versions that were read and verified.
type leaves struct {
	rd      *Reader
	digests []merkle.Digest
	lenient bool // damage gives a leaf of its own instead of an error
}

func (rd *Reader) leaves() *leaves {
	return &leaves{rd: &Reader{
		cfg: rd.cfg, tx: rd.tx, ids: rd.ids, heads: rd.heads, journal: rd.journal, names: rd.names,
	}}
}

// Leaf returns the leaf of a key, false if it has no live version that is no
// tombstone.
func (l *leaves) Leaf(key []byte) (merkle.Digest, bool, error) {
	entry := l.rd.heads.Get(key)
	if entry == nil {
		return merkle.Digest{}, false, nil
	}
	return l.of(key, entry)
}

// Range calls fn for the keys in [start, end) that have a leaf.
func (l *leaves) Range(start, end []byte, fn func(key []byte, leaf merkle.Digest) error) error {
	for key, e := range l.rd.Heads(start, end) {
		leaf, live, err := l.of(key, e.raw)
		if err == nil && live {
			err = fn(key, leaf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *leaves) of(key, entry []byte) (leaf merkle.Digest, live bool, err error) {
	h := &l.rd.head
	if err := decodeHead(entry, key, h); err != nil {
		if l.lenient {
			return damagedLeaf(key, 0), true, nil
		}
		return leaf, false, &Damage{Err: err}
	}
	l.digests = l.digests[:0]
	for _, s := range h.siblings {
		if s.kind == crdt.Delete {
			continue
		}
		v, err := l.rd.load(key, s)
		switch {
		case err == nil:
			l.digests = append(l.digests, v.Digest())
		case l.lenient && errors.Is(err, ErrCorrupt):
			l.digests = append(l.digests, damagedLeaf(key, s.seq))
		default:
			return leaf, false, err
		}
	}
	if len(l.digests) == 0 {
		return leaf, false, nil
	}
	return merkle.Leaf(l.digests), true, nil
}

// damagedLeaf is the digest of what is no version.
func damagedLeaf(key []byte, seq uint64) merkle.Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("damaged\x00"), key...), seq))
}
