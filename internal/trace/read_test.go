package trace_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"bzzz/internal/errs"
	"bzzz/internal/ingest"
	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the errors in testdata")

const (
	goodHeader = `{"format":1,"commits":1,"authors":1,"paths":1}`
	goodCommit = `{"id":0,"parents":[],"author":0,"time":0,"set":{"a":["00000000000000000000000000000000000000aa",1]},"del":[]}`
	goodEnd    = `{"head":0,"tree":{"a":["00000000000000000000000000000000000000aa",1]}}`
)

func TestBadTraces(t *testing.T) {
	t.Parallel()
	const path = "testdata/bad.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
		if !strings.HasPrefix(line, `"`) {
			continue
		}
		input, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		input = strings.NewReplacer("H", goodHeader, "C", goodCommit).Replace(input)
		_, err = trace.Read(strings.NewReader(input), "t.jsonl")
		fault, ok := errors.AsType[*ingest.Fault](err)
		if !ok || fault.Line == 0 && !strings.HasPrefix(input, "\x1f") {
			t.Errorf("%s: got %v, want a *Fault with its line", line, err)
		}
		if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrUnsupported) {
			t.Errorf("%s: got %v, want ErrInvalid", line, err)
		}
		fmt.Fprintf(&out, "%s\t%v\n", line, err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(text), out.String()); diff != "" {
		t.Errorf("%s (want -, got +):\n%s", path, diff)
	}
}

func TestGoodTrace(t *testing.T) {
	t.Parallel()
	got, err := trace.Read(strings.NewReader(goodHeader+"\n"+goodCommit+"\n"+goodEnd), "t")
	if err != nil || len(got.Commits) != 1 || len(got.Tree) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestVerify breaks a good trace in one way at a time.
func TestVerify(t *testing.T) {
	t.Parallel()
	file := trace.File{Size: 1}
	set := map[string]trace.File{"p": file}
	good := func() *trace.Trace {
		return &trace.Trace{Head: 3, Tree: set, Commits: []trace.Commit{
			{ID: 0, Set: set},
			{ID: 1, Parents: []int{0}, Set: map[string]trace.File{"p": {Size: 2}}},
			{ID: 2, Parents: []int{0, 0}, Set: map[string]trace.File{"q": file}},
			{ID: 3, Parents: []int{1, 2}, Set: set, Del: []string{"q"}},
		}}
	}
	if err := good().Verify(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*trace.Trace){
		"commit 5 at place 2":                             func(t *trace.Trace) { t.Commits[2].ID = 5 },
		"commit 1 has the parent 1":                       func(t *trace.Trace) { t.Commits[1].Parents = []int{1} },
		"commit 1 has the parent -1":                      func(t *trace.Trace) { t.Commits[1].Parents = []int{-1} },
		"head 4 of 4 commits":                             func(t *trace.Trace) { t.Head = 4 },
		`commit 3 does not list "p"`:                      func(t *trace.Trace) { t.Commits[3].Set = nil; t.Tree = map[string]trace.File{"p": {Size: 2}} },
		`commit 3 does not list "q"`:                      func(t *trace.Trace) { t.Commits[3].Del = nil },
		`commit 3 deletes "r", which no parent holds`:     func(t *trace.Trace) { t.Commits[3].Del = []string{"q", "r"} },
		`commit 3 lists "q" twice`:                        func(t *trace.Trace) { t.Commits[3].Del = []string{"q", "q"} },
		`commit 3 lists "p" twice`:                        func(t *trace.Trace) { t.Commits[3].Del = []string{"q", "p"} },
		`the commits do not lead to the tree of the head`: func(t *trace.Trace) { t.Tree = nil },
	} {
		tr := good()
		spoil(tr)
		err := tr.Verify()
		if !errors.Is(err, errs.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if r, err := trace.Replay(t.Context(), tr, tracetest.NewReference(), trace.Options{}); !errors.Is(err, errs.ErrInvalid) || r.Replicas != 0 {
			t.Errorf("Replay: got %v after %d replicas, want ErrInvalid at once", err, r.Replicas)
		}
	}
}

func TestFileValue(t *testing.T) {
	t.Parallel()
	f := trace.File{Hash: [20]byte{0xaa, 19: 0x01}, Size: 300}
	golden := "\xaa" + strings.Repeat("\x00", 18) + "\x01" + "\xac\x02"
	if got := string(f.Append(nil)); got != golden {
		t.Errorf("got %x, want %x", got, golden)
	}
	if got, err := trace.ParseFile([]byte(golden)); err != nil || got != f {
		t.Errorf("got %v, %v, want %v", got, err, f)
	}
	for _, bad := range []string{"", golden[:20], golden[:21], golden + "x", golden[:20] + "\x80\x00", golden[:20] + strings.Repeat("\xff", 9) + "\x01"} {
		if _, err := trace.ParseFile([]byte(bad)); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("ParseFile(%x): got %v, want ErrInvalid", bad, err)
		}
	}
}

// TestReaderStreams: commits come one by one, before the rest of the input.
func TestReaderStreams(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	go func() {
		// The reader of lines reads ahead what there is, here one line at a time.
		for _, line := range []string{goodHeader, goodCommit, goodEnd} {
			_, _ = io.WriteString(w, line+"\n")
		}
		_ = w.Close()
	}()
	in, err := trace.NewReader(r, "pipe")
	if err != nil || in.Header() != (trace.Header{Commits: 1, Authors: 1, Paths: 1}) {
		t.Fatalf("got %+v, %v", in, err)
	}
	c, err := in.Next()
	if err != nil || !c.Time.Equal(time.Unix(0, 0)) {
		t.Fatalf("got %+v, %v", c, err)
	}
	for range 2 {
		if _, err := in.Next(); err != io.EOF {
			t.Fatalf("got %v, want io.EOF", err)
		}
	}
	if head, tree := in.End(); head != 0 || len(tree) != 1 {
		t.Errorf("got head %d, tree %v", head, tree)
	}
}

// FuzzRead: no input makes it panic, and what it takes, Write gives back.
func FuzzRead(f *testing.F) {
	f.Add([]byte(goodHeader + "\n" + goodCommit + "\n" + goodEnd))
	var text, packed bytes.Buffer
	if err := trace.Write(&text, tracetest.Generate(3, tracetest.Shape{Commits: 6, Paths: 3})); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(text.Bytes())
	_ = z.Close()
	f.Add(packed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := trace.Read(bytes.NewReader(data), "fuzz")
		if err != nil {
			if _, ok := errors.AsType[*ingest.Fault](err); !ok {
				t.Fatalf("got %v, want a *Fault", err)
			}
			return
		}
		var out bytes.Buffer
		if err := trace.Write(&out, got); err != nil {
			t.Fatal(err)
		}
		again, err := trace.Read(&out, "again")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("(want -, got +):\n%s", diff)
		}
		if r, err := trace.Replay(t.Context(), got, tracetest.NewReference(), trace.Options{}); err != nil || r.Err() != nil {
			t.Fatal(err, r.Err())
		}
	})
}
