package chunk

import (
	"bytes"
	"testing"
)

// FuzzRows: whatever a sealed row holds, its decoder either refuses it or reads
// what encodes to the same row; without its seal, or under another key, every
// row is refused. Layout: the row's body.
func FuzzRows(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		key := make([]byte, 32)
		row1 := seal(bytes.Clone(body), key)
		if e, ok := readEntry(row1, key); ok && !bytes.Equal(e.append(key), row1) {
			t.Errorf("index row %x encodes to %x", row1, e.append(key))
		}
		if s, err := readState(seal(bytes.Clone(body), metaState)); err == nil && !bytes.Equal(s.append(), seal(bytes.Clone(body), metaState)) {
			t.Errorf("state %x encodes to %x", body, s.append())
		}
		if len(body) > 8 { // a manifest's row lies under the digest of its descriptor
			if d, rest, err := readDescriptor(body[8:]); err == nil && len(rest) == 0 {
				digest := d.Digest()
				sealed := seal(bytes.Clone(body), digest[:])
				if r, ok := readRow(sealed, digest[:]); !ok || !bytes.Equal(r.append(digest[:]), sealed) {
					t.Errorf("manifest row %x, read %v, encodes to %x", sealed, ok, r.append(digest[:]))
				}
			}
		}
		id := LeaseID{7}
		if l, ok := readLease(id[:], seal(bytes.Clone(body), id[:])); ok && len(body) != 16 {
			t.Errorf("lease %x of %d bytes was read as %v", body, len(body), l)
		}
		for _, foreign := range [][]byte{body, seal(bytes.Clone(body), []byte("another key"))} {
			if _, ok := unseal(foreign, key); ok && !bytes.Equal(foreign, row1) && !sealedByChance(foreign, key) {
				t.Errorf("%x passes for a row", foreign)
			}
		}
	})
}

// sealedByChance reports whether a row really bears the checksum of its body.
func sealedByChance(row, key []byte) bool {
	n := len(row) - 4
	return n >= 0 && bytes.Equal(seal(bytes.Clone(row[:n]), key), row)
}

// TestRowsRoundTrip: what is written is read.
func TestRowsRoundTrip(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{9}, 32)
	e := entry{number: 1 << 40, size: 77, epoch: 3}
	if got, ok := readEntry(e.append(key), key); !ok || got != e {
		t.Errorf("entry %+v, %v", got, ok)
	}
	s := state{1, 2, 3, 4, 5, 6, 7}
	if got, err := readState(s.append()); err != nil || got != s {
		t.Errorf("state %+v, %v", got, err)
	}
	_, m, err := Cut([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	r := row{5, m.desc}
	if got, ok := readRow(r.append(m.digest[:]), m.digest[:]); !ok || got != r {
		t.Errorf("row %+v, %v", got, ok)
	}
	if _, ok := readRow(r.append(key), key); ok {
		t.Error("a row under another blob's name was read")
	}
}
