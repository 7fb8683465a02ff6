package bolt

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"bzzz/store"
)

// How full bbolt leaves the pages that it splits. Measured with 13-byte keys
// and 16-byte values: 0.95 stores a rising load in half the space of bbolt's
// 0.5, and costs random loads nothing because it does not apply to them.
const (
	fillAppend = 1.0  // append-only: nothing will be put in between
	fillRising = 0.95 // every put so far went past the last key
	fillRandom = bbolt.DefaultFillPercent
)

// load is what a transaction knows about its puts into a bucket.
type load byte

const (
	unknown load = iota // no put yet
	rising              // every put went to the end
	settled             // the fill rate will not change any more
)

// bucket is the one handle of a bucket in a transaction.
type bucket struct {
	t       *tx
	b       *bbolt.Bucket // nil once the bucket is deleted
	name    string
	load    load
	deletes bool          // pages may be empty until the commit
	last    []byte        // the last key, while rising
	asked   bool          // a look-up was made
	finder  *bbolt.Cursor // of further look-ups
}

// Get implements store.Bucket.
func (b *bucket) Get(key []byte) (value []byte) {
	t := b.t
	if b.b == nil || !t.serves() {
		return nil
	}
	defer t.contain(t.arm())
	if value = b.find(key); value != nil && !t.inside(value) {
		t.fail(b.damaged(key))
		return nil
	}
	return value
}

// find is bbolt's Get. From the second look-up on it goes through one cursor,
// whose stack bbolt would else allocate every time.
func (b *bucket) find(key []byte) []byte {
	if !b.asked {
		b.asked = true
		return b.b.Get(key)
	}
	if b.finder == nil {
		b.finder = b.b.Cursor()
	}
	if k, v := b.finder.Seek(key); bytes.Equal(k, key) {
		return v
	}
	return nil
}

func (b *bucket) damaged(key []byte) error {
	return fmt.Errorf("%w: bucket %q, a key of %d bytes: its bytes reach past the pages in use", store.ErrCorrupt, b.name, len(key))
}

// Put implements store.Bucket. The key is copied, the value is not.
func (b *bucket) Put(key, value []byte) (err error) {
	if err := b.mayWrite(); err != nil {
		return err
	}
	switch {
	case len(key) == 0:
		return store.ErrInvalid
	case len(key) > store.MaxKey || len(value) > store.MaxValue:
		return store.ErrTooLarge
	case value == nil:
		value = []byte{}
	}
	defer b.t.failed(&err)
	defer b.t.contain(b.t.arm())
	if b.load != settled {
		b.steer(key)
	}
	if err := b.b.Put(key, value); err != nil {
		return damage(err)
	}
	return nil
}

// steer sets the fill rate before a put of key.
func (b *bucket) steer(key []byte) {
	if b.load == unknown {
		own := b.t.btx.Bucket([]byte(ownBucket))
		if order := own.Get([]byte(orderPrefix + b.name)); len(order) == 1 && store.Order(order[0]) == store.AppendOnly {
			b.b.FillPercent, b.load = fillAppend, settled
			return
		}
		k, _ := last(b.b.Cursor())
		b.b.FillPercent, b.load, b.last = fillRising, rising, bytes.Clone(k)
	}
	if bytes.Compare(key, b.last) < 0 {
		b.b.FillPercent, b.load = fillRandom, settled
		return
	}
	b.last = append(b.last[:0], key...)
}

// Delete implements store.Bucket.
func (b *bucket) Delete(key []byte) (err error) {
	if err := b.mayWrite(); err != nil {
		return err
	}
	defer b.t.failed(&err)
	defer b.t.contain(b.t.arm())
	b.deletes = true
	if err := b.b.Delete(key); err != nil {
		return damage(err)
	}
	return nil
}

func (b *bucket) mayWrite() error {
	if err := b.t.mayWrite(); err != nil {
		return err
	}
	if b.b == nil {
		return store.ErrNotFound
	}
	return nil
}

// Cursor implements store.Bucket.
func (b *bucket) Cursor() store.Cursor {
	c := &cursor{b: b, pos: before}
	if b.b != nil && b.t.serves() {
		c.c = b.b.Cursor()
	}
	return c
}

// Where a cursor stands.
const (
	before = -1 // before the first key
	on     = 0  // on a key
	after  = +1 // after the last key
)

// cursor adds to bbolt's a place past either end, and a way back over pages
// that the transaction has emptied.
type cursor struct {
	b   *bucket
	c   *bbolt.Cursor
	key []byte // where it stands
	pos int8
}

func (c *cursor) serves() bool { return c.c != nil && c.b.b != nil && c.b.t.serves() }

// stand notes where bbolt's cursor went; without a key it is past an end.
func (c *cursor) stand(k, v []byte, otherwise int8) (key, value []byte) {
	if k == nil {
		c.pos = otherwise
		return nil, nil
	}
	if v == nil || !c.b.t.inside(k) || !c.b.t.inside(v) {
		c.b.t.fail(c.b.damaged(nil))
		c.pos = otherwise
		return nil, nil
	}
	c.pos, c.key = on, k
	return k, v
}

// First implements store.Cursor.
func (c *cursor) First() (key, value []byte) {
	if !c.serves() {
		return nil, nil
	}
	defer c.b.t.contain(c.b.t.arm())
	k, v := c.c.First()
	return c.stand(k, v, after)
}

// Last implements store.Cursor.
func (c *cursor) Last() (key, value []byte) {
	if !c.serves() {
		return nil, nil
	}
	defer c.b.t.contain(c.b.t.arm())
	k, v := last(c.c)
	return c.stand(k, v, before)
}

// last moves c to the last key. bbolt v1.5.0 does not return from
// Cursor.Last if the transaction has emptied all pages of a bucket.
func last(c *bbolt.Cursor) (k, v []byte) {
	if k, _ = c.First(); k == nil {
		return nil, nil
	}
	return c.Last()
}

// Seek implements store.Cursor.
func (c *cursor) Seek(key []byte) (k, value []byte) {
	if !c.serves() {
		return nil, nil
	}
	defer c.b.t.contain(c.b.t.arm())
	k, v := c.c.Seek(key)
	return c.stand(k, v, after)
}

// Next implements store.Cursor.
func (c *cursor) Next() (key, value []byte) {
	if !c.serves() || c.pos == after {
		return nil, nil
	}
	defer c.b.t.contain(c.b.t.arm())
	if c.pos == before {
		key, value = c.c.First()
	} else {
		key, value = c.c.Next()
	}
	return c.stand(key, value, after)
}

// Prev implements store.Cursor.
func (c *cursor) Prev() (key, value []byte) {
	if !c.serves() || c.pos == before {
		return nil, nil
	}
	defer c.b.t.contain(c.b.t.arm())
	if c.pos == after {
		key, value = last(c.c)
	} else if key, value = c.c.Prev(); key == nil && c.b.deletes {
		key, value = c.overEmpty()
	}
	return c.stand(key, value, before)
}

// overEmpty finds the key before c.key if empty pages lie between: bbolt's
// Prev takes an empty page for the beginning.
func (c *cursor) overEmpty() (k, v []byte) {
	if first, _ := c.c.First(); first == nil || bytes.Compare(first, c.key) >= 0 {
		return nil, nil
	}
	c.c.Seek(c.key)
	for k == nil { // ends: there is a key before
		k, v = c.c.Prev()
	}
	return k, v
}
