package car

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bzzz/internal/errs"
)

// hasKind reports whether an error of a decoder says what is wrong.
func hasKind(err error) bool {
	return errors.Is(err, errs.ErrInvalid) || errors.Is(err, errs.ErrCorrupt) ||
		errors.Is(err, errs.ErrUnsupported) || errors.Is(err, errs.ErrTooLarge)
}

// FuzzManifest: decode-encode identity.
func FuzzManifest(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			if !hasKind(err) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x, %v", b, again, err)
		}
	})
}

// FuzzList: decode-encode identity.
func FuzzList(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, level, links int) {
		if links < 0 || links > fanout || level < 0 {
			return
		}
		got, err := decodeList(b, level, links)
		if err != nil {
			if !hasKind(err) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		if again, err := encodeList(level, got); err != nil || !bytes.Equal(again, b) || len(got) != links {
			t.Fatalf("%x encodes to %x, %v", b, again, err)
		}
	})
}

// FuzzOpen: no file panics, and one that opens adds up: written again from
// what was read it is the same CARv1.
func FuzzOpen(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := open(b)
		if err != nil {
			if !hasKind(err) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		versions, err := collect(file)
		if err != nil {
			t.Fatal(err)
		}
		sortVersions(versions)
		again, sum := written(t, WriteV1, Source{
			Namespace: file.Namespace, Prefix: file.Prefix, Clock: file.Clock, Versions: sequence(versions),
		})
		if sum.CID != file.CID || file.Version == 1 && !bytes.Equal(again, b) {
			t.Fatalf("opens as %s, is written as %s", file.CID, sum.CID)
		}
	})
}

// seed writes a file of a corpus.
func seed(t *testing.T, target, name string, values ...any) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := []byte("go test fuzz v1\n")
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			text = fmt.Appendf(text, "[]byte(%q)\n", b)
		} else {
			text = fmt.Appendf(text, "%T(%v)\n", v, v)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSeedCorpus rewrites the committed seeds with -update.
func TestSeedCorpus(t *testing.T) {
	if !*update {
		t.Skip("writes the seed corpus with -update only")
	}
	v1, _ := written(t, WriteV1, source(7))
	v2, _ := written(t, WriteV2, source(3))
	empty, _ := written(t, WriteV1, source(0))
	header, parts := split(t, v1)
	for name, b := range map[string][]byte{
		"v1": v1, "v2": v2, "empty": empty, "header": header, "two-roots": twoRoots(), "beyond": beyond(t),
		"cut": v1[:len(v1)-3], "behind": append(bytes.Clone(v1), 0),
		"list-as-root": append(appendHeader(nil, sha256.Sum256(block(parts[1]))), parts[1]...),
	} {
		seed(t, "FuzzOpen", name, b)
	}
	_, none := split(t, empty)
	seed(t, "FuzzManifest", "seven", block(parts[0]))
	seed(t, "FuzzManifest", "empty", block(none[0]))
	seed(t, "FuzzManifest", "format-2", bytes.Replace(block(parts[0]), []byte("format\x01"), []byte("format\x02"), 1))
	seed(t, "FuzzManifest", "long-form", bytes.Replace(block(parts[0]), []byte("keys\x06"), []byte("keys\x18\x06"), 1))
	seed(t, "FuzzManifest", "list", block(parts[1]))
	seed(t, "FuzzList", "seven", block(parts[1]), 0, 7)
	seed(t, "FuzzList", "wrong-level", block(parts[1]), 1, 7)
	seed(t, "FuzzList", "fewer", block(parts[1]), 0, 8)
	seed(t, "FuzzList", "no-link", bytes.Replace(block(parts[1]), []byte{0xd8, 42}, []byte{0xd8, 43}, 1), 0, 7)
	seed(t, "FuzzList", "nested", append([]byte("\xa2\x65level\x00\x65links"), bytes.Repeat([]byte{0x81}, 60)...), 0, 1)
}
