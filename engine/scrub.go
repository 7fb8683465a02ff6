package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"bzzz/engine/replica"
)

const (
	// DefaultScrubInterval is how often everything is checked in the background:
	// a week, far below the time in which a second copy is likely to rot too.
	DefaultScrubInterval = 7 * 24 * time.Hour
	// scrubStep is how many keys, records or entries one step looks at: some
	// milliseconds of one core, beside readers and the writer.
	scrubStep = 1024
	// scrubRestMin and scrubRestMax bound the rest between steps: the first holds
	// the work below a few percent of a core, the second lets a small store be
	// through within hours.
	scrubRestMin = 100 * time.Millisecond
	scrubRestMax = 10 * time.Minute
	// scrubDelay is how long after Open the first step comes, so that a program
	// that opens a store for a moment does nothing of this.
	scrubDelay = time.Minute
	// scrubSave is how often a pass under way is stored: one commit each.
	scrubSave = 10 * time.Minute
	// mendBatch is how many keys one transaction of a repair changes, so that
	// writers wait a few milliseconds at most.
	mendBatch = 256
)

// ScrubStats is how far the background check of a namespace has come.
type ScrubStats struct {
	LastPass time.Time `json:"last_pass"` // when everything had been checked last; zero if never
	Checked  uint64    `json:"checked"`   // keys, records and entries of the pass under way
	Passes   uint64    `json:"passes"`    // complete ones
	// Of all passes, and of what damaged reads led to:
	Found      uint64 `json:"found"`      // problems
	Repaired   uint64 `json:"repaired"`   // made anew from what was sound
	Asked      uint64 `json:"asked"`      // versions that peers were asked for
	Forgotten  uint64 `json:"forgotten"`  // damaged records of the past that were let go
	Unrepaired uint64 `json:"unrepaired"` // nothing helps but another copy of the store
}

// count adds findings.
func (s *ScrubStats) count(problems []Problem) {
	s.Found += uint64(len(problems))
	for _, p := range problems {
		switch p.Outcome {
		case OutcomeRepaired:
			s.Repaired++
		case OutcomeAsked:
			s.Asked++
		case OutcomeForgotten:
			s.Forgotten++
		default:
			s.Unrepaired++
		}
	}
}

// scrubKey is the local record of the scrubber. No user's key begins with 0.
var scrubKey = []byte("\x00scrub")

// scrubFormat is the first byte of that record.
const scrubFormat = 1

// scrubber is what a namespace knows of its background check.
type scrubber struct {
	mu    sync.Mutex // guards stats
	stats ScrubStats
	pass  replica.Pass // the loop's alone, as all that follows
	begun time.Time    // of the pass
	next  time.Time    // when the next step is due
	saved time.Time
}

// append appends the record:
//
//	format u8 | last pass i64 | begun i64, milliseconds since 1970
//	passes uv | found uv | repaired uv | asked uv | forgotten uv | unrepaired uv | Pass
func (s *scrubber) append(b []byte) ([]byte, error) {
	st := s.snapshot()
	b = append(b, scrubFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(millisOf(st.LastPass)))
	b = binary.BigEndian.AppendUint64(b, uint64(millisOf(s.begun)))
	for _, n := range []uint64{st.Passes, st.Found, st.Repaired, st.Asked, st.Forgotten, st.Unrepaired} {
		b = binary.AppendUvarint(b, n)
	}
	return s.pass.AppendBinary(b)
}

// decode reads what append wrote. ErrInvalid if it is malformed.
func (s *scrubber) decode(b []byte) error {
	if len(b) < 17 || b[0] != scrubFormat {
		return fmt.Errorf("scrub record of %d bytes: %w", len(b), ErrInvalid)
	}
	last, begun := binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
	var n [6]uint64
	b = b[17:]
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return fmt.Errorf("scrub record: %w", ErrInvalid)
		}
		n[i], b = v, b[size:]
	}
	if err := s.pass.UnmarshalBinary(b); err != nil {
		return err
	}
	s.begun = timeOf(int64(begun))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = ScrubStats{
		LastPass: timeOf(int64(last)), Checked: s.pass.Checked(), Passes: n[0], Found: n[1],
		Repaired: n[2], Asked: n[3], Forgotten: n[4], Unrepaired: n[5],
	}
	return nil
}

func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(millis int64) time.Time {
	if millis <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// snapshot returns the figures of this moment.
func (s *scrubber) snapshot() ScrubStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// note counts findings, and how far the pass is.
func (s *scrubber) note(problems []Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.count(problems)
	s.stats.Checked = s.pass.Checked()
}

// scrubLoop checks all namespaces in small steps, and mends what reads met.
func (db *DB) scrubLoop() {
	wake := time.NewTimer(scrubDelay)
	defer wake.Stop()
	pause := time.NewTimer(0) // after reads that met damage
	defer pause.Stop()
	met := db.met
	for {
		select {
		case <-db.ended:
			return
		case n := <-met:
			db.mendReads(n)
			met = nil // what comes meanwhile waits, or is dropped
			pause.Reset(metRest)
		case <-pause.C:
			met = db.met
		case <-wake.C:
			wake.Reset(db.scrubDue())
		}
	}
}

// scrubDue runs the steps that are due, and returns how long to rest.
func (db *DB) scrubDue() time.Duration {
	if db.opts.ScrubInterval < 0 || db.poisoned.Load() != nil {
		return scrubRestMax
	}
	rest := scrubRestMax
	for _, ns := range db.spaces() {
		s := &ns.scrub
		if wait := time.Until(s.next); wait > 0 {
			rest = min(rest, wait)
			continue
		}
		wait, err := ns.scrubOnce(context.Background())
		if err != nil {
			wait = scrubRestMax
			if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
				db.opts.Logger.Warn("background check", "namespace", ns.name, "error", err)
			}
		}
		s.next = time.Now().Add(wait)
		rest = min(rest, wait)
	}
	return max(rest, scrubRestMin)
}

// scrubOnce does the next step of the namespace's pass, if one is under way or
// due, and returns how long to rest then.
func (ns *Namespace) scrubOnce(ctx context.Context) (rest time.Duration, err error) {
	s := &ns.scrub
	interval := ns.db.opts.ScrubInterval
	now := time.Now()
	if s.begun.IsZero() {
		if wait := s.snapshot().LastPass.Add(interval).Sub(now); wait > 0 && wait <= interval {
			return min(wait, scrubRestMax), nil
		}
		s.begun = now
	}
	var steps uint64
	problems, done, err := ns.scrubStep(ctx, &s.pass, scrubStep, true, func(v *replica.View) { steps = passSteps(v) })
	if err != nil {
		return 0, err
	}
	s.note(problems)
	if len(problems) > 0 {
		ns.db.opts.Logger.Warn("damage found in the background", "namespace", ns.name, "problems", len(problems))
	}
	if done {
		s.mu.Lock()
		s.stats.LastPass, s.stats.Checked = now.UTC(), 0
		s.stats.Passes++
		s.mu.Unlock()
		s.begun = time.Time{}
	}
	if done || len(problems) > 0 || now.Sub(s.saved) >= scrubSave {
		if err := ns.saveScrub(ctx); err != nil {
			return 0, err
		}
	}
	return min(max(interval/time.Duration(steps), scrubRestMin), scrubRestMax), nil
}

// passSteps returns about how many steps a pass has: each version is met in the
// journal, at its head, in the dots view and in the tree.
func passSteps(v *replica.View) uint64 {
	c := v.Counts()
	return 8 + (c.Journal+3*(c.Versions+c.Tombstones))/scrubStep
}

// loadScrub reads how far the check had come. Damage to the record only costs a
// pass, and its figures.
func (ns *Namespace) loadScrub(rd *replica.Reader) {
	b, err := rd.Local(scrubKey)
	if err == nil && b != nil {
		err = ns.scrub.decode(b)
	}
	if err != nil {
		ns.db.opts.Logger.Warn("the background check begins anew", "namespace", ns.name, "error", err)
	}
}

func (ns *Namespace) saveScrub(ctx context.Context) error {
	b, err := ns.scrub.append(nil)
	if err != nil {
		return err
	}
	ns.scrub.saved = time.Now()
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		batch, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		err = batch.SetLocal(scrubKey, b)
		return err, err
	}})
}

// scrubStep checks the next part of a pass and, if told to, mends what it found:
// each problem says what became of it. look, if not nil, sees the same state.
func (ns *Namespace) scrubStep(ctx context.Context, p *replica.Pass, limit int, mend bool, look func(*replica.View)) (out []Problem, done bool, err error) {
	var found []replica.Problem
	var plan *replica.Plan
	err = ns.fullView(ctx, func(v *replica.View) (err error) {
		if look != nil {
			look(v)
		}
		if done, err = v.Scrub(p, limit, func(x replica.Problem) { found = append(found, x) }); err != nil || !mend || len(found) == 0 {
			return err
		}
		plan, err = v.Plan(found)
		return err
	})
	if err == nil && plan != nil {
		err = ns.mend(ctx, plan)
	}
	if err != nil {
		return nil, false, err
	}
	for i := range found {
		out = append(out, ns.problem(&found[i], plan != nil))
	}
	return out, done, nil
}

// mend carries out a plan in bounded transactions.
func (ns *Namespace) mend(ctx context.Context, plan *replica.Plan) error {
	for done := false; !done; {
		err := ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
			b, err := g.batch(ns)
			if err != nil {
				return err, nil
			}
			if done, err = b.Mend(plan, mendBatch); err == nil {
				g.reloadRules(ns)
				g.after = append(g.after, ns.roots.forget)
			}
			return err, err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// forget drops what was derived from heads that have been mended.
func (c *rootCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid, c.update, c.recent, c.sketch, c.due = false, nil, nil, nil, false
}
