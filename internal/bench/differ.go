package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"

	"bzzz/engine"
)

// couple is two stores that hold the same n keys but for those that are deleted
// on one side alone, as S4 does it.
type couple struct {
	n    int
	a, b *engine.DB
	left []int     // numbers of keys that are still there, in random order
	cpu  []float64 // of the last differences, in microseconds
}

// manyDrops turns off the brake on removals by a peer's claim: here they are
// wanted.
const manyDrops = 1 << 30

// newCouple makes two stores with n keys, and lets them differ once, which makes
// and stores the views of the live keys that a later comparison begins with.
func (e *env) newCouple(n int, k keys) (*couple, error) {
	c := &couple{n: n, left: rand.New(rand.NewPCG(4, uint64(n))).Perm(n)}
	var err error
	for _, db := range []**engine.DB{&c.a, &c.b} {
		if *db, err = e.openWith(e.path("store"), engine.Options{MaxAbsentDrop: manyDrops}); err != nil {
			return nil, err
		}
		e.later((*db).Close)
	}
	if err := load(e.ctx, c.a, k, 0, n, loadBatch, 0); err != nil {
		return nil, err
	}
	if _, err := e.sync(c.a, c.b, 0); err != nil {
		return nil, err
	}
	_, err = e.differ(c, k, 2)
	return c, err
}

// differ deletes d keys, half of them on each side, collects the tombstones at
// once and syncs. Nothing but a comparison of what is live can find such deletes:
// both clocks know all of those versions.
func (e *env) differ(c *couple, k keys, d int) (synced, error) {
	if d > len(c.left) {
		return synced{}, fmt.Errorf("%d keys to delete, %d left: %w", d, len(c.left), engine.ErrInvalid)
	}
	gone := c.left[:d]
	c.left = c.left[d:]
	for i, db := range []*engine.DB{c.a, c.b} {
		part := gone[:(d+1)/2]
		if i == 1 {
			part = gone[(d+1)/2:]
		}
		if err := e.deleteKeys(db, k, part); err != nil {
			return synced{}, err
		}
		if _, err := db.Collect(e.ctx, keepNothing); err != nil {
			return synced{}, err
		}
		if _, err := db.State(e.ctx); err != nil { // as after any sync or proof
			return synced{}, err
		}
	}
	runtime.GC() // of the deleting
	s, err := e.sync(c.a, c.b, 0)
	if err != nil {
		return s, fmt.Errorf("%d of %d keys differ: %w", d, c.n, err)
	}
	return s, nil
}

// keepNothing is the retention of superseded versions and tombstones that S4
// and P5 collect by.
var keepNothing = engine.Retention{Versions: -1, Age: -1, TombstoneAge: -1}

// deleteKeys deletes keys in one transaction.
func (e *env) deleteKeys(db *engine.DB, k keys, numbers []int) error {
	return db.Update(e.ctx, func(t *engine.Txn) error {
		for _, i := range numbers {
			if _, err := t.Delete(k.key(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// comparing are the frames of a comparison of live versions; all others but
// BATCH say what both sides know and agree on.
var comparing = []string{"REPAIR", "CELLS", "MORE", "WALK", "OFFER", "FIX"}

// metadata returns the bytes of all frames but those that carry versions, and
// how many of them belong to the comparison.
func (s synced) metadata() (all, compare float64) {
	for name, t := range s.report.Frames {
		if name != "BATCH" {
			all += float64(t.BytesOut + t.BytesIn)
		}
	}
	for _, name := range comparing {
		t := s.report.Frames[name]
		compare += float64(t.BytesOut + t.BytesIn)
	}
	return all, compare
}

// idBytes is what the digests of d keys take: nobody who names what differs by
// whole digests does with less.
func idBytes(d int) Baseline { return Baseline{"32-byte-ids", 32 * float64(d)} }

// runS4 lets two stores differ by keys that clocks say nothing about, and looks
// at what finding them costs. Bases of several sizes take turns.
func runS4(e *env) error {
	const k = sequential
	var couples []*couple
	for _, n := range e.size.alike {
		c, err := e.newCouple(n, k)
		if err != nil {
			return err
		}
		couples = append(couples, c)
	}
	for _, d := range e.size.differing {
		for range max(min(e.size.repeats, e.size.alike[0]/(4*d)), 1) { // most keys are to stay
			for _, c := range couples {
				if err := e.recordDiffer(c, k, d); err != nil {
					return err
				}
			}
		}
		if err := e.recordGrowth(couples, k, d); err != nil {
			return err
		}
	}
	return nil
}

// recordDiffer lets a couple differ by d keys and emits what the sync cost.
func (e *env) recordDiffer(c *couple, k keys, d int) error {
	s, err := e.differ(c, k, d)
	if err != nil {
		return err
	}
	c.cpu = append(c.cpu, float64(s.cpu.Microseconds()))
	params := Params{{"base", c.n}, {"differing", d}, {"tier", s.tier()}, {"keys", k}}
	all, compare := s.metadata()
	for _, part := range []struct {
		name  string
		bytes float64
		base  Baseline
	}{{"all", all, idBytes(d)}, {"comparison", compare, idBytes(d)}, {"rest", all - compare, Baseline{}}} {
		if err := e.record("metadata_bytes", part.bytes, params.with(Param{"part", part.name}), part.base); err != nil {
			return err
		}
	}
	return e.recordSync(s, params, Baseline{})
}

// tier returns the deepest way of comparing that any namespace needed.
func (s synced) tier() string {
	tier := "equal"
	for _, ns := range s.report.Namespaces {
		if ns.Tier != "equal" {
			tier = ns.Tier
		}
	}
	return tier
}

// recordGrowth emits the processor time of the largest base by that of the
// smallest, the medians of what was noted since the last time.
func (e *env) recordGrowth(couples []*couple, k keys, d int) error {
	first, last := couples[0], couples[len(couples)-1]
	_, small, _ := spread(first.cpu)
	_, large, _ := spread(last.cpu)
	for _, c := range couples {
		c.cpu = nil
	}
	if small == 0 || first == last {
		return nil // not known on this system, or nothing to compare
	}
	params := Params{{"base", last.n}, {"differing", d}, {"keys", k}, {"of", "cpu_us"}}
	return e.record("ratio", large/small, params, Baseline{fmt.Sprintf("base-%d", first.n), 1})
}
