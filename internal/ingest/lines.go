package ingest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
)

const bom = "\xef\xbb\xbf"

// Lines reads the lines of an input, with a bound on their length.
type Lines struct {
	in     *bufio.Reader
	source string
	limit  int
	line   int
	buf    []byte
}

// NewLines returns a reader of the lines of r, none longer than limit bytes. A
// byte order mark at the start is skipped.
func NewLines(r io.Reader, source string, limit int) *Lines {
	return &Lines{in: skipBOM(r), source: source, limit: limit}
}

func skipBOM(r io.Reader) *bufio.Reader {
	in := bufio.NewReaderSize(r, 64<<10)
	if head, _ := in.Peek(len(bom)); string(head) == bom {
		_, _ = in.Discard(len(bom)) // cannot fail: the bytes are buffered
	}
	return in
}

// Next returns the next line that is not blank, without its line end, and the
// place of its first byte. The slice is valid until the next call. It returns
// io.EOF at the end and errs.ErrTooLarge for a line above the limit.
func (l *Lines) Next() ([]byte, Pos, error) {
	for {
		l.line++
		pos := Pos{l.source, l.line, 1}
		line, err := l.read(pos)
		if len(bytes.TrimSpace(line)) > 0 && (err == nil || err == io.EOF) {
			return line, pos, nil // an EOF comes again
		}
		if err != nil {
			return nil, pos, err
		}
	}
}

func (l *Lines) read(pos Pos) ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		line := bytes.TrimSuffix(bytes.TrimSuffix(l.buf, []byte("\n")), []byte("\r"))
		if len(line) > l.limit {
			return nil, pos.TooLarge("the line", int64(l.limit))
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// gunzip unpacks r up to a limit and names its source in errors.
type gunzip struct {
	packed io.Reader
	zip    *gzip.Reader
	pos    Pos
	limit  int64
	left   int64
	err    error // sticky
}

// Gunzip returns a reader of what the gzip stream r unpacks to. Reading gives
// a *Fault that wraps errs.ErrInvalid if r is damaged, errs.ErrTooLarge once
// more than limit bytes came out.
func Gunzip(r io.Reader, source string, limit int64) io.Reader {
	return &gunzip{packed: r, pos: Pos{Source: source}, limit: limit, left: limit}
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if g.zip == nil && g.err == nil {
		if g.zip, err = gzip.NewReader(g.packed); err == io.EOF {
			err = io.ErrUnexpectedEOF // an empty file is no gzip stream
		}
		g.err = g.fault(err)
	}
	if g.err != nil {
		return 0, g.err
	}
	n, err = g.zip.Read(p)
	if g.left -= int64(n); g.left < 0 {
		n, err = 0, g.pos.TooLarge("the unpacked file", g.limit)
	}
	g.err = g.fault(err)
	return n, g.err
}

func (g *gunzip) fault(err error) error {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) {
		return g.pos.Invalid("not a whole gzip file: %v", err)
	}
	return err
}
