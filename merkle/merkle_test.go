package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// bit is the definition: each byte a 1 and its bits, the end a 0.
func bit(k []byte, p int) int {
	r, i := p%9, p/9
	if r == 0 {
		if i < len(k) {
			return 1
		}
		return 0
	}
	if i >= len(k) {
		return 0
	}
	return int(k[i]>>(8-r)) & 1
}

// naive is the definition of the digest, recursive and slow, sharing no code
// with the builder.
func naive(keys [][]byte, leaves map[string]Digest) (uint64, Digest) {
	switch len(keys) {
	case 0:
		return 0, Digest{}
	case 1:
		return 1, leaves[string(keys[0])]
	}
	for p := 0; ; p++ {
		var halves [2][][]byte
		for _, k := range keys {
			b := bit(k, p)
			halves[b] = append(halves[b], k)
		}
		if len(halves[0]) == 0 || len(halves[1]) == 0 {
			continue
		}
		_, l := naive(halves[0], leaves)
		_, r := naive(halves[1], leaves)
		h := sha256.New()
		h.Write([]byte{1})
		binary.Write(h, binary.BigEndian, uint32(p))
		binary.Write(h, binary.BigEndian, uint64(len(keys)))
		h.Write(l[:])
		h.Write(r[:])
		return uint64(len(keys)), Digest(h.Sum(nil))
	}
}

func randomKeys(rng *rand.Rand, n int) [][]byte {
	set := map[string]bool{}
	for len(set) < n {
		k := make([]byte, 1+rng.IntN(6))
		for i := range k {
			k[i] = []byte{0, 1, 'a', 'b', 0xFF, byte(rng.IntN(256))}[rng.IntN(6)]
		}
		set[string(k)] = true
	}
	var keys [][]byte
	for k := range set {
		keys = append(keys, []byte(k))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func TestBuilderMatchesDefinition(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		keys := randomKeys(rng, rng.IntN(60))
		leaves := map[string]Digest{}
		var b Builder
		for _, k := range keys {
			d := sha256.Sum256(k)
			leaves[string(k)] = d
			b.Add(k, d)
		}
		got := b.Sum()
		n, want := naive(keys, leaves)
		if got.Count != n || got.Digest != want {
			t.Fatalf("keys %q: got %d %x, want %d %x", keys, got.Count, got.Digest, n, want)
		}
	}
}

// TestSubtreeOfPrefix checks what partial replicas rely on: the digest of the
// keys below a prefix does not depend on what else the tree holds.
func TestSubtreeOfPrefix(t *testing.T) {
	t.Parallel()
	var all, part Builder
	for i := range 100 {
		k := fmt.Appendf(nil, "a/%03d", i)
		part.Add(k, sha256.Sum256(k))
	}
	want := part.Sum()
	for i := range 100 {
		k := fmt.Appendf(nil, "a/%03d", i)
		all.Add(k, sha256.Sum256(k))
	}
	p := Crit([]byte("a/099"), []byte("b"))
	all.close(p)
	if all.right != want {
		t.Fatalf("subtree below a/ is %x, a tree of these keys alone is %x", all.right.Digest, want.Digest)
	}
}

func TestGoldenRoots(t *testing.T) {
	t.Parallel()
	leaf := func(k string) Digest { return sha256.Sum256([]byte(k)) }
	for _, tc := range []struct {
		name string
		keys []string
		want string
	}{
		{"empty", nil, "5930aeb1b4d3a0f5dd899b1804e8c0e9ad851d8676587546b56eabcd1a5fbda3"},
		{"one", []string{"k"}, "67b8d7f3d2124e00fae210ba61d67f2824bcb2f7aaf10471d990e0c93b05fc03"},
		{"two", []string{"a", "b"}, "0f00e9406141eb477926a0405123dca35a95fc0c03080c6b9595ea275163ada7"},
		{"prefix keys", []string{"a", "aa", "aaa", "b"}, "e0e376e3d89ff18105b98f59ad790a2322ff7a3ed8b334cf0fad91fb9f2e8c07"},
		{"binary", []string{"\x00", "\x00\x00", "\x00\xff", "\xff"}, "6e1654e1758c2716141d9767363d9799ee18fd4b8b3fb55568e03229c31b7b67"},
	} {
		var b Builder
		for _, k := range tc.keys {
			b.Add([]byte(k), leaf(k))
		}
		root := Root("default", nil, b.Sum())
		if got := hex.EncodeToString(root[:]); got != tc.want {
			t.Errorf("%s: root %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestLeaf(t *testing.T) {
	t.Parallel()
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	if Leaf([]Digest{a}) != a {
		t.Error("a single version's digest is the leaf")
	}
	if Leaf([]Digest{a, b}) != Leaf([]Digest{b, a}) {
		t.Error("order of siblings must not matter")
	}
	if Leaf([]Digest{a, b}) == Leaf([]Digest{a}) {
		t.Error("siblings must matter")
	}
}

func Example() {
	var b Builder
	for _, key := range []string{"apple", "pear"} { // in rising order
		b.Add([]byte(key), sha256.Sum256([]byte(key)))
	}
	root := Root("fruit", nil, b.Sum())
	fmt.Printf("%x\n", root[:4])
	// Output: 0295dc01
}
