package replica

import (
	"bytes"
	"iter"
	"slices"
)

// Local returns a record of this node alone: not replicated, not part of the
// root, but committed together with the versions of its batch. nil if there is
// none.
func (rd *Reader) Local(key []byte) ([]byte, error) {
	v := rd.tx.Bucket(rd.names.local).Get(key)
	if v == nil {
		return nil, nil
	}
	return unseal(v, key, "local record", uint64(len(v)))
}

// Locals yields the local records whose keys begin with prefix, in order. A
// damaged one is left out: whoever keeps such records can do without any.
func (rd *Reader) Locals(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		c := rd.tx.Bucket(rd.names.local).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			body, err := unseal(v, k, "local record", uint64(len(v)))
			if err == nil && !yield(k, body) {
				return
			}
		}
	}
}

// SetLocal writes a local record; nil removes it.
func (b *Batch) SetLocal(key, value []byte) error {
	if value == nil {
		return b.tx.Bucket(b.names.local).Delete(key)
	}
	return b.tx.Bucket(b.names.local).Put(key, seal(slices.Clone(value), 0, key))
}
