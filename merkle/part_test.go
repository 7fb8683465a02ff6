package merkle_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// verifyParts checks a tree part by part and returns how many there were.
func verifyParts(x *merkle.Index, limit uint64) (parts int, err error) {
	var start []byte
	for {
		next, err := x.VerifyPart(start, limit)
		if parts++; err != nil || next == nil {
			return parts, err
		}
		if bytes.Compare(next, start) <= 0 {
			return parts, errors.New("no progress")
		}
		start = slices.Clone(next)
	}
}

// TestVerifyParts: parts of any size pass a sound tree, and find each tile
// and each key that changed or went behind the tree's back.
func TestVerifyParts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		kv := newStore(t, mem.New())
		set := map[string]merkle.Digest{}
		for range 1 + rng.IntN(3000) {
			set[someKey(rng)] = someLeaf(rng)
		}
		change(t, kv, set, 1)
		with(t, kv, func(x *merkle.Index, tiles, heads store.Bucket) error {
			for _, limit := range []uint64{0, 100, 1 << 20} {
				parts, err := verifyParts(x, limit)
				must(t, err)
				if limit < 1000 && x.Count() > 2000 && parts < 10 || limit > 3000 && parts != 1 {
					t.Errorf("%d keys in %d parts of %d", x.Count(), parts, limit)
				}
			}
			return nil
		})
		for range 20 {
			with(t, kv, func(x *merkle.Index, tiles, heads store.Bucket) error {
				bucket := []store.Bucket{tiles, heads}[rng.IntN(2)]
				key, value, err := spoil(rng, bucket)
				must(t, err)
				if key == nil {
					return nil
				}
				if _, err := verifyParts(x, 64); !errors.Is(err, errs.ErrCorrupt) {
					t.Errorf("%x spoiled: got %v, want corrupt", key, err)
				}
				return bucket.Put(key, value)
			})
		}
	}
}

// spoil changes or removes an entry that is no root record, and returns what it
// was; key is nil if there is none.
func spoil(rng *rand.Rand, b store.Bucket) (key, value []byte, err error) {
	var keys [][]byte
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(v) > 0 && k[0] != 0xFF {
			keys = append(keys, bytes.Clone(k))
		}
	}
	if len(keys) == 0 {
		return nil, nil, nil
	}
	key = keys[rng.IntN(len(keys))]
	value = bytes.Clone(b.Get(key))
	if rng.IntN(2) == 0 {
		return key, value, b.Delete(key)
	}
	bad := bytes.Clone(value)
	bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
	return key, value, b.Put(key, bad)
}
