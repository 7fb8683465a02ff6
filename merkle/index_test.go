package merkle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/mem"
)

// heads is Leaves over a bucket of key -> leaf.
type heads struct {
	b store.Bucket
	c store.Cursor
}

func headsOf(b store.Bucket) *heads { return &heads{b, b.Cursor()} }

func (h *heads) Leaf(key []byte) (merkle.Digest, bool, error) {
	v := h.b.Get(key)
	if v == nil {
		return merkle.Digest{}, false, nil
	}
	return merkle.Digest(v), true, nil
}

func (h *heads) Range(start, end []byte, fn func([]byte, merkle.Digest) error) error {
	for k, v := h.c.Seek(start); k != nil && (end == nil || bytes.Compare(k, end) < 0); k, v = h.c.Next() {
		if err := fn(k, merkle.Digest(v)); err != nil {
			return err
		}
	}
	return nil
}

const tree, live = "tree", "heads"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t testing.TB, kv store.KV) store.KV {
	must(t, kv.Update(func(tx store.Tx) error {
		_, err := tx.CreateBucket(tree, store.Ordered)
		_, err2 := tx.CreateBucket(live, store.Ordered)
		return errors.Join(err, err2)
	}))
	return kv
}

// with calls fn with the index in a write transaction.
func with(t testing.TB, kv store.KV, fn func(x *merkle.Index, tiles, heads store.Bucket) error) {
	t.Helper()
	must(t, kv.Update(func(tx store.Tx) error {
		x, err := merkle.Open(tx.Bucket(tree), headsOf(tx.Bucket(live)))
		if err != nil {
			return err
		}
		return fn(x, tx.Bucket(tree), tx.Bucket(live))
	}))
}

// change applies leaves to the heads, the zero digest deleting, and catches up.
func change(t testing.TB, kv store.KV, leaves map[string]merkle.Digest, watermark uint64) {
	t.Helper()
	must(t, kv.Update(func(tx store.Tx) error {
		h := tx.Bucket(live)
		var keys [][]byte
		for _, k := range slices.Sorted(maps.Keys(leaves)) {
			keys = append(keys, []byte(k))
			d := leaves[k]
			if d == (merkle.Digest{}) {
				must(t, h.Delete([]byte(k)))
			} else {
				must(t, h.Put([]byte(k), d[:]))
			}
		}
		x, err := merkle.Open(tx.Bucket(tree), headsOf(h))
		if err != nil {
			return err
		}
		return x.CatchUp(keys, watermark)
	}))
}

// dump returns all that the tree bucket holds but the root record.
func dump(b store.Bucket) map[string]string {
	all := map[string]string{}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if string(k) != "\xFFroot" {
			all[string(k)] = string(v)
		}
	}
	return all
}

// simple is the second implementation: the definition, recursive, on sorted
// lists of bit strings and nibble strings, sharing no code with the first.
type simple struct {
	leaves map[string]merkle.Digest
	tiles  map[string]string
}

func bitAt(k string, p int) byte {
	if p/9 >= len(k) || p%9 == 0 {
		return byte(min(1, max(0, len(k)-p/9)))
	}
	return k[p/9] >> (8 - p%9) & 1
}

func bitString(k string) string {
	var s strings.Builder
	for i := range len(k) {
		fmt.Fprintf(&s, "1%08b", k[i])
	}
	return s.String() + "0"
}

// common is how much the first and the last of sorted keys share, and so all.
func common(s []string, form func(string) string) int {
	first, last, n := form(s[0]), form(s[len(s)-1]), 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return n
}

func (m *simple) digest(keys []string) merkle.Digest {
	switch len(keys) {
	case 0:
		return merkle.Digest{}
	case 1:
		return m.leaves[keys[0]]
	}
	p := common(keys, bitString)
	i := slices.IndexFunc(keys, func(k string) bool { return bitAt(k, p) == 1 })
	l, r := m.digest(keys[:i]), m.digest(keys[i:])
	return sha256.Sum256(slices.Concat([]byte{1}, binary.BigEndian.AppendUint32(nil, uint32(p)),
		binary.BigEndian.AppendUint64(nil, uint64(len(keys))), l[:], r[:]))
}

func nibbles(k string) string { return fmt.Sprintf("%x", k) + "." }

func nibble(k string, nd int) byte {
	if nd/2 >= len(k) {
		return '.'
	}
	return fmt.Sprintf("%x", k[nd/2:nd/2+1])[nd%2]
}

func packed(nib string) string {
	if len(nib)%2 != 0 {
		nib += "0"
	}
	var b []byte
	fmt.Sscanf(nib, "%x", &b)
	return string(b)
}

// store computes the tile of keys and of all below; it returns its depth.
func (m *simple) store(keys []string) int {
	nd := common(keys, nibbles)
	path := nibbles(keys[0])[:nd]
	mask := 0
	var body []byte
	for slot, sym := range ".0123456789abcdef" {
		var in []string
		for _, k := range keys {
			if nibble(k, nd) == byte(sym) {
				in = append(in, k)
			}
		}
		if len(in) == 0 {
			continue
		}
		mask |= 1 << slot
		body = binary.AppendUvarint(body, uint64(len(in)))
		if len(in) > 32 {
			sub := m.store(in)
			body = binary.AppendUvarint(body, uint64(sub-nd-1))
			body = append(body, packed(nibbles(in[0])[:sub])[(nd+1)/2:]...)
		}
		d := m.digest(in)
		body = append(body, d[:]...)
	}
	key := packed(path) + string(rune(nd&1))
	value := append([]byte{byte(mask), byte(mask >> 8), byte(mask >> 16)}, body...)
	sum := crc32.Checksum([]byte(key+string(value)), crc32.MakeTable(crc32.Castagnoli))
	m.tiles[key] = string(binary.LittleEndian.AppendUint32(value, sum))
	return nd
}

func reference(leaves map[string]merkle.Digest) (merkle.Subtree, map[string]string) {
	m := &simple{leaves, map[string]string{}}
	keys := slices.Sorted(maps.Keys(leaves))
	if len(keys) > 32 {
		m.store(keys)
	}
	return merkle.Subtree{Count: uint64(len(keys)), Digest: m.digest(keys)}, m.tiles
}

// someKey draws from a small, clustered, nasty alphabet.
func someKey(rng *rand.Rand) string {
	k := make([]byte, 1+rng.IntN(5))
	for i := range k {
		k[i] = []byte{0, 1, 0x10, 'a', 'b', 0xF0, 0xFF, byte(rng.IntN(256))}[rng.IntN(8)]
	}
	return []string{"", "", "same/stem/", "same/stem/of"}[rng.IntN(4)] + string(k)
}

func someLeaf(rng *rand.Rand) (d merkle.Digest) {
	binary.BigEndian.PutUint64(d[:], rng.Uint64()|1<<63)
	return sha256.Sum256(d[:])
}

// TestHistories: random inserts, updates and deletes in batches of any size
// leave the root and the tile bytes that the definition gives, and that a full
// rebuild gives.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			var kv store.KV = mem.New()
			file := filepath.Join(t.TempDir(), "db")
			onFile := seed%4 == 0
			open := func() {
				var err error
				kv, err = bolt.Open(file, &bolt.Options{Durability: bolt.None})
				must(t, err)
			}
			if onFile {
				open()
			}
			newStore(t, kv)
			set := map[string]merkle.Digest{}
			for round := range 15 {
				deletes := []int{1, 1, 5, 9}[rng.IntN(4)] // of ten
				batch := map[string]merkle.Digest{}
				present := slices.Sorted(maps.Keys(set))
				for range 1 + rng.IntN(1<<rng.IntN(9)) {
					if k := someKey(rng); rng.IntN(10) >= deletes {
						batch[k] = someLeaf(rng)
						set[k] = batch[k]
					} else {
						if len(present) > 0 && rng.IntN(4) > 0 {
							k = present[rng.IntN(len(present))]
						}
						batch[k] = merkle.Digest{}
						delete(set, k)
					}
				}
				if onFile && rng.IntN(3) == 0 {
					must(t, kv.Close())
					open()
				}
				change(t, kv, batch, uint64(round))
				checkAgainst(t, kv, set, uint64(round))
			}
			must(t, kv.Close())
		})
	}
}

func checkAgainst(t *testing.T, kv store.KV, set map[string]merkle.Digest, watermark uint64) {
	t.Helper()
	want, tiles := reference(set)
	must(t, kv.View(func(tx store.Tx) error {
		x, err := merkle.Open(tx.Bucket(tree), headsOf(tx.Bucket(live)))
		must(t, err)
		if x.Subtree() != want || x.Count() != want.Count || x.Watermark() != watermark {
			t.Fatalf("subtree %v at %d, want %v at %d", x.Subtree(), x.Watermark(), want, watermark)
		}
		if got := dump(tx.Bucket(tree)); !maps.Equal(got, tiles) {
			t.Fatalf("%d tiles, want %d, or other bytes", len(got), len(tiles))
		}
		if x.Root("n") != merkle.Root("n", nil, want) {
			t.Error("root is not the one of the subtree")
		}
		return x.Verify()
	}))
}

// TestRebuild: a rebuild gives the same bytes, from a good bucket and a bad one.
func TestRebuild(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	rng := rand.New(rand.NewPCG(3, 3))
	set := map[string]merkle.Digest{}
	for range 2000 {
		set[someKey(rng)] = someLeaf(rng)
	}
	change(t, kv, set, 5)
	with(t, kv, func(x *merkle.Index, tiles, h store.Bucket) error {
		want := dump(tiles)
		must(t, tiles.Put([]byte("stray\x00"), []byte("x")))
		if err := x.Verify(); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("a stray tile: %v", err)
		}
		must(t, tiles.Delete([]byte("\xFFroot")))
		if _, err := merkle.Open(tiles, headsOf(h)); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("open without the root record: %v", err)
		}
		y, err := merkle.Rebuild(tiles, headsOf(h), 5)
		must(t, err)
		if !maps.Equal(dump(tiles), want) || y.Subtree() != x.Subtree() {
			t.Error("a rebuild gives other tiles")
		}
		return y.Verify()
	})
}

// TestDamage: any damage to a tile is ErrCorrupt in what reads it, never a
// wrong answer.
func TestDamage(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	set := map[string]merkle.Digest{}
	for i := range 200 {
		set[fmt.Sprintf("key/%03d", i)] = sha256.Sum256(fmt.Append(nil, i))
	}
	change(t, kv, set, 1)
	with(t, kv, func(x *merkle.Index, tiles, h store.Bucket) error {
		for key, value := range dump(tiles) {
			for i := range len(value) + 1 {
				bad := []byte(value)
				if i < len(value) {
					bad[i] ^= 1
				} else {
					bad = nil
				}
				if must(t, tiles.Put([]byte(key), bad)); bad == nil {
					must(t, tiles.Delete([]byte(key)))
				}
				if err := x.Verify(); !errors.Is(err, errs.ErrCorrupt) || !strings.Contains(err.Error(), "tile ") {
					t.Fatalf("byte %d of tile %x: Verify says %v", i, key, err)
				}
			}
			found := 0
			for k, leaf := range set {
				m, _, err := x.ProveInclusion([]byte(k))
				if err == nil && m.Leaf != leaf || err != nil && !errors.Is(err, errs.ErrCorrupt) {
					t.Fatalf("proof of %q without tile %x: %v", k, key, err)
				}
				if err != nil {
					found++
				}
			}
			if found == 0 {
				t.Errorf("no proof missed tile %x", key)
			}
			must(t, tiles.Put([]byte(key), []byte(value)))
		}
		// Leaves of another moment than the tiles.
		other := sha256.Sum256([]byte("other"))
		must(t, h.Put([]byte("key/077"), other[:]))
		if _, _, err := x.ProveInclusion([]byte("key/078")); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("a proof from stale tiles: %v", err)
		}
		return nil
	})
}

func TestCatchUpRefuses(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		must(t, x.CatchUp(nil, 9))
		for name, err := range map[string]error{
			"order":     x.CatchUp([][]byte{[]byte("b"), []byte("a")}, 9),
			"twice":     x.CatchUp([][]byte{[]byte("a"), []byte("a")}, 9),
			"empty":     x.CatchUp([][]byte{{}}, 9),
			"long":      x.CatchUp([][]byte{make([]byte, merkle.MaxKey+1)}, 9),
			"watermark": x.CatchUp(nil, 8),
		} {
			if !errors.Is(err, errs.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// TestLongKeys: keys of the greatest length that part at the last nibble.
func TestLongKeys(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	batch := map[string]merkle.Digest{}
	stem := strings.Repeat("k", merkle.MaxKey-1)
	for i := range 256 {
		batch[stem+string([]byte{byte(i)})] = sha256.Sum256([]byte{byte(i)})
	}
	batch[stem] = sha256.Sum256(nil)
	change(t, kv, batch, 1)
	checkAgainst(t, kv, batch, 1)
}

// TestPrefix: the subtree of a prefix is that of a tree of these keys alone.
func TestPrefix(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 9))
	kv := newStore(t, mem.New())
	set := map[string]merkle.Digest{}
	for range 1500 {
		set[someKey(rng)] = someLeaf(rng)
	}
	change(t, kv, set, 1)
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		prefixes := []string{"", "same", "same/stem/", "same/stem/off", "nothing"}
		for range 300 {
			prefixes = append(prefixes, someKey(rng))
		}
		for _, p := range prefixes {
			below := maps.Clone(set)
			maps.DeleteFunc(below, func(k string, _ merkle.Digest) bool { return !strings.HasPrefix(k, p) })
			m := simple{leaves: below}
			want := merkle.Subtree{Count: uint64(len(below)), Digest: m.digest(slices.Sorted(maps.Keys(below)))}
			got, err := x.Prefix([]byte(p))
			must(t, err)
			if got != want {
				t.Fatalf("prefix %q: %v, want %v", p, got, want)
			}
		}
		return nil
	})
}

// TestDiff: it yields exactly the keys that differ, in order.
func TestDiff(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var set [2]map[string]merkle.Digest
		set[0] = map[string]merkle.Digest{}
		for range rng.IntN(1 << rng.IntN(11)) {
			set[0][someKey(rng)] = someLeaf(rng)
		}
		set[1] = maps.Clone(set[0])
		for range rng.IntN(1 << rng.IntN(9)) {
			side := set[rng.IntN(2)]
			if k := someKey(rng); rng.IntN(2) == 0 {
				delete(side, k)
			} else {
				side[k] = someLeaf(rng)
			}
		}
		if seed%5 == 0 { // one side holds a cluster only, or nothing
			maps.DeleteFunc(set[1], func(k string, _ merkle.Digest) bool { return seed == 0 || !strings.HasPrefix(k, "same") })
		}
		var want []string
		all := maps.Clone(set[0])
		maps.Copy(all, set[1])
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if set[0][k] != set[1][k] {
				want = append(want, fmt.Sprintf("%q %x %x", k, set[0][k], set[1][k]))
			}
		}
		a, b := newStore(t, mem.New()), newStore(t, mem.New())
		change(t, a, set[0], 1)
		change(t, b, set[1], 1)
		with(t, a, func(x *merkle.Index, _, _ store.Bucket) error {
			with(t, b, func(y *merkle.Index, _, _ store.Bucket) error {
				var got []string
				for d, err := range merkle.Diff(x, y) {
					must(t, err)
					var la, lb merkle.Digest
					if d.A != nil {
						la = *d.A
					}
					if d.B != nil {
						lb = *d.B
					}
					got = append(got, fmt.Sprintf("%q %x %x", d.Key, la, lb))
				}
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: %d differences, want %d", seed, len(got), len(want))
				}
				for range merkle.Diff(x, y) { // stops when asked to
					break
				}
				return nil
			})
			return nil
		})
	}
}
