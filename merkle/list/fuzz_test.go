package list_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"bzzz/merkle/list"
)

// FuzzParseProof: decode-encode identity, bounds, no panic.
func FuzzParseProof(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := list.ParseProof(b)
		if err != nil {
			if !errors.Is(err, list.ErrCorrupt) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		again, err := p.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x, %v", b, again, err)
		}
		if len(b) > list.MaxProofLen {
			t.Fatalf("a proof of %d bytes was accepted", len(b))
		}
	})
}

// FuzzVerify: the verifier agrees with the recursion of the RFC on any input.
// Layout: n u16 LE | i u16 LE | leaf length u8 | leaf | proof. A root is made
// of the path itself, so that the good half is reached too.
func FuzzVerify(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 5 || len(b) < 5+int(b[4]) {
			return
		}
		n, i := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		leaf, enc := b[5:5+int(b[4])], b[5+int(b[4]):]
		p, err := list.ParseProof(enc)
		if err != nil {
			return
		}
		if i >= n {
			if err := list.Verify(list.Digest{}, n, i, leaf, p); !errors.Is(err, list.ErrInvalid) {
				t.Fatalf("index %d of %d: %v", i, n, err)
			}
			return
		}
		root, ok := oracleVerify(n, i, leaf, p)
		err = list.Verify(root, n, i, leaf, p)
		if ok != (err == nil) {
			t.Fatalf("leaf %d of %d with %d steps: oracle %v, Verify %v", i, n, len(p), ok, err)
		}
		root[0] ^= 1
		if err := list.Verify(root, n, i, leaf, p); !errors.Is(err, list.ErrCorrupt) {
			t.Fatalf("another root: %v", err)
		}
	})
}
