package bench

import (
	"sync"
	"sync/atomic"

	"bzzz/engine"
)

// runP1 puts one key a commit, one writer.
func runP1(e *env) error {
	const k = sequential
	db, commits, err := e.openCounting()
	if err != nil {
		return err
	}
	size, err := measureRecords(e.ctx, k, 1, false)
	if err != nil {
		return err
	}
	bolt, err := e.openRaw(size, k)
	if err != nil {
		return err
	}
	flush, err := e.openFlush()
	if err != nil {
		return err
	}
	perRound := max(e.size.puts/(2*e.size.rounds), 1)
	var data []pair
	each := func(s *side, put func(pair) error) {
		s.work = func(int) (int, error) {
			for _, p := range data {
				if err := s.timed(func() error { return put(p) }); err != nil {
					return 0, err
				}
			}
			return len(data), nil
		}
	}
	ours, theirs, least := &side{name: "bzzz"}, &side{name: "raw-bbolt"}, &side{name: "raw-fdatasync"}
	each(ours, func(p pair) error { return db.Put(e.ctx, p.key, p.value) })
	each(theirs, func(p pair) error { return bolt.put([]pair{p}) })
	each(least, flush.put)
	commits.commits.Store(0)
	err = e.takeTurns(2*e.size.rounds, func(r int) { data = k.pairs(r*perRound, perRound, 0) }, ours, theirs, least)
	if err != nil {
		return err
	}
	params := Params{{"writers", 1}, {"keys", k}, {"puts", ours.ops}}
	for _, base := range []*side{theirs, least} {
		if err := e.recordRate("puts_per_s", ours, base, params); err != nil {
			return err
		}
		err := e.recordAll(params,
			value{"p50_us", ours.micros(0.5), Baseline{base.name, base.micros(0.5)}},
			value{"p99_us", ours.micros(0.99), Baseline{base.name, base.micros(0.99)}},
			value{"max_us", ours.micros(1), Baseline{base.name, base.micros(1)}})
		if err != nil {
			return err
		}
	}
	puts := float64(ours.ops)
	err = e.record("fsyncs_per_put", flushesPerCommit*float64(commits.commits.Load())/puts, params, Baseline{"raw-bbolt", flushesPerCommit})
	if err != nil || ours.written == 0 {
		return err
	}
	return e.record("written_bytes_per_put", float64(ours.written)/puts, params, Baseline{"raw-bbolt", float64(theirs.written) / puts})
}

// runP2 puts one key a call from many writers at once.
func runP2(e *env) error {
	for _, writers := range e.size.writers {
		if err := e.manyWriters(writers); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) manyWriters(writers int) error {
	const k = sequential
	db, commits, err := e.openCounting()
	if err != nil {
		return err
	}
	size, err := measureRecords(e.ctx, k, 1, false)
	if err != nil {
		return err
	}
	naive, err := e.openRaw(size, k)
	if err != nil {
		return err
	}
	grouped, err := e.openRaw(size, k)
	if err != nil {
		return err
	}
	var data, few []pair // few: one writer's share, for those that are slow
	many, one := &side{name: "bzzz"}, &side{name: "one-writer"}
	counted := int64(0)
	many.work = func(int) (int, error) {
		before := commits.commits.Load()
		err := e.concurrently(many, writers, data, func(p pair) error { return db.Put(e.ctx, p.key, p.value) })
		counted += commits.commits.Load() - before
		return len(data), err
	}
	one.work = func(int) (int, error) {
		return len(few), e.concurrently(one, 1, few, func(p pair) error { return db.Put(e.ctx, p.key, p.value) })
	}
	each := &side{name: "raw-bbolt"}
	each.work = func(int) (int, error) {
		return len(few), e.concurrently(each, writers, few, func(p pair) error { return naive.put([]pair{p}) })
	}
	group := &side{name: "raw-bbolt-group"}
	group.work = func(int) (int, error) {
		for i := 0; i < len(data); i += writers {
			if err := grouped.put(data[i:min(i+writers, len(data))]); err != nil {
				return 0, err
			}
		}
		return len(data), nil
	}
	n := writers * e.size.each
	prepare := func(r int) {
		all := k.pairs(r*(n+e.size.each*8), n+e.size.each*8, 0)
		data, few = all[:n], all[n:]
	}
	if err := e.takeTurns(e.size.rounds, prepare, many, one, each, group); err != nil {
		return err
	}
	params := Params{{"writers", writers}, {"keys", k}, {"puts", many.ops}}
	for _, base := range []*side{one, each, group} {
		if err := e.recordRate("puts_per_s", many, base, params); err != nil {
			return err
		}
	}
	base := Baseline{one.name, one.micros(0.5)}
	return e.recordAll(params,
		value{"p50_us", many.micros(0.5), base},
		value{"p99_us", many.micros(0.99), Baseline{one.name, one.micros(0.99)}},
		value{"max_us", many.micros(1), Baseline{one.name, one.micros(1)}},
		value{"fsyncs_per_put", flushesPerCommit * float64(counted) / float64(many.ops), Baseline{each.name, flushesPerCommit}})
}

// concurrently lets writers put all pairs, each the next one that nobody has
// taken, and notes the latencies.
func (e *env) concurrently(s *side, writers int, pairs []pair, put func(pair) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	parts := make([]side, writers)
	for i := range parts {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(pairs) && failed.Load() == nil; n = int(next.Add(1)) - 1 {
				if err := parts[i].timed(func() error { return put(pairs[n]) }); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	for i := range parts {
		s.latencies = append(s.latencies, parts[i].latencies...)
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// runP3 puts batches on a base.
func runP3(e *env) error {
	for _, k := range []keys{sequential, scattered} {
		if err := e.batchesOn(k); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) batchesOn(k keys) error {
	db, bolt, err := e.openLoaded(k)
	if err != nil {
		return err
	}
	next := e.size.base
	for i, batch := range e.size.batches {
		// New keys: behind the base if they rise, everywhere in it if not.
		commits := max(e.size.commits>>(2*i), 2)
		err := e.batches(db, bolt, k, "new", batch, commits, func(int) []pair {
			next += batch
			return k.pairs(next-batch, batch, 0)
		})
		if err != nil {
			return err
		}
	}
	if k == sequential || len(e.size.batches) < 2 {
		return nil
	}
	if bolt.size, err = measureRecords(e.ctx, k, loadBatch, true); err != nil {
		return err
	}
	batch := e.size.batches[1]
	return e.batches(db, bolt, k, "overwrite", batch, max(e.size.commits/4, 2), func(r int) []pair {
		return k.pairs(r*batch%max(e.size.base-batch, 1), batch, r+1)
	})
}

// batches compares commits of one batch each.
func (e *env) batches(db *engine.DB, bolt *raw, k keys, puts string, batch, commits int, next func(round int) []pair) error {
	var data []pair
	ours, theirs := &side{name: "bzzz"}, &side{name: "raw-bbolt"}
	ours.work = func(int) (int, error) {
		return len(data), ours.timed(func() error { return putAll(e.ctx, db, data) })
	}
	theirs.work = func(int) (int, error) {
		return len(data), theirs.timed(func() error { return bolt.put(data) })
	}
	if err := e.takeTurns(commits, func(r int) { data = next(r) }, ours, theirs); err != nil {
		return err
	}
	params := Params{{"base", e.size.base}, {"batch", batch}, {"keys", k}, {"puts", puts}}
	if err := e.recordRate("puts_per_s", ours, theirs, params); err != nil {
		return err
	}
	err := e.record("max_us", ours.micros(1), params, Baseline{theirs.name, theirs.micros(1)})
	if err != nil || ours.written == 0 {
		return err
	}
	n := float64(ours.ops)
	return e.record("written_bytes_per_put", float64(ours.written)/n, params, Baseline{theirs.name, float64(theirs.written) / n})
}
