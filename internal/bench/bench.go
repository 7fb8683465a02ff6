package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"bzzz/internal/errs"
)

// Scale is how much a run does.
type Scale string

// The scales.
const (
	Small Scale = "small" // all scenarios in less than a minute
	Full  Scale = "full"  // bases of a million keys: half an hour and 4 GB of disk
)

// Config says what to measure. The zero value measures everything once, small.
type Config struct {
	Dir       string   // on the disk to measure; "" = the system's directory for temporary files
	Scenarios []string // ids, nil = all
	Scale     Scale    // "" = Small
	Runs      int      // how often; 0 = 1
	// Progress, if not nil, is told which scenario begins.
	Progress func(run int, id, title string)
}

// Scenario is one of the things that can be measured.
type Scenario struct {
	ID    string
	Title string
	run   func(*env) error
}

// Scenarios returns all scenarios in the order in which they run.
func Scenarios() []Scenario {
	return []Scenario{
		{"R1", "memory and time to open a large store", runR1},
		{"P1", "durable puts, one writer", runP1},
		{"P2", "durable puts, many writers", runP2},
		{"P3", "batches of puts on a base", runP3},
		{"P4", "verified gets and scans", runP4},
		{"P5", "bytes on disk", runP5},
		{"S1", "fresh replica", runS1},
		{"S2", "reconnect after a partition", runS2},
		{"S3", "check when nothing differs", runS3},
		{"S4", "differences that clocks do not show", runS4},
		{"M1", "root after changes, proofs", runM1},
		{"B1", "large values", runB1},
	}
}

// sizes are the amounts of one scale.
type sizes struct {
	puts     int   // P1
	writers  []int // P2
	each     int   // P2: puts of a writer and round
	rounds   int   // of P1, P2, P4
	base     int   // P3, P4
	batches  []int // P3
	commits  int   // P3: commits of the smallest batches; larger ones make fewer
	gets     int   // P4
	scan     int   // P4
	disk     int   // P5
	fresh    []int // S1
	rtts     []int // S1, in ms
	synced   int   // S2, S3: base
	apart    int   // S2: writes on each side
	resident int   // R1

	alike     []int // S4: bases, the smallest first
	differing []int // S4
	repeats   int   // S4, M1
	indexed   int   // M1: base
	changed   []int // M1
	singles   int   // M1: times that one key is changed
	proofs    int   // M1
	blob      int   // B1: bytes
}

func sizesOf(s Scale) (sizes, error) {
	switch s {
	case Small, "":
		return sizes{
			puts: 1000, writers: []int{8, 64}, each: 10, rounds: 5, base: 100_000, batches: []int{100, 1000, 10_000},
			commits: 30, gets: 50_000, scan: 100_000, disk: 50_000, fresh: []int{50_000}, rtts: []int{0},
			synced: 50_000, apart: 1000, resident: 100_000,
			alike: []int{20_000, 50_000}, differing: []int{1, 10, 100, 1000, 10_000}, repeats: 3,
			indexed: 100_000, changed: []int{1, 1000}, singles: 64, proofs: 1000, blob: 32 << 20,
		}, nil
	case Full:
		return sizes{
			puts: 10_000, writers: []int{8, 64}, each: 50, rounds: 10, base: 1_000_000, batches: []int{100, 1000, 10_000},
			commits: 200, gets: 500_000, scan: 100_000, disk: 1_000_000, fresh: []int{50_000, 1_000_000},
			rtts: []int{0, 1, 20}, synced: 50_000, apart: 1000, resident: 1_000_000,
			alike: []int{100_000, 1_000_000}, differing: []int{1, 10, 100, 1000, 10_000}, repeats: 5,
			indexed: 1_000_000, changed: []int{1, 1000, 64 << 10}, singles: 512, proofs: 1000, blob: 256 << 20,
		}, nil
	}
	return sizes{}, fmt.Errorf("unknown scale %q (known: small, full): %w", s, errs.ErrInvalid)
}

// Select returns the scenarios with these ids (any case), all for none.
// ErrInvalid names an id that there is not.
func Select(ids []string) ([]Scenario, error) {
	all := Scenarios()
	if len(ids) == 0 {
		return all, nil
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(s Scenario) bool { return strings.EqualFold(s.ID, id) }) {
			return nil, fmt.Errorf("unknown scenario %q (known: R1, P1 to P5, S1 to S4, M1, B1): %w", id, errs.ErrInvalid)
		}
	}
	return slices.DeleteFunc(all, func(s Scenario) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(s.ID, id) })
	}), nil
}

// Run measures and hands each measurement to emit as soon as it is made. It
// works in a directory of its own within cfg.Dir and removes it. It stops at
// the first error, of emit too, and when ctx ends.
func Run(ctx context.Context, cfg Config, emit func(Measurement) error) error {
	size, err := sizesOf(cfg.Scale)
	if err != nil {
		return err
	}
	return run(ctx, cfg, size, emit)
}

func run(ctx context.Context, cfg Config, size sizes, emit func(Measurement) error) (err error) {
	scenarios, err := Select(cfg.Scenarios)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(cfg.Dir, "bzzz-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	anchors, err := os.MkdirTemp(volatileDir(dir), "bzzz-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(anchors)) }()
	for n := 1; n <= max(cfg.Runs, 1); n++ {
		for _, s := range scenarios {
			if cfg.Progress != nil {
				cfg.Progress(n, s.ID, s.Title)
			}
			e := &env{ctx: ctx, dir: filepath.Join(dir, fmt.Sprint(n), s.ID), anchors: anchors, size: size, id: s.ID, run: n, emit: emit}
			if err := e.runOne(s); err != nil {
				return fmt.Errorf("scenario %s: %w", s.ID, err)
			}
		}
	}
	return nil
}

// volatileDir is where anchors go, which a real node keeps in memory too.
func volatileDir(dir string) string {
	const shm = "/dev/shm"
	if st, err := os.Stat(shm); runtime.GOOS == "linux" && err == nil && st.IsDir() {
		return shm
	}
	return dir
}

// env is what a scenario works with.
type env struct {
	ctx     context.Context
	dir     string
	anchors string
	size    sizes
	id      string
	run     int
	emit    func(Measurement) error
	cleanup []func() error
	stores  int
}

// runOne runs a scenario, closes what it opened, newest first, and removes
// what it wrote.
func (e *env) runOne(s Scenario) (err error) {
	defer func() {
		for _, f := range slices.Backward(e.cleanup) {
			err = errors.Join(err, f())
		}
		err = errors.Join(err, os.RemoveAll(e.dir))
	}()
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	runtime.GC() // of what the scenario before left
	return s.run(e)
}

// later registers work for the scenario's end.
func (e *env) later(f func() error) { e.cleanup = append(e.cleanup, f) }

// path returns a fresh path in the scenario's directory.
func (e *env) path(name string) string {
	e.stores++
	return filepath.Join(e.dir, fmt.Sprintf("%s-%d", name, e.stores))
}
