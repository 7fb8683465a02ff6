package merkle_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// proofSet is an index of n keys in a store.
func proofSet(t testing.TB, n int) (store.KV, map[string]merkle.Digest) {
	kv, set := newStore(t, mem.New()), map[string]merkle.Digest{}
	rng := rand.New(rand.NewPCG(uint64(n), 5))
	for len(set) < n {
		k := someKey(rng)
		set[k] = sha256.Sum256([]byte(k))
	}
	change(t, kv, set, 1)
	return kv, set
}

func TestProofs(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 17, 33, 1000} {
		kv, set := proofSet(t, n)
		rng := rand.New(rand.NewPCG(uint64(n), 6))
		with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
			root := x.Root("n")
			queries := []string{"a", "\x00", "\xff\xff\xff\xff", "same", "same/stem/"}
			for range 400 {
				queries = append(queries, someKey(rng))
			}
			for k := range set {
				queries = append(queries, k)
			}
			for _, q := range queries {
				m, proof, err := x.ProveInclusion([]byte(q))
				if _, in := set[q]; in {
					must(t, err)
					must(t, merkle.VerifyInclusion(root, "n", m, proof))
					if _, _, err := x.ProveAbsence([]byte(q)); !errors.Is(err, errs.ErrExists) {
						t.Fatalf("absence of a member: %v", err)
					}
				} else if !errors.Is(err, errs.ErrNotFound) {
					t.Fatalf("inclusion of a stranger: %v", err)
				} else {
					m, proof, err := x.ProveAbsence([]byte(q))
					must(t, err)
					must(t, merkle.VerifyAbsence(root, "n", []byte(q), m, proof))
					nearest := 0
					for k := range set {
						nearest = max(nearest, merkle.Crit([]byte(k), []byte(q)))
					}
					if n > 0 && merkle.Crit(m.Key, []byte(q)) != nearest {
						t.Fatalf("%q is not the nearest to %q", m.Key, q)
					}
				}
				checkPrefixProof(t, x, root, []byte(q))
			}
			checkPrefixProof(t, x, root, nil)
			return nil
		})
	}
}

func checkPrefixProof(t *testing.T, x *merkle.Index, root merkle.Digest, p []byte) {
	t.Helper()
	want, err := x.Prefix(p)
	must(t, err)
	s, proof, err := x.ProvePrefix(p)
	if want.Count == 0 {
		if !errors.Is(err, errs.ErrNotFound) {
			t.Fatalf("proof of an empty prefix: %v", err)
		}
		return
	}
	must(t, err)
	must(t, merkle.VerifyPrefix(root, "n", p, s, proof))
	m, byMember, err := x.ProvePrefixByMember(p)
	must(t, err)
	if got, err := merkle.VerifyPrefixByMember(root, "n", p, m, byMember); err != nil || got != want {
		t.Fatalf("prefix %q by %q: %v %v, want %v", p, m.Key, got, err, want)
	}
	if s != want {
		t.Fatalf("prefix %q: %v, want %v", p, s, want)
	}
	wrong := want
	wrong.Count++
	if merkle.VerifyPrefix(root, "n", p, wrong, proof) == nil {
		t.Fatal("a wrong count passes")
	}
}

// TestMutatedProofs: no byte of a proof can change, go or come.
func TestMutatedProofs(t *testing.T) {
	t.Parallel()
	kv, set := proofSet(t, 300)
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		root, tried := x.Root("n"), 0
		for k := range set {
			if tried++; tried > 20 {
				break
			}
			m, proof, err := x.ProveInclusion([]byte(k))
			must(t, err)
			for i := range proof {
				for bit := range 8 {
					bad := bytes.Clone(proof)
					bad[i] ^= 1 << bit
					if err := merkle.VerifyInclusion(root, "n", m, bad); !errors.Is(err, errs.ErrInvalid) {
						t.Fatalf("bit %d of byte %d: %v", bit, i, err)
					}
				}
				if merkle.VerifyInclusion(root, "n", m, proof[:i]) == nil {
					t.Fatalf("the first %d bytes pass", i)
				}
			}
			if merkle.VerifyInclusion(root, "n", m, append(bytes.Clone(proof), 0)) == nil {
				t.Fatal("a byte more passes")
			}
			if merkle.VerifyInclusion(root, "other", m, proof) == nil {
				t.Fatal("another namespace passes")
			}
			m.Leaf[0] ^= 1
			if merkle.VerifyInclusion(root, "n", m, proof) == nil {
				t.Fatal("another leaf passes")
			}
		}
		return nil
	})
}

// TestAbsenceCannotBeForged: with any true member as the neighbour, its only
// valid proof never shows the absence of another member; and neither an inner
// node nor the empty set passes for a neighbour.
func TestAbsenceCannotBeForged(t *testing.T) {
	t.Parallel()
	kv, set := proofSet(t, 80)
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		root := x.Root("n")
		for k := range set {
			m, proof, err := x.ProveInclusion([]byte(k))
			must(t, err)
			for q := range set {
				if merkle.VerifyAbsence(root, "n", []byte(q), m, proof) == nil {
					t.Fatalf("%q passes as absent by %q", q, k)
				}
			}
			if merkle.VerifyAbsence(root, "n", []byte(k), merkle.Member{}, []byte{0}) == nil {
				t.Fatal("the empty set passes")
			}
			node := merkle.Member{Key: []byte(k), Leaf: x.Subtree().Digest}
			if merkle.VerifyInclusion(root, "n", node, []byte{0}) == nil {
				t.Fatal("an inner node passes for a leaf")
			}
		}
		return nil
	})
}

// TestMemberMustBeBound shows why Member asks for a record: the proof of a
// member passes for a key that differs from it in no branching bit, so with an
// unseen neighbour a live key would pass as absent.
func TestMemberMustBeBound(t *testing.T) {
	t.Parallel()
	kv := newStore(t, mem.New())
	change(t, kv, map[string]merkle.Digest{"alive": {1}, "other": {2}}, 1)
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		m, proof, err := x.ProveInclusion([]byte("alive"))
		must(t, err)
		m.Key = []byte("alivf") // not what the record behind the leaf says
		if err := merkle.VerifyAbsence(x.Root("n"), "n", []byte("alive"), m, proof); err != nil {
			t.Errorf("no longer needed? %v", err)
		}
		return nil
	})
}

// TestPrefixByMember: a member's proof yields the subtree of its prefixes.
func TestPrefixByMember(t *testing.T) {
	t.Parallel()
	kv, set := proofSet(t, 500)
	with(t, kv, func(x *merkle.Index, _, _ store.Bucket) error {
		for k := range set {
			m, proof, err := x.ProveInclusion([]byte(k))
			must(t, err)
			for n := range len(k) + 1 {
				want, err := x.Prefix([]byte(k[:n]))
				must(t, err)
				got, err := merkle.VerifyPrefixByMember(x.Root("n"), "n", []byte(k[:n]), m, proof)
				if err != nil || got != want {
					t.Fatalf("prefix %q of %q: %v %v, want %v", k[:n], k, got, err, want)
				}
			}
		}
		return nil
	})
}

// ExampleIndex proves a key to somebody who has the 32 bytes of the root only.
func ExampleIndex() {
	kv := mem.New()
	err := kv.Update(func(tx store.Tx) error {
		tiles, _ := tx.CreateBucket("tree", store.Ordered)
		live, _ := tx.CreateBucket("heads", store.Ordered)
		leaf := sha256.Sum256([]byte("record of apple"))
		if err := live.Put([]byte("apple"), leaf[:]); err != nil {
			return err
		}
		x, err := merkle.Open(tiles, headsOf(live))
		if err != nil {
			return err
		}
		if err := x.CatchUp([][]byte{[]byte("apple")}, 1); err != nil {
			return err
		}
		m, proof, err := x.ProveInclusion([]byte("apple"))
		if err != nil {
			return err
		}
		fmt.Println(merkle.VerifyInclusion(x.Root("fruit"), "fruit", m, proof))
		m, proof, err = x.ProveAbsence([]byte("pear"))
		if err != nil {
			return err
		}
		fmt.Println(merkle.VerifyAbsence(x.Root("fruit"), "fruit", []byte("pear"), m, proof))
		return nil
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// <nil>
}
