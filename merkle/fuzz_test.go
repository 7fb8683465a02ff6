package merkle

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
)

// FuzzDecodeTile: what decodes encodes to the same bytes. The checksum is put
// on by the test, so that the fuzzer reaches behind it.
func FuzzDecodeTile(f *testing.F) {
	f.Add([]byte{0x12}, 1, uint64(40), []byte{})
	f.Fuzz(func(t *testing.T, prefix []byte, nd int, count uint64, body []byte) {
		if nd < 0 || nd > 2*MaxKey || len(prefix) < (nd+1)/2 {
			return
		}
		c := child{Subtree: Subtree{Count: count}, nd: nd, prefix: appendPacked(nil, prefix, nd)}
		key := appendKey(nil, c.prefix, nd)
		value := appendCRC(bytes.Clone(body), 0, key)
		var x tile
		if x.decode(&c, key, value) != nil {
			return
		}
		if got := x.append(nil, key); !bytes.Equal(got, value) {
			t.Fatalf("%x decodes and encodes to %x", value, got)
		}
		var b Builder
		if x.fold(&b).Count != count || x.count() != count {
			t.Fatal("counts differ")
		}
	})
}

// FuzzDecodeRoot: likewise for the root record.
func FuzzDecodeRoot(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		value := appendCRC(bytes.Clone(body), 0, []byte(rootKey))
		root, watermark, err := decodeRoot(value)
		if err == nil && !bytes.Equal(appendRoot(nil, &root, watermark), value) {
			t.Fatalf("%x does not encode to itself", value)
		}
	})
}

// FuzzProof: no proof panics a verifier; what decodes encodes to the same
// bytes; and a proof that is not the true one never passes.
func FuzzProof(f *testing.F) {
	f.Fuzz(func(t *testing.T, key, near, proof []byte) {
		var b Builder
		b.Add([]byte("a"), sha256.Sum256([]byte("a")))
		b.Add([]byte("ab"), sha256.Sum256([]byte("ab")))
		b.Add([]byte("b"), sha256.Sum256([]byte("b")))
		root := Root("n", nil, b.Sum())
		m := Member{near, sha256.Sum256(near)}
		in := VerifyInclusion(root, "n", m, proof) == nil
		if s := string(near); in && s != "a" && s != "ab" && s != "b" {
			t.Fatalf("%q is not a member", near)
		}
		if s := string(key); VerifyAbsence(root, "n", key, m, proof) == nil && (s == "a" || s == "ab" || s == "b") {
			t.Fatalf("%q is a member", key)
		}
		for _, k := range []string{"a", "ab", "b"} {
			if strings.HasPrefix(k, string(key)) {
				b.Add([]byte(k), sha256.Sum256([]byte(k)))
			}
		}
		want := b.Sum()
		if VerifyPrefix(root, "n", key, Subtree{2, m.Leaf}, proof) == nil {
			t.Fatal("a leaf passes for two keys")
		}
		if s, err := VerifyPrefixByMember(root, "n", key, m, proof); err == nil && s != want {
			t.Fatalf("prefix %q: %v, want %v", key, s, want)
		}
		steps, err := decodeSteps(proof, 9*len(near)+1)
		if err == nil && !bytes.Equal(appendSteps(nil, steps), proof) {
			t.Fatalf("%x does not encode to itself", proof)
		}
	})
}
