package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/engine"
)

// tiny runs everything in a few seconds.
func tiny() sizes {
	return sizes{
		puts: 20, writers: []int{2, 4}, each: 2, rounds: 2, base: 2000, batches: []int{10, 100}, commits: 2,
		gets: 200, scan: 500, disk: 1000, fresh: []int{500}, rtts: []int{0, 1}, synced: 1000, apart: 20, resident: 2000,
		alike: []int{500, 1000}, differing: []int{1, 20}, repeats: 2, indexed: 2000, changed: []int{1, 100}, singles: 3, proofs: 10, blob: 1 << 20,
	}
}

// TestEveryScenarioPrintsItsMetrics runs all scenarios and looks at the shape
// of what they print, not at the values of times.
func TestEveryScenarioPrintsItsMetrics(t *testing.T) {
	t.Parallel()
	got := map[string][]string{}
	var all []Measurement
	err := run(t.Context(), Config{Dir: t.TempDir()}, tiny(), func(m Measurement) error {
		all = append(all, m)
		text, err := m.AppendJSON(nil)
		if err != nil {
			return err
		}
		for l := range bytes.Lines(text) {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(l, &fields); err != nil {
				return fmt.Errorf("%s: %w", l, err)
			}
			for _, name := range []string{"id", "metric", "value", "unit", "params", "baseline", "run"} {
				if fields[name] == nil {
					t.Errorf("no %q in %s", name, l)
				}
			}
			var metric string
			if err := json.Unmarshal(fields["metric"], &metric); err != nil {
				return err
			}
			if !slices.Contains(got[m.ID], metric) {
				got[m.ID] = append(got[m.ID], metric)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string][]string{
		"P1": {"puts_per_s", "ratio", "p50_us", "p99_us", "max_us", "fsyncs_per_put"},
		"P2": {"puts_per_s", "ratio", "p50_us", "p99_us", "max_us", "fsyncs_per_put"},
		"P3": {"puts_per_s", "ratio", "max_us"},
		"P4": {"gets_per_s", "scan_values_per_s", "ratio"},
		"P5": {"disk_bytes_per_key"},
		"S1": {"keys_per_s", "bytes_per_key", "bytes", "round_trips", "messages", "sync_ms"},
		"S2": {"bytes", "round_trips", "messages", "sync_ms"},
		"S3": {"bytes", "round_trips", "messages", "sync_ms"},
		"S4": {"metadata_bytes", "round_trips", "messages", "sync_ms"},
		"B1": {"mb_per_s", "ratio", "new_percent"},
		"M1": {"proof_bytes", "mean_us"},
		"R1": {"open_ms", "heap_bytes"},
	} {
		for _, metric := range want {
			if !slices.Contains(got[id], metric) {
				t.Errorf("%s: metrics %v, want %q too", id, got[id], metric)
			}
		}
	}
	for _, r := range Summary(all) {
		if r.Value < 0 || r.Low > r.Median || r.Median > r.High {
			t.Errorf("row %+v: want value >= 0 and low <= median <= high", r)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	got, err := Select([]string{"s2", "P1"})
	if err != nil || len(got) != 2 || got[0].ID != "P1" || got[1].ID != "S2" {
		t.Errorf("got %v %v, want P1 and S2", got, err)
	}
	if _, err := Select([]string{"P1", "X9"}); err == nil {
		t.Error("unknown scenario: got no error")
	}
	if _, err := sizesOf("huge"); err == nil {
		t.Error("unknown scale: got no error")
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	m := Measurement{
		ID: "S2", Metric: "bytes", Value: 214880, Unit: "B", Run: 1, Baseline: Baseline{"raw-bbolt", 0},
		Params: Params{{"base", 50000}, {"writes", 1000}, {"rtt_ms", 0}, {"keys", sequential}},
	}
	got, err := m.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"S2","metric":"bytes","value":214880,"unit":"B","params":{"base":50000,"writes":1000,"rtt_ms":0,"keys":"seq"},"baseline":{"name":"raw-bbolt","value":0},"run":1}` + "\n"
	if string(got) != want {
		t.Errorf("got  %swant %s", got, want)
	}
	m.Ratios = []float64{0.5, 0.25, 1}
	if got, err = m.AppendJSON(nil); err != nil || bytes.Count(got, []byte(`"metric":"ratio"`)) != 3 ||
		!bytes.Contains(got, []byte(`"value":0.5,"unit":"1","params":{"base":50000,"writes":1000,"rtt_ms":0,"keys":"seq","of":"bytes","stat":"median"}`)) {
		t.Errorf("ratios: got %s %v", got, err)
	}
}

// openBench makes a durable store for a benchmark, filled with n keys.
func openBench(b *testing.B, k keys, n int) *engine.DB {
	b.Helper()
	db, err := engine.Open(b.TempDir(), &engine.Options{RuntimeDir: b.TempDir(), SweepInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := load(context.Background(), db, k, 0, n, loadBatch, 0); err != nil {
		b.Fatal(err)
	}
	return db
}

func BenchmarkPut(b *testing.B) {
	db := openBench(b, sequential, 0)
	value := valueOf(1, 0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := db.Put(b.Context(), sequential.key(i), value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutConcurrent is 64 writers, one put a call.
func BenchmarkPutConcurrent(b *testing.B) {
	db := openBench(b, sequential, 0)
	value := valueOf(1, 0)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			if err := db.Put(context.Background(), scattered.key(rng.Int()), value); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkBatch puts batches on a base of 100,000 keys; figures are per key.
func BenchmarkBatch(b *testing.B) {
	const base = 100_000
	for _, k := range []keys{sequential, scattered} {
		for _, batch := range []int{100, 1000, 10_000} {
			b.Run(fmt.Sprintf("keys=%s/batch=%d", k, batch), func(b *testing.B) {
				db := openBench(b, k, base)
				b.ReportAllocs()
				next, n := base, 0
				for b.Loop() {
					b.StopTimer()
					data := k.pairs(next, batch, 0)
					b.StartTimer()
					if err := putAll(b.Context(), db, data); err != nil {
						b.Fatal(err)
					}
					next, n = next+batch, n+batch
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/key")
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	const base = 100_000
	db := openBench(b, sequential, base)
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	b.SetBytes(valueLen)
	for b.Loop() {
		if _, err := db.Get(b.Context(), sequential.key(rng.IntN(base))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	const base = 100_000
	db := openBench(b, sequential, base)
	b.ReportAllocs()
	b.SetBytes(base * valueLen)
	for b.Loop() {
		for _, err := range db.Scan(b.Context(), engine.Range{}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkSync fills a fresh durable replica; figures are per 10,000 keys.
func BenchmarkSync(b *testing.B) {
	const base = 10_000
	src := openBench(b, sequential, base)
	b.ReportAllocs()
	var last engine.SyncReport
	for b.Loop() {
		b.StopTimer()
		dst := openBench(b, sequential, 0)
		b.StartTimer()
		report, _, err := engine.SyncLocal(b.Context(), src, dst, engine.SyncOptions{})
		if err != nil {
			b.Fatal(err)
		}
		last = report
	}
	b.ReportMetric(float64(last.BytesSent+last.BytesReceived)/base, "wire-B/key")
	b.ReportMetric(float64(last.RoundTrips), "round-trips")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/base, "ns/key")
}

// BenchmarkState computes the root after a change.
func BenchmarkState(b *testing.B) {
	const base = 100_000
	db := openBench(b, sequential, base)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := db.Put(b.Context(), sequential.key(0), valueOf(0, 0)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := db.State(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDiffer measures S4 by type of frame, in bytes of both directions.
func BenchmarkDiffer(b *testing.B) {
	const base = 50_000
	for _, d := range []int{1, 10, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("d=%d", d), func(b *testing.B) {
			e := &env{ctx: b.Context(), dir: b.TempDir(), anchors: b.TempDir()}
			b.Cleanup(func() {
				for _, f := range slices.Backward(e.cleanup) {
					if err := f(); err != nil {
						b.Error(err)
					}
				}
			})
			c, err := e.newCouple(base, sequential)
			if err != nil {
				b.Fatal(err)
			}
			var trips, n int
			sum := map[string]int64{}
			for b.Loop() {
				if len(c.left) < d {
					b.Fatalf("all keys are used up: run with -benchtime %dx", n)
				}
				s, err := e.differ(c, sequential, d)
				if err != nil {
					b.Fatal(err)
				}
				n, trips = n+1, trips+s.report.RoundTrips
				for name, t := range s.report.Frames {
					sum[name] += t.BytesOut + t.BytesIn
				}
			}
			for name, bytes := range sum {
				b.ReportMetric(float64(bytes)/float64(n), name+"-B")
			}
			b.ReportMetric(float64(trips)/float64(n), "round-trips")
		})
	}
}
