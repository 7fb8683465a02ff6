package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// cutAfter lets n frames of a and m of b through.
func cutAfter(n, m int) func(bool, int, wire.Frame) []wire.Frame {
	return func(fromA bool, i int, f wire.Frame) []wire.Frame {
		if fromA && i >= n || !fromA && i >= m {
			return nil
		}
		return []wire.Frame{f}
	}
}

// cuts runs the session of two nodes, cut after every number of frames in
// either direction, and returns what is wrong with either node then, or after
// both have restarted and synced again. mutate may change the nodes of a run.
func cuts(a, b *node, mutate func(a, b *node)) (runs int, err error) {
	whole := newLink(a.clone(), b.clone(), Config{})
	if err := whole.start(); err != nil {
		return 0, err
	}
	whole.close()
	for n := range len(whole.a.log) + 1 {
		for m := range len(whole.b.log) + 1 {
			runs++
			x, y := a.clone(), b.clone()
			if mutate != nil {
				mutate(x, y)
			}
			l := newLink(x, y, Config{})
			l.deliver = cutAfter(n, m)
			runErr := l.start()
			l.close()
			if runErr != nil && !errors.Is(runErr, errCrash) {
				return runs, fmt.Errorf("after %d and %d frames: %w", n, m, runErr)
			}
			if err := errors.Join(x.check("ns"), y.check("ns")); err != nil {
				return runs, fmt.Errorf("cut after %d and %d frames: %w", n, m, err)
			}
			x, y = x.clone(), y.clone()
			if _, _, err := sync(x, y); err != nil {
				return runs, fmt.Errorf("sync after %d and %d frames: %w", n, m, err)
			}
			if err := inSync(x, y, "ns"); err != nil {
				return runs, fmt.Errorf("synced after %d and %d frames: %w", n, m, err)
			}
		}
	}
	return runs, nil
}

func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	runs, err := cuts(a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if runs < 60 {
		t.Errorf("%d cuts: the session has too few frames to test anything", runs)
	}
}

// A node that crashes within any of its transactions has done nothing of it.
func TestCrashInApply(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	for at, crashed := 1, true; crashed; at++ {
		crashed = false
		for _, which := range []int{0, 1} {
			nodes := []*node{a.clone(), b.clone()}
			nodes[which].crashAt = at
			_, _, err := sync(nodes[0], nodes[1])
			crashed = crashed || errors.Is(err, errCrash)
			if err := errors.Join(nodes[0].check("ns"), nodes[1].check("ns")); err != nil {
				t.Fatalf("transaction %d: %v", at, err)
			}
			mustSync(t, nodes[0].clone(), nodes[1].clone())
		}
		if !crashed && at < 4 {
			t.Errorf("%d transactions: too few to test anything", at-1)
		}
	}
}

// What a stream cut within a frame brings is what came before the frame.
func TestCutWithinFrames(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	l := newLink(a.clone(), b.clone(), Config{})
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	l.close()
	for _, log := range [][]wire.Frame{l.a.log, l.b.log} {
		var stream []byte
		var ends []int
		for _, f := range log {
			stream = wire.AppendFrame(stream, f.Type, f.Payload)
			ends = append(ends, len(stream))
		}
		for cut := range stream {
			r := wire.NewReader(strings.NewReader(string(stream[:cut])))
			whole := 0
			var err error
			for err == nil {
				if _, err = r.Next(); err == nil {
					whole++
				}
			}
			if want := ends[max(whole-1, 0)]; whole > 0 && want > cut || whole < len(ends) && ends[whole] <= cut {
				t.Fatalf("cut at byte %d: %d frames were delivered", cut, whole)
			}
		}
	}
}

// Mutants of the rules that adoption stands on: the cut test has to catch each.
func TestCutCatchesMutants(t *testing.T) {
	t.Parallel()
	tests := map[string]func(a, b *node) func(a, b *node){
		// KERNEL K5: adoption in the transaction of the last batch.
		"adoption with the first batch": func(a, b *node) func(a, b *node) {
			clock := a.clock("ns")
			return func(_, b *node) {
				b.adopt = func(_ string, _ []*crdt.Version, d *Adoption) (*Adoption, error) {
					if d == nil {
						d = &Adoption{Dots: clock, Gone: crdt.NewClock()}
					}
					return d, nil
				}
			}
		},
		"adoption before its versions": func(a, b *node) func(a, b *node) {
			return func(_, b *node) {
				b.adopt = func(name string, vs []*crdt.Version, d *Adoption) (*Adoption, error) {
					if d != nil && len(vs) > 0 {
						must(b.batch(name, func(bt *replica.Batch) error { _, err := bt.Adopt(d.Dots, d.Gone); return err }))
						return nil, errCrash
					}
					return d, nil
				}
			}
		},
		// KERNEL traces 4 and 6: the clock is newer than the listing.
		"stale listing": func(a, b *node) func(a, b *node) {
			old := a.clone()
			snap, err := old.kv.Snapshot()
			must(err)
			view, err := old.spaces["ns"].View(snap)
			must(err)
			a.write("ns", "only-a002", "newer than the listing")
			a.remove("ns", "only-a003")
			return func(a, _ *node) {
				a.listing = func(string) *replica.View { return view }
			}
		},
	}
	for name, mutant := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := history(t)
			a.catchUp("ns")
			if runs, err := cuts(a, b, mutant(a, b)); err == nil {
				t.Errorf("%d cuts and nothing found", runs)
			} else {
				t.Log(err)
			}
		})
	}
}

// Frames that are lost, repeated or overtaken by the next: a stream does not
// do that, so the session ends or waits, and whatever happens loses nothing.
func TestFramesOutOfOrder(t *testing.T) {
	t.Parallel()
	a, b := history(t)
	whole := newLink(a.clone(), b.clone(), Config{})
	if err := whole.start(); err != nil {
		t.Fatal(err)
	}
	whole.close()
	faults := map[string]func(held *[]wire.Frame, f wire.Frame) []wire.Frame{
		"lost":     func(*[]wire.Frame, wire.Frame) []wire.Frame { return nil },
		"repeated": func(_ *[]wire.Frame, f wire.Frame) []wire.Frame { return []wire.Frame{f, f} },
		"overtaken": func(held *[]wire.Frame, f wire.Frame) []wire.Frame {
			*held = append(*held, f)
			return nil
		},
	}
	for name, fault := range faults {
		for _, fromA := range []bool{true, false} {
			log := whole.b.log
			if fromA {
				log = whole.a.log
			}
			for at, victim := range log {
				x, y := a.clone(), b.clone()
				l := newLink(x, y, Config{})
				var held []wire.Frame
				l.deliver = func(dir bool, n int, f wire.Frame) []wire.Frame {
					switch {
					case dir == fromA && n == at:
						return fault(&held, f)
					case dir == fromA && len(held) > 0:
						f, held = held[0], append([]wire.Frame{f}, held[1:]...)
						defer func() { held = nil }()
						return []wire.Frame{held[0], f}
					}
					return []wire.Frame{f}
				}
				err := l.start()
				l.close()
				what := fmt.Sprintf("%s %s (frame %d, from a: %v)", name, victim.Type, at, fromA)
				if name != "lost" && len(held) == 0 && err == nil && victim.Type != wire.TypeCredit {
					t.Errorf("%s: accepted", what)
				}
				if err != nil && !errors.Is(err, errs.ErrInvalid) {
					t.Errorf("%s: got %v, want invalid", what, err)
				}
				if name == "lost" && err == nil && l.a.s.Reconciled() && l.b.s.Reconciled() {
					t.Errorf("%s: both think that they are done", what)
				}
				if err := errors.Join(x.check("ns"), y.check("ns")); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				x, y = x.clone(), y.clone()
				mustSync(t, x, y)
			}
		}
	}
}
