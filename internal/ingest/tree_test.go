//go:build unix

package ingest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bzzz/internal/errs"

	"github.com/google/go-cmp/cmp"
)

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func readTree(t *testing.T, dir string, o Options, sum *Summary) (keys []string) {
	t.Helper()
	for rec, err := range Tree(dir, o, sum) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(rec.Key)+"="+string(rec.Value))
	}
	return keys
}

func TestTree(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	put(t, outside, "secret", "secret")
	put(t, dir, "b/c", "1")
	put(t, dir, "b.txt", "")
	put(t, dir, "a", "12345678")
	put(t, dir, "big", "123456789")
	put(t, dir, "\xffname", "2")
	for name, target := range map[string]string{"link": filepath.Join(outside, "secret"), "dir": outside, "near": "a", "loop": "."} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	var sum Summary
	got := readTree(t, dir, Options{MaxFile: 8}, &sum)
	if diff := cmp.Diff([]string{"a=12345678", "b/c=1", "b.txt=", "\xffname=2"}, got); diff != "" {
		t.Errorf("records (want -, got +):\n%s", diff)
	}
	want := Summary{Files: 4, Bytes: 10, Skipped: 6, Skips: []Skip{
		{"big", ReasonTooLarge}, {"dir", ReasonLink}, {"link", ReasonLink}, {"loop", ReasonLink}, {"near", ReasonLink}, {"pipe", ReasonSpecial},
	}}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("summary (want -, got +):\n%s", diff)
	}
	for _, err := range Tree(filepath.Join(dir, "none"), Options{}, nil) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing directory: got %v, want ErrNotExist", err)
		}
	}
}

func TestSummaryIsBounded(t *testing.T) {
	t.Parallel()
	var sum Summary
	for range MaxNamed + 5 {
		sum.skip("x", ReasonLink)
	}
	if sum.Skipped != MaxNamed+5 || len(sum.Skips) != MaxNamed {
		t.Errorf("got %d skipped and %d named", sum.Skipped, len(sum.Skips))
	}
}

func TestDirRoundTrip(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "export")
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, kv := range [][2]string{{"a/b/c", "old"}, {"a/b/c", "1"}, {"a/b/..d", "2"}, {"e", ""}, {"ü ", "x"}} {
		if err := d.Write([]byte(kv[0]), []byte(kv[1])); err != nil {
			t.Fatal(err)
		}
	}
	var sum Summary
	got := readTree(t, dir, Options{}, &sum)
	if diff := cmp.Diff([]string{"a/b/..d=2", "a/b/c=1", "e=", "ü =x"}, got); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
	if sum.Skipped != 0 {
		t.Errorf("left over: %v", sum.Skips)
	}
}

func TestDirRefuses(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	put(t, dir, "file", "kept")
	put(t, dir, "dir/x", "kept")
	for name, target := range map[string]string{"out": outside, "in": "dir"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := readTree(t, dir, Options{}, nil)
	for _, tt := range []struct {
		key  string
		want error
	}{
		{"", errs.ErrInvalid}, {"/etc/passwd", errs.ErrInvalid}, {"..", errs.ErrInvalid}, {"../x", errs.ErrInvalid}, {"a/../../x", errs.ErrInvalid},
		{"a//b", errs.ErrInvalid}, {"a/", errs.ErrInvalid}, {"./a", errs.ErrInvalid}, {"a\x00b", errs.ErrInvalid}, {".", errs.ErrInvalid},
		{"file/x", errs.ErrConflict}, {"file/x/y", errs.ErrConflict}, {"dir", errs.ErrConflict}, {"out/x", errs.ErrConflict}, {"in/x", errs.ErrConflict},
		{strings.Repeat("n", 300), syscall.ENAMETOOLONG}, {strings.Repeat("n", 300) + "/x", syscall.ENAMETOOLONG},
	} {
		if err := d.Write([]byte(tt.key), []byte("new")); !errors.Is(err, tt.want) {
			t.Errorf("Write(%q): got %v, want %v", tt.key, err, tt.want)
		}
	}
	if diff := cmp.Diff(before, readTree(t, dir, Options{}, nil)); diff != "" {
		t.Errorf("a refused key changed the directory:\n%s", diff)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside the root: %v, %v", left, err)
	}
	if err := d.Write([]byte("after"), nil); err != nil {
		t.Errorf("a good key after refused ones: %v", err)
	}
}

func TestWriterGolden(t *testing.T) {
	t.Parallel()
	deepIn, deepOut := strings.Repeat("[", 9999)+strings.Repeat("]", 9999), strings.Repeat("[", 10000)+strings.Repeat("]", 10000)
	for _, tt := range []struct{ key, value, want string }{
		{"a", `{"x": 1}`, `{"key":"a","value":{"x": 1}}`},
		{"a\n\"é", `"s"`, `{"key":"a\n\"é","value":"s"}`},
		{"a", "text", `{"key":"a","value_base64":"dGV4dA=="}`},
		{"a", "", `{"key":"a","value_base64":""}`},
		{"a", " 1", `{"key":"a","value_base64":"IDE="}`},
		{"a", "[1,\n2]", `{"key":"a","value_base64":"WzEsCjJd"}`},
		{"a", "\"\xff\"", `{"key":"a","value_base64":"Iv8i"}`},
		{"\xff\x00", "1", `{"key_base64":"/wA=","value":1}`},
		{"a", deepIn, `{"key":"a","value":` + deepIn + `}`},
	} {
		if got := string(AppendRecord(nil, []byte(tt.key), []byte(tt.value))); got != tt.want+"\n" {
			t.Errorf("%q %.20q: got %.90s, want %.90s", tt.key, tt.value, got, tt.want)
		}
	}
	if got := AppendRecord(nil, []byte("a"), []byte(deepOut)); !bytes.Contains(got, []byte("value_base64")) {
		t.Error("a value that is nested too deeply for a line was put into it")
	}
}
