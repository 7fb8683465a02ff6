package mem

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"github.com/tidwall/btree"

	"bzzz/store"
)

// tx is a transaction or a snapshot.
type tx struct {
	s        *Store
	state    *state // own and mutable if writable, else shared
	open     map[string]*bucket
	writable bool
	done     bool
}

func (t *tx) end() {
	if !t.done {
		t.done = true
		t.s.leave()
	}
}

// Release implements store.Snapshot.
func (t *tx) Release() { t.end() }

// Err implements store.Snapshot.
func (t *tx) Err() error {
	if t.done {
		return store.ErrClosed
	}
	return nil
}

// ID implements store.Tx.
func (t *tx) ID() uint64 { return t.state.id }

// Writable implements store.Tx.
func (t *tx) Writable() bool { return t.writable }

// Bucket implements store.Tx.
func (t *tx) Bucket(name string) store.Bucket {
	if t.done {
		return nil
	}
	if b := t.open[name]; b != nil {
		return b
	}
	if tab := t.state.buckets[name]; tab != nil {
		return t.handle(name, tab, false)
	}
	return nil
}

func (t *tx) handle(name string, tab *table, own bool) *bucket {
	b := &bucket{t: t, name: name, table: tab, own: own}
	if t.open == nil {
		t.open = make(map[string]*bucket)
	}
	t.open[name] = b
	return b
}

// CreateBucket implements store.Tx. The order makes no difference in memory.
func (t *tx) CreateBucket(name string, _ store.Order) (store.Bucket, error) {
	if err := t.mayName(name); err != nil {
		return nil, err
	}
	if t.state.buckets[name] != nil {
		return nil, store.ErrExists
	}
	tab := newTable()
	t.state.buckets[name] = tab
	return t.handle(name, tab, true), nil
}

// DeleteBucket implements store.Tx. Handles of the bucket are empty afterwards
// and refuse writes with ErrNotFound.
func (t *tx) DeleteBucket(name string) error {
	if err := t.mayName(name); err != nil {
		return err
	}
	if t.state.buckets[name] == nil {
		return store.ErrNotFound
	}
	delete(t.state.buckets, name)
	if b := t.open[name]; b != nil {
		b.table = nil
		delete(t.open, name)
	}
	return nil
}

// Buckets implements store.Tx.
func (t *tx) Buckets() iter.Seq[string] {
	return func(yield func(string) bool) {
		if t.done {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(t.state.buckets)) {
			if !yield(name) {
				return
			}
		}
	}
}

func (t *tx) mayWrite() error {
	switch {
	case t.done:
		return store.ErrClosed
	case !t.writable:
		return store.ErrReadOnly
	}
	return nil
}

func (t *tx) mayName(name string) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	switch {
	case name == "" || name == reserved:
		return store.ErrInvalid
	case len(name) > store.MaxKey:
		return store.ErrTooLarge
	}
	return nil
}

// bucket is the one handle of a bucket in a transaction.
type bucket struct {
	t       *tx
	name    string
	table   *table // nil once the bucket is deleted
	own     bool   // table belongs to this transaction
	changes uint64
}

// Get implements store.Bucket.
func (b *bucket) Get(key []byte) []byte {
	if b.t.done || b.table == nil {
		return nil
	}
	it, _ := b.table.tree.Get(item{key: key})
	return it.value
}

// Put implements store.Bucket. Key and value are copied.
func (b *bucket) Put(key, value []byte) error {
	if err := b.mayWrite(); err != nil {
		return err
	}
	switch {
	case len(key) == 0:
		return store.ErrInvalid
	case len(key) > store.MaxKey || len(value) > store.MaxValue:
		return store.ErrTooLarge
	}
	buf := make([]byte, len(key)+len(value))
	n := copy(buf, key)
	copy(buf[n:], value)
	old, _ := b.mutable().Set(item{buf[:n:n], buf[n:]})
	b.table.bytes += int64(len(buf) - len(old.key) - len(old.value))
	return nil
}

// Delete implements store.Bucket.
func (b *bucket) Delete(key []byte) error {
	if err := b.mayWrite(); err != nil {
		return err
	}
	old, _ := b.mutable().Delete(item{key: key})
	b.table.bytes -= int64(len(old.key) + len(old.value))
	return nil
}

func (b *bucket) mayWrite() error {
	if err := b.t.mayWrite(); err != nil {
		return err
	}
	if b.table == nil {
		return store.ErrNotFound
	}
	return nil
}

// mutable returns the bucket's tree for a change, after the first call one
// that belongs to the transaction.
func (b *bucket) mutable() *btree.BTreeG[item] {
	if !b.own {
		b.table, b.own = b.table.copy(), true
		b.t.state.buckets[b.name] = b.table
	}
	b.changes++
	return b.table.tree
}

// Cursor implements store.Bucket.
func (b *bucket) Cursor() store.Cursor { return &cursor{b: b, pos: before} }

// Where a cursor stands.
const (
	before = -1 // before the first key
	on     = 0  // on a key
	after  = +1 // after the last key
)

// cursor finds its place again by its key when the bucket has changed.
type cursor struct {
	b       *bucket
	it      btree.IterG[item]
	pos     int8
	changes uint64 // of the bucket when it was opened
	fresh   bool   // it is of the bucket's present tree
}

// ready makes the iterator one of the present tree and reports whether the
// cursor may be used.
func (c *cursor) ready() bool {
	if c.b.t.done || c.b.table == nil {
		return false
	}
	if !c.fresh || c.changes != c.b.changes {
		c.it = c.b.table.tree.Iter()
		c.fresh, c.changes = true, c.b.changes
	}
	return true
}

func (c *cursor) stand(ok bool, otherwise int8) (key, value []byte) {
	if !ok {
		c.pos = otherwise
		return nil, nil
	}
	c.pos = on
	it := c.it.Item()
	return it.key, it.value
}

// First implements store.Cursor.
func (c *cursor) First() (key, value []byte) {
	return c.stand(c.ready() && c.it.First(), after)
}

// Last implements store.Cursor.
func (c *cursor) Last() (key, value []byte) {
	return c.stand(c.ready() && c.it.Last(), before)
}

// Seek implements store.Cursor.
func (c *cursor) Seek(key []byte) (k, value []byte) {
	return c.stand(c.ready() && c.it.Seek(item{key: key}), after)
}

// Next implements store.Cursor.
func (c *cursor) Next() (key, value []byte) {
	switch {
	case c.pos == before:
		return c.First()
	case c.pos == after:
		return nil, nil
	}
	here, moved := c.it.Item().key, c.changes != c.b.changes
	ok := c.ready()
	if ok && moved {
		ok = c.it.Seek(item{key: here})
		if ok && !bytes.Equal(c.it.Item().key, here) {
			return c.stand(true, after)
		}
	}
	return c.stand(ok && c.it.Next(), after)
}

// Prev implements store.Cursor.
func (c *cursor) Prev() (key, value []byte) {
	switch {
	case c.pos == after:
		return c.Last()
	case c.pos == before:
		return nil, nil
	}
	here, moved := c.it.Item().key, c.changes != c.b.changes
	ok := c.ready()
	if ok && moved && !c.it.Seek(item{key: here}) {
		return c.stand(c.it.Last(), before)
	}
	return c.stand(ok && c.it.Prev(), before)
}
