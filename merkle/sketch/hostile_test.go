package sketch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"bzzz/merkle/sketch"
)

// victim returns a decoder of a set of n items against a header that claims
// items.
func victim(t testing.TB, n int, items int64) *sketch.Decoder {
	t.Helper()
	s := newSketch(t, 4096)
	for i := range n {
		s.Add(digest("victim", i))
	}
	d, err := sketch.NewDecoder(s, sketch.Header{Salt: 3, Cells: 4096, Items: items}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestHostileEndless: random cells never end, never find more than a few items
// and are cut off at the bound.
func TestHostileEndless(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	d := victim(t, 50, 50)
	var err error
	sent := 0
	for ; err == nil && sent < 10_000; sent++ {
		c := sketch.Cell{Check: r.Uint32(), Count: r.Int64N(3)}
		if sent == 0 {
			c.Count = 50
		}
		binary.LittleEndian.PutUint64(c.Item[:], r.Uint64())
		err = d.AddCell(c)
	}
	if !errors.Is(err, sketch.ErrGiveUp) || sent != 4097 || d.Done() {
		t.Errorf("%v after %d cells", err, sent)
	}
}

// TestHostileCounts: counts that no set of the claimed size has.
func TestHostileCounts(t *testing.T) {
	t.Parallel()
	for _, counts := range [][]int64{{51}, {49}, {-1}, {50, 51}, {50, -1}, {50, 1 << 62}, {50, -1 << 63}} {
		d := victim(t, 50, 50)
		var err error
		for _, c := range counts {
			err = d.AddCell(sketch.Cell{Count: c})
		}
		if !errors.Is(err, sketch.ErrInconsistent) || !errors.Is(err, sketch.ErrCorrupt) {
			t.Errorf("counts %v: %v", counts, err)
		}
	}
}

// TestHostileMany: a valid stream, each cell of it replaced by nonsense or by
// the one before, in turn: an error or the truth, never another difference.
func TestHostileMany(t *testing.T) {
	t.Parallel()
	base := newSketch(t, 256)
	for i := range 50 {
		base.Add(digest("base", i))
	}
	a, b, _, _ := pair(base, "m", 16)
	for bad := range 40 {
		for kind := range 4 {
			e, _ := sketch.NewEncoder(a, 3, 0)
			d, _ := sketch.NewDecoder(b, e.Header(), 0)
			var prev sketch.Cell
			var err error
			for i := 0; err == nil && !d.Done(); i++ {
				c, ok := e.Next()
				if !ok {
					c = prev
				}
				if i == bad {
					switch kind {
					case 0:
						c.Item[3] ^= 1
					case 1:
						c.Check ^= 1
					case 2:
						c.Count ^= 1
					case 3:
						c = prev
					}
				}
				prev = c
				err = d.AddCell(c)
			}
			switch {
			case err == nil && d.Received() > bad:
				t.Errorf("cell %d, kind %d: done after %d cells", bad, kind, d.Received())
			case err != nil && !errors.Is(err, sketch.ErrGiveUp) && !errors.Is(err, sketch.ErrInconsistent):
				t.Errorf("cell %d, kind %d: %v", bad, kind, err)
			}
		}
	}
}

// TestHostileOtherKey: a peer with another key is cut off with a reason.
func TestHostileOtherKey(t *testing.T) {
	t.Parallel()
	a, _ := sketch.New(sketch.Key{9}, 256)
	b := newSketch(t, 256)
	for i := range 50 {
		a.Add(digest("k", i))
		b.Add(digest("k", i))
	}
	_, _, err := stream(t, a, b, 5, 4, 1)
	if !errors.Is(err, sketch.ErrGiveUp) && !errors.Is(err, sketch.ErrInconsistent) {
		t.Errorf("another key: %v", err)
	}
}

// TestHostileWork: the dearest stream, one that gives up an item with nearly
// every cell, costs bounded time.
func TestHostileWork(t *testing.T) {
	t.Parallel()
	const items = 40_000
	a := newSketch(t, sketch.MaxCells)
	for i := range items {
		a.Add(digest("w", i))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	d, _, err := stream(t, a, newSketch(t, sketch.MaxCells), 5, 0, 1000)
	if err != nil || len(d.Theirs()) != items {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d items from %d cells in %v, heap grew by %d KiB", items, d.Received(), took, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	runtime.KeepAlive(d)
	if took > 5*time.Second {
		t.Errorf("%d cells took %v", d.Received(), took)
	}
}

func TestBadBatches(t *testing.T) {
	t.Parallel()
	a, b, _, _ := pair(newSketch(t, 256), "bb", 30)
	e, _ := sketch.NewEncoder(a, 3, 0)
	good := e.AppendCells(nil, 4)
	for name, batch := range map[string][]byte{
		"empty":           {},
		"no cells":        {0, 0},
		"too few bytes":   good[:len(good)-1],
		"trailing":        append(append([]byte{}, good...), 0),
		"out of order":    e.AppendCells(nil, 4),
		"long varint":     append([]byte{0x80, 0}, good[1:]...),
		"too many cells":  append([]byte{0, 0xff, 0xff, 0x7f}, good[2:]...),
		"count too large": append(append([]byte{0, 1}, make([]byte, 20)...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		d, err := sketch.NewDecoder(b, e.Header(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.AddCells(batch); !errors.Is(err, sketch.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.AddCells(good); !errors.Is(err, sketch.ErrCorrupt) {
			t.Errorf("%s: an error is not final: %v", name, err)
		}
	}
}

func TestBadHeaders(t *testing.T) {
	t.Parallel()
	good := sketch.Header{Salt: 1, Cells: 300, Items: 7}.Append(nil)
	if h, err := sketch.ParseHeader(good); err != nil || h.Cells != 300 || h.Items != 7 || h.Salt != 1 {
		t.Fatalf("%+v, %v", h, err)
	}
	bad := [][]byte{nil, good[:len(good)-1], append(append([]byte{}, good...), 0), append([]byte{2}, good[1:]...)}
	for _, h := range []sketch.Header{
		{Salt: 0, Cells: 1}, {Salt: 1, Cells: 0}, {Salt: 1, Cells: sketch.MaxCells + 1}, {Salt: 1, Cells: 1, Items: sketch.MaxItems + 1},
		{Salt: 1, Cells: 1, Items: -1},
	} {
		bad = append(bad, h.Append(nil))
	}
	for _, b := range bad {
		if h, err := sketch.ParseHeader(b); !errors.Is(err, sketch.ErrCorrupt) {
			t.Errorf("%x: %+v, %v", b, h, err)
		}
	}
}

// TestGiveUpIsRare: with a true estimate a stream decodes within the bound.
func TestGiveUpIsRare(t *testing.T) {
	t.Parallel()
	base := newSketch(t, 1024)
	for _, c := range []struct{ d, runs int }{{1, 20}, {2, 200}, {4, 200}, {10, 200}, {30, 100}, {200, 20}} {
		failed := 0
		for run := range c.runs {
			a, b, _, _ := pair(base, fmt.Sprint("r", c.d, run), c.d)
			if _, _, err := stream(t, a, b, uint64(run)+1, c.d, 1); err != nil {
				failed++
			}
		}
		t.Logf("d=%d: %d of %d gave up after %d cells", c.d, failed, c.runs, sketch.GiveUp(c.d))
		if failed > c.runs/50 {
			t.Errorf("d=%d: %d of %d gave up", c.d, failed, c.runs)
		}
	}
}
