package crdttest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/crdt/crdttest"
)

// store is a merge's state: the siblings of each key, and what some of the
// wrong merges keep besides.
type store struct {
	held  map[string]crdt.Siblings
	clock crdt.Clock
	max   map[crdt.ReplicaID]uint64
}

func newStore() *store {
	return &store{map[string]crdt.Siblings{}, crdt.NewClock(), map[crdt.ReplicaID]uint64{}}
}

// merge returns a merge that applies versions by f.
func merge(f func(s *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings) crdttest.Merge[*store] {
	return crdttest.Merge[*store]{
		New: newStore,
		Apply: func(s *store, v *crdt.Version) *store {
			s.held[string(v.Key)] = f(s, s.held[string(v.Key)], v)
			return s
		},
		Siblings: func(s *store, key string) crdt.Siblings { return s.held[key] },
	}
}

func apply(_ *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
	next, _ := held.Apply(v)
	return next
}

func TestApplyKeepsTheLaws(t *testing.T) {
	t.Parallel()
	crdttest.Laws(t, merge(apply))
}

func TestApplyWithJoinKeepsTheLaws(t *testing.T) {
	t.Parallel()
	m := merge(apply)
	m.Join = func(a, b *store) *store {
		for key, s := range b.held {
			a.held[key] = crdt.Maximal(slices.Concat(a.held[key], s))
		}
		return a
	}
	crdttest.Laws(t, m)
}

func TestClockOfDotsKeepsTheLaws(t *testing.T) {
	t.Parallel()
	crdttest.Laws(t, merge(func(s *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
		if s.clock.Has(v.Dot) {
			return held
		}
		s.clock.Add(v.Dot)
		return apply(s, held, v)
	}))
}

// Every planted mistake is caught, and by the law that it breaks.
func TestLawsCatchWrongMerges(t *testing.T) {
	t.Parallel()
	winner := func(pick func(a, b *crdt.Version) bool) func(*store, crdt.Siblings, *crdt.Version) crdt.Siblings {
		return func(_ *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			if len(held) == 0 || pick(v, held[0]) {
				return crdt.Siblings{v}
			}
			return held
		}
	}
	tests := []struct {
		name string
		m    crdttest.Merge[*store]
		want string // part of the message
	}{
		{"last applied wins", merge(winner(func(_, _ *crdt.Version) bool { return true })), "law broken"},
		{"greatest time alone, ties by arrival", merge(winner(func(v, held *crdt.Version) bool { return held.Time <= v.Time })), "law broken"},
		{"losers of a race forgotten", merge(winner(func(v, held *crdt.Version) bool { return held.Before(v) })), "law broken"},
		{"max counter instead of gaps", merge(func(s *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			if v.Dot.Seq <= s.max[v.Dot.Replica] {
				return held
			}
			s.max[v.Dot.Replica] = v.Dot.Seq
			return apply(s, held, v)
		}), "law broken"},
		{"tombstones dropped on arrival", merge(func(s *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			return apply(s, held, v).Live()
		}), "law broken"},
		{"duplicates kept", merge(func(_ *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			next := crdt.Siblings{v}
			for _, o := range held {
				if !v.Covers(o.Dot) {
					next = append(next, o)
				}
			}
			return next
		}), "law broken"},
		{"only direct parents leave", merge(func(_ *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			if slices.ContainsFunc(held, func(o *crdt.Version) bool { return o.Dot == v.Dot }) {
				return held
			}
			direct := v.Context.Direct()
			next := slices.DeleteFunc(slices.Clone(held), func(o *crdt.Version) bool { return slices.Contains(direct, o.Dot) })
			return append(next, v)
		}), "causally later"},
		{"covered arrivals join", merge(func(_ *store, held crdt.Siblings, v *crdt.Version) crdt.Siblings {
			next, _ := slices.DeleteFunc(slices.Clone(held), func(o *crdt.Version) bool { return o.Covers(v.Dot) }).Apply(v)
			return next
		}), "law broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := crdttest.Check(tt.m, 1, 200, 150)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check = %v, want %q", err, tt.want)
			}
		})
	}
}

// The laws hold writers to their contexts too.
func TestLawsCatchWrongContexts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		context func(crdt.Siblings) crdt.Context
	}{
		{"nothing", func(crdt.Siblings) crdt.Context { return nil }},
		{"without own tombstone (KERNEL trace 1)", func(s crdt.Siblings) crdt.Context { return crdt.Join(s.Live()...) }},
		{"without the parents' contexts", func(s crdt.Siblings) crdt.Context {
			return slices.DeleteFunc(crdt.Join(s...), func(p crdt.Parent) bool { return !p.Direct })
		}},
		{"without the parents", func(s crdt.Siblings) crdt.Context {
			return slices.DeleteFunc(crdt.Join(s...), func(p crdt.Parent) bool { return p.Direct })
		}},
		{"of the winner alone", func(s crdt.Siblings) crdt.Context {
			return crdt.Join(s.Sorted()[:min(1, len(s))]...)
		}},
		{"one too many", func(s crdt.Siblings) crdt.Context {
			c := crdt.Join(s...)
			for i := range c {
				c[i].Seq++
			}
			return c
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := merge(apply)
			m.Gen.Context = tt.context
			if err := crdttest.Check(m, 1, 200, 150); err == nil {
				t.Error("not caught")
			}
		})
	}
}

// The generator makes what the kernel fears: gaps, concurrent siblings, writes
// over tombstones, implicit cover. Versions are valid, their contexts true.
func TestHistoriesAreHonestAndVaried(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	found := map[string]int{}
	for range 300 {
		h := crdttest.Gen{Writes: 2 + r.IntN(40)}.History(r)
		if len(h.Keys()) > 1 {
			found["several keys"]++
		}
		for i, v := range h.Versions {
			if err := v.Validate(); err != nil {
				t.Fatal(err)
			}
			for j, o := range h.Versions {
				if got, want := o.Covers(v.Dot) && string(v.Key) == string(o.Key), h.Past[j].Has(i); got != want {
					t.Fatalf("write %d covers write %d: %v, in truth %v\n%s", j, i, got, want, h)
				}
				if h.Past[j].Has(i) {
					found["cover"]++
					if v.Time >= o.Time {
						t.Fatalf("write %d is not later than %d\n%s", j, i, h)
					}
					if v.Kind == crdt.Delete {
						found["over a tombstone"]++
					}
				}
			}
			if c := v.Context.Seq(v.Dot.Replica); c != 0 && c < v.Dot.Seq-1 {
				found["gap"]++
			}
		}
		for _, key := range h.Keys() {
			if !slices.EqualFunc(h.Spec(h.All(), key), crdt.Maximal(ofKey(h, key)), func(a, b *crdt.Version) bool { return a == b }) {
				t.Fatalf("Spec and Maximal differ on %s\n%s", key, h)
			}
			if len(h.Spec(h.All(), key)) > 1 {
				found["siblings"]++
			}
		}
	}
	for _, what := range []string{"several keys", "cover", "over a tombstone", "gap", "siblings"} {
		if found[what] < 100 {
			t.Errorf("%s: seen %d times, want at least 100", what, found[what])
		}
	}
}

func ofKey(h crdttest.History, key string) crdt.Siblings {
	return slices.DeleteFunc(slices.Clone(h.Versions), func(v *crdt.Version) bool { return string(v.Key) != key })
}

// right is what KERNEL "Counter" asks for.
func right() crdttest.Counter {
	return crdttest.Counter{
		Count: func(seen crdt.Slot, delta int64) crdt.Slot { next, _ := seen.Count(delta); return next },
		Reset: crdt.Slot.Reset,
		Fold:  crdt.FoldSlot,
	}
}

func TestSlotKeepsTheCounterLaws(t *testing.T) {
	t.Parallel()
	crdttest.CounterLaws(t, right())
}

func TestCounterLawsCatchWrongCounters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		plant func(*crdttest.Counter)
	}{
		{"count after a reset drops the floor", func(c *crdttest.Counter) {
			c.Count = func(seen crdt.Slot, delta int64) crdt.Slot {
				next, _ := crdt.Slot{Plus: seen.Plus, Minus: seen.Minus}.Count(delta)
				return next
			}
		}},
		{"reset forgets the totals", func(c *crdttest.Counter) {
			c.Reset = func(crdt.Slot) crdt.Slot { return crdt.Slot{} }
		}},
		{"reset keeps the negative total", func(c *crdttest.Counter) {
			c.Reset = func(s crdt.Slot) crdt.Slot { s.PlusFloor = s.Plus; return s }
		}},
		{"winner alone", func(c *crdttest.Counter) {
			c.Fold = func(s crdt.Siblings) crdt.Slot { return crdt.FoldSlot(s.Sorted()[:min(1, len(s))]) }
		}},
		{"sum of siblings", func(c *crdttest.Counter) {
			c.Fold = func(s crdt.Siblings) (sum crdt.Slot) {
				for _, v := range s {
					one, _ := crdt.DecodeSlot(v.Value)
					sum.Plus, sum.Minus = sum.Plus+one.Plus, sum.Minus+one.Minus
					sum.PlusFloor, sum.MinusFloor = sum.PlusFloor+one.PlusFloor, sum.MinusFloor+one.MinusFloor
				}
				return sum
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := right()
			tt.plant(&c)
			if err := crdttest.CheckCounter(c, 1, 2000); err == nil {
				t.Error("not caught")
			}
		})
	}
}

func Example() {
	// A register that keeps the greatest stamp alone forgets the losers of a
	// race, which a delete of the winner should bring to light.
	latest := crdttest.Merge[map[string]*crdt.Version]{
		New: func() map[string]*crdt.Version { return map[string]*crdt.Version{} },
		Apply: func(s map[string]*crdt.Version, v *crdt.Version) map[string]*crdt.Version {
			if old := s[string(v.Key)]; old == nil || old.Before(v) {
				s[string(v.Key)] = v
			}
			return s
		},
		Siblings: func(s map[string]*crdt.Version, key string) crdt.Siblings {
			if v := s[key]; v != nil {
				return crdt.Siblings{v}
			}
			return nil
		},
	}
	err := crdttest.Check(latest, 1, 100, 0)
	law, _, _ := strings.Cut(err.Error(), ": key")
	fmt.Println(law)
	// Output: law broken: any order
}
