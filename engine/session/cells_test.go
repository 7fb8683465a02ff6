package session

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"bzzz/merkle/sketch"
)

// streamed returns how many cells of a sketch are asked for, and in how many
// parts, until the decoder has found d differences.
func streamed(t *testing.T, d, seed int) (cells, parts int) {
	t.Helper()
	var sides [2]*sketch.Sketch
	for i := range sides {
		s, err := sketch.New(sketch.Key{1}, sketch.MaxCells)
		if err != nil {
			t.Fatal(err)
		}
		sides[i] = s
	}
	for i := range d {
		digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(seed)<<32|uint64(i)))
		sides[i%2].Add(digest)
	}
	enc, err := sketch.NewEncoder(sides[0], uint64(seed)*77+1, 0)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := sketch.NewDecoder(sides[1], enc.Header(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := firstCells; !dec.Done(); n = moreCells(dec) {
		if n <= 0 {
			t.Fatalf("%d of %d differences: gave up after %d cells", dec.Estimate(), d, enc.Sent())
		}
		if err := dec.AddCells(enc.AppendCells(nil, n)); err != nil {
			t.Fatal(err)
		}
		parts++
	}
	return enc.Sent(), parts
}

// TestFewCellsInVain compares what a session asks for with what is needed: the
// mean of some streams.
func TestFewCellsInVain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d, streams int
		cells      float64 // at most, by sketch.ExpectedCells
		parts      float64 // at most
	}{{1, 8, 6, 1}, {10, 32, 1.3, 2.5}, {30, 32, 1.2, 6}, {100, 32, 1.12, 9}, {1000, 16, 1.06, 10}, {5000, 4, 1.06, 12}} {
		cells, parts := 0, 0
		for seed := range c.streams {
			n, p := streamed(t, c.d, seed)
			cells, parts = cells+n, parts+p
		}
		n := float64(c.streams)
		mean, turns := float64(cells)/n, float64(parts)/n
		if most := c.cells * float64(sketch.ExpectedCells(c.d)); mean > most || turns > c.parts {
			t.Errorf("%d differences: got %.1f cells in %.1f parts, want at most %.1f in %.1f", c.d, mean, turns, most, c.parts)
		}
	}
}
