package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"bzzz/engine"
	"bzzz/internal/errs"
)

// runP4 reads what was written: single keys in random order, then all.
func runP4(e *env) error {
	const k = sequential
	db, bolt, err := e.openLoaded(k)
	if err != nil {
		return err
	}
	if err := e.compareGets(db, bolt, k); err != nil {
		return err
	}
	n := min(e.size.scan, e.size.base)
	ours, theirs := &side{name: "bzzz"}, &side{name: "raw-bbolt"}
	ours.work = func(int) (found int, err error) {
		for _, err := range db.Scan(e.ctx, engine.Range{Limit: n}) {
			if err != nil {
				return 0, err
			}
			found++
		}
		return found, nil
	}
	theirs.work = func(int) (int, error) { return bolt.scan(n) }
	if err := e.takeTurns(e.size.rounds, nil, ours, theirs); err != nil {
		return err
	}
	return e.recordRate("scan_values_per_s", ours, theirs, Params{{"base", e.size.base}, {"values", n}, {"keys", k}})
}

// compareGets reads the same keys of both stores in the same order, one
// transaction each.
func (e *env) compareGets(db *engine.DB, bolt *raw, k keys) error {
	rng := rand.New(rand.NewPCG(4, 4))
	rounds := 2 * e.size.rounds
	var wanted [][]byte
	prepare := func(int) {
		wanted = wanted[:0]
		for range max(e.size.gets/rounds, 1) {
			wanted = append(wanted, k.key(rng.IntN(e.size.base)))
		}
	}
	each := func(get func([]byte) ([]byte, error)) func(int) (int, error) {
		return func(int) (int, error) {
			for _, key := range wanted {
				v, err := get(key)
				if err != nil {
					return 0, err
				}
				if len(v) != valueLen {
					return 0, fmt.Errorf("value of %d bytes: %w", len(v), errs.ErrCorrupt)
				}
			}
			return len(wanted), nil
		}
	}
	ours := &side{name: "bzzz", work: each(func(key []byte) ([]byte, error) { return db.Get(e.ctx, key) })}
	theirs := &side{name: "raw-bbolt", work: each(bolt.get)}
	prepare(0)
	for _, s := range []*side{ours, theirs} { // hot: everything has been touched once
		if _, err := s.work(0); err != nil {
			return err
		}
	}
	if err := e.takeTurns(rounds, prepare, ours, theirs); err != nil {
		return err
	}
	return e.recordRate("gets_per_s", ours, theirs, Params{{"base", e.size.base}, {"gets", ours.ops}, {"keys", k}})
}

// runR1 opens a large store and scans it, looking at time and memory.
func runR1(e *env) error {
	const k = sequential
	dir := e.path("store")
	err := e.inStore(dir, func(db *engine.DB) error { return load(e.ctx, db, k, 0, e.size.resident, loadBatch, 0) })
	if err != nil {
		return err
	}
	// A copy of the file while it is open is what a crash leaves.
	crashed := e.path("store")
	err = e.inStore(dir, func(db *engine.DB) error {
		if err := putAll(e.ctx, db, k.pairs(0, 1, 1)); err != nil {
			return err
		}
		return copyStore(dir, crashed)
	})
	if err != nil {
		return err
	}
	for _, s := range []struct {
		dir   string
		clean bool
	}{{crashed, false}, {dir, true}} {
		params := Params{{"base", e.size.resident}, {"keys", k}, {"clean", s.clean}}
		if err := e.openAndScan(s.dir, params); err != nil {
			return err
		}
	}
	return nil
}

func copyStore(from, to string) (err error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(from, engine.DataFile))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(to, engine.DataFile))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// openAndScan measures the opening, the memory afterwards, and the most of it
// that was seen during a scan of everything.
func (e *env) openAndScan(dir string, params Params) (err error) {
	debug.FreeOSMemory()
	before := anonymousBytes()
	started := time.Now()
	db, err := e.openAt(dir)
	took := time.Since(started)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := e.record("open_ms", took.Seconds()*1e3, params, Baseline{}); err != nil {
		return err
	}
	idle := anonymousBytes()
	heap, peak, n := heapBytes(), idle, 0
	sum := bytes.MinRead // keeps the loop from being empty
	for entry, err := range db.Scan(e.ctx, engine.Range{}) {
		if err != nil {
			return err
		}
		sum += len(entry.Value)
		if n++; n%(max(e.size.resident/64, 1)) == 0 {
			heap, peak = max(heap, heapBytes()), max(peak, anonymousBytes())
		}
	}
	runtime.KeepAlive(sum)
	if n != e.size.resident {
		return fmt.Errorf("%d of %d keys scanned: %w", n, e.size.resident, errs.ErrCorrupt)
	}
	if err := e.record("heap_bytes", float64(heap), params.with(Param{"when", "scanned"}), Baseline{}); err != nil || peak == 0 {
		return err
	}
	base := Baseline{"before-open", float64(before)}
	if err := e.record("rss_bytes", float64(idle), params.with(Param{"when", "open"}), base); err != nil {
		return err
	}
	return e.record("rss_bytes", float64(peak), params.with(Param{"when", "scanned"}), base)
}

// heapBytes returns the bytes of the heap that hold objects, dead ones too.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
