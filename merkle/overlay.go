package merkle

import (
	"bytes"
	"maps"
	"slices"

	"bzzz/store"
)

// Overlay is a bucket of tiles whose changes stay in memory: an Index on it can
// be brought up to date within a read transaction, by any number of readers at
// once and without the one writer. Writer stores the changes later, if nobody
// else was faster. An Overlay serves one goroutine.
type Overlay struct {
	base    store.Bucket // nil = empty
	changes map[string][]byte
}

// NewOverlay returns an overlay without changes on base; nil is an empty bucket.
func NewOverlay(base store.Bucket) *Overlay {
	return &Overlay{base: base, changes: map[string][]byte{}}
}

// Get returns a value, nil if there is none.
func (o *Overlay) Get(key []byte) []byte {
	if v, changed := o.changes[string(key)]; changed {
		return v
	}
	if o.base == nil {
		return nil
	}
	return o.base.Get(key)
}

// Put stores a value in memory. It keeps both slices' bytes as they are now.
func (o *Overlay) Put(key, value []byte) error {
	o.changes[string(key)] = bytes.Clone(value)
	return nil
}

// Delete removes a key in memory.
func (o *Overlay) Delete(key []byte) error {
	o.changes[string(key)] = nil
	return nil
}

// Cursor returns a cursor over the merged keys of this moment: O(n log n) once.
func (o *Overlay) Cursor() store.Cursor {
	var keys [][]byte
	if o.base != nil {
		c := o.base.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if _, changed := o.changes[string(k)]; !changed {
				keys = append(keys, k)
			}
		}
	}
	for k, v := range o.changes {
		if v != nil {
			keys = append(keys, []byte(k))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return &overlayCursor{o, keys, -1}
}

// Detached returns an overlay with the changes alone, for Flush: it refers to
// nothing of the base, whose transaction may end.
func (o *Overlay) Detached() *Overlay { return &Overlay{changes: o.changes} }

// Over returns a copy of the changes on another base, which must be in the state
// that the overlay's own was in. O(changes).
func (o *Overlay) Over(base store.Bucket) *Overlay { return &Overlay{base, maps.Clone(o.changes)} }

// Changed reports how many keys were written or deleted.
func (o *Overlay) Changed() int { return len(o.changes) }

// Flush writes the changes to a bucket, sorted. The bucket must be in the state
// that the overlay's base was in.
func (o *Overlay) Flush(to store.Bucket) error {
	keys := make([]string, 0, len(o.changes))
	for k := range o.changes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if v := o.changes[k]; v == nil {
			if err := to.Delete([]byte(k)); err != nil {
				return err
			}
		} else if err := to.Put([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

// overlayCursor walks a list of keys.
type overlayCursor struct {
	o    *Overlay
	keys [][]byte
	at   int // -1 and len(keys) are past the ends
}

func (c *overlayCursor) stand(at int) (key, value []byte) {
	c.at = max(-1, min(at, len(c.keys)))
	if c.at < 0 || c.at == len(c.keys) {
		return nil, nil
	}
	return c.keys[c.at], c.o.Get(c.keys[c.at])
}

func (c *overlayCursor) First() (key, value []byte) { return c.stand(0) }
func (c *overlayCursor) Last() (key, value []byte)  { return c.stand(len(c.keys) - 1) }
func (c *overlayCursor) Next() (key, value []byte)  { return c.stand(c.at + 1) }
func (c *overlayCursor) Prev() (key, value []byte)  { return c.stand(c.at - 1) }

func (c *overlayCursor) Seek(key []byte) (k, value []byte) {
	at, _ := slices.BinarySearchFunc(c.keys, key, bytes.Compare)
	return c.stand(at)
}
