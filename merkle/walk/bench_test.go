package walk_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/merkle/walk"
)

// sorted returns keys 0..n-1 of a kind with value 0, in order.
func sorted(n int, key func(int) string) set {
	s := make(set, n)
	for i := range s {
		k := key(i)
		s[i] = item{[]byte(k), leafOf(k, 0)}
	}
	slices.SortFunc(s, func(a, b item) int { return bytes.Compare(a.key, b.key) })
	return s
}

// changed returns s with d keys differing: overwritten, or if mixed a half of
// them so, a quarter missing, and a quarter of new keys behind old ones. They
// are spread over the set or neighbours.
func changed(s set, rng *rand.Rand, d int, mixed, clustered bool) set {
	picked := map[int]bool{}
	from := rng.IntN(len(s) - d)
	for i := 0; len(picked) < d; i++ {
		if clustered {
			picked[from+i] = true
		} else {
			picked[rng.IntN(len(s))] = true
		}
	}
	out := make(set, 0, len(s)+d)
	for i, it := range s {
		how := 0
		if mixed {
			how = i % 4
		}
		switch {
		case !picked[i] || how == 3:
			out = append(out, it)
		case how < 2:
			out = append(out, item{it.key, leafOf(string(it.key), 1)})
		}
		if picked[i] && how == 3 {
			k := string(it.key) + "+"
			out = append(out, item{[]byte(k), leafOf(k, 1)})
		}
	}
	return out
}

// path is key number i of a tree of files.
func path(i int) string {
	return fmt.Sprintf("home/user%d/src/project-%02d/internal/module%02d/file_%04d.go", i%3, i/3%97, i/291%43, i)
}

// task is key number i as merkle's benchmarks have it: all digits in a row.
func task(i int) string {
	return fmt.Sprintf("ucxl://agent-%03d:role-%d@project-%02d:task-%04d/notes", i/10000, i/1000%10, i/100%10, i)
}

// BenchmarkWalk measures the table of MERKLE.md section 5 at 1 M keys: bytes
// and messages until both sides know the difference of d keys.
func BenchmarkWalk(b *testing.B) {
	const n = 1_000_000
	for _, kind := range []struct {
		name string
		key  func(int) string
	}{{"ucxl", ucxl}, {"tasks", task}, {"paths", path}} {
		base := sorted(n, kind.key)
		x := indexOf(b, base)
		for _, d := range []int{0, 1, 10, 100, 1000, 10_000} {
			for _, clustered := range []bool{false, true} {
				for _, mixed := range []bool{false, true} {
					if d == 0 && (clustered || mixed) {
						continue
					}
					b.Run(fmt.Sprintf("%s/d=%d/clustered=%v/mixed=%v", kind.name, d, clustered, mixed), func(b *testing.B) {
						rng := rand.New(rand.NewPCG(uint64(d), 3))
						y := indexOf(b, changed(base, rng, d, mixed, clustered))
						bytes, messages, i := 0, 0, uint64(0)
						for b.Loop() {
							i++
							r := run(b, x, y, walk.Config{Salt: saltOf(i)})
							bytes, messages = r.bytes, r.messages
						}
						b.ReportMetric(float64(bytes), "wire-bytes")
						b.ReportMetric(float64(messages), "messages")
					})
				}
			}
		}
	}
}

// BenchmarkExtremes measures what does not fit in one window: bytes a key that
// differs, messages, and the most regions that wait.
func BenchmarkExtremes(b *testing.B) {
	const n = 1_000_000
	base := sorted(n, ucxl)
	x := indexOf(b, base)
	rng := rand.New(rand.NewPCG(3, 3))
	third := make(set, 0, n)
	for _, it := range base {
		if rng.IntN(3) == 0 {
			third = append(third, it)
		}
	}
	for _, c := range []struct {
		name string
		set  set
		d    int
	}{
		{"100k-spread", changed(base, rng, 100_000, false, false), 100_000},
		{"100k-clustered", changed(base, rng, 100_000, false, true), 100_000},
		{"all", changed(base, rng, n-1, false, true), n - 1},
		{"third-only", third, n - len(third)},
		{"none", nil, n},
	} {
		b.Run(c.name, func(b *testing.B) {
			y := indexOf(b, c.set)
			var r *result
			for b.Loop() {
				r = run(b, x, y, walk.Config{})
			}
			b.ReportMetric(float64(r.bytes)/float64(c.d), "wire-bytes/key")
			b.ReportMetric(float64(r.messages), "messages")
			b.ReportMetric(float64(r.pending), "pending")
			b.ReportMetric(float64(r.largest), "largest-message")
		})
	}
}
