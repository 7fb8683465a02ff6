package merkle_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// goldenSets are the sets of testdata/golden.txt: key -> digests of its live
// versions, each the SHA-256 of key, '#' and the version's number.
func goldenSets() map[string]map[string]int {
	many := map[string]int{}
	for i := range 100 {
		many[fmt.Sprintf("a/%03d", i)] = 1
	}
	seventeen := map[string]int{}
	for i := range 17 {
		seventeen[fmt.Sprintf("key-%02d", i)] = 1
	}
	return map[string]map[string]int{
		"empty":     {},
		"one":       {"k": 1},
		"two":       {"a": 1, "b": 1},
		"seventeen": seventeen,
		"prefixes":  {"a": 1, "aa": 1, "aaa": 1, "b": 1},
		"binary":    {"\x00": 1, "\x00\x00": 1, "\x00\xff": 1, "\xff": 1},
		"siblings":  {"a": 1, "b": 3, "c": 2},
		"tiles":     many,
	}
}

// TestGolden pins roots, tile bytes and a proof: a change of any is a change
// of format. Lines: name, root of namespace "default", SHA-256 of all tiles in
// order (key, value), proof of the first key in hex.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/golden.txt")
	must(t, err)
	var got strings.Builder
	sets := goldenSets()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		leaves := map[string]merkle.Digest{}
		for k, n := range sets[name] {
			var versions []merkle.Digest
			for v := range n {
				versions = append(versions, sha256.Sum256(fmt.Appendf(nil, "%s#%d", k, v)))
			}
			leaves[k] = merkle.Leaf(versions)
		}
		kv := newStore(t, mem.New())
		change(t, kv, leaves, 1)
		with(t, kv, func(x *merkle.Index, tiles, _ store.Bucket) error {
			all := dump(tiles)
			if sub, simple := reference(leaves); sub != x.Subtree() || !maps.Equal(simple, all) {
				t.Errorf("%s: not what the second implementation gives", name)
			}
			var b bytes.Buffer
			for _, k := range slices.Sorted(maps.Keys(all)) {
				b.WriteString(k + all[k])
			}
			var proof []byte
			if len(leaves) > 0 {
				_, proof, err = x.ProveInclusion([]byte(slices.Min(slices.Collect(maps.Keys(leaves)))))
				must(t, err)
			}
			fmt.Fprintf(&got, "%s %x %x %x\n", name, x.Root("default"), sha256.Sum256(b.Bytes()), proof)
			return nil
		})
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s", got.String())
	}
}
