package proof_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/proof"
	"bzzz/store"
	"bzzz/store/mem"
)

var update = flag.Bool("update", false, "write the golden files and the seed corpora")

const namespace = "fruit"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// state is what the stored keys of a namespace hold.
type state map[string]crdt.Siblings

// add puts a version under a key.
func (s state) add(key string, kind crdt.Kind, value string) {
	seq := uint64(1)
	for _, siblings := range s {
		seq += uint64(len(siblings))
	}
	v := &crdt.Version{
		Key: []byte(key), Kind: kind, Dot: crdt.Dot{Replica: crdt.NewReplicaID([8]byte{7}, [8]byte{8}), Seq: seq},
		Time: crdt.HLC(1<<40 + seq), First: seq, Last: seq,
	}
	if kind != crdt.Delete {
		v.Value = []byte(value)
	}
	s[key] = append(s[key], v)
}

// sample has a key with one value, one with three of which one is a delete, one
// that is deleted, one that begins with another, and n more.
func sample(n int) state {
	s := state{}
	s.add("apple", crdt.Put, "red")
	s.add("apple/core", crdt.Put, "brown")
	s.add("cherry", crdt.Put, "dark")
	s.add("cherry", crdt.Put, "light")
	s.add("cherry", crdt.Delete, "")
	s.add("fig", crdt.Delete, "")
	for i := range n {
		s.add(fmt.Sprintf("more/%04d", i*3), crdt.Put, fmt.Sprint(i))
	}
	return s
}

// leaves is merkle.Leaves over a bucket.
type leaves struct{ b store.Bucket }

func (l leaves) Leaf(key []byte) (merkle.Digest, bool, error) {
	v := l.b.Get(key)
	if v == nil {
		return merkle.Digest{}, false, nil
	}
	return merkle.Digest(v), true, nil
}

func (l leaves) Range(start, end []byte, fn func([]byte, merkle.Digest) error) error {
	c := l.b.Cursor()
	for k, v := c.Seek(start); k != nil && (end == nil || bytes.Compare(k, end) < 0); k, v = c.Next() {
		if err := fn(k, merkle.Digest(v)); err != nil {
			return err
		}
	}
	return nil
}

// with calls fn with what proofs about s are made from.
func with(t testing.TB, s state, fn func(src proof.Source, root merkle.Digest)) {
	t.Helper()
	must(t, mem.New().Update(func(tx store.Tx) error {
		tiles, err := tx.CreateBucket("tree", store.Ordered)
		must(t, err)
		live, err := tx.CreateBucket("live", store.Ordered)
		must(t, err)
		var keys [][]byte
		for key, siblings := range s {
			var digests []merkle.Digest
			for _, v := range siblings.Live() {
				digests = append(digests, v.Digest())
			}
			if len(digests) > 0 {
				keys = append(keys, []byte(key))
				leaf := merkle.Leaf(digests)
				must(t, live.Put([]byte(key), leaf[:]))
			}
		}
		slices.SortFunc(keys, bytes.Compare)
		x, err := merkle.Open(tiles, leaves{live})
		must(t, err)
		must(t, x.CatchUp(keys, 1))
		src := proof.Source{Namespace: namespace, Index: x, Versions: func(key []byte) (crdt.Siblings, error) { return s[string(key)], nil }}
		fn(src, x.Root(namespace))
		return nil
	}))
}

// travel encodes, decodes and verifies an envelope.
func travel(t testing.TB, e *proof.Envelope, root merkle.Digest) proof.Statement {
	t.Helper()
	b, err := e.Encode()
	must(t, err)
	got, err := proof.Decode(b)
	must(t, err)
	s, err := proof.Verify(got, root)
	must(t, err)
	return s
}

// TestStatements: every key, present or not, and every prefix.
func TestStatements(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 40, 400} {
		s := sample(n)
		with(t, s, func(src proof.Source, root merkle.Digest) {
			keys := []string{"a", "fig", "apple/", "cherry\x00", "zebra", "\x00", "more/0001", "more/0"}
			for k := range s {
				keys = append(keys, k)
			}
			for _, k := range keys {
				e, err := src.Key([]byte(k))
				must(t, err)
				got, live := travel(t, e, root), s[k].Live()
				if string(got.Key) != k || got.Namespace != namespace || got.Root != root {
					t.Fatalf("about %q of %q", got.Key, got.Namespace)
				}
				if (got.Kind == proof.Inclusion) != (len(live) > 0) || len(got.Versions) != len(live) {
					t.Fatalf("%q holds %d values; %s", k, len(live), got)
				}
				for _, v := range live {
					if !slices.ContainsFunc(got.Versions, func(w *crdt.Version) bool { return w.Digest() == v.Digest() }) {
						t.Fatalf("%q: version %s is missing", k, v.Dot)
					}
				}
				if below := under(s, k); got.NoneBelow != (below == 0) {
					t.Fatalf("%q: %d keys begin with it; %s", k, below, got)
				}
				checkPrefix(t, src, s, root, k)
			}
			checkPrefix(t, src, s, root, "")
		})
	}
}

func checkPrefix(t *testing.T, src proof.Source, s state, root merkle.Digest, prefix string) {
	t.Helper()
	e, err := src.Prefix([]byte(prefix))
	must(t, err)
	want, err := src.Index.Prefix([]byte(prefix))
	must(t, err)
	got := travel(t, e, root)
	if got.Keys != uint64(under(s, prefix)) || got.Keys != want.Count || got.Digest != want.Digest {
		t.Fatalf("%d keys begin with %q; %s", under(s, prefix), prefix, got)
	}
}

// under counts the keys with a value that begin with a prefix.
func under(s state, prefix string) int {
	n := 0
	for k, siblings := range s {
		if len(siblings.Live()) > 0 && strings.HasPrefix(k, prefix) {
			n++
		}
	}
	return n
}

// TestEmptyNamespace: nothing is there, whatever is asked.
func TestEmptyNamespace(t *testing.T) {
	t.Parallel()
	with(t, state{}, func(src proof.Source, root merkle.Digest) {
		e, err := src.Key([]byte("apple"))
		must(t, err)
		if s := travel(t, e, root); s.Kind != proof.Absence || !s.NoneBelow {
			t.Errorf("got %s", s)
		}
		for _, prefix := range []string{"", "a"} {
			e, err := src.Prefix([]byte(prefix))
			must(t, err)
			if s := travel(t, e, root); s.Kind != proof.Prefix || s.Keys != 0 {
				t.Errorf("got %s", s)
			}
		}
	})
}

// TestForgeries: an envelope that is true of one thing says nothing else.
func TestForgeries(t *testing.T) {
	t.Parallel()
	s := sample(40)
	with(t, s, func(src proof.Source, root merkle.Digest) {
		apple, err := src.Key([]byte("apple"))
		must(t, err)
		cherry, err := src.Key([]byte("cherry"))
		must(t, err)
		all, err := src.Prefix(nil)
		must(t, err)
		forge := func(e *proof.Envelope, change func(e *proof.Envelope)) *proof.Envelope {
			out := *e
			out.Records = slices.Clone(e.Records)
			change(&out)
			return &out
		}
		other := *s["apple"][0]
		other.Value = []byte("forged")
		elsewhere := *s["apple"][0]
		elsewhere.Key = []byte("apply")
		for what, e := range map[string]*proof.Envelope{
			"another value":     forge(apple, func(e *proof.Envelope) { e.Records[0] = other.AppendCanonical(nil) }),
			"another key":       forge(apple, func(e *proof.Envelope) { e.Key = []byte("apply") }),
			"key of the record": forge(apple, func(e *proof.Envelope) { e.Key, e.Records[0] = []byte("apply"), elsewhere.AppendCanonical(nil) }),
			"another namespace": forge(apple, func(e *proof.Envelope) { e.Namespace = "other" }),
			"no namespace":      forge(apple, func(e *proof.Envelope) { e.Namespace = "" }),
			"bytes in the name": forge(apple, func(e *proof.Envelope) { e.Namespace = "\xff" }),
			"absent member":     forge(apple, func(e *proof.Envelope) { e.Kind = proof.Absence }),
			"absent by another": forge(apple, func(e *proof.Envelope) { e.Kind, e.Key = proof.Absence, []byte("apple/core") }),
			"absent by none":    forge(apple, func(e *proof.Envelope) { e.Kind, e.Records, e.Steps = proof.Absence, nil, []byte{0} }),
			"no records":        forge(apple, func(e *proof.Envelope) { e.Records = nil }),
			"no steps":          forge(apple, func(e *proof.Envelope) { e.Steps = []byte{0} }),
			"unknown kind":      forge(apple, func(e *proof.Envelope) { e.Kind = "presence" }),
			"no key":            forge(apple, func(e *proof.Envelope) { e.Key = nil }),
			"long key":          forge(apple, func(e *proof.Envelope) { e.Key = make([]byte, crdt.MaxKey+1) }),
			"no record":         forge(apple, func(e *proof.Envelope) { e.Records[0] = []byte{0x80} }),
			"one sibling less":  forge(cherry, func(e *proof.Envelope) { e.Records = e.Records[:1] }),
			"sibling twice":     forge(cherry, func(e *proof.Envelope) { e.Records[1] = e.Records[0] }),
			"siblings swapped":  forge(cherry, func(e *proof.Envelope) { slices.Reverse(e.Records) }),
			"a delete too":      forge(cherry, func(e *proof.Envelope) { e.Records = append(e.Records, s["cherry"][2].AppendCanonical(nil)) }),
			"of two keys":       forge(cherry, func(e *proof.Envelope) { e.Records[1] = apple.Records[0] }),
			"empty":             forge(all, func(e *proof.Envelope) { e.Records, e.Steps = nil, []byte{0} }),
			"none below":        forge(all, func(e *proof.Envelope) { e.Key = []byte("cherry") }),
			"long prefix":       forge(all, func(e *proof.Envelope) { e.Key = make([]byte, crdt.MaxKey+1) }),
			"other root":        forge(apple, func(e *proof.Envelope) { e.Root[0] ^= 1 }),
		} {
			if got, err := proof.Verify(e, root); !errors.Is(err, errs.ErrInvalid) {
				t.Errorf("%s: %s, %v", what, got, err)
			}
		}
		if _, err := proof.Verify(apple, sha256.Sum256(nil)); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("another root: %v", err)
		}
	})
}

// TestEveryBitOfTheFile: no bit of an encoded envelope can change unnoticed.
func TestEveryBitOfTheFile(t *testing.T) {
	t.Parallel()
	with(t, sample(5), func(src proof.Source, root merkle.Digest) {
		e, err := src.Key([]byte("cherry"))
		must(t, err)
		good, err := e.Encode()
		must(t, err)
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				got, err := proof.Decode(bad)
				if err != nil {
					continue
				}
				if _, err := proof.Verify(got, root); err == nil && strings.TrimSpace(string(good[i:i+1])) != "" {
					t.Fatalf("bit %d of byte %d (%q): verifies", bit, i, good[i])
				}
			}
		}
	})
}

// TestWrongSource: records that are not what the index was made from give no
// proof.
func TestWrongSource(t *testing.T) {
	t.Parallel()
	with(t, sample(5), func(src proof.Source, _ merkle.Digest) {
		boom := errors.New("boom")
		src.Versions = func([]byte) (crdt.Siblings, error) { return nil, boom }
		if _, err := src.Key([]byte("apple")); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		src.Versions = func([]byte) (crdt.Siblings, error) { return nil, nil }
		if _, err := src.Key([]byte("apple")); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		if _, err := src.Key(nil); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("no key: %v", err)
		}
	})
}

// TestTooLarge: a key with values of more than MaxSize.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := sample(0)
	for range 14 {
		s.add("huge", crdt.Put, strings.Repeat("x", crdt.MaxValue))
	}
	with(t, s, func(src proof.Source, root merkle.Digest) {
		e, err := src.Key([]byte("huge"))
		must(t, err)
		if got, err := proof.Verify(e, root); err != nil || len(got.Versions) != 14 {
			t.Errorf("%s, %v", got, err)
		}
		if _, err := e.Encode(); !errors.Is(err, errs.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	})
	if _, err := proof.Decode(make([]byte, proof.MaxSize+1)); !errors.Is(err, errs.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestGolden pins the format. The command line's tests read the same files.
func TestGolden(t *testing.T) {
	t.Parallel()
	with(t, sample(5), func(src proof.Source, root merkle.Digest) {
		files := map[string][]byte{"root.txt": fmt.Appendf(nil, "%x\n", root)}
		for name, key := range map[string]string{"inclusion": "apple", "conflict": "cherry", "absence": "fig"} {
			e, err := src.Key([]byte(key))
			must(t, err)
			files[name+".json"], err = e.Encode()
			must(t, err)
		}
		for name, prefix := range map[string]string{"prefix": "more/", "all": "", "none": "plum"} {
			e, err := src.Prefix([]byte(prefix))
			must(t, err)
			files[name+".json"], err = e.Encode()
			must(t, err)
		}
		for name, got := range files {
			path := filepath.Join("testdata", name)
			if *update {
				must(t, os.WriteFile(path, got, 0o666))
			}
			want, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what is made now:\n%s", name, got)
			}
		}
	})
}
