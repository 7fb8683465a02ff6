package crdt_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// chunks is a list that takes an insert in O(chunk + number of chunks).
type chunks [][]crdt.Position

// insert puts what between returns for the neighbours of a gap into it.
func (c *chunks) insert(gap int, between func(left, right crdt.Position) (crdt.Position, error)) error {
	at := 0
	for at < len(*c)-1 && gap > len((*c)[at]) {
		gap -= len((*c)[at])
		at++
	}
	if at == len(*c) {
		*c = append(*c, nil)
	}
	list := (*c)[at]
	var left, right crdt.Position
	switch {
	case gap > 0:
		left = list[gap-1]
	case at > 0:
		left = (*c)[at-1][len((*c)[at-1])-1]
	}
	switch {
	case gap < len(list):
		right = list[gap]
	case at+1 < len(*c):
		right = (*c)[at+1][0]
	}
	p, err := between(left, right)
	if err != nil {
		return err
	}
	list = slices.Insert(list, gap, p)
	(*c)[at] = list
	if len(list) == 512 {
		(*c)[at] = list[:256:256]
		*c = slices.Insert(*c, at+1, slices.Clone(list[256:]))
	}
	return nil
}

// listTrace makes n inserts into an empty list; pick returns the gap and the
// writer of insert i into a list of so many elements.
func listTrace(tb testing.TB, n int, pick func(i, size int) (gap, writer int)) []crdt.Position {
	tb.Helper()
	var list chunks
	fresh := map[int]uint64{}
	for i := range n {
		gap, w := pick(i, i)
		fresh[w]++
		err := list.insert(gap, func(l, r crdt.Position) (crdt.Position, error) {
			return crdt.Between(l, r, writerID(w), fresh[w])
		})
		if err != nil {
			tb.Fatalf("insert %d: %v", i, err)
		}
	}
	return slices.Concat(list...)
}

// writerID returns a short id of the usual length.
func writerID(w int) []byte { return []byte{byte(w) * 37, byte(w)} }

var listTraces = []struct {
	name string
	p99  int // bytes
	pick func(r *rand.Rand) func(i, size int) (gap, writer int)
}{
	{"append", 16, func(*rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return size, 0 }
	}},
	{"prepend", 16, func(*rand.Rand) func(i, size int) (int, int) {
		return func(int, int) (int, int) { return 0, 0 }
	}},
	{"behind-the-first", 24, func(*rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return min(size, 1), 0 }
	}},
	{"random-1-writer", 128, func(r *rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return r.IntN(size + 1), 0 }
	}},
	{"random-5-writers", 128, func(r *rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return r.IntN(size + 1), r.IntN(5) }
	}},
	{"random-200-writers", 256, func(r *rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return r.IntN(size + 1), r.IntN(200) }
	}},
	{"append-in-turn", 32, func(*rand.Rand) func(i, size int) (int, int) {
		return func(i, size int) (int, int) { return size, i % 3 }
	}},
	{"append-5-writers", 48, func(r *rand.Rand) func(i, size int) (int, int) {
		return func(_, size int) (int, int) { return size, r.IntN(5) }
	}},
	{"prepend-5-writers", 48, func(r *rand.Rand) func(i, size int) (int, int) {
		return func(int, int) (int, int) { return 0, r.IntN(5) }
	}},
	{"typing-5-writers", 96, func(r *rand.Rand) func(i, size int) (int, int) {
		cursor := [5]int{}
		return func(_, size int) (int, int) { // runs of about 30 at random places
			w := r.IntN(5)
			if r.IntN(30) == 0 || cursor[w] >= size {
				cursor[w] = r.IntN(size + 1)
			}
			gap := cursor[w]
			for i := range cursor {
				if cursor[i] >= gap {
					cursor[i]++
				}
			}
			return gap, w
		}
	}},
}

// sizesOf returns the mean, the 99th percentile and the maximum in bytes.
func sizesOf(list []crdt.Position) (mean, p99, most int) {
	sizes := make([]int, len(list))
	for i, p := range list {
		sizes[i] = len(p)
		mean += len(p)
	}
	slices.Sort(sizes)
	return mean / len(list), sizes[len(sizes)*99/100], sizes[len(sizes)-1]
}

func TestPositionSizes(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for _, tt := range listTraces {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list := listTrace(t, n, tt.pick(rand.New(rand.NewPCG(1, 2))))
			if !slices.IsSortedFunc(list, func(a, b crdt.Position) int { return bytes.Compare(a, b) }) {
				t.Fatal("byte order is not list order")
			}
			mean, p99, most := sizesOf(list)
			t.Logf("%d inserts: mean %d, p99 %d, max %d bytes", n, mean, p99, most)
			if p99 > tt.p99 {
				t.Errorf("p99 = %d bytes, want at most %d", p99, tt.p99)
			}
		})
	}
}

func BenchmarkBetween(b *testing.B) {
	const n = 10_000
	for _, tt := range listTraces {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			var list []crdt.Position
			for b.Loop() {
				list = listTrace(b, n, tt.pick(rand.New(rand.NewPCG(1, 2))))
			}
			mean, p99, _ := sizesOf(list)
			b.ReportMetric(float64(mean), "B/position")
			b.ReportMetric(float64(p99), "p99-B/position")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/insert")
		})
	}
}

// lists is a document that several writers edit, each on a view of its own.
type lists struct {
	fresh map[int]uint64
}

// edit inserts an element of writer w into a gap of a view.
func (l *lists) edit(t rapidOrT, view []crdt.Position, gap, w int) []crdt.Position {
	t.Helper()
	l.fresh[w]++
	var left, right crdt.Position
	if gap > 0 {
		left = view[gap-1]
	}
	if gap < len(view) {
		right = view[gap]
	}
	p, err := crdt.Between(left, right, writerID(w), l.fresh[w])
	if err != nil {
		t.Fatalf("Between(%x, %x): %v", left, right, err)
	}
	if err := crdt.ValidatePosition(p); err != nil {
		t.Fatalf("Between(%x, %x) = %x: %v", left, right, p, err)
	}
	if bytes.Compare(left, p) >= 0 || (right != nil && bytes.Compare(p, right) >= 0) {
		t.Fatalf("Between(%x, %x) = %x", left, right, p)
	}
	return slices.Insert(slices.Clone(view), gap, p)
}

type rapidOrT interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Writers who insert at one spot at the same time, in whatever direction, get
// one block of elements each.
func TestPositionRunsDoNotInterleave(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &lists{fresh: map[int]uint64{}}
		var base []crdt.Position
		for range rapid.IntRange(0, 25).Draw(t, "base") {
			if len(base) > 3 && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				i := rapid.IntRange(0, len(base)-1).Draw(t, "at")
				base = slices.Delete(slices.Clone(base), i, i+1)
				continue
			}
			gap := rapid.IntRange(0, len(base)).Draw(t, "gap")
			base = l.edit(t, base, gap, rapid.IntRange(0, 3).Draw(t, "writer"))
		}
		gap := rapid.IntRange(0, len(base)).Draw(t, "spot")
		owner := map[string]int{}
		var all []crdt.Position
		for w := range 4 {
			view := base
			for n := range rapid.IntRange(0, 6).Draw(t, "run") {
				at := rapid.SampledFrom([]int{0, n, rapid.IntRange(0, n).Draw(t, "inner")}).Draw(t, "place")
				view = l.edit(t, view, gap+at, w)
			}
			for _, p := range view[gap : gap+len(view)-len(base)] {
				owner[string(p)] = w
				all = append(all, p)
			}
		}
		slices.SortFunc(all, func(a, b crdt.Position) int { return bytes.Compare(a, b) })
		seen := map[int]bool{}
		for i, p := range all {
			w := owner[string(p)]
			if i > 0 && owner[string(all[i-1])] != w && seen[w] {
				t.Fatalf("writer %d's run is split: %x", w, all)
			}
			seen[w] = true
		}
	})
}

// An element never gets the position of one that was deleted, however often
// its gap is emptied.
func TestPositionsAreNeverReused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &lists{fresh: map[int]uint64{}}
		used := map[string]bool{}
		var view []crdt.Position
		for range 60 {
			if len(view) > 0 && rapid.Bool().Draw(t, "delete") {
				i := rapid.IntRange(0, len(view)-1).Draw(t, "at")
				view = slices.Delete(slices.Clone(view), i, i+1)
				continue
			}
			gap := rapid.IntRange(0, len(view)).Draw(t, "gap")
			view = l.edit(t, view, gap, rapid.IntRange(0, 2).Draw(t, "writer"))
			if p := string(view[gap]); used[p] {
				t.Fatalf("position %x used twice", p)
			} else {
				used[p] = true
			}
		}
	})
}

func TestPositionLayout(t *testing.T) {
	t.Parallel()
	w, x := []byte{0xAA, 0xBB}, []byte{0xCC, 0xDD}
	between := func(l, r crdt.Position, w []byte, n uint64) crdt.Position {
		p, err := crdt.Between(l, r, w, n)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := between(nil, nil, w, 1)
	behind := between(first, nil, w, 2)
	before := between(nil, first, w, 3)
	child := between(first, behind, x, 64)
	deeper := between(child, behind, w, 70)
	tests := []struct {
		name string
		got  crdt.Position
		want string // head, writer, number head, 4*number + side
	}{
		{"first", first, "02aabb 1104"},
		{"behind own", behind, "02aabb 1108"},
		{"before own", before, "02aabb 0ff3"},
		{"between, by another", child, "02aabb 1107 02ccdd 120100"},
		{"left of own", deeper, "02aabb 1107 320118"},
	}
	for _, tt := range tests {
		if got := fmt.Sprintf("%x", tt.got); got != strings.ReplaceAll(tt.want, " ", "") {
			t.Errorf("%s = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestBetweenRefuses(t *testing.T) {
	t.Parallel()
	w := []byte{1, 2}
	a, _ := crdt.Between(nil, nil, w, 1)
	b, _ := crdt.Between(a, nil, w, 2)
	long := crdt.Position(bytes.Repeat([]byte{1}, crdt.MaxPosition+1))
	tests := []struct {
		name        string
		left, right crdt.Position
		writer      []byte
		fresh       uint64
		want        error
	}{
		{"equal", a, a, w, 3, crdt.ErrInvalid},
		{"wrong order", b, a, w, 3, crdt.ErrInvalid},
		{"no writer", a, b, nil, 3, crdt.ErrInvalid},
		{"long writer", a, b, []byte("12345"), 3, crdt.ErrInvalid},
		{"number 0", a, b, w, 0, crdt.ErrInvalid},
		{"number above the cap", a, b, w, crdt.MaxSeq + 1, crdt.ErrInvalid},
		{"malformed", crdt.Position{0}, b, w, 3, crdt.ErrInvalid},
		{"long neighbour", long, nil, w, 3, crdt.ErrTooLarge},
	}
	for _, tt := range tests {
		if p, err := crdt.Between(tt.left, tt.right, tt.writer, tt.fresh); !errors.Is(err, tt.want) {
			t.Errorf("%s: %x, %v, want %v", tt.name, p, err, tt.want)
		}
	}
	if err := crdt.ValidatePosition(nil); !errors.Is(err, crdt.ErrInvalid) {
		t.Errorf("ValidatePosition(nil) = %v", err)
	}
}

// Halving one gap costs a level every other time, until the cap is reached.
func TestBetweenHalvingEndsInErrTooLarge(t *testing.T) {
	t.Parallel()
	var left, right crdt.Position
	for i := uint64(1); ; i++ {
		p, err := crdt.Between(left, right, writerID(1), i)
		if err != nil {
			if !errors.Is(err, crdt.ErrTooLarge) || i < 150 {
				t.Errorf("insert %d: %v, want ErrTooLarge, after 150", i, err)
			}
			return
		}
		if i%2 == 1 {
			left = p
		} else {
			right = p
		}
	}
}

func TestRunIsRepeatedBetween(t *testing.T) {
	t.Parallel()
	l := &lists{fresh: map[int]uint64{}}
	view := l.edit(t, nil, 0, 1)
	view = l.edit(t, view, 1, 2)
	run, err := crdt.Run(view[0], view[1], writerID(3), 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	left := view[0]
	for i, p := range run {
		want, err := crdt.Between(left, view[1], writerID(3), uint64(i+1))
		if err != nil || !bytes.Equal(p, want) {
			t.Fatalf("element %d = %x, want %x (%v)", i, p, want, err)
		}
		left = p
	}
	if got := len(run[999]); got > len(run[0])+2 {
		t.Errorf("a run of 1000 grew positions from %d to %d bytes", len(run[0]), got)
	}
	if _, err := crdt.Run(nil, nil, writerID(1), crdt.MaxSeq, 2); !errors.Is(err, crdt.ErrInvalid) {
		t.Errorf("Run beyond MaxSeq = %v, want ErrInvalid", err)
	}
}

func TestWriterID(t *testing.T) {
	t.Parallel()
	r := crdt.ReplicaID{1}
	free := func([]byte) bool { return false }
	two, err := crdt.WriterID(r, free)
	if err != nil || len(two) != crdt.MinWriterID {
		t.Fatalf("WriterID = %x, %v", two, err)
	}
	three, _ := crdt.WriterID(r, func(id []byte) bool { return bytes.Equal(id, two) })
	if len(three) != 3 || !bytes.HasPrefix(three, two) {
		t.Errorf("second choice %x, want a longer prefix of %x", three, two)
	}
	other, _ := crdt.WriterID(r, func(id []byte) bool { return bytes.HasPrefix(id, two) })
	if len(other) != 2 || bytes.Equal(other, two) {
		t.Errorf("choice behind all prefixes = %x", other)
	}
	if _, err := crdt.WriterID(r, func([]byte) bool { return true }); !errors.Is(err, crdt.ErrTooLarge) {
		t.Errorf("all taken: %v, want ErrTooLarge", err)
	}
}

// FuzzBetween holds for any two valid positions, whoever made them: the result
// is valid and strictly between, and everything else is refused.
func FuzzBetween(f *testing.F) {
	for _, pick := range []int{4, 6} {
		list := listTrace(f, 40, listTraces[pick].pick(rand.New(rand.NewPCG(3, 4))))
		for i := range len(list) - 1 {
			f.Add([]byte(list[i]), []byte(list[i+1]), writerID(i%5), uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, left, right, writer []byte, fresh uint64) {
		p, err := crdt.Between(left, right, writer, fresh)
		okEnd := func(p []byte) bool { return len(p) == 0 || crdt.ValidatePosition(p) == nil }
		valid := okEnd(left) && okEnd(right) && (len(right) == 0 || bytes.Compare(left, right) < 0) &&
			len(writer) >= 1 && len(writer) <= crdt.MaxWriterID && fresh >= 1 && fresh <= crdt.MaxSeq
		switch {
		case err != nil && errors.Is(err, crdt.ErrTooLarge) && max(len(left), len(right)) > 480:
		case valid && err != nil:
			t.Fatalf("Between(%x, %x): %v", left, right, err)
		case !valid && !errors.Is(err, crdt.ErrInvalid):
			t.Fatalf("Between(%x, %x) = %x, %v, want ErrInvalid", left, right, p, err)
		case err == nil:
			if bytes.Compare(left, p) >= 0 || (len(right) > 0 && bytes.Compare(p, right) >= 0) {
				t.Fatalf("Between(%x, %x) = %x", left, right, p)
			}
			if err := crdt.ValidatePosition(p); err != nil {
				t.Fatalf("Between(%x, %x) = %x: %v", left, right, p, err)
			}
		}
	})
}
