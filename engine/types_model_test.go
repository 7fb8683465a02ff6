package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/engine"
)

// op is one operation of a random history: what was done, where, and which
// operations that node had seen.
type op struct {
	node int
	what string // of the type, as in model.do
	elem string
	n    int64
	seen map[int]bool
}

// model is several nodes and the whole history of what they did. What a node
// must show is computed from the operations it has seen alone, by the words of
// each type's definition; it knows nothing of versions, contexts and folds.
type model struct {
	t    *testing.T
	dbs  []*engine.DB
	ops  []op
	seen []map[int]bool
}

// note records an operation and returns it.
func (m *model) note(node int, what, elem string, n int64) {
	m.ops = append(m.ops, op{node, what, elem, n, maps.Clone(m.seen[node])})
	m.seen[node][len(m.ops)-1] = true
}

// having calls yield with the operations of a kind that a set has seen.
func (m *model) having(seen map[int]bool, elem string, kinds ...string) (ids []int) {
	for i, o := range m.ops {
		if seen[i] && o.elem == elem && slices.Contains(kinds, o.what) {
			ids = append(ids, i)
		}
	}
	return ids
}

// standing returns the operations of one kind that none of the others, nor a
// later one of the same kind if so told, has seen.
func (m *model) standing(seen map[int]bool, elem, kind string, by ...string) (ids []int) {
	killers := m.having(seen, elem, by...)
	for _, i := range m.having(seen, elem, kind) {
		if !slices.ContainsFunc(killers, func(k int) bool { return m.ops[k].seen[i] }) {
			ids = append(ids, i)
		}
	}
	return ids
}

// counted is the sum of what was added less, for each node that adds, what the
// reset that saw most of its had seen.
func (m *model) counted(seen map[int]bool) (sum int64) {
	total := func(seen map[int]bool, node int, sign int64) (n int64) {
		for _, i := range m.having(seen, "", "count") {
			if o := m.ops[i]; o.node == node && o.n*sign > 0 {
				n += o.n
			}
		}
		return n * sign
	}
	for node := range m.dbs {
		for _, sign := range []int64{1, -1} {
			floor := int64(0)
			for _, r := range m.having(seen, "", "reset") {
				floor = max(floor, total(m.ops[r].seen, node, sign))
			}
			sum += sign * (total(seen, node, sign) - floor)
		}
	}
	return sum
}

var modelElems = []string{"a", "b", "c"}

// in returns the elements that are in one of the sets.
func (m *model) in(seen map[int]bool, set string) (elems []string) {
	for _, e := range modelElems {
		adds := len(m.standing(seen, e, set+"add", set+"remove")) > 0
		if set == "rw" {
			// The last word on the element, of all that are concurrent, is add.
			adds = len(m.standing(seen, e, "rwadd", "rwadd", "rwremove")) > 0 &&
				len(m.standing(seen, e, "rwremove", "rwadd", "rwremove")) == 0
		}
		if adds {
			elems = append(elems, e)
		}
	}
	return elems
}

// top returns the greatest number that was set and not deleted.
func (m *model) top(seen map[int]bool) (n int64, ok bool) {
	for _, i := range m.standing(seen, "", "max", "unmax") {
		if !ok || m.ops[i].n > n {
			n, ok = m.ops[i].n, true
		}
	}
	return n, ok
}

// do does something random at a node, to the node and to the model.
func (m *model) do(rng *rand.Rand, node int) {
	ctx := context.Background()
	db, seen := m.dbs[node], m.seen[node]
	e, n := modelElems[rng.IntN(3)], int64(rng.IntN(41)-20)
	aw, rw, counter := db.Set([]byte("t/s")), db.RemoveWinsSet([]byte("t/r")), db.Counter([]byte("t/c"))
	switch rng.IntN(12) {
	case 0, 1, 2:
		must(m.t, counter.Add(ctx, n))
		m.note(node, "count", "", n)
	case 3:
		must(m.t, counter.Reset(ctx))
		m.note(node, "reset", "", 0)
	case 4:
		must(m.t, aw.Add(ctx, []byte(e)))
		m.note(node, "awadd", e, 0)
	case 5:
		must(m.t, aw.Remove(ctx, []byte(e)))
		m.note(node, "awremove", e, 0)
	case 6:
		must(m.t, rw.Add(ctx, []byte(e)))
		m.note(node, "rwadd", e, 0)
	case 7:
		must(m.t, rw.Remove(ctx, []byte(e)))
		m.note(node, "rwremove", e, 0)
	case 8:
		must(m.t, db.Max([]byte("t/n")).Set(ctx, n))
		if old, ok := m.top(seen); !ok || n > old {
			m.note(node, "max", "", n)
		}
	case 9:
		must(m.t, db.Max([]byte("t/n")).Delete(ctx))
		m.note(node, "unmax", "", 0)
	case 10:
		must(m.t, db.Map([]byte("t/m")).Put(ctx, []byte(e), fmt.Append(nil, len(m.ops))))
		m.note(node, "put", e, 0)
	case 11:
		if rng.IntN(3) > 0 {
			must(m.t, db.Map([]byte("t/m")).Delete(ctx, []byte(e)))
			m.note(node, "unput", e, 0)
		} else {
			_, err := db.DeletePrefix(ctx, []byte("t/"))
			must(m.t, err)
			m.clear(node)
		}
	}
}

// clear notes what DeletePrefix does.
func (m *model) clear(node int) {
	held := m.in(m.seen[node], "rw")
	m.note(node, "reset", "", 0)
	m.note(node, "unmax", "", 0)
	for _, e := range modelElems {
		m.note(node, "awremove", e, 0)
		m.note(node, "unput", e, 0)
		if slices.Contains(held, e) { // a removal that stays: only where there is something
			m.note(node, "rwremove", e, 0)
		}
	}
}

// check compares what a node shows with what it has to.
func (m *model) check(node int) {
	m.t.Helper()
	ctx := context.Background()
	db, seen := m.dbs[node], m.seen[node]
	if got, want := get[int64](m.t)(db.Counter([]byte("t/c")).Value(ctx)), m.counted(seen); got != want {
		m.t.Fatalf("node %d counts %d, want %d", node, got, want)
	}
	for set, h := range map[string]engine.Set{"aw": db.Set([]byte("t/s")), "rw": db.RemoveWinsSet([]byte("t/r"))} {
		if got, want := text(m.t, h.All(ctx)), strings.Join(m.in(seen, set), " "); got != want {
			m.t.Fatalf("node %d has %q in its %s set, want %q", node, got, set, want)
		}
	}
	want, ok := m.top(seen)
	got, err := db.Max([]byte("t/n")).Value(ctx)
	if got != want || ok == errors.Is(err, engine.ErrNotFound) {
		m.t.Fatalf("node %d has maximum %d (%v), want %d (%v)", node, got, err, want, ok)
	}
	for _, e := range modelElems {
		puts := m.standing(seen, e, "put", "put", "unput")
		r := get[engine.Record](m.t)(db.Map([]byte("t/m")).GetAll(ctx, []byte(e)))
		var values []string
		for _, v := range r.Siblings {
			if v.Value != nil {
				values = append(values, string(v.Value))
			}
		}
		slices.Sort(values)
		var stand []string
		for _, i := range puts {
			stand = append(stand, fmt.Sprint(i))
		}
		slices.Sort(stand)
		if !slices.Equal(values, stand) {
			m.t.Fatalf("node %d holds %v in field %s, want %v", node, values, e, stand)
		}
	}
}

// meet syncs two nodes.
func (m *model) meet(a, b int) {
	syncBoth(m.t, m.dbs[a], m.dbs[b])
	maps.Copy(m.seen[a], m.seen[b])
	maps.Copy(m.seen[b], m.seen[a])
}

// TestTypesMatchTheirDefinitions runs random operations on three nodes that
// meet at random and compares every node with the definitions at every step.
func TestTypesMatchTheirDefinitions(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			m := &model{t: t, dbs: nodes(t, 3)}
			for range m.dbs {
				m.seen = append(m.seen, map[int]bool{})
			}
			for range 120 {
				node := rng.IntN(3)
				if rng.IntN(5) == 0 {
					m.meet(node, (node+1)%3)
					m.check((node + 1) % 3)
				} else {
					m.do(rng, node)
				}
				m.check(node)
			}
			for range 2 {
				m.meet(0, 1)
				m.meet(0, 2)
			}
			for node := range m.dbs {
				m.check(node)
			}
		})
	}
}
