// Package ingest turns files into key-value records and records into files.
//
// It reads CSV and TSV (RFC 4180), JSON lines and directory trees, each as a
// stream in bounded memory, and writes JSON lines and directory trees. What a
// writer wrote, the matching reader gives back byte for byte. Input that does
// not follow its format ends the stream with a *Fault that names the file, the
// line and the column; nothing is guessed and nothing is dropped in silence.
package ingest

import (
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"bzzz/internal/errs"
)

// The defaults of Options and the bounds that are not options.
const (
	// DefaultMaxRecord is the longest line or CSV row in bytes: that of the
	// engine's largest batch.
	DefaultMaxRecord = 16 << 20
	// DefaultMaxFile is the largest file in bytes that Tree reads.
	DefaultMaxFile = 64 << 10
	// DefaultMaxInflated is how many bytes one .gz file may unpack to. It stops
	// a decompression bomb (1 MiB of DEFLATE holds up to 1 GiB).
	DefaultMaxInflated = 4 << 30
	// MaxColumns is the most columns a CSV header may name.
	MaxColumns = 4096
)

// Pos is a place in an input. Line and Column count from 1; Column counts
// bytes. Line 0 means the input as a whole. A byte order mark is not counted.
type Pos struct {
	Source string // the file's name as given
	Line   int
	Column int
}

// String prints "source:line:column".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.Source
	}
	return fmt.Sprintf("%s:%d:%d", p.Source, p.Line, p.Column)
}

// Fault is an error at a place in an input. It wraps errs.ErrInvalid for
// malformed input and errs.ErrTooLarge for input above a bound.
type Fault struct {
	Pos
	Err error
}

// Error prints "source:line:column: cause".
func (f *Fault) Error() string { return f.Pos.String() + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Invalid returns a *Fault at p that wraps errs.ErrInvalid.
func (p Pos) Invalid(format string, args ...any) error {
	return &Fault{p, fmt.Errorf("%w: %s", errs.ErrInvalid, fmt.Sprintf(format, args...))}
}

// TooLarge returns a *Fault at p that wraps errs.ErrTooLarge.
func (p Pos) TooLarge(what string, limit int64) error {
	return &Fault{p, fmt.Errorf("%w: %s has more than %d bytes", errs.ErrTooLarge, what, limit)}
}

// Record is one key and its value, with the place where it starts. Key and
// Value belong to the receiver.
type Record struct {
	Key   []byte
	Value []byte
	Pos
}

// Options say how files become records. The zero value takes the defaults.
type Options struct {
	// KeyColumns name the columns (or members of a JSON object) whose values,
	// joined by "/", are the key. Empty: the first CSV column; for JSON lines,
	// records with "key" and "value".
	KeyColumns []string
	// MaxRecord is the longest line or row in bytes, DefaultMaxRecord if 0.
	MaxRecord int
	// MaxFile is the largest file in bytes that Tree reads, DefaultMaxFile if 0.
	MaxFile int64
	// MaxInflated is how many bytes a .gz file may unpack to,
	// DefaultMaxInflated if 0.
	MaxInflated int64
}

func (o Options) withDefaults() Options {
	if o.MaxRecord <= 0 {
		o.MaxRecord = DefaultMaxRecord
	}
	if o.MaxFile <= 0 {
		o.MaxFile = DefaultMaxFile
	}
	if o.MaxInflated <= 0 {
		o.MaxInflated = DefaultMaxInflated
	}
	return o
}

// Format is the form of an input.
type Format string

// The formats, by the names that -f takes.
const (
	FormatCSV   Format = "csv"
	FormatTSV   Format = "tsv"
	FormatJSONL Format = "jsonl"
)

// Detect tells the format of a file by its extension (.csv, .tsv, .jsonl,
// .ndjson, .json, any of them with .gz behind) and whether it is packed. Other
// names give errs.ErrUnsupported.
func Detect(name string) (f Format, packed bool, err error) {
	base := strings.ToLower(filepath.Base(name))
	base, packed = strings.CutSuffix(base, ".gz")
	switch filepath.Ext(base) {
	case ".csv":
		return FormatCSV, packed, nil
	case ".tsv":
		return FormatTSV, packed, nil
	case ".jsonl", ".ndjson", ".json":
		return FormatJSONL, packed, nil
	}
	return "", packed, fmt.Errorf("%w: %s: cannot tell the format by the name (known: .csv .tsv .jsonl .ndjson .json, each also with .gz)",
		errs.ErrUnsupported, filepath.Base(name))
}

// File streams the records of the file at path in the format that Detect
// tells. The file is open while the sequence runs. An error is the last thing
// a sequence gives.
func File(path string, o Options) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		format, packed, err := Detect(path)
		if err != nil {
			yield(Record{}, err)
			return
		}
		f, err := os.Open(path)
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer f.Close()
		var r io.Reader = f
		if packed {
			r = Gunzip(f, path, o.withDefaults().MaxInflated)
		}
		for rec, err := range Records(r, path, format, o) {
			if !yield(rec, err) {
				return
			}
		}
	}
}

// Records streams the records of r, which errors call source. It holds at most
// one record (MaxRecord) in memory. An error is the last thing a sequence
// gives: a *Fault, or the error of r.
func Records(r io.Reader, source string, f Format, o Options) iter.Seq2[Record, error] {
	o = o.withDefaults()
	switch f {
	case FormatCSV:
		return csvRecords(r, source, ',', o)
	case FormatTSV:
		return csvRecords(r, source, '\t', o)
	case FormatJSONL:
		return jsonlRecords(r, source, o)
	}
	return func(yield func(Record, error) bool) {
		yield(Record{}, fmt.Errorf("%w: format %q (known: csv, tsv, jsonl)", errs.ErrUnsupported, f))
	}
}
