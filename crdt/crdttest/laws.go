// Package crdttest is a kit of laws: it runs any merge of versions through
// every order, regrouping and duplication of small histories and through many
// of larger ones, and compares it with an executable definition that folds the
// set of all versions.
//
// A merge passes if what a replica holds of a key is a function of the set of
// writes it has received, and of nothing else: whatever the order, the
// repetitions, and the way they came (one by one or as another replica's
// state). The histories are made by honest replicas that deliver in part, in
// any order, and so hold gaps and unseen tombstones; see Gen.
//
// The laws are those of Shapiro et al., "Conflict-Free Replicated Data Types"
// (SSS 2011); the histories follow the traces that broke simpler rules (KERNEL,
// "Traces"). It is test support: import it from tests only.
package crdttest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/crdt"
)

// Merge is a merge of versions into states of type S. Functions may change and
// return their first argument; they must not change the second.
type Merge[S any] struct {
	// New returns the state of a replica that has received nothing.
	New func() S
	// Apply receives one version.
	Apply func(S, *crdt.Version) S
	// Join receives all that another state stands for. Without it, the kit
	// applies the other's siblings one by one.
	Join func(a, b S) S
	// Siblings returns the siblings of a key, tombstones included, in any order.
	Siblings func(S, string) crdt.Siblings
	// Gen says what histories to run. Its defaults suit every merge.
	Gen Gen
}

// Laws fails t with the first law that m breaks and the history that shows it.
// It runs 200 small histories in every order and 150 large ones: about 900,000
// calls of Apply. For a merge that is not in memory call Check with less.
func Laws[S any](t testing.TB, m Merge[S]) {
	t.Helper()
	if err := Check(m, 1, 200, 150); err != nil {
		t.Fatal(err)
	}
}

// Check is Laws as a function: it returns the first broken law, or nil. The
// same seed runs the same histories: small ones of up to 4 writes in every
// order, large ones of up to MaxWrites in random ones.
func Check[S any](m Merge[S], seed uint64, small, large int) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range small {
		g := m.Gen
		g.Writes, g.Keys, g.Replicas = 1+i%4, 1+r.IntN(2), 1+r.IntN(3)
		if err := m.everyOrder(g.History(r)); err != nil {
			return err
		}
	}
	for range large {
		g := m.Gen
		g.Writes, g.Keys, g.Replicas = 5+r.IntN(MaxWrites-4), 1+r.IntN(4), 1+r.IntN(6)
		h := g.History(r)
		for range 4 {
			if err := m.oneOrder(h, Set(r.Uint64())&h.All(), r); err != nil {
				return err
			}
			if err := m.oneGrouping(h, Set(r.Uint64())&h.All(), Set(r.Uint64())&h.All(), Set(r.Uint64())&h.All()); err != nil {
				return err
			}
		}
	}
	return nil
}

// everyOrder runs a small history in every order, with every write repeated
// at every later place, and in every grouping of its subsets.
func (m Merge[S]) everyOrder(h History) error {
	n := len(h.Versions)
	for order := range permutations(n) {
		if err := m.matches(h, m.fold(h, order), order, "any order"); err != nil {
			return err
		}
		for i := range order {
			for at := i + 1; at <= n; at++ {
				twice := slices.Insert(slices.Clone(order), at, order[i])
				if err := m.matches(h, m.fold(h, twice), twice, "any duplication"); err != nil {
					return err
				}
			}
		}
	}
	all := h.All()
	for a := Set(0); a <= all; a++ {
		for b := Set(0); b <= all; b++ {
			if err := m.oneGrouping(h, a, b, all&^a); err != nil {
				return err
			}
		}
	}
	return nil
}

// oneOrder runs a part of a history in a random order with random repetitions.
func (m Merge[S]) oneOrder(h History, part Set, r *rand.Rand) error {
	order := h.indices(part)
	for _, i := range order {
		if r.IntN(3) == 0 {
			order = append(order, i)
		}
	}
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return m.matches(h, m.fold(h, order), order, "any order, any duplication")
}

// oneGrouping joins the states of three replicas that received a, b and c.
func (m Merge[S]) oneGrouping(h History, a, b, c Set) error {
	state := func(s Set) S { return m.fold(h, h.indices(s)) }
	laws := []struct {
		name string
		got  S
		want Set
	}{
		{"idempotent", m.join(h, state(a), state(a)), a},
		{"state = writes", m.join(h, state(a), state(b)), a | b},
		{"commutative", m.join(h, state(b), state(a)), a | b},
		{"associative, left", m.join(h, m.join(h, state(a), state(b)), state(c)), a | b | c},
		{"associative, right", m.join(h, state(a), m.join(h, state(b), state(c))), a | b | c},
	}
	for _, l := range laws {
		if err := m.matches(h, l.got, h.indices(l.want), l.name); err != nil {
			return fmt.Errorf("%w\na = %v, b = %v, c = %v", err, h.indices(a), h.indices(b), h.indices(c))
		}
	}
	delta := state(a)
	for _, i := range h.indices(b) {
		delta = m.join(h, delta, m.Apply(m.New(), h.Versions[i]))
	}
	return m.matches(h, delta, h.indices(a|b), "delta = state")
}

// fold applies writes in the given order.
func (m Merge[S]) fold(h History, order []int) S {
	s := m.New()
	for _, i := range order {
		s = m.Apply(s, h.Versions[i])
	}
	return s
}

// join joins two states.
func (m Merge[S]) join(h History, a, b S) S {
	if m.Join != nil {
		return m.Join(a, b)
	}
	for _, key := range h.Keys() {
		for _, v := range m.Siblings(b, key) {
			a = m.Apply(a, v)
		}
	}
	return a
}

// matches compares a state with the definition.
func (m Merge[S]) matches(h History, s S, order []int, law string) error {
	received := Set(0)
	for _, i := range order {
		received |= 1 << i
	}
	for _, key := range h.Keys() {
		want, got := dotsOf(h.Spec(received, key)), dotsOf(m.Siblings(s, key))
		if slices.Equal(got, want) {
			continue
		}
		if h.showsOverwritten(received, m.Siblings(s, key)) {
			law = "a causally later write wins"
		}
		return fmt.Errorf("law broken: %s: key %s holds %v, want %v, after writes %v of\n%s", law, key, got, want, order, h)
	}
	return nil
}

// showsOverwritten reports whether siblings show a write although one that
// supersedes it was received.
func (h History) showsOverwritten(received Set, got crdt.Siblings) bool {
	for i, v := range h.Versions {
		for j := range h.Versions {
			if received.Has(j) && h.Past[j].Has(i) && holds(got, v.Dot) {
				return true
			}
		}
	}
	return false
}

func dotsOf(s crdt.Siblings) []crdt.Dot {
	out := make([]crdt.Dot, len(s))
	for i, v := range s {
		out[i] = v.Dot
	}
	slices.SortFunc(out, crdt.Dot.Compare)
	return out
}

// permutations yields all orders of 0..n-1, in one slice that it reuses.
func permutations(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		p := make([]int, n)
		for i := range p {
			p[i] = i
		}
		var from func(k int) bool
		from = func(k int) bool {
			if k == n {
				return yield(p)
			}
			for i := k; i < n; i++ {
				p[k], p[i] = p[i], p[k]
				more := from(k + 1)
				p[k], p[i] = p[i], p[k]
				if !more {
					return false
				}
			}
			return true
		}
		from(0)
	}
}
