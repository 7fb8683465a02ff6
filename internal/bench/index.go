package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"bzzz/engine"
	"bzzz/internal/errs"
	"bzzz/merkle/proof"
)

// runM1 measures the root after changes, and proofs, as the engine makes them:
// with the versions read and verified whose digests the leaves are.
func runM1(e *env) error {
	const k = sequential
	db, err := e.open()
	if err != nil {
		return err
	}
	n := e.size.indexed
	if err := load(e.ctx, db, k, 0, n, loadBatch, 0); err != nil {
		return err
	}
	spent, err := e.rootTime(db)
	if err != nil {
		return err
	}
	if err := e.recordRoot(spent, n, Params{{"base", n}, {"keys", k}, {"changed", n}, {"where", "all"}}); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for _, batch := range e.size.changed {
		for _, where := range []string{"random", "clustered"} {
			if where == "clustered" && batch == 1 {
				continue
			}
			if err := e.catchUp(db, k, rng, batch, where); err != nil {
				return err
			}
		}
	}
	return e.proofs(db, k, rng)
}

// rootTime returns the processor time that the root takes now.
func (e *env) rootTime(db *engine.DB) (time.Duration, error) {
	runtime.GC() // of the writing
	cpu := cpuTime()
	_, err := db.State(e.ctx)
	return cpuTime() - cpu, err
}

// recordRoot emits processor time by changed key.
func (e *env) recordRoot(spent time.Duration, changed int, params Params) error {
	if cpuTime() == 0 {
		return nil // not known on this system
	}
	return e.record("cpu_us_per_key", float64(spent.Nanoseconds())/1e3/float64(changed), params, Baseline{})
}

// catchUp changes keys of a base and asks for the root, several times. Roots
// after single changes are asked for often, since what they leave in memory is
// stored only now and then.
func (e *env) catchUp(db *engine.DB, k keys, rng *rand.Rand, batch int, where string) error {
	times := e.size.repeats
	if batch == 1 {
		times = e.size.singles
	}
	var spent time.Duration
	for r := range times {
		from := rng.IntN(e.size.indexed - batch + 1)
		pairs := k.pairs(from, batch, r+1)
		if where == "random" {
			for i, at := range rng.Perm(e.size.indexed)[:batch] {
				pairs[i].key = k.key(at)
			}
		}
		for at := 0; at < batch; at += loadBatch {
			if err := putAll(e.ctx, db, pairs[at:min(at+loadBatch, batch)]); err != nil {
				return err
			}
		}
		took, err := e.rootTime(db)
		if err != nil {
			return err
		}
		spent += took
		if batch == 1 {
			continue
		}
		params := Params{{"base", e.size.indexed}, {"keys", k}, {"changed", batch}, {"where", where}}
		if err := e.recordRoot(took, batch, params); err != nil {
			return err
		}
	}
	if batch > 1 {
		return nil
	}
	return e.recordRoot(spent, times, Params{{"base", e.size.indexed}, {"keys", k}, {"changed", 1}, {"where", where}})
}

// proofs makes and checks proofs of random keys. The steps are the proof
// itself; the envelope holds the key's versions too and is text.
func (e *env) proofs(db *engine.DB, k keys, rng *rand.Rand) error {
	state, err := db.State(e.ctx)
	if err != nil {
		return err
	}
	var made, checked time.Duration
	steps, envelope := 0, 0
	for range e.size.proofs {
		key := k.key(rng.IntN(e.size.indexed))
		started := time.Now()
		p, err := db.Prove(e.ctx, key)
		if err != nil {
			return err
		}
		ready := time.Now()
		shown, err := proof.Verify(p, state.Root)
		if err != nil {
			return err
		}
		made, checked = made+ready.Sub(started), checked+time.Since(ready)
		if shown.Kind != proof.Inclusion || len(shown.Versions) != 1 {
			return fmt.Errorf("proof that %s: %w", shown, errs.ErrCorrupt)
		}
		text, err := p.Encode()
		if err != nil {
			return err
		}
		steps, envelope = steps+len(p.Steps), envelope+len(text)
	}
	n := float64(e.size.proofs)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / n }
	for _, m := range []struct {
		metric string
		value  float64
		of     string
	}{
		{"proof_bytes", float64(steps) / n, "steps"}, {"proof_bytes", float64(envelope) / n, "envelope"},
		{"mean_us", micros(made), "making"}, {"mean_us", micros(checked), "checking"},
	} {
		params := Params{{"base", e.size.indexed}, {"keys", k}, {"proofs", e.size.proofs}, {"of", m.of}}
		if err := e.record(m.metric, m.value, params, Baseline{}); err != nil {
			return err
		}
	}
	return nil
}
