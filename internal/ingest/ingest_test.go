package ingest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bzzz/internal/errs"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the errors in testdata")

// collect returns the records as "key=value", and the error that ended them.
func collect(r io.Reader, source string, f Format, o Options) (got []string, err error) {
	for rec, err := range Records(r, source, f, o) {
		if err != nil {
			return got, err
		}
		got = append(got, string(rec.Key)+"="+string(rec.Value))
	}
	return got, nil
}

// TestBadInput runs the tables of malformed input: a line with the key columns
// and the quoted input, then the error it must give.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{FormatCSV, FormatJSONL} {
		path := "testdata/bad-" + string(f) + ".txt"
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for line := range strings.Lines(string(text)) {
			columns, quoted, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			if strings.HasPrefix(line, "#") {
				out.WriteString(line)
			}
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "\t") || !ok {
				continue
			}
			input, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%s: %s: %v", path, quoted, err)
			}
			o := Options{MaxRecord: 64}
			if columns != "" {
				o.KeyColumns = strings.Split(columns, ",")
			}
			_, err = collect(strings.NewReader(input), "t."+string(f), f, o)
			fault, ok := errors.AsType[*Fault](err)
			if !ok || fault.Source == "" || fault.Line == 0 || fault.Column == 0 {
				t.Errorf("%s: %s: got %v, want a *Fault with its place", path, quoted, err)
			}
			if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrTooLarge) {
				t.Errorf("%s: %s: got %v, want ErrInvalid or ErrTooLarge", path, quoted, err)
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
}

func TestRecords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		format Format
		keys   []string
		input  string
		want   []string
	}{
		{"header only", FormatCSV, nil, "a,b\n", nil},
		{"first column", FormatCSV, nil, "a,b\nx,1\ny,2", []string{`x={"a":"x","b":1}`, `y={"a":"y","b":2}`}},
		{"key order", FormatCSV, []string{"b", "a"}, "a,b\nx,y\n", []string{`y/x={"a":"x","b":"y"}`}},
		{"mark and CR LF", FormatCSV, nil, bom + "a,b\r\n\r\nx,\"1\r\n\"\"2\"\r\n", []string{`x={"a":"x","b":"1\r\n\"2"}`}},
		{"slash in one key column", FormatCSV, nil, "a,b\nx/y,\n", []string{`x/y={"a":"x/y","b":""}`}},
		{"control characters", FormatCSV, nil, "a,b\nx,\"\x00\x1f\t\\\u2028<\"\n", []string{`x={"a":"x","b":"\u0000\u001f\t\\` + "\u2028" + `<"}`}},
		{"tabs", FormatTSV, nil, "a\tb\nx,y\t2\n", []string{`x,y={"a":"x,y","b":2}`}},
		{"pairs", FormatJSONL, nil, "{\"key\":\"a\",\"value\":{\"n\": 1}}\r\n\n {\"value\":null,\"key\":\"\\u00e9\"}", []string{`a={"n": 1}`, "é=null"}},
		{"bytes", FormatJSONL, nil, bom + `{"key_base64":"/w==","value_base64":""}`, []string{"\xff="}},
		{"surrogate pair", FormatJSONL, nil, `{"key":"\ud83d\ude00\\ud800","value":"\ud800"}`, []string{`😀\ud800="\ud800"`}},
		{"objects", FormatJSONL, []string{"id", "n", "b"}, `{"n":1.0, "id":"x","b":true,"o":{}} ` + "\n", []string{`x/1.0/true={"n":1.0, "id":"x","b":true,"o":{}}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := collect(strings.NewReader(tt.input), "t", tt.format, Options{KeyColumns: tt.keys})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(want -, got +):\n%s", diff)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	var got []string
	for rec, err := range Records(strings.NewReader("a,b\n\nx,\"1\n2\"\ny,3\n"), "t.csv", FormatCSV, Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rec.Pos.String())
	}
	if diff := cmp.Diff([]string{"t.csv:3:1", "t.csv:5:1"}, got); diff != "" {
		t.Errorf("(want -, got +):\n%s", diff)
	}
}

func TestExactNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0": true, "-0": true, "0.0": true, "12.80": true, "1e5": true, "-1.5E-3": true, "123456789012345": true, "000": false,
		"1234567890123456": false, "0.000123456789012345": true, "1e308": true, "1e309": false, "1e-310": false, "0e-999": true,
		"": false, "+1": false, "1.": false, ".5": false, "007": false, "1e": false, "NaN": false, "0x10": false, " 1": false, "1 ": false, "true": false, "1_0": false, "--1": false,
	} {
		if got := exactNumber([]byte(text)); got != want {
			t.Errorf("exactNumber(%q): got %v, want %v", text, got, want)
		}
	}
}

func TestRealFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file  string
		keys  []string
		rows  int
		first string
	}{
		{"weather.csv", []string{"location", "date"}, 2922, `Seattle/2012-01-01={"location":"Seattle","date":"2012-01-01","precipitation":0.0,"temp_max":12.8,"temp_min":5.0,"wind":4.7,"weather":"drizzle"}`},
		{"airports.csv", nil, 3376, `00M={"iata":"00M","name":"Thigpen","city":"Bay Springs","state":"MS","country":"USA","latitude":31.95376472,"longitude":-89.23450472}`},
	} {
		seen := map[string]bool{}
		first := ""
		for rec, err := range File("../../testdata/"+tt.file, Options{KeyColumns: tt.keys}) {
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = string(rec.Key) + "=" + string(rec.Value)
			}
			seen[string(rec.Key)] = true
		}
		if len(seen) != tt.rows || first != tt.first {
			t.Errorf("%s: got %d keys, first %s; want %d, %s", tt.file, len(seen), first, tt.rows, tt.first)
		}
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.csv": "csv false", "x/A.CSV.GZ": "csv true", "a.tsv": "tsv false", "a.jsonl.gz": "jsonl true", "a.ndjson": "jsonl false", "a.json": "jsonl false",
		"a": "none", "a.gz": "none", "a.xml": "none", "csv": "none", "": "none",
	} {
		f, packed, err := Detect(name)
		got := fmt.Sprint(f, " ", packed)
		if errors.Is(err, errs.ErrUnsupported) {
			got = "none"
		}
		if got != want {
			t.Errorf("Detect(%q): got %s, want %s", name, got, want)
		}
	}
}

func TestGzipFile(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprintf(z, "a,b\nx,%s\n", strings.Repeat("0", 1<<16))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	whole := packed.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for _, tt := range []struct {
		name  string
		data  []byte
		limit int64
		want  error
	}{
		{"whole", whole, 0, nil},
		{"above the limit", whole, 1 << 16, errs.ErrTooLarge},
		{"cut off", whole[:len(whole)-4], 0, errs.ErrInvalid},
		{"damaged", flipped, 0, errs.ErrInvalid},
		{"not packed", []byte("a,b\nx,1\n"), 0, errs.ErrInvalid},
		{"trailing bytes", append(bytes.Clone(whole), "more"...), 0, errs.ErrInvalid},
		{"empty", nil, 0, errs.ErrInvalid},
	} {
		path := filepath.Join(t.TempDir(), "t.csv.gz")
		if err := os.WriteFile(path, tt.data, 0o666); err != nil {
			t.Fatal(err)
		}
		var got error
		for _, err := range File(path, Options{MaxInflated: tt.limit}) {
			got = err
		}
		if !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		if got != nil && !strings.HasPrefix(got.Error(), path) {
			t.Errorf("%s: %q does not name the file", tt.name, got)
		}
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]error{"none.csv": os.ErrNotExist, "none.xml": errs.ErrUnsupported} {
		n := 0
		for _, err := range File(path, Options{}) {
			if n++; !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", path, err, want)
			}
		}
		if n != 1 {
			t.Errorf("%s: got %d results, want one error", path, n)
		}
	}
	if _, err := collect(strings.NewReader(""), "t", "xml", Options{}); !errors.Is(err, errs.ErrUnsupported) {
		t.Errorf("unknown format: got %v, want ErrUnsupported", err)
	}
}

// TestBreakStops: leaving the loop early ends every sequence quietly.
func TestBreakStops(t *testing.T) {
	t.Parallel()
	for range Records(strings.NewReader("a\n1\n2\n"), "t", FormatCSV, Options{}) {
		break
	}
	for range Records(strings.NewReader("{\"key\":\"a\",\"value\":1}\nbad"), "t", FormatJSONL, Options{}) {
		break
	}
	for range File("../../testdata/weather.csv", Options{}) {
		break
	}
	for range Tree(".", Options{}, nil) {
		break
	}
}
