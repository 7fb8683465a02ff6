package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/proof"
)

// goldenRoot is the root that the files in testdata are about.
func goldenRoot(t testing.TB) (root merkle.Digest) {
	with(t, sample(5), func(_ proof.Source, r merkle.Digest) { root = r })
	return root
}

// FuzzDecode: what decodes encodes to the same up to white space; and what
// verifies is true.
func FuzzDecode(f *testing.F) {
	root, truth := goldenRoot(f), sample(5)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := proof.Decode(b)
		if err != nil {
			if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrTooLarge) && !errors.Is(err, errs.ErrUnsupported) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var want, got bytes.Buffer
		if err := errors.Join(json.Compact(&want, b), json.Compact(&got, again)); err != nil || !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatalf("%s encodes to %s, %v", b, again, err)
		}
		check(t, e, root, truth)
	})
}

// FuzzVerify: whatever an envelope holds, what verifies is true.
func FuzzVerify(f *testing.F) {
	root, truth := goldenRoot(f), sample(5)
	f.Fuzz(func(t *testing.T, kind string, key, first, second, steps []byte) {
		e := &proof.Envelope{Kind: proof.Kind(kind), Namespace: namespace, Root: root, Key: key, Steps: steps}
		for _, r := range [][]byte{first, second} {
			if len(r) > 0 {
				e.Records = append(e.Records, r)
			}
		}
		check(t, e, root, truth)
	})
}

// check verifies an envelope and compares what it shows with the truth.
func check(t *testing.T, e *proof.Envelope, root merkle.Digest, truth state) {
	s, err := proof.Verify(e, root)
	if err != nil {
		if !errors.Is(err, errs.ErrInvalid) {
			t.Fatalf("error without a kind: %v", err)
		}
		return
	}
	key := string(s.Key)
	live := truth[key].Live()
	switch {
	case s.Kind == proof.Prefix && s.Keys != uint64(under(truth, key)),
		s.Kind == proof.Absence && len(live) > 0,
		s.Kind == proof.Absence && s.NoneBelow && under(truth, key) > 0,
		s.Kind == proof.Inclusion && !sameVersions(s.Versions, live):
		t.Fatalf("shown, but not true: %s", s)
	}
}

func sameVersions(got, want crdt.Siblings) bool { return got.Token() == want.Token() }

// seed writes a file of a corpus.
func seed(t *testing.T, target, name string, values ...any) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	must(t, os.MkdirAll(dir, 0o755))
	text := []byte("go test fuzz v1\n")
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			text = fmt.Appendf(text, "[]byte(%q)\n", b)
		} else {
			text = fmt.Appendf(text, "%T(%#v)\n", v, v)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
}

// TestSeedCorpus rewrites the committed seeds with -update.
func TestSeedCorpus(t *testing.T) {
	if !*update {
		t.Skip("writes the seed corpus with -update only")
	}
	with(t, sample(5), func(src proof.Source, _ merkle.Digest) {
		for _, key := range []string{"apple", "cherry", "fig", "apple/"} {
			e, err := src.Key([]byte(key))
			must(t, err)
			seedEnvelope(t, "key-"+fmt.Sprintf("%x", key), e)
		}
		for _, prefix := range []string{"", "more/", "plum"} {
			e, err := src.Prefix([]byte(prefix))
			must(t, err)
			seedEnvelope(t, "prefix-"+fmt.Sprintf("%x", prefix), e)
			b, err := e.Encode()
			must(t, err)
			seed(t, "FuzzDecode", "format-2-"+fmt.Sprintf("%x", prefix), bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1))
		}
	})
	seed(t, "FuzzDecode", "nothing", []byte("{}"))
	seed(t, "FuzzDecode", "twice", []byte(`{"type":"bzzz-proof","format":1,"format":1}`))
	seed(t, "FuzzVerify", "no-member", "absence", []byte("fig"), []byte{}, []byte{}, []byte{0})
}

func seedEnvelope(t *testing.T, name string, e *proof.Envelope) {
	t.Helper()
	b, err := e.Encode()
	must(t, err)
	seed(t, "FuzzDecode", name, b)
	var first, second []byte
	if len(e.Records) > 0 {
		first = e.Records[0]
	}
	if len(e.Records) > 1 {
		second = e.Records[1]
	}
	seed(t, "FuzzVerify", name, string(e.Kind), e.Key, first, second, e.Steps)
}
