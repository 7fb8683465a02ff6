package list_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"bzzz/merkle/list"
)

// The leaves and roots of the Certificate Transparency reference tests
// (google/certificate-transparency, merkletree/merkle_tree_test.cc), which use
// the tree of RFC 6962: root k is that of the first k leaves.
var (
	ctLeaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	ctRoots  = []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	// Audit paths of the same tests, counted from 0.
	ctPaths = []struct {
		i, n int
		path string
	}{
		{0, 1, ""},
		{0, 8, "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7 5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e 6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"},
		{5, 8, "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0 d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
		{2, 3, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
		{1, 5, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d 5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"},
	}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) [][]byte {
	var leaves [][]byte
	for _, s := range ctLeaves {
		leaves = append(leaves, unhex(t, s))
	}
	return leaves
}

// oracle is MTH of RFC 6962 section 2.1, written from its text.
func oracle(d [][]byte) list.Digest {
	switch len(d) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	}
	k := 1 << (bits.Len(uint(len(d)-1)) - 1)
	l, r := oracle(d[:k]), oracle(d[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// oraclePath is PATH of RFC 6962 section 2.1.1.
func oraclePath(m int, d [][]byte) list.Proof {
	if len(d) == 1 {
		return list.Proof{}
	}
	k := 1 << (bits.Len(uint(len(d)-1)) - 1)
	if m < k {
		return append(oraclePath(m, d[:k]), oracle(d[k:]))
	}
	return append(oraclePath(m-k, d[k:]), oracle(d[:k]))
}

// oracleVerify recomputes the root from a path by the recursion of the RFC.
func oracleVerify(n, m int, leaf []byte, p list.Proof) (list.Digest, bool) {
	if n == 1 {
		return sha256.Sum256(append([]byte{0}, leaf...)), len(p) == 0
	}
	if len(p) == 0 {
		return list.Digest{}, false
	}
	k := 1 << (bits.Len(uint(n-1)) - 1)
	sib, rest := p[len(p)-1], p[:len(p)-1]
	b := []byte{1}
	if m < k {
		l, ok := oracleVerify(k, m, leaf, rest)
		return sha256.Sum256(append(append(b, l[:]...), sib[:]...)), ok
	}
	r, ok := oracleVerify(n-k, m-k, leaf, rest)
	return sha256.Sum256(append(append(b, sib[:]...), r[:]...)), ok
}

func TestRFC6962Roots(t *testing.T) {
	t.Parallel()
	leaves := vectors(t)
	for n, want := range ctRoots {
		got, err := list.Root(leaves[:n])
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %d leaves is %x, want %s", n, got, want)
		}
		if o := oracle(leaves[:n]); o != got {
			t.Errorf("root of %d leaves is %x, the oracle says %x", n, got, o)
		}
	}
}

func TestRFC6962Paths(t *testing.T) {
	t.Parallel()
	leaves := vectors(t)
	for _, v := range ctPaths {
		p, err := list.Prove(leaves[:v.n], v.i)
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, d := range p {
			words = append(words, hex.EncodeToString(d[:]))
		}
		if got := strings.Join(words, " "); got != v.path {
			t.Errorf("path of leaf %d of %d:\ngot  %s\nwant %s", v.i, v.n, got, v.path)
		}
	}
}

// manyLeaves returns n different leaves of different lengths.
func manyLeaves(n int) [][]byte {
	leaves := make([][]byte, n)
	for i := range leaves {
		leaves[i] = []byte(strings.Repeat("x", i%7) + fmt.Sprint(i))
	}
	return leaves
}

// TestAgainstOracle proves every leaf of every list up to 70 leaves, and some
// of longer ones, against the RFC's recursion.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70, 127, 128, 129, 200} {
		leaves := manyLeaves(n)
		tree, err := list.Build(leaves)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tree.Root(), oracle(leaves); got != want || tree.Len() != n {
			t.Fatalf("n=%d: root %x, want %x; length %d", n, got, want, tree.Len())
		}
		for i := range n {
			p, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if want := oraclePath(i, leaves); fmt.Sprint(p) != fmt.Sprint(want) {
				t.Fatalf("path of %d of %d: %x, want %x", i, n, p, want)
			}
			if err := list.Verify(tree.Root(), n, i, leaves[i], p); err != nil {
				t.Fatal(err)
			}
			// No other place: the leaf is bound to its index.
			for _, j := range []int{i - 1, i + 1, i ^ 1, n - 1 - i} {
				if j == i || j < 0 || j >= n {
					continue
				}
				if err := list.Verify(tree.Root(), n, j, leaves[i], p); !errors.Is(err, list.ErrCorrupt) {
					t.Fatalf("leaf %d of %d verifies at %d: %v", i, n, j, err)
				}
			}
		}
	}
}

func TestEveryMutatedByteRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 5, 8, 13} {
		leaves := manyLeaves(n)
		tree, _ := list.Build(leaves)
		root := tree.Root()
		for i := range n {
			p, _ := tree.Prove(i)
			enc, err := p.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			check := func(root list.Digest, leaf, b []byte) error {
				q, err := list.ParseProof(b)
				if err != nil {
					return err
				}
				return list.Verify(root, n, i, leaf, q)
			}
			if err := check(root, leaves[i], enc); err != nil {
				t.Fatal(err)
			}
			for at := range enc {
				for _, x := range []byte{1, 0x80, 0xff} {
					bad := bytes.Clone(enc)
					bad[at] ^= x
					if err := check(root, leaves[i], bad); !errors.Is(err, list.ErrCorrupt) {
						t.Errorf("n=%d i=%d: byte %d ^ %#x: %v", n, i, at, x, err)
					}
				}
			}
			for at := range leaves[i] {
				bad := bytes.Clone(leaves[i])
				bad[at] ^= 1
				if err := check(root, bad, enc); !errors.Is(err, list.ErrCorrupt) {
					t.Errorf("n=%d i=%d: leaf byte %d: %v", n, i, at, err)
				}
			}
			for at := range root {
				bad := root
				bad[at] ^= 1
				if err := check(bad, leaves[i], enc); !errors.Is(err, list.ErrCorrupt) {
					t.Errorf("n=%d i=%d: root byte %d: %v", n, i, at, err)
				}
			}
			for cut := range enc {
				if err := check(root, leaves[i], enc[:cut]); !errors.Is(err, list.ErrCorrupt) {
					t.Errorf("n=%d i=%d: cut at %d: %v", n, i, cut, err)
				}
			}
			if err := check(root, leaves[i], append(enc, 0)); !errors.Is(err, list.ErrCorrupt) {
				t.Errorf("n=%d i=%d: trailing byte: %v", n, i, err)
			}
		}
	}
}

// TestForgeries are the two known holes of a Merkle tree without domain
// separation: a node passed off as a leaf, and an odd leaf doubled.
func TestForgeries(t *testing.T) {
	t.Parallel()
	leaves := manyLeaves(4)
	root := oracle(leaves)
	l, r := oracle(leaves[:2]), oracle(leaves[2:])
	node := append(l[:], r[:]...)
	if err := list.Verify(root, 1, 0, node, list.Proof{}); !errors.Is(err, list.ErrCorrupt) {
		t.Errorf("a node passes for a leaf: %v", err)
	}
	lower := oracle(leaves[:1])
	sib := oracle(leaves[1:2])
	if err := list.Verify(root, 2, 0, append(lower[:], sib[:]...), list.Proof{r}); !errors.Is(err, list.ErrCorrupt) {
		t.Errorf("an inner node passes for a leaf: %v", err)
	}
	three, _ := list.Root(leaves[:3])
	doubled, _ := list.Root([][]byte{leaves[0], leaves[1], leaves[2], leaves[2]})
	if three == doubled {
		t.Error("[A B C] and [A B C C] have one root")
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	leaves := manyLeaves(3)
	tree, _ := list.Build(leaves)
	for _, i := range []int{-1, 3, 1 << 40} {
		if _, err := tree.Prove(i); !errors.Is(err, list.ErrInvalid) {
			t.Errorf("Prove(%d): %v", i, err)
		}
		if err := list.Verify(tree.Root(), 3, i, nil, nil); !errors.Is(err, list.ErrInvalid) {
			t.Errorf("Verify index %d: %v", i, err)
		}
	}
	empty, err := list.Build(nil)
	if err != nil || empty.Len() != 0 {
		t.Fatalf("empty list: %v, %v", empty, err)
	}
	if _, err := empty.Prove(0); !errors.Is(err, list.ErrInvalid) {
		t.Errorf("proof in an empty list: %v", err)
	}
	if err := list.Verify(empty.Root(), 0, 0, nil, nil); !errors.Is(err, list.ErrInvalid) {
		t.Errorf("Verify in an empty list: %v", err)
	}
	if err := list.Verify(tree.Root(), list.MaxLeaves+1, 0, nil, nil); !errors.Is(err, list.ErrTooLarge) {
		t.Errorf("Verify of too long a list: %v", err)
	}
	if _, err := list.Root(make([][]byte, list.MaxLeaves+1)); !errors.Is(err, list.ErrTooLarge) {
		t.Errorf("Root of too long a list: %v", err)
	}
	if _, err := make(list.Proof, 25).AppendBinary(nil); !errors.Is(err, list.ErrTooLarge) {
		t.Errorf("proof of 25 steps: %v", err)
	}
	full, err := make(list.Proof, 24).AppendBinary(nil)
	if err != nil || len(full) != list.MaxProofLen {
		t.Errorf("proof of 24 steps: %d bytes, %v", len(full), err)
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{16, 1 << 10, 1 << 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			leaves := manyLeaves(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := list.Build(leaves); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/leaf")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	leaves := manyLeaves(1 << 14)
	tree, _ := list.Build(leaves)
	p, _ := tree.Prove(77)
	enc, _ := p.AppendBinary(nil)
	root := tree.Root()
	b.ReportAllocs()
	for b.Loop() {
		if err := list.Verify(root, len(leaves), 77, leaves[77], p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(enc)), "bytes/proof")
}
