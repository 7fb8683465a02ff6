package sketch_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"bzzz/merkle/sketch"
)

// FuzzLoad: decode-encode identity. The checksum is put right, so that the
// fields behind it are reached.
func FuzzLoad(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		b := binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		s, err := sketch.Load(b)
		if err != nil {
			if !errors.Is(err, sketch.ErrCorrupt) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		again, err := s.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x, %v", b, again, err)
		}
		if _, err := sketch.NewEncoder(s, 1, 0); err != nil {
			t.Fatalf("a loaded sketch cannot be sent: %v", err)
		}
	})
}

// FuzzParseHeader: decode-encode identity.
func FuzzParseHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := sketch.ParseHeader(b)
		if err != nil {
			if !errors.Is(err, sketch.ErrCorrupt) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
	})
}

// fuzzOwn is the set that FuzzDecoder attacks.
func fuzzOwn(t testing.TB) *sketch.Sketch {
	s := newSketch(t, 64)
	for i := range 9 {
		s.Add(digest("own", i))
	}
	return s
}

// frames cuts a fuzz input: u8 length, that many bytes, and so on.
func frames(b []byte) [][]byte {
	var out [][]byte
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		out = append(out, b[1:1+n])
		b = b[1+n:]
	}
	return out
}

// FuzzDecoder: the first frame is the header, the others are batches. Whatever
// they hold, the bounds hold, an error is final and has a kind.
func FuzzDecoder(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := frames(b)
		if len(fr) == 0 {
			return
		}
		h, err := sketch.ParseHeader(fr[0])
		if err != nil {
			return
		}
		own := fuzzOwn(t)
		d, err := sketch.NewDecoder(own, h, 0)
		if err != nil {
			if !errors.Is(err, sketch.ErrGiveUp) {
				t.Fatal(err)
			}
			return
		}
		for _, batch := range fr[1:] {
			err := d.AddCells(batch)
			if err != nil && !errors.Is(err, sketch.ErrCorrupt) && !errors.Is(err, sketch.ErrGiveUp) && !errors.Is(err, sketch.ErrInconsistent) {
				t.Fatalf("error without a kind: %v", err)
			}
			if err != nil && (d.Done() || d.AddCell(sketch.Cell{}) == nil) {
				t.Fatal("an error is not final")
			}
		}
		found := len(d.Theirs()) + len(d.Ours())
		if d.Received() > d.Limit() || found > d.Received() || int64(len(d.Ours())) > own.Len()+1 {
			t.Fatalf("%d items from %d cells of %d", found, d.Received(), d.Limit())
		}
		if d.Done() && own.Len()+int64(len(d.Theirs())-len(d.Ours())) != h.Items {
			t.Fatalf("done, but %d + %d - %d items are not %d", own.Len(), len(d.Theirs()), len(d.Ours()), h.Items)
		}
		d.Estimate()
	})
}

// corpus writes a seed if -update is given.
func corpus(t *testing.T, target, name string, b []byte) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", b), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSeedCorpus rewrites the committed seeds with -update.
func TestSeedCorpus(t *testing.T) {
	if !*update {
		t.Skip("writes the seed corpus with -update only")
	}
	for cells, items := range map[int]int{1: 0, 5: 1, 48: 5, 49: 0, 3000: 3} {
		s := newSketch(t, cells)
		for i := range items {
			s.Add(digest("seed", i))
		}
		b, _ := s.AppendBinary(nil)
		corpus(t, "FuzzLoad", fmt.Sprintf("cells-%d-items-%d", cells, items), b[:len(b)-4])
		if cells == 48 {
			corpus(t, "FuzzLoad", "short", b[:len(b)-9])
			corpus(t, "FuzzLoad", "trailing", b)
		}
	}
	for name, h := range map[string]sketch.Header{
		"small": {Salt: 1, Cells: 1}, "large": {Salt: 1 << 63, Cells: sketch.MaxCells, Items: sketch.MaxItems},
		"no-salt": {Cells: 1}, "too-many-cells": {Salt: 1, Cells: sketch.MaxCells + 1},
	} {
		corpus(t, "FuzzParseHeader", name, h.Append(nil))
	}
	script := func(peer *sketch.Sketch, batch, batches int, spoil func(int, []byte)) []byte {
		e, _ := sketch.NewEncoder(peer, 99, 0)
		h := e.Header().Append(nil)
		out := append([]byte{byte(len(h))}, h...)
		for i := range batches {
			c := e.AppendCells(nil, batch)
			if spoil != nil {
				spoil(i, c)
			}
			out = append(append(out, byte(len(c))), c...)
		}
		return out
	}
	corpus(t, "FuzzDecoder", "equal", script(fuzzOwn(t), 1, 1, nil))
	peer := fuzzOwn(t)
	peer.Remove(digest("own", 3))
	peer.Add(digest("new", 1))
	peer.Add(digest("new", 2))
	corpus(t, "FuzzDecoder", "three", script(peer, 4, 4, nil))
	corpus(t, "FuzzDecoder", "never", script(newSketch(t, 64), 10, 7, func(i int, b []byte) { b[2] ^= byte(i) }))
	corpus(t, "FuzzDecoder", "bad-check", script(peer, 3, 6, func(_ int, b []byte) { b[18] ^= 1 }))
	corpus(t, "FuzzDecoder", "bad-item", script(peer, 3, 6, func(i int, b []byte) { b[3] ^= byte(i) }))
	corpus(t, "FuzzDecoder", "bad-index", script(peer, 3, 6, func(_ int, b []byte) { b[0] ^= 1 }))
	corpus(t, "FuzzDecoder", "empty-peer", script(newSketch(t, 64), 10, 4, nil))
}
