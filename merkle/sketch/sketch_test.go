package sketch_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"bzzz/merkle/sketch"
)

var update = flag.Bool("update", false, "rewrite the golden files and the seed corpus")

var testKey = sketch.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// digest is the i-th digest of a fixed family.
func digest(family string, i int) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s/%d", family, i))
}

func newSketch(t testing.TB, cells int) *sketch.Sketch {
	t.Helper()
	s, err := sketch.New(testKey, cells)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pair returns two sketches on top of base with d differences between them, of
// which every second is on the first side, and what each has alone.
func pair(base *sketch.Sketch, family string, d int) (a, b *sketch.Sketch, onlyA, onlyB []sketch.Item) {
	a, b = base.Clone(), base.Clone()
	for i := range d {
		x := digest(family, i)
		if i%2 == 0 {
			a.Add(x)
			onlyA = append(onlyA, sketch.ItemOf(x))
		} else {
			b.Add(x)
			onlyB = append(onlyB, sketch.ItemOf(x))
		}
	}
	return a, b, onlyA, onlyB
}

func sorted(items []sketch.Item) []sketch.Item {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b sketch.Item) int { return bytes.Compare(a[:], b[:]) })
	return items
}

// stream sends cells of a to the decoder in batches until it is done, and
// returns the bytes up to the cell that ended it.
func stream(t testing.TB, a, own *sketch.Sketch, salt uint64, estimate, batch int) (*sketch.Decoder, int, error) {
	t.Helper()
	e, err := sketch.NewEncoder(a, salt, 0)
	if err != nil {
		t.Fatal(err)
	}
	head := e.Header().Append(nil)
	h, err := sketch.ParseHeader(head)
	if err != nil {
		t.Fatal(err)
	}
	d, err := sketch.NewDecoder(own, h, estimate)
	if err != nil {
		return nil, 0, err
	}
	total := len(head)
	for buf := []byte(nil); !d.Done(); {
		if buf = e.AppendCells(buf[:0], batch); len(buf) == 0 {
			t.Fatalf("out of cells after %d", e.Sent())
		}
		total += len(buf)
		if err := d.AddCells(buf); err != nil {
			return d, total, err
		}
	}
	return d, total, nil
}

// TestReconcile finds exactly the difference, for sets up to 100,000 and
// differences up to 10,000, in the number of cells that the paper promises.
func TestReconcile(t *testing.T) {
	t.Parallel()
	base := newSketch(t, sketch.MaxCells)
	n := 0
	for _, c := range []struct{ n, d, runs int }{
		{0, 0, 1}, {0, 1, 5}, {0, 10, 20}, {100, 0, 1}, {100, 1, 5}, {100, 2, 10}, {100, 10, 60},
		{1000, 100, 20}, {10_000, 1000, 4}, {100_000, 0, 1}, {100_000, 10, 10}, {100_000, 100, 5}, {100_000, 10_000, 1},
	} {
		for ; n < c.n; n++ {
			base.Add(digest("base", n))
		}
		cells, worst := 0, 0
		for run := range c.runs {
			a, b, onlyA, onlyB := pair(base, fmt.Sprint("x", c.n, run), c.d)
			d, _, err := stream(t, a, b, uint64(run)*77+1, c.d, 1)
			if err != nil {
				t.Fatalf("n=%d d=%d: %v", c.n, c.d, err)
			}
			if !slices.Equal(sorted(d.Theirs()), sorted(onlyA)) || !slices.Equal(sorted(d.Ours()), sorted(onlyB)) {
				t.Fatalf("n=%d d=%d: %d and %d items, want %d and %d", c.n, c.d, len(d.Theirs()), len(d.Ours()), len(onlyA), len(onlyB))
			}
			if got := d.Estimate(); got != c.d {
				t.Fatalf("estimate is %d of %d when done", got, c.d)
			}
			cells += d.Received()
			worst = max(worst, d.Received())
		}
		mean := float64(cells) / float64(c.runs)
		t.Logf("n=%6d d=%5d: %.2f cells a difference, at worst %.2f", c.n, c.d, mean/float64(max(1, c.d)), float64(worst)/float64(max(1, c.d)))
		switch {
		case c.d == 0 && mean != 1:
			t.Errorf("equal sets took %.0f cells", mean)
		case c.d >= 100 && (mean < 1.2*float64(c.d) || mean > 1.6*float64(c.d)):
			t.Errorf("n=%d d=%d: %.2f cells a difference", c.n, c.d, mean/float64(c.d))
		case c.d >= 10 && mean > 2.1*float64(c.d):
			t.Errorf("n=%d d=%d: %.2f cells a difference", c.n, c.d, mean/float64(c.d))
		}
	}
}

// TestIncrementalEqualsRebuilt: a random history of adds and removes gives the
// bytes of a sketch built from what is left, in any order.
func TestIncrementalEqualsRebuilt(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, cells := range []int{1, 7, 1000, sketch.MaxCells} {
		s := newSketch(t, cells)
		live := map[int]bool{}
		for range 3000 {
			i := r.IntN(400)
			if live[i] {
				s.Remove(digest("h", i))
				delete(live, i)
			} else {
				s.Add(digest("h", i))
				live[i] = true
			}
		}
		var order []int
		for i := range live {
			order = append(order, i)
		}
		slices.Sort(order)
		for range 2 {
			r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			again := newSketch(t, cells)
			for _, i := range order {
				again.Add(digest("h", i))
			}
			x, _ := s.AppendBinary(nil)
			y, _ := again.AppendBinary(nil)
			if !s.Equal(again) || !bytes.Equal(x, y) || s.Len() != int64(len(live)) {
				t.Fatalf("%d cells: history shows", cells)
			}
		}
		for _, i := range order {
			s.Remove(digest("h", i))
		}
		if !s.Equal(newSketch(t, cells)) {
			t.Fatal("not empty after everything was removed")
		}
	}
}

func TestDifferentSizes(t *testing.T) {
	t.Parallel()
	big, small := newSketch(t, 5000), newSketch(t, 300)
	for i := range 500 {
		big.Add(digest("s", i))
		small.Add(digest("s", i))
	}
	big.Add(digest("more", 1))
	for _, c := range [][2]*sketch.Sketch{{big, small}, {small, big}} {
		d, _, err := stream(t, c[0], c[1], 9, 0, 10)
		if err != nil || len(d.Theirs())+len(d.Ours()) != 1 || d.Limit() != 300 {
			t.Errorf("%v, %v, limit %d", d, err, d.Limit())
		}
	}
}

func TestGiveUp(t *testing.T) {
	t.Parallel()
	a, b, _, _ := pair(newSketch(t, sketch.MaxCells), "g", 2000)
	d, _, err := stream(t, a, b, 1, 100, 8)
	if !errors.Is(err, sketch.ErrGiveUp) || d.Received() != sketch.GiveUp(100) {
		t.Errorf("%v after %d cells, want to give up after %d", err, d.Received(), sketch.GiveUp(100))
	}
	if err2 := d.AddCell(sketch.Cell{}); !errors.Is(err2, sketch.ErrGiveUp) {
		t.Errorf("an error is not final: %v", err2)
	}
	// Sizes that are too far apart need no cell.
	small := newSketch(t, 100)
	if _, err := sketch.NewDecoder(small, sketch.Header{Salt: 1, Cells: 100, Items: 101}, 0); !errors.Is(err, sketch.ErrGiveUp) {
		t.Errorf("hopeless sizes: %v", err)
	}
	if got := sketch.GiveUp(1 << 40); got != sketch.MaxCells {
		t.Errorf("GiveUp of a lot is %d", got)
	}
}

// TestEstimate: within 25 % after d/2 cells, a lower bound before.
func TestEstimate(t *testing.T) {
	t.Parallel()
	const diffs = 2000
	a, b, _, _ := pair(newSketch(t, 1<<13), "e", diffs)
	e, _ := sketch.NewEncoder(a, 3, 0)
	d, err := sketch.NewDecoder(b, e.Header(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; !d.Done(); k++ {
		c, _ := e.Next()
		if err := d.AddCell(c); err != nil {
			t.Fatal(err)
		}
		if k%250 == 0 {
			got := d.Estimate()
			t.Logf("after %d cells: %d", k, got)
			if got > diffs*5/4 || k >= diffs/2 && got < diffs*3/4 {
				t.Errorf("estimate after %d cells is %d of %d", k, got, diffs)
			}
		}
	}
}

// TestCellsLeftOver: cells on their way when the decoder is done do no harm.
func TestCellsLeftOver(t *testing.T) {
	t.Parallel()
	a, b, onlyA, _ := pair(newSketch(t, 1000), "l", 20)
	e, _ := sketch.NewEncoder(a, 3, 0)
	d, _ := sketch.NewDecoder(b, e.Header(), 0)
	for batch := e.AppendCells(nil, 100); len(batch) > 0; batch = e.AppendCells(nil, 100) {
		if err := d.AddCells(batch); err != nil {
			t.Fatal(err)
		}
	}
	if !d.Done() || d.Received() > 100 || len(d.Theirs()) != len(onlyA) {
		t.Errorf("done %v after %d cells", d.Done(), d.Received())
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	for _, cells := range []int{-1, 0, sketch.MaxCells + 1} {
		if _, err := sketch.New(testKey, cells); !errors.Is(err, sketch.ErrInvalid) {
			t.Errorf("New(%d): %v", cells, err)
		}
	}
	s := newSketch(t, 10)
	if _, err := sketch.NewEncoder(s, 0, 0); !errors.Is(err, sketch.ErrInvalid) {
		t.Errorf("salt 0: %v", err)
	}
	s.Remove(digest("never", 1))
	if _, err := sketch.NewEncoder(s, 1, 0); !errors.Is(err, sketch.ErrInvalid) {
		t.Errorf("negative length: %v", err)
	}
	if _, err := sketch.NewDecoder(newSketch(t, 10), sketch.Header{}, 0); !errors.Is(err, sketch.ErrInvalid) {
		t.Errorf("empty header: %v", err)
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	leaf := digest("leaf", 0)
	want := sha256.Sum256(append(append([]byte{4, 0, 0, 0, 3}, "key"...), leaf[:]...))
	if got := sketch.Entry([]byte("key"), leaf); got != want {
		t.Errorf("entry %x, want %x", got, want)
	}
}

// golden compares with a file of testdata, as hex.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != string(bytes.TrimSpace(want)) {
		t.Errorf("%s: got %x", name, got)
	}
}

func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	s := newSketch(t, 48)
	empty, _ := s.AppendBinary(nil)
	golden(t, "empty.hex", empty)
	for i := range 5 {
		s.Add(digest("golden", i))
	}
	five, _ := s.AppendBinary(nil)
	golden(t, "five.hex", five)
	e, _ := sketch.NewEncoder(s, 0x0102030405060708, 0)
	golden(t, "stream.hex", e.AppendCells(e.Header().Append(nil), 12))
	big := newSketch(t, sketch.MaxCells)
	for i := range 1000 {
		big.Add(digest("golden", i))
	}
	b, _ := big.AppendBinary(nil)
	sum := sha256.Sum256(b)
	golden(t, "thousand.sha256", sum[:])
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSketch(t, 300)
	for i := range 40 {
		b, err := s.AppendBinary([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := sketch.Load(b[1:])
		if err != nil || !got.Equal(s) || got.Key() != s.Key() || got.Cells() != 300 || got.Len() != int64(i) {
			t.Fatalf("%d items: %v", i, err)
		}
		s.Add(digest("c", i))
	}
	b, _ := s.AppendBinary(nil)
	for at := range b {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if _, err := sketch.Load(bad); !errors.Is(err, sketch.ErrCorrupt) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if _, err := sketch.Load(b[:at]); !errors.Is(err, sketch.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", at, err)
		}
	}
	// A sum over something else than a set is not loaded: 1 item removed that
	// never was in it.
	s.Reset()
	s.Remove(digest("never", 1))
	b, _ = s.AppendBinary(nil)
	if _, err := sketch.Load(b); !errors.Is(err, sketch.ErrCorrupt) {
		t.Errorf("negative counts: %v", err)
	}
}

// TestStreamBytes keeps the budgets of PERFORMANCE.md row S4 for the cells.
func TestStreamBytes(t *testing.T) {
	t.Parallel()
	base := newSketch(t, 1<<14)
	for i := range 20_000 {
		base.Add(digest("base", i))
	}
	for _, c := range []struct{ d, runs, budget int }{{10, 40, 600}, {100, 10, 4000}, {1000, 2, 36_000}} {
		sum := 0
		for run := range c.runs {
			a, b, _, _ := pair(base, fmt.Sprint("b", run), c.d)
			_, n, err := stream(t, a, b, 11, 0, max(4, c.d/20))
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		if mean := sum / c.runs; mean > c.budget {
			t.Errorf("d=%d takes %d bytes, at most %d", c.d, mean, c.budget)
		} else {
			t.Logf("d=%d: %d bytes of cells", c.d, mean)
		}
	}
}
