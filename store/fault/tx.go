package fault

import (
	"iter"

	"bzzz/store"
)

// tx is a read transaction that stops serving when the store is poisoned or
// dies while it runs.
type tx struct {
	store.Tx
	s *Store
}

// Err returns why the transaction stopped serving, nil while it serves.
func (t *tx) Err() error {
	if err := t.s.ended(); err != nil {
		return err
	}
	if snap, ok := t.Tx.(store.Snapshot); ok {
		return snap.Err()
	}
	return nil
}

// Release implements store.Snapshot.
func (t *tx) Release() {
	if snap, ok := t.Tx.(store.Snapshot); ok {
		snap.Release()
	}
}

func (t *tx) Bucket(name string) store.Bucket {
	if t.s.ended() != nil {
		return &bucket{s: t.s} // answers nothing
	}
	if b := t.Tx.Bucket(name); b != nil {
		return &bucket{b, t.s}
	}
	return nil
}

func (t *tx) Buckets() iter.Seq[string] {
	if t.s.ended() != nil {
		return func(func(string) bool) {}
	}
	return t.Tx.Buckets()
}

type bucket struct {
	store.Bucket
	s *Store
}

func (b *bucket) Get(key []byte) []byte {
	if b.s.ended() != nil {
		return nil
	}
	return b.Bucket.Get(key)
}

func (b *bucket) Put(key, value []byte) error {
	if err := b.s.ended(); err != nil {
		return err
	}
	return b.Bucket.Put(key, value)
}

func (b *bucket) Delete(key []byte) error {
	if err := b.s.ended(); err != nil {
		return err
	}
	return b.Bucket.Delete(key)
}

func (b *bucket) Cursor() store.Cursor {
	if b.s.ended() != nil {
		return &cursor{s: b.s}
	}
	return &cursor{b.Bucket.Cursor(), b.s}
}

type cursor struct {
	c store.Cursor
	s *Store
}

func (c *cursor) First() (key, value []byte) { return c.move(store.Cursor.First) }
func (c *cursor) Last() (key, value []byte)  { return c.move(store.Cursor.Last) }
func (c *cursor) Next() (key, value []byte)  { return c.move(store.Cursor.Next) }
func (c *cursor) Prev() (key, value []byte)  { return c.move(store.Cursor.Prev) }
func (c *cursor) Seek(k []byte) (key, value []byte) {
	return c.move(func(c store.Cursor) ([]byte, []byte) { return c.Seek(k) })
}

func (c *cursor) move(step func(store.Cursor) ([]byte, []byte)) (key, value []byte) {
	if c.s.ended() != nil {
		return nil, nil
	}
	return step(c.c)
}
