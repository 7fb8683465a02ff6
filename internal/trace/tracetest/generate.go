package tracetest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"bzzz/internal/trace"
)

// Shape says what a random trace looks like. The zero value takes the defaults.
type Shape struct {
	Commits int // 60 if 0
	Authors int // at most; 5 if 0
	Paths   int // at most; 12 if 0
}

// Generate returns a valid trace, the same for the same seed and shape. It
// branches and merges at random: several commits without parents, merges of up
// to four parents and of parents that know each other, criss-cross merges, a
// parent named twice, deletes and rewrites on all sides, merges that agree with
// no parent, clocks that jump, and heads with children.
func Generate(seed uint64, s Shape) *trace.Trace {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 1)), t: &trace.Trace{}}
	defaults := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	defaults(&s.Commits, 60)
	defaults(&s.Authors, 5)
	defaults(&s.Paths, 12)
	g.shape = s
	for len(g.states) < s.Commits {
		g.step()
	}
	return g.finish()
}

type generator struct {
	*rand.Rand
	shape  Shape
	t      *trace.Trace
	states []map[string]trace.File // of every commit
}

// step adds a commit, or the two of a criss-cross.
func (g *generator) step() {
	n := len(g.states)
	switch dice := g.IntN(20); {
	case n == 0 || dice == 0:
		g.add(nil)
	case dice < 10:
		g.add([]int{g.recent()})
	case dice < 12:
		p := g.recent()
		g.add([]int{p, g.recent(), p})
	case dice < 14:
		a, b := g.recent(), g.recent()
		g.add([]int{a, b})
		g.add([]int{b, a})
	case dice < 15:
		g.add([]int{g.recent(), g.recent(), g.recent(), g.recent()})
	default:
		g.add([]int{g.recent(), g.recent()})
	}
}

// recent picks a parent, mostly among the last commits.
func (g *generator) recent() int {
	n := len(g.states)
	if g.IntN(10) == 0 {
		return g.IntN(n)
	}
	return n - 1 - g.IntN(min(n, 6))
}

// add appends a commit: every path takes the state of one of the parents, and
// some are edited or deleted on top.
func (g *generator) add(parents []int) {
	state := map[string]trace.File{}
	for i := range g.shape.Paths {
		path := fmt.Sprintf("dir%d/file%d", i%3, i)
		if len(parents) > 0 {
			if f, ok := g.states[parents[g.IntN(len(parents))]][path]; ok {
				state[path] = f
			}
		}
		switch g.IntN(12) {
		case 0:
			state[path] = g.file()
		case 1:
			delete(state, path)
		}
	}
	c := trace.Commit{
		ID: len(g.states), Parents: parents, Author: g.IntN(g.shape.Authors), Set: map[string]trace.File{},
		Time: time.Unix(1_600_000_000+int64(len(g.states))*60+int64(g.IntN(100_000)), 0).UTC(),
	}
	before := []map[string]trace.File{nil}
	if len(parents) > 0 {
		before = before[:0]
		for _, p := range parents {
			before = append(before, g.states[p])
		}
	}
	for path, f := range state {
		if slices.ContainsFunc(before, func(b map[string]trace.File) bool { old, ok := b[path]; return !ok || old != f }) {
			c.Set[path] = f
		}
	}
	gone := map[string]bool{}
	for _, b := range before {
		for path := range b {
			if _, ok := state[path]; !ok {
				gone[path] = true
			}
		}
	}
	c.Del = slices.Sorted(maps.Keys(gone))
	g.t.Commits = append(g.t.Commits, c)
	g.states = append(g.states, state)
}

// file picks one of few contents, so that different authors write the same.
func (g *generator) file() (f trace.File) {
	n := g.IntN(40)
	binary.BigEndian.PutUint64(f.Hash[:], uint64(n))
	f.Size = int64(n * n)
	return f
}

// finish picks the head, counts, and renames the authors to 0, 1, 2...
func (g *generator) finish() *trace.Trace {
	authors, paths := map[int]int{}, map[string]bool{}
	for i := range g.t.Commits {
		c := &g.t.Commits[i]
		if _, ok := authors[c.Author]; !ok {
			authors[c.Author] = len(authors)
		}
		c.Author = authors[c.Author]
		for path := range c.Set {
			paths[path] = true
		}
		for _, path := range c.Del {
			paths[path] = true
		}
	}
	g.t.Authors, g.t.Paths = len(authors), len(paths)
	g.t.Head = len(g.states) - 1
	if g.IntN(3) == 0 {
		g.t.Head = g.IntN(len(g.states))
	}
	g.t.Tree = maps.Clone(g.states[g.t.Head])
	return g.t
}
