package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
)

// rows a node imports in most tests.
const rows = 40

// play runs the story in a bubble, where the network's latency costs nothing.
func play(t *testing.T, ctx context.Context, o Options) (r *Report, err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r, err = Run(ctx, o) })
	return r, err
}

func TestRun(t *testing.T) {
	t.Parallel()
	var steps []Step
	r, err := play(t, context.Background(), Options{Rows: rows, AfterStep: func(s Step, _ *Report) error {
		steps = append(steps, s)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{StepImport, StepFirstSync, StepApart, StepViews, StepHeal, StepRecords, StepTypes, StepSettle, StepChecks, StepEnd}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
	if !r.OK || len(r.Checks) != 14 {
		t.Errorf("ok %v with %d checks, want 14: %+v", r.OK, len(r.Checks), r.Checks)
	}
	verdicts := map[string]string{}
	for _, rec := range r.Records {
		verdicts[rec.Key] = rec.Verdict
	}
	if diff := cmp.Diff(map[string]string{
		keyAll: "concurrent", keyTwo: "concurrent", keyCausal: "causal", keyGone: "delete_and_correction",
	}, verdicts); diff != "" {
		t.Error("verdicts (-want +got):", diff)
	}
	if c := r.Counter; c.Value != 6 || c.Want != 6 || c.Swallow != 2 {
		t.Errorf("counter %+v, want 6 of 6, 2 swallowed", c)
	}
	if !slices.Equal(r.Resolution.Left, []string{keyTwo}) || r.Resolution.Found != 3 {
		t.Errorf("resolution %+v, want 3 found and %q left", r.Resolution, keyTwo)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	for _, s := range r.Syncs {
		if want := map[string]int{"equal": 1, "clocks": 2}[s.Tier]; s.RoundTrips != want || !s.InSync {
			t.Errorf("%s %s-%s (%s): %d round trips, want %d; in sync %v", s.Phase, s.From, s.To, s.Tier, s.RoundTrips, want, s.InSync)
		}
		if s.Tier == "equal" && s.NetworkBytes > 64 {
			t.Errorf("nothing to do took %d bytes, want at most 64", s.NetworkBytes)
		}
	}
}

// TestTwoRunsDifferInIDsOnly: what people see of the values is the same.
func TestTwoRunsDifferInIDsOnly(t *testing.T) {
	t.Parallel()
	var got [2]string
	for i := range got {
		r, err := play(t, context.Background(), Options{Rows: rows})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, v := range slices.Concat(r.Apart, r.Together) {
			if v.What != "root" {
				fmt.Fprintln(&b, v.What, v.Values)
			}
		}
		for _, w := range r.Writes {
			fmt.Fprintln(&b, w.Node, w.Did, w.Key, w.Value)
		}
		for _, rec := range r.Records {
			for _, v := range rec.Versions {
				fmt.Fprintln(&b, rec.Key, v.Node, v.Kind, v.Value, v.Fate)
			}
		}
		for _, s := range r.Syncs {
			fmt.Fprintln(&b, s.Phase, s.From, s.To, s.Sent, s.Received, s.RoundTrips)
		}
		got[i] = b.String()
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Error(diff)
	}
}

func TestDirIsKeptAndMustBeEmpty(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "stores")
	r, err := play(t, context.Background(), Options{Rows: rows, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if r.Dir != dir || !r.Kept {
		t.Errorf("stores in %s, kept %v; want %s", r.Dir, r.Kept, dir)
	}
	for _, n := range r.Nodes {
		db, err := engine.Open(n.Dir, &engine.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for rec, err := range db.Conflicts(t.Context(), nil) {
			if err != nil || string(rec.Key) != keyTwo {
				t.Errorf("%s: conflict %q, %v", n.Name, rec.Key, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Run(t.Context(), Options{Dir: dir}); !errors.Is(err, errs.ErrExists) {
		t.Errorf("a directory in use: %v, want ErrExists", err)
	}
}

// TestFalseClaimFails: a write that was noted but is nowhere ends the run with
// ErrFalse, and the stores stay to be looked into.
func TestFalseClaimFails(t *testing.T) {
	t.Parallel()
	r, err := play(t, context.Background(), Options{Rows: rows, AfterStep: func(s Step, r *Report) error {
		if s == StepHeal {
			r.Writes = append(r.Writes, Write{Node: "ann", Did: "correct", Key: keyAll, CID: "bafylost"})
		}
		return nil
	}})
	t.Cleanup(func() { os.RemoveAll(r.Dir) })
	if !errors.Is(err, ErrFalse) || r.OK || !strings.Contains(err.Error(), "no acknowledged write is lost") {
		t.Errorf("got %v, ok %v", err, r.OK)
	}
	if _, err := os.Stat(r.Dir); err != nil || !r.Kept {
		t.Errorf("the stores are not kept: %v", err)
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := play(t, ctx, Options{Rows: rows, AfterStep: func(s Step, _ *Report) error {
		if s == StepViews {
			cancel()
		}
		return nil
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

func TestTooFewRows(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Options{Rows: 3}); !errors.Is(err, errs.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

// TestText: the story reads well on a terminal of 100 columns.
func TestText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := cliout.New(cliout.Options{Out: &out, Err: &out})
	r, err := play(t, context.Background(), Options{Rows: rows, AfterStep: NewText(p, "bzzz").Step})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for step := StepImport; step <= StepEnd; step++ {
		if !strings.Contains(out.String(), fmt.Sprintf("\n%d. ", step)) {
			t.Errorf("step %d is not printed", step)
		}
	}
	if !strings.Contains(out.String(), "14 of 14 claims hold; root of all three "+r.Roots[0].Root[:rootDigits]) {
		t.Error("no summary")
	}
}

// TestJSONShape: the keys of the report are stable.
func TestJSONShape(t *testing.T) {
	t.Parallel()
	r, err := play(t, context.Background(), Options{Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	shape(keys, "", v)
	golden, err := os.ReadFile("testdata/shape.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(slices.Sorted(maps.Keys(keys)), "\n") + "\n"
	if diff := cmp.Diff(string(golden), got); diff != "" {
		t.Error("keys (-want +got):", diff)
	}
}

// shape enters the path and type of everything in a JSON value.
func shape(keys map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			shape(keys, strings.TrimPrefix(path+"."+k, "."), m)
		}
	case []any:
		for _, m := range v {
			shape(keys, path+"[]", m)
		}
	default:
		keys[fmt.Sprintf("%s %T", path, v)] = true
	}
}
