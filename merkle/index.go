package merkle

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"bzzz/internal/errs"
	"bzzz/store"
)

// Leaves gives an Index the live keys it is about. All calls see one state:
// that of the transaction the index works in.
type Leaves interface {
	// Leaf returns the leaf digest of key, false if the key is not live.
	Leaf(key []byte) (Digest, bool, error)
	// Range calls fn for the live keys in [start, end) in byte order, nil
	// being no bound, and returns the first error. fn must not keep key.
	Range(start, end []byte, fn func(key []byte, leaf Digest) error) error
}

// Index is the tree over the live keys of a namespace, with the digests of all
// subtrees above 32 keys in tiles. It belongs to one transaction and serves
// one goroutine at a time. Tiles and leaves must be of the same moment: ask
// Watermark before you rely on a digest.
//
// A damaged or missing tile is an error that matches errs.ErrCorrupt and names
// it; Rebuild repairs.
type Index struct {
	tiles     store.Bucket
	leaves    Leaves
	root      child
	watermark uint64

	arena    arena
	bulk     bulk
	free     []*tile
	key      []byte // scratch
	fold     Builder
	from, to []byte // scratch of ranges
}

// The root record, kept beside the tiles under a key that no tile has (the
// only tile key of one byte is 00):
//
//	u8       1, the format
//	uvarint  count
//	32 B     digest
//	uvarint  nibble depth of the root's tile, 0 if count <= 32
//	bytes    its packed prefix
//	8 B      watermark, big-endian
//	4 B      CRC-32C as in tiles
const (
	rootKey    = "\xFFroot"
	rootFormat = 1
)

// Open returns the index in a bucket of tiles, an empty one with watermark 0 if
// the bucket is empty. The bucket holds nothing else. O(1).
func Open(tiles store.Bucket, leaves Leaves) (*Index, error) {
	x := &Index{tiles: tiles, leaves: leaves}
	x.bulk.emit = x.put
	value := tiles.Get([]byte(rootKey))
	if value == nil {
		if k, _ := tiles.Cursor().First(); k != nil {
			return nil, rootDamaged("missing, but there are tiles")
		}
		return x, nil
	}
	root, watermark, err := decodeRoot(value)
	if err != nil {
		return nil, err
	}
	x.root, x.watermark = root, watermark
	return x, nil
}

func rootDamaged(why string) error {
	return &errs.Corruption{What: "root record of the tree: " + why, Hint: "rebuild the tree from the live keys"}
}

func appendRoot(b []byte, root *child, watermark uint64) []byte {
	from := len(b)
	b = append(b, rootFormat)
	b = binary.AppendUvarint(b, root.Count)
	b = append(b, root.Digest[:]...)
	if root.Count > tileAbove {
		b = binary.AppendUvarint(b, uint64(root.nd))
		b = append(b, root.prefix...)
	} else {
		b = append(b, 0)
	}
	return appendCRC(binary.BigEndian.AppendUint64(b, watermark), from, []byte(rootKey))
}

// decodeRoot reads a root record strictly.
func decodeRoot(value []byte) (root child, watermark uint64, err error) {
	b, ok := cutCRC(value, []byte(rootKey))
	if !ok || len(b) == 0 {
		return root, 0, rootDamaged("checksum does not match")
	}
	if b[0] != rootFormat {
		return root, 0, fmt.Errorf("%w: tree format %d", errs.ErrUnsupported, b[0])
	}
	bad := rootDamaged("does not decode")
	if root.Count, b, ok = cutUvarint(b[1:]); !ok || root.Count > maxCount || len(b) < 32 {
		return root, 0, bad
	}
	b = b[copy(root.Digest[:], b):]
	nd, b, ok := cutUvarint(b)
	if !ok || nd > 2*MaxKey || nd > 0 && root.Count <= tileAbove {
		return root, 0, bad
	}
	n := int(nd+1) / 2
	if len(b) != n+8 || nd&1 != 0 && b[n-1]&0x0F != 0 || root.Count == 0 && root.Digest != (Digest{}) {
		return root, 0, bad
	}
	root.nd, root.prefix = int(nd), bytes.Clone(b[:n])
	return root, binary.BigEndian.Uint64(b[n:]), nil
}

// Subtree returns the number of keys and the digest of the whole tree. O(1).
func (x *Index) Subtree() Subtree { return x.root.Subtree }

// Count returns the number of live keys. O(1).
func (x *Index) Count() uint64 { return x.root.Count }

// Root returns the 32 bytes that replicas of a namespace compare. O(1).
func (x *Index) Root(namespace string) Digest { return Root(namespace, nil, x.root.Subtree) }

// Watermark returns the number that the last CatchUp or Rebuild was given: the
// position in the caller's log up to which the tiles are right. O(1).
func (x *Index) Watermark() uint64 { return x.watermark }

// Prefix returns the subtree of the keys that begin with prefix: the one that a
// tree of these keys alone has. O(log n): the tiles on the way, and at most 32
// keys.
func (x *Index) Prefix(prefix []byte) (Subtree, error) {
	c, depth, want := &x.root, 0, 2*len(prefix)
	t := x.take()
	defer x.give(t)
	for depth < want && c.Count > tileAbove {
		common := min(commonNibbles(prefix, c.prefix), c.nd)
		switch {
		case common == want:
			return c.Subtree, nil
		case common < c.nd:
			return Subtree{}, nil
		}
		if err := x.load(c, t); err != nil {
			return Subtree{}, err
		}
		next := t.get(slotOf(prefix, t.nd))
		next.prefix = bytes.Clone(next.prefix)
		c, depth = &next, t.nd+1
	}
	if depth >= want || c.Count == 0 {
		return c.Subtree, nil
	}
	var b Builder
	start, end := region(prefix, want, nil)
	err := x.leaves.Range(start, end, func(key []byte, leaf Digest) error {
		if !bytes.HasPrefix(key, prefix) || b.right.Count > 0 && bytes.Compare(b.last, key) >= 0 {
			return disordered()
		}
		b.Add(key, leaf)
		return nil
	})
	return b.Sum(), err
}

// disordered is the error of leaves that break their promise.
func disordered() error {
	return &errs.Corruption{What: "live keys: out of order or out of range", Hint: "verify the store"}
}

// load reads the tile of c, which must have one, into t.
func (x *Index) load(c *child, t *tile) error {
	x.key = appendKey(x.key[:0], c.prefix, c.nd)
	value := x.tiles.Get(x.key)
	if value == nil {
		return damaged(c.prefix, c.nd, "missing")
	}
	if err := t.decode(c, x.key, value); err != nil {
		return damaged(c.prefix, c.nd, err.Error())
	}
	return nil
}

// put stores a tile. The store may keep both slices until the transaction ends.
func (x *Index) put(t *tile) error {
	key := appendKey(x.arena.room(len(t.prefix)+1), t.prefix, t.nd)
	x.arena.keep(key)
	value := t.append(x.arena.room(t.maxSize()), key)
	x.arena.keep(value)
	return x.tiles.Put(key, value)
}

// maxSize bounds the stored form of t.
func (t *tile) maxSize() int {
	n := 3 + 4
	for m, i := t.mask, 0; m != 0; m, i = m>>1, i+1 {
		if m&1 != 0 {
			n += 2*binary.MaxVarintLen64 + 32
			if s := &t.slots[i]; s.Count > tileAbove {
				n += len(s.prefix)
			}
		}
	}
	return n
}

func (x *Index) delete(c *child) error {
	key := appendKey(x.arena.room(len(c.prefix)+1), c.prefix, c.nd)
	x.arena.keep(key)
	return x.tiles.Delete(key)
}

// finish stores the root record.
func (x *Index) finish(root *child, watermark uint64) error {
	c := child{Subtree: root.Subtree}
	if root.Count > tileAbove {
		c.nd, c.prefix = root.nd, bytes.Clone(root.prefix)
	}
	x.root, x.watermark = c, watermark
	return x.tiles.Put([]byte(rootKey), appendRoot(nil, &x.root, watermark))
}

func (x *Index) take() *tile {
	if n := len(x.free); n > 0 {
		t := x.free[n-1]
		x.free = x.free[:n-1]
		return t
	}
	return new(tile)
}

func (x *Index) give(t *tile) { x.free = append(x.free, t) }

// arena hands out byte slices that live as long as the transaction, from
// chunks of 64 KiB.
type arena struct{ chunk []byte }

// room returns an empty slice with room for n bytes. What is appended to it is
// lost unless kept.
func (a *arena) room(n int) []byte {
	if cap(a.chunk)-len(a.chunk) < n {
		a.chunk = make([]byte, 0, max(64<<10, n))
	}
	return a.chunk[len(a.chunk):len(a.chunk):cap(a.chunk)]
}

// keep takes the bytes of the last room out of the free ones.
func (a *arena) keep(b []byte) { a.chunk = a.chunk[:len(a.chunk)+len(b)] }
