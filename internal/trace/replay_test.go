package trace_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"bzzz/internal/errs"
	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func edits(t testing.TB) *trace.Trace {
	t.Helper()
	f, err := os.Open("../../testdata/edits-a.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := trace.Read(f, "edits-a.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestReplayRealHistory(t *testing.T) {
	t.Parallel()
	cluster, steps := tracetest.NewReference(), 0
	o := trace.Options{Laggards: 3, Progress: func(done, total int) { steps++ }}
	got, err := trace.Replay(t.Context(), edits(t), cluster, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Err(); err != nil {
		t.Fatal(err)
	}
	if cluster.Live() != 0 || steps != 2095 || got.WireBytes == 0 {
		t.Errorf("got %d live nodes, %d steps, %d bytes", cluster.Live(), steps, got.WireBytes)
	}
	t.Logf("%+v", got)
	want := trace.Report{
		Commits: 2095, Merges: 856, Replicas: 857, MaxLive: 13, Remaining: 4, Syncs: 1718, Rounds: 1,
		HeadOK: true, RootsEqual: true, Diffs: []trace.Diff{},
	}
	got.Puts, got.Deletes, got.Conflicts, got.ContentBytes, got.WireBytes, got.Duration = 0, 0, 0, 0, 0, 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
}

// TestReplayRandom: the reference follows every valid trace, and the trace
// survives writing and reading.
func TestReplayRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		shape := tracetest.Shape{Commits: rapid.IntRange(1, 120).Draw(t, "commits"), Paths: rapid.IntRange(1, 20).Draw(t, "paths")}
		tr := tracetest.Generate(rapid.Uint64().Draw(t, "seed"), shape)
		var text bytes.Buffer
		if err := trace.Write(&text, tr); err != nil {
			t.Fatal(err)
		}
		back, err := trace.Read(&text, "generated")
		if err != nil {
			t.Fatal(err)
		}
		cluster := tracetest.NewReference()
		got, err := trace.Replay(context.Background(), back, cluster, trace.Options{EveryCommit: true, Laggards: rapid.IntRange(0, 5).Draw(t, "laggards")})
		if err == nil {
			err = got.Err()
		}
		if err != nil || got.Unlisted != 0 || got.Commits != len(tr.Commits) || cluster.Live() != 0 {
			t.Fatalf("got %+v, %d live, %v", got, cluster.Live(), err)
		}
	})
}

// TestWriteReadIsIdentity: what Write gives, Read takes as it was, and the form
// is canonical.
func TestWriteReadIsIdentity(t *testing.T) {
	t.Parallel()
	want := edits(t)
	var first, second bytes.Buffer
	if err := trace.Write(&first, want); err != nil {
		t.Fatal(err)
	}
	got, err := trace.Read(bytes.NewReader(first.Bytes()), "copy")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
	if err := trace.Write(&second, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the second writing differs from the first")
	}
}

// faulty decorates the reference with one fault.
type faulty struct {
	*tracetest.Reference
	fault string
	nodes int
}

var errFault = errors.New("fault")

func (c *faulty) NewNode(ctx context.Context) (trace.Node, error) {
	if c.nodes++; c.fault == "new" && c.nodes == 4 {
		return nil, errFault
	}
	n, err := c.Reference.NewNode(ctx)
	return &faultyNode{n, c}, err
}

type faultyNode struct {
	trace.Node
	c *faulty
}

func (n *faultyNode) Commit(ctx context.Context, author int, at time.Time, puts []trace.Put, dels []string) error {
	switch n.c.fault {
	case "commit":
		return errFault
	case "lose deletes":
		dels = nil
	}
	return n.Node.Commit(ctx, author, at, puts, dels)
}

func (n *faultyNode) Sync(ctx context.Context, other trace.Node) error {
	if n.c.fault == "sync" {
		return errFault
	}
	return n.Node.Sync(ctx, other.(*faultyNode).Node)
}

func (n *faultyNode) Tree(ctx context.Context) (map[string]trace.File, error) {
	tree, err := n.Node.Tree(ctx)
	if n.c.fault == "tree" {
		err = errFault
	}
	if n.c.fault == "extra path" {
		tree["extra"] = trace.File{}
	}
	return tree, err
}

func (n *faultyNode) Root(ctx context.Context) ([]byte, error) {
	switch n.c.fault {
	case "root":
		return nil, errFault
	case "roots differ":
		n.c.nodes++
		return []byte{byte(n.c.nodes)}, nil
	}
	return n.Node.Root(ctx)
}

func (n *faultyNode) Retire() error {
	err := n.Node.Retire()
	if n.c.fault == "retire" {
		err = errFault
	}
	return err
}

func TestReplayFaults(t *testing.T) {
	t.Parallel()
	tr := tracetest.Generate(7, tracetest.Shape{})
	for _, tt := range []struct {
		fault string
		err   error // of Replay
		wrong error // of Report.Err
	}{
		{"none", nil, nil}, {"new", errFault, errs.ErrCorrupt}, {"commit", errFault, errs.ErrCorrupt}, {"sync", errFault, errs.ErrCorrupt},
		{"tree", errFault, errs.ErrCorrupt}, {"root", errFault, errs.ErrCorrupt}, {"retire", errFault, errs.ErrCorrupt},
		{"lose deletes", nil, errs.ErrCorrupt}, {"extra path", nil, errs.ErrCorrupt}, {"roots differ", nil, errs.ErrCorrupt},
	} {
		c := &faulty{Reference: tracetest.NewReference(), fault: tt.fault}
		got, err := trace.Replay(t.Context(), tr, c, trace.Options{EveryCommit: true, Laggards: 2})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: got %v, want %v", tt.fault, err, tt.err)
		}
		if wrong := got.Err(); !errors.Is(wrong, tt.wrong) {
			t.Errorf("%s: report says %v, want %v", tt.fault, wrong, tt.wrong)
		}
		if c.Live() != 0 || len(got.Diffs) > trace.MaxDiffs || got.Differences < len(got.Diffs) {
			t.Errorf("%s: %d nodes left, %d of %d differences listed", tt.fault, c.Live(), len(got.Diffs), got.Differences)
		}
	}
}

func TestReplayStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	o := trace.Options{Progress: func(done, _ int) {
		if done == 10 {
			cancel()
		}
	}}
	c := tracetest.NewReference()
	got, err := trace.Replay(ctx, tracetest.Generate(1, tracetest.Shape{}), c, o)
	if !errors.Is(err, context.Canceled) || got.Commits != 10 || c.Live() != 0 {
		t.Errorf("got %v after %d commits, %d nodes left", err, got.Commits, c.Live())
	}
}

func BenchmarkReplayReference(b *testing.B) {
	tr := edits(b)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := trace.Replay(b.Context(), tr, tracetest.NewReference(), trace.Options{}); err != nil || r.Err() != nil {
			b.Fatal(err, r.Err())
		}
	}
}
