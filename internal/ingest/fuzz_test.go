package ingest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"bzzz/internal/errs"
)

// FuzzCSV checks the scanner against encoding/csv: whatever it accepts, the
// standard reader accepts and splits alike (CR LF inside quotes aside), and
// the cells can be had back from the JSON value.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\nx,1\n", "a\n\"1\"\"\n\"\n", bom + "a,b\r\n1,\"\r\n\"", "a,b\n007,1.50\n", "a,b\n\n1,2e5", "\"", "a,b\n1,\"2\"3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		var got [][]string
		for rec, err := range Records(strings.NewReader(input), "t", FormatCSV, Options{MaxRecord: 1 << 16}) {
			if err != nil {
				if _, ok := errors.AsType[*Fault](err); !ok {
					t.Fatalf("got %v, want a *Fault", err)
				}
				return
			}
			if len(rec.Key) == 0 {
				t.Fatal("empty key")
			}
			got = append(got, cells(t, rec.Value))
		}
		std := csv.NewReader(strings.NewReader(strings.TrimPrefix(input, bom)))
		want, err := std.ReadAll()
		if err != nil {
			t.Fatalf("encoding/csv refuses what was accepted: %v", err)
		}
		if len(want) != len(got)+1 {
			t.Fatalf("got %d rows, want %d", len(got), len(want)-1)
		}
		for i, row := range want[1:] {
			if g, w := strings.Join(got[i], "\x00"), strings.Join(row, "\x00"); strings.ReplaceAll(g, "\r\n", "\n") != w {
				t.Fatalf("row %d: got %q, want %q", i+1, got[i], row)
			}
		}
	})
}

// cells takes the cells of a row back out of its JSON value.
func cells(t *testing.T, value []byte) (out []string) {
	t.Helper()
	err := Fields(Pos{}, value, func(_ string, raw json.RawMessage, at Pos) error {
		if raw[0] != '"' {
			out = append(out, string(raw))
			return nil
		}
		s, err := Text(at, raw)
		out = append(out, s)
		return err
	})
	if err != nil {
		t.Fatalf("value %q: %v", value, err)
	}
	return out
}

// FuzzJSONL: what is read, written and read again is the same, in every form.
func FuzzJSONL(f *testing.F) {
	for _, s := range []string{`{"key":"a","value":{"x": 1}}`, `{"key_base64":"/w==","value_base64":"AA=="}`, "\n" + bom, `{"key":"\ud800","value":1}`, "{\"key\":\"a\",\"value\":\"\r\u2028\"}\r\n", `{"id":"x","n":1e5}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		for _, keys := range [][]string{nil, {"id"}, {"n", "id"}} {
			var first []Record
			var out bytes.Buffer
			w := NewWriter(&out)
			for rec, err := range Records(strings.NewReader(input), "t", FormatJSONL, Options{KeyColumns: keys, MaxRecord: 1 << 16}) {
				if err != nil {
					if _, ok := errors.AsType[*Fault](err); !ok {
						t.Fatalf("got %v, want a *Fault", err)
					}
					break
				}
				first = append(first, rec)
				if err := w.Write(rec.Key, rec.Value); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			checkSame(t, &out, first)
		}
	})
}

// FuzzWriter: any key and value comes back byte for byte.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("a"), []byte(`{"x":1}`))
	f.Add([]byte("\xff"), []byte("\n"))
	f.Add([]byte("\xef\xbb\xbf"), []byte("1\r"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 {
			return
		}
		checkSame(t, bytes.NewReader(AppendRecord(nil, key, value)), []Record{{Key: key, Value: value}})
	})
}

func checkSame(t *testing.T, r io.Reader, want []Record) {
	t.Helper()
	i := 0
	for rec, err := range Records(r, "t", FormatJSONL, Options{}) {
		if err != nil {
			t.Fatalf("own output: %v", err)
		}
		if i >= len(want) || !bytes.Equal(rec.Key, want[i].Key) || !bytes.Equal(rec.Value, want[i].Value) {
			t.Fatalf("record %d: got %q=%q", i, rec.Key, rec.Value)
		}
		i++
	}
	if i != len(want) {
		t.Fatalf("got %d records, want %d", i, len(want))
	}
}

// endless gives the same bytes for ever.
type endless string

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e[i%len(e)]
	}
	return len(p), nil
}

// TestMemoryIsBounded: input that never ends a record stops at the limit.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		format Format
		head   string
		body   string
		want   error
	}{
		{"open quote", FormatCSV, "a,b\n1,\"", "x\n", errs.ErrTooLarge},
		{"long row", FormatCSV, "a,b\n", "x", errs.ErrTooLarge},
		{"endless header", FormatCSV, "", "x,y", errs.ErrInvalid},
		{"endless row", FormatCSV, "a,b\n", ",", errs.ErrInvalid},
		{"long line", FormatJSONL, "", "[", errs.ErrTooLarge},
	} {
		r := io.MultiReader(strings.NewReader(tt.head), endless(tt.body))
		if _, err := collect(r, "t", tt.format, Options{MaxRecord: 1 << 20}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}
