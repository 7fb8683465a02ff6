package merkle_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// TestLacksAndCountRange: a sound tree knows each key and each count, and a key
// that vanished behind its back is never said to be lacking.
func TestLacksAndCountRange(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 5))
		kv := newStore(t, mem.New())
		set := map[string]merkle.Digest{}
		for range rng.IntN(2000) {
			set[someKey(rng)] = someLeaf(rng)
		}
		change(t, kv, set, 1)
		with(t, kv, func(x *merkle.Index, tiles, heads store.Bucket) error {
			var keys []string
			c := heads.Cursor()
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				keys = append(keys, string(k))
			}
			for range 300 {
				key := []byte(someKey(rng))
				live := slices.Contains(keys, string(key))
				if lacks, err := x.Lacks(key); err != nil || lacks == live {
					t.Fatalf("lacks %x: %v (%v), it is live: %v", key, lacks, err, live)
				}
				start, end := []byte(someKey(rng)), []byte(someKey(rng))
				if rng.IntN(4) == 0 {
					end = nil
				}
				var want uint64
				for _, k := range keys {
					if k >= string(start) && (end == nil || k < string(end)) {
						want++
					}
				}
				if got, ok, err := x.CountRange(start, end); err != nil || !ok || got != want {
					t.Fatalf("[%x, %x): %d keys, %v (%v), want %d", start, end, got, ok, err, want)
				}
			}
			for range min(50, len(keys)) {
				key := []byte(keys[rng.IntN(len(keys))])
				leaf := bytes.Clone(heads.Get(key))
				must(t, heads.Delete(key))
				if lacks, err := x.Lacks(key); err != nil || lacks {
					t.Fatalf("%x vanished and is said to be lacking: %v (%v)", key, lacks, err)
				}
				n, ok, err := x.CountRange(key, append(bytes.Clone(key), 0))
				if err != nil || ok && n != 1 {
					t.Fatalf("%x vanished: count %d, %v (%v)", key, n, ok, err)
				}
				must(t, heads.Put(key, leaf))
			}
			return nil
		})
	}
}
