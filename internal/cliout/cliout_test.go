package cliout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"bzzz/internal/errs"

	"github.com/google/go-cmp/cmp"
)

// fixture is a Printer to memory.
type fixture struct {
	*Printer
	out, err bytes.Buffer
}

func newFixture(o Options, terminal bool, env ...string) *fixture {
	f := &fixture{}
	o.Out, o.Err = &f.out, &f.err
	o.Terminal = func(io.Writer) bool { return terminal }
	o.Getenv = func(name string) string {
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	f.Printer = New(o)
	return f
}

func equal(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, f Format) string {
	p := newFixture(Options{Format: f}, false)
	r := p.Rows("key", "size", "took", "note")
	must(t,
		r.Add(Key("a"), Bytes(5), 1500*time.Millisecond, "x"),
		r.Add(Key("\xff\x1b[2J"), Bytes(1<<20), time.Duration(0), "two\nlines"),
		r.Add(Key("größe"), Bytes(1536)),
		r.Close())
	return p.out.String()
}

func TestRows(t *testing.T) {
	t.Parallel()
	equal(t, `key               size  took  note
a                  5 B  1.5s  x
"\xff\x1b[2J"  1.0 MiB    0s  "two\nlines"
größe          1.5 KiB     -  -
`, list(t, Table))
	equal(t, `{"key":"a","size":5,"took":1.5,"note":"x"}
{"key_base64":"/xtbMko=","size":1048576,"took":0,"note":"two\nlines"}
{"key":"größe","size":1536,"took":null,"note":null}
`, list(t, JSONL))
	var rows []map[string]any
	if err := json.Unmarshal([]byte(list(t, JSON)), &rows); err != nil || len(rows) != 3 {
		t.Errorf("got %v, %v", rows, err)
	}
}

func TestEmptyRows(t *testing.T) {
	t.Parallel()
	for f, want := range map[Format]string{Table: "key  size\n", JSON: "[]\n", JSONL: ""} {
		p := newFixture(Options{Format: f}, false)
		must(t, p.Rows("key", "size").Close())
		equal(t, want, p.out.String())
	}
}

// TestTableIsBounded: a table goes out in chunks, under one header.
func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	p := newFixture(Options{}, false)
	r := p.Rows("n")
	for i := range 2*chunk + 1 {
		must(t, r.Add(i))
		if len(r.held) >= chunk {
			t.Fatalf("%d rows held back", len(r.held))
		}
	}
	must(t, r.Close())
	if got := strings.Count(p.out.String(), "\n"); got != 2*chunk+2 {
		t.Errorf("got %d lines, want %d", got, 2*chunk+2)
	}
}

// TestTableFits: Previews are cut, the widest first, nothing else; programs get
// all of them.
func TestTableFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 9)
	fill := func(f Format, values ...any) string {
		p := newFixture(Options{Format: f}, false)
		r := p.Rows("k", "", "v", "w")
		must(t, r.Add(values...), r.Add("k", nil, Preview("short"), 1), r.Close())
		return p.out.String()
	}
	equal(t, `k       v                                                                      w
key  x  01234567890123456789012345678901234567890123456789012345678901234567…  "two\nlines and more"
k    -  short                                                                  1
`, fill(Table, "key", "x", Preview(long), Preview("two\nlines and more")))
	for _, line := range strings.Split(fill(Table, strings.Repeat("k", 60), "x", Preview(long), Preview("\xff\xff"+long)), "\n") {
		if n := utf8.RuneCountInString(line); n > Width {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	if got := fill(JSONL, "key", nil, Preview(long), Preview("\xff")); !strings.Contains(got, `"v":"`+long+`","w_base64":"/w=="}`) {
		t.Errorf("JSON is cut: %s", got)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value string
		n     int
		want  string
	}{
		{"", 5, `""`}, {"abcde", 5, "abcde"}, {"abcdef", 5, "abcd…"}, {"größe", 4, "grö…"}, {"日本語日本語", 4, "日本語…"},
		{"\xff\xff\xff", 10, `"\xff…"`}, {"a\nbcdef", 6, `"a\n…"`}, {strings.Repeat("x", 70000), 3, "xx…"}, {"\xff\xff\xff", 1, "…"},
	} {
		if got := Cut([]byte(tt.value), tt.n); got != tt.want {
			t.Errorf("Cut(%.20q, %d): got %q, want %q", tt.value, tt.n, got, tt.want)
		}
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	fields := []Field{
		{"name", "a <b>"}, {"count", Count(-1234567)}, {"rate", 0.25}, {"ok", true}, {"took", 90 * time.Minute},
		{"at", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, {"never", time.Time{}}, {"fault", errors.New("bad\n")}, {"format", JSON},
		{"list", []string{"x", "\u202e"}}, {"none", nil}, {"raw", json.RawMessage(`{"b": 1}`)}, {"odd", "\xff"}, {"no_json", func() {} == nil},
	}
	p := newFixture(Options{}, false)
	must(t, p.Object(fields...))
	equal(t, `name     a <b>
count    -1,234,567
rate     0.25
ok       true
took     1h30m
at       2026-01-02 03:04:05
never    -
fault    "bad\n"
format   json
list     ["x","\u202e"]
none     -
raw      {"b":1}
odd      "\xff"
no_json  false
`, p.out.String())
	p = newFixture(Options{Format: JSONL}, false)
	must(t, p.Object(fields...))
	equal(t, `{"name":"a <b>","count":-1234567,"rate":0.25,"ok":true,"took":5400,"at":"2026-01-02T03:04:05Z","never":null,"fault":"bad\n","format":"json","list":["x","\u202e"],"none":null,"raw":{"b":1},"odd_base64":"/w==","no_json":false}
`, p.out.String())
}

func TestColor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		options  Options
		terminal bool
		env      string
		want     bool
	}{
		{"terminal", Options{}, true, "", true},
		{"file", Options{}, false, "", false},
		{"--no-color", Options{NoColor: true}, true, "", false},
		{"NO_COLOR", Options{}, true, "NO_COLOR=1", false},
		{"dumb terminal", Options{}, true, "TERM=dumb", false},
	} {
		p := newFixture(tt.options, tt.terminal, tt.env)
		must(t, p.Object(Field{"a", 1}), p.Rows("a").Close())
		p.PrintError(errs.ErrConflict)
		for _, text := range []string{p.out.String(), p.err.String()} {
			if got := strings.Contains(text, "\x1b["); got != tt.want {
				t.Errorf("%s: got colour %v, want %v: %q", tt.name, got, tt.want, text)
			}
		}
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{Bytes(0).String(), "0 B"}, {Bytes(1023).String(), "1023 B"}, {Bytes(1024).String(), "1.0 KiB"}, {Bytes(-1536).String(), "-1.5 KiB"},
		{Bytes(1<<20 - 1).String(), "1.0 MiB"}, {Bytes(1<<63 - 1).String(), "8.0 EiB"}, {Bytes(-1 << 63).String(), "-8.0 EiB"},
		{Count(0).String(), "0"}, {Count(999).String(), "999"}, {Count(-1000).String(), "-1,000"}, {Count(1<<63 - 1).String(), "9,223,372,036,854,775,807"},
		{Duration(0), "0s"}, {Duration(12), "12ns"}, {Duration(12345), "12.35µs"}, {Duration(1234567), "1.23ms"}, {Duration(4567 * time.Millisecond), "4.57s"},
		{Duration(200 * time.Second), "3m20s"}, {Duration(90 * time.Minute), "1h30m"}, {Duration(52 * time.Hour), "2d4h"}, {Duration(-52 * time.Hour), "-2d4h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	if f, err := ParseFormat("jsonl"); f != JSONL || err != nil {
		t.Errorf("got %v, %v", f, err)
	}
	if _, err := ParseFormat("xml"); ExitCode(err) != ExitUsage {
		t.Errorf("got %v, want a usage error", err)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {errs.ErrInvalid, 1}, {errs.ErrCorrupt, 1}, {&errs.Corruption{}, 1},
		{&UsageError{Err: errs.ErrNotFound}, 2}, {fmt.Errorf("x: %w", &UsageError{Err: io.EOF}), 2},
		{errs.ErrNotFound, 3}, {errs.Wrap("get", "a", errs.ErrNotRetained), 3},
		{errs.ErrConflict, 4}, {errs.ErrExists, 4}, {WithNext(errs.ErrConflict, "x"), 4},
		{errs.ErrUnavailable, 6}, {errs.ErrTimeout, 75}, {errs.ErrLocked, 75}, {context.DeadlineExceeded, 75}, {errors.Join(context.DeadlineExceeded, errs.ErrUnavailable), 6},
		{&ConfigError{"f", errs.ErrInvalid}, 78}, {context.Canceled, 130}, {fmt.Errorf("x: %w", context.Canceled), 130},
	} {
		if got := ExitCode(tt.err); got != tt.want {
			t.Errorf("ExitCode(%v): got %d, want %d", tt.err, got, tt.want)
		}
	}
	if WithNext(nil, "x") != nil {
		t.Error("WithNext(nil) is an error")
	}
	for k := range errs.Kind(20) {
		if s := errs.Sentinel(k); s != nil && ofKind(k).code == "error" {
			t.Errorf("kind %d (%v) has no code", k, s)
		}
	}
}

func TestPrintError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
		json string
	}{
		{nil, "", ""},
		{
			errs.Wrap("engine.Open", "/data", errs.ErrLocked),
			"error: engine.Open /data\n  code:  locked (exit 75)\n  cause: locked by another process\n  next:  stop the process that has it open, or talk to it\n",
			`{"error":"engine.Open /data","code":"locked","exit":75,"cause":"locked by another process","next":"stop the process that has it open, or talk to it"}` + "\n",
		},
		{
			&UsageError{"bzzz put", errors.New("no key")},
			"error: no key\n  code:  usage (exit 2)\n  next:  run bzzz put --help\n",
			`{"error":"no key","code":"usage","exit":2,"next":"run bzzz put --help"}` + "\n",
		},
		{
			WithNext(&ConfigError{"a.yaml", errors.New("two\nfaults\x1b[2J\xff\u009b")}, "edit it"),
			"error: a.yaml: two\n         faults\\x1b[2J\\xff\\u009b\n  code:  config (exit 78)\n  next:  edit it\n",
			`{"error_base64":"YS55YW1sOiB0d28KZmF1bHRzG1sySv/Cmw==","code":"config","exit":78,"next":"edit it"}` + "\n",
		},
	} {
		p := newFixture(Options{Quiet: true}, false)
		p.PrintError(tt.err)
		equal(t, tt.want, p.err.String())
		p = newFixture(Options{Format: JSON}, false)
		p.PrintError(tt.err)
		equal(t, tt.json, p.err.String())
	}
}

func TestNotesAndQuiet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "note 1\\r\n"}, {Options{Verbose: true}, "note 1\\r\ndetail\n"}, {Options{Quiet: true, Verbose: true}, ""},
	} {
		p := newFixture(tt.o, true)
		p.Note("note %d\r", 1)
		p.Detail("detail")
		equal(t, tt.want, p.err.String())
		equal(t, "", p.out.String())
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	value := []byte("a\tb\n\x1b[2J\x00\xff")
	p := newFixture(Options{Quiet: true}, false)
	must(t, p.Data(value))
	equal(t, string(value), p.out.String())
	p = newFixture(Options{}, true)
	must(t, p.Data(value), p.Data(nil))
	equal(t, "a\tb\n\\x1b[2J\\x00\\xff\n", p.out.String())
}

func TestProgressLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFixture(Options{}, false)
		g := p.Progress("import", "records", 4000)
		for range 12 {
			time.Sleep(time.Second)
			g.Add(100)
		}
		g.Done()
		g.Done()
		equal(t, "import: 500 of 4,000 records (12 %), 100/s, 35s left\n"+
			"import: 1,000 of 4,000 records (25 %), 100/s, 30s left\n"+
			"import: 1,200 of 4,000 records (30 %), 100/s, 28s left\n", p.err.String())

		p = newFixture(Options{}, false)
		g = p.Progress("read", "bytes", 0)
		time.Sleep(6 * time.Second)
		g.Set(6 << 20)
		equal(t, "read: 6.0 MiB, 1.0 MiB/s\n", p.err.String())

		for _, o := range []Options{{}, {Quiet: true}} {
			p = newFixture(o, o.Quiet)
			g = p.Progress("short", "records", 10)
			if o.Quiet {
				time.Sleep(time.Minute)
			}
			g.Add(10)
			g.Done()
			equal(t, "", p.err.String())
		}
	})
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, total := range []int64{0, 10} {
			p := newFixture(Options{}, true)
			g := p.Progress("import", "records", total)
			for range 12 { // more than announced
				time.Sleep(time.Second)
				g.Add(1)
			}
			g.Done()
			g.Add(1)
			got := p.err.String()
			if !strings.Contains(got, "import") || !strings.Contains(got, "\r") || strings.Contains(got, "\n\n") {
				t.Errorf("total %d: got %q", total, got)
			}
			equal(t, "", p.out.String())
		}
	})
}

// FuzzSafe: nothing that a terminal obeys comes out, in any form.
func FuzzSafe(f *testing.F) {
	for _, s := range []string{"a", "", " a", "\x1b[2J", "\u009b", "\u202eabc", "\xff", "\"q\"", "a\nb\tc\r", "\U000e0001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		safe := Safe(s)
		if strings.ContainsFunc(safe, unprintable) {
			t.Fatalf("Safe(%q): got %q", s, safe)
		}
		for _, format := range []Format{Table, JSON, JSONL} {
			p := newFixture(Options{Format: format}, true, "NO_COLOR=1")
			r := p.Rows("k", s, "list")
			must(t, r.Add(Key(s), s, []string{s}), r.Close(), p.Object(Field{s, s}), p.Data([]byte(s)))
			p.Note("%s", s)
			p.PrintError(errors.New(s))
			all := strings.NewReplacer("\n", "", "\t", "").Replace(p.out.String() + p.err.String())
			if strings.ContainsFunc(all, unprintable) {
				t.Fatalf("%s of %q: got %q", format, s, all)
			}
		}
		var back string
		if err := json.Unmarshal(appendJSON(nil, s), &back); err != nil || back != strings.ToValidUTF8(s, "\uFFFD") && !strings.Contains(back, "\uFFFD") {
			t.Fatalf("JSON of %q: got %q, %v", s, back, err)
		}
	})
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
