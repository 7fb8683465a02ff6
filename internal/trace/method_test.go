package trace_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"

	"github.com/google/go-cmp/cmp"
)

// recorder decorates the reference and writes down what is asked of it.
type recorder struct {
	*tracetest.Reference
	log   []string
	nodes int
}

func (c *recorder) NewNode(ctx context.Context) (trace.Node, error) {
	n, err := c.Reference.NewNode(ctx)
	c.nodes++
	return &recorded{n, c, c.nodes}, err
}

func (c *recorder) say(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

type recorded struct {
	trace.Node
	c  *recorder
	id int
}

func (n *recorded) Commit(ctx context.Context, author int, at time.Time, puts []trace.Put, dels []string) error {
	var set []string
	for _, p := range puts {
		set = append(set, fmt.Sprint(p.Path, "=", p.File.Size))
	}
	n.c.say("r%d: author %d writes %v, deletes %v", n.id, author, set, dels)
	return n.Node.Commit(ctx, author, at, puts, dels)
}

func (n *recorded) Sync(ctx context.Context, other trace.Node) error {
	o := other.(*recorded)
	n.c.say("r%d: sync with r%d", n.id, o.id)
	return n.Node.Sync(ctx, o.Node)
}

func (n *recorded) Tree(ctx context.Context) (map[string]trace.File, error) {
	tree, err := n.Node.Tree(ctx)
	n.c.say("r%d: shows %v", n.id, slices.Sorted(maps.Keys(tree)))
	return tree, err
}

func (n *recorded) Retire() error {
	n.c.say("r%d: retired", n.id)
	return n.Node.Retire()
}

// TestMethod shows the steps of a replay: a criss-cross of two branches with
// the same outcome, a merge of three parents that disagrees with all, a second
// root, and a head that is not the last commit.
func TestMethod(t *testing.T) {
	t.Parallel()
	tree := func(pairs ...any) map[string]trace.File {
		m := map[string]trace.File{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = trace.File{Size: int64(pairs[i+1].(int))}
		}
		return m
	}
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	tr := &trace.Trace{Head: 5, Tree: tree("p", 4, "q", 2), Commits: []trace.Commit{
		{ID: 0, Author: 0, Time: at(90), Set: tree("p", 1, "q", 1)},
		{ID: 1, Author: 1, Time: at(10), Parents: []int{0}, Set: tree("p", 2)}, // the clock lags, the write is later
		{ID: 2, Author: 2, Time: at(20), Parents: []int{0}, Set: tree("q", 2)},
		{ID: 3, Author: 1, Time: at(30), Parents: []int{1, 2}, Set: tree("p", 2, "q", 2)},
		{ID: 4, Author: 2, Time: at(40), Parents: []int{2, 1, 2}, Set: tree("p", 2, "q", 2)},
		{ID: 5, Author: 3, Time: at(50), Parents: []int{3, 4, 2}, Set: tree("p", 4)},
		{ID: 6, Author: 3, Time: at(60), Set: tree("s", 1)},
		{ID: 7, Author: 4, Time: at(70), Parents: []int{5}, Del: []string{"q"}},
	}}
	c := &recorder{Reference: tracetest.NewReference()}
	report, err := trace.Replay(t.Context(), tr, c, trace.Options{})
	if err != nil || report.Err() != nil {
		t.Fatal(err, report.Err())
	}
	got := c.log
	want := []string{
		"r1: author 0 writes [p=1 q=1], deletes []",
		"r2: sync with r1", // commit 0 has two children
		"r1: author 1 writes [p=2], deletes []",
		"r3: sync with r1", // so has commit 1
		"r2: author 2 writes [q=2], deletes []",
		"r4: sync with r2", // and commit 2 has three
		"r5: sync with r2",
		"r1: sync with r2", // merge 3 finds what it should: it writes nothing
		"r2: retired",
		"r1: shows [p q]",
		"r4: sync with r3", // merge 4 names commit 2 twice and takes it once
		"r3: retired",
		"r4: shows [p q]",
		"r1: sync with r4", // merge 5 has three parents
		"r4: retired",
		"r1: sync with r5",
		"r5: retired",
		"r1: shows [p q]",
		"r1: author 3 writes [p=4], deletes []",
		"r1: shows [p q]", // the head
		"r6: author 3 writes [s=1], deletes []",
		"r1: author 4 writes [], deletes [q]",
		"r6: sync with r1", // the last step: all into the first, the first into all
		"r6: sync with r1",
	}
	if diff := cmp.Diff(want, got[:min(len(want), len(got))]); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
	rest := slices.Sorted(slices.Values(got[min(len(want), len(got)):]))
	if diff := cmp.Diff([]string{"r1: retired", "r6: retired"}, rest); diff != "" {
		t.Errorf("after the last step (want -, got +):\n%s", diff)
	}
}
