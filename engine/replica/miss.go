package replica

import (
	"bytes"
	"errors"
	"fmt"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
)

// CheckMiss returns an error that matches ErrCorrupt, a Damage that names the
// key, if the Merkle index does not agree that a stored key has no live version
// (or that others around it, at most 32, are all there). It says nothing, for
// nobody waits for it, where the stored tiles are not up to date or cannot be
// read: keep them so by asking for the root now and then. O(log n), some 20 us.
func (rd *Reader) CheckMiss(key []byte) error {
	x, err := rd.currentTree()
	if x == nil || err != nil {
		return err
	}
	lacks, err := x.Lacks(key)
	if errors.Is(err, ErrCorrupt) {
		return nil // a tile: the scrubber's business
	}
	if err != nil || lacks {
		return err
	}
	return &Damage{Key: bytes.Clone(key), Err: &errs.Corruption{
		What: "heads: the Merkle index has keys here that are not there", Hint: hintVerify,
	}}
}

// CheckCount is CheckMiss for the stored keys in [start, end), nil being no bound:
// there are as many with a live version as the index says. O(keys in the range),
// about 0.3 us each; nothing is read but heads.
func (rd *Reader) CheckCount(start, end []byte) error {
	x, err := rd.currentTree()
	if x == nil || err != nil {
		return err
	}
	want, ok, err := x.CountRange(start, end)
	if errors.Is(err, ErrCorrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	var have uint64
	l := &counted{rd}
	if err := l.Range(start, end, func([]byte, merkle.Digest) error { have++; return nil }); err != nil {
		return err
	}
	if ok && have == want {
		return nil
	}
	return &Damage{Err: &errs.Corruption{
		What: "heads of a range", Want: fmt.Sprintf("%d keys by the Merkle index", want), Got: fmt.Sprint(have), Hint: hintVerify,
	}}
}

// currentTree returns the stored tiles if they are up to date, nil if not.
func (rd *Reader) currentTree() (*merkle.Index, error) {
	tiles, meta := rd.tx.Bucket(rd.names.tree), rd.tx.Bucket(rd.names.meta)
	if tiles == nil || meta == nil {
		return nil, nil
	}
	st, err := decodeState(meta.Get(metaState))
	if err != nil {
		return nil, err
	}
	x, err := merkle.Open(tiles, &counted{rd})
	if errors.Is(err, ErrCorrupt) || err == nil && x.Watermark() != st.arrival {
		return nil, nil
	}
	return x, err
}

// counted are the live keys without their digests: enough to count them. A head
// that cannot be read counts, for it is there.
type counted struct{ rd *Reader }

func (l *counted) Leaf(key []byte) (merkle.Digest, bool, error) {
	b := l.rd.heads.Get(key)
	return merkle.Digest{}, b != nil && l.live(key, b), nil
}

func (l *counted) Range(start, end []byte, fn func(key []byte, leaf merkle.Digest) error) error {
	c := l.rd.heads.Cursor()
	k, b := c.First()
	if len(start) > 0 {
		k, b = c.Seek(start)
	}
	for ; k != nil && (end == nil || bytes.Compare(k, end) < 0); k, b = c.Next() {
		if !l.live(k, b) {
			continue
		}
		if err := fn(k, merkle.Digest{}); err != nil {
			return err
		}
	}
	return nil
}

func (l *counted) live(key, entry []byte) bool {
	var h head
	if decodeHead(entry, key, &h) != nil {
		return true
	}
	for _, s := range h.siblings {
		if s.kind != crdt.Delete {
			return true
		}
	}
	return false
}
