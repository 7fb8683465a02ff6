package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// link is how programs are shown a large value: not by its bytes.
type link struct {
	Blob string `json:"blob"` // CID
	Size *int64 `json:"size"` // null if it is not here yet
}

// large shows a large value: its length and the end of its CID for people.
func (a *app) large(blob string, size int64) any {
	if a.p.Format() != cliout.Table {
		l := link{Blob: blob}
		if size >= 0 {
			l.Size = &size
		}
		return l
	}
	if size < 0 {
		return fmt.Sprintf("(large value %s, not here yet)", tail(blob, cidTail))
	}
	return fmt.Sprintf("(large value %s, %v)", tail(blob, cidTail), cliout.Bytes(size))
}

// sizeCell is a value's length in a table, nil if it is not known.
func sizeCell(size int64) any {
	if size < 0 {
		return nil
	}
	return cliout.Bytes(size)
}

// span is a range of bytes as the user named it: the zero value is everything.
type span struct {
	set         bool
	first, last int64 // both included; last may be beyond the end
	fromEnd     bool  // the last so many bytes: last
}

// spanFlag reads --range: FIRST-LAST, FIRST- or -COUNT, as in HTTP (RFC 9110
// section 14.1.2).
func spanFlag(cmd *cobra.Command, name, text string) (span, error) {
	if !cmd.Flags().Changed(name) {
		return span{}, nil
	}
	first, last, ok := strings.Cut(text, "-")
	lo, err := spanEnd(first, 0)
	hi, err2 := spanEnd(last, math.MaxInt64-1)
	if !ok || err != nil || err2 != nil || first == "" && last == "" || first != "" && hi < lo {
		return span{}, usage(cmd, "--%s %q: want FIRST-LAST, FIRST- or -COUNT, in bytes from 0", name, text)
	}
	s := span{set: true, first: lo, last: hi, fromEnd: first == ""}
	return s, nil
}

// spanEnd reads a number of bytes, which is missing if it is not given.
func spanEnd(text string, missing int64) (int64, error) {
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseUint(text, 10, 62)
	return int64(n), err
}

// of returns the part of a value that s names, and how long it is. ErrInvalid
// if it begins behind the end.
func (s span) of(r io.ReaderAt, size int64) (io.Reader, int64, error) {
	first, end := int64(0), size
	switch {
	case s.fromEnd:
		first = max(0, size-s.last)
	case s.set:
		first, end = s.first, min(size, s.last+1)
	}
	if s.set && first >= size {
		return nil, 0, fmt.Errorf("the range begins at byte %d of %d: %w", first, size, engine.ErrInvalid)
	}
	return io.NewSectionReader(r, first, end-first), end - first, nil
}

// content opens the value of a version.
func content(ctx context.Context, ns *engine.Namespace, v engine.Version) (io.ReaderAt, int64, io.Closer, error) {
	if v.Blob != "" {
		r, err := ns.DB().OpenBlob(ctx, v.Blob)
		if err != nil {
			return nil, 0, nil, err
		}
		return r, r.Size(), r, nil
	}
	value := v.Value
	if n, ok := numberOf(v); ok {
		value = fmt.Appendln(nil, n)
	}
	return bytes.NewReader(value), int64(len(value)), io.NopCloser(nil), nil
}

// writeValue writes a version's value, or a part of it, to a file, or to stdout
// if out is "".
func (a *app) writeValue(ctx context.Context, ns *engine.Namespace, v engine.Version, part span, out string) error {
	r, size, c, err := content(ctx, ns, v)
	if err != nil {
		return err
	}
	defer c.Close() // only reads; it cannot fail
	src, n, err := part.of(r, size)
	if err != nil {
		return err
	}
	if out == "" {
		_, err := io.CopyBuffer(dataWriter{a.p}, src, make([]byte, min(n+1, copyBuffer)))
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	progress := a.p.Progress("get", "bytes", n)
	_, err = io.CopyBuffer(dataWriter{countingWriter{ctx, f, progress}}, src, make([]byte, min(n+1, copyBuffer)))
	progress.Done()
	if err = errors.Join(err, f.Close()); err != nil {
		return cliout.WithNext(err, fmt.Sprintf("%s holds a part of the value only", cliout.Safe(out)))
	}
	return nil
}

// copyBuffer is how much of a value is copied at a time.
const copyBuffer = 256 << 10

// dataWriter makes a Writer of what takes data.
type dataWriter struct {
	to interface{ Data([]byte) error }
}

func (w dataWriter) Write(b []byte) (int, error) {
	if err := w.to.Data(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// countingWriter writes to a file, shows how far it is, and ends with its
// context.
type countingWriter struct {
	ctx      context.Context
	f        *os.File
	progress *cliout.Progress
}

func (w countingWriter) Data(b []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	_, err := w.f.Write(b)
	w.progress.Add(int64(len(b)))
	return err
}

// input is the value of a put: the argument, a file, or stdin.
type input struct {
	io.Reader
	close    func() error
	progress *cliout.Progress
}

// input opens the value of a put.
func (a *app) input(cmd *cobra.Command, args []string, file string) (*input, error) {
	switch {
	case file != "" && len(args) > 0:
		return nil, usage(cmd, "a VALUE and --file: give one of the two")
	case file != "":
		return a.inputFile(file)
	case len(args) == 1 && args[0] != "-":
		return &input{Reader: strings.NewReader(args[0])}, nil
	case len(args) == 0 && isTerminal(a.in):
		return nil, usage(cmd, "no value: give VALUE, --file, or - to type it")
	}
	return &input{Reader: a.in, progress: a.p.Progress("put", "bytes", 0)}, nil
}

func (a *app) inputFile(path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, inputError(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: %w", cliout.Safe(path), engine.ErrInvalid)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &input{Reader: f, close: f.Close, progress: a.p.Progress("put", "bytes", info.Size())}, nil
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	n, err := in.Reader.Read(p)
	if in.progress != nil {
		in.progress.Add(int64(n))
	}
	return n, err
}

// done ends the progress and closes the file.
func (in *input) done() error {
	if in.progress != nil {
		in.progress.Done()
	}
	if in.close != nil {
		return in.close()
	}
	return nil
}

// blobSize returns the length of a large value, -1 if it is not here.
func blobSize(ctx context.Context, ns *engine.Namespace, blob string) (int64, error) {
	r, err := ns.DB().OpenBlob(ctx, blob)
	if errors.Is(err, engine.ErrUnavailable) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	defer r.Close() // only reads; it cannot fail
	return r.Size(), nil
}
