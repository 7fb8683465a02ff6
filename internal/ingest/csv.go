package ingest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// cell is one field of a row: a span of scanner.buf and where it started.
type cell struct {
	from, to int
	quoted   bool
	pos      Pos
}

// scanner splits CSV into rows (RFC 4180). It is stricter than encoding/csv (a
// bare carriage return is refused) and keeps CR LF inside quotes as it is.
type scanner struct {
	in      *bufio.Reader
	comma   byte
	limit   int // bytes in a row
	columns int // most cells in a row
	pos     Pos // of the next byte
	buf     []byte
	cells   []cell
}

func (s *scanner) next() (byte, error) {
	c, err := s.in.ReadByte()
	if err != nil {
		return 0, err
	}
	if s.pos.Column++; c == '\n' {
		s.pos.Line, s.pos.Column = s.pos.Line+1, 1
	}
	return c, nil
}

// row reads the next row that is not blank into cells and buf, io.EOF at the end.
func (s *scanner) row() error {
	for {
		if _, err := s.in.Peek(1); err != nil {
			return err
		}
		s.buf, s.cells = s.buf[:0], s.cells[:0]
		for last := false; !last; {
			if len(s.cells) == s.columns {
				return s.pos.Invalid("more than %d fields", s.columns)
			}
			var err error
			if last, err = s.field(); err != nil {
				return err
			}
		}
		if len(s.cells) > 1 || len(s.buf) > 0 || s.cells[0].quoted {
			return s.check()
		}
	}
}

// field reads one field and its end; last tells that the row ends there.
func (s *scanner) field() (last bool, err error) {
	f := cell{from: len(s.buf), pos: s.pos}
	if head, _ := s.in.Peek(1); len(head) == 1 && head[0] == '"' {
		f.quoted = true
		if err := s.quoted(); err != nil {
			return false, err
		}
	}
	for {
		at := s.pos
		c, err := s.next()
		if c == '\r' && err == nil {
			if c, err = s.next(); err == io.EOF || err == nil && c != '\n' {
				return false, at.Invalid("a carriage return without a line feed")
			}
		}
		if err != nil && err != io.EOF {
			return false, err
		}
		if err == io.EOF || c == '\n' || c == s.comma {
			f.to = len(s.buf)
			s.cells = append(s.cells, f)
			return c != s.comma || err == io.EOF, nil
		}
		if f.quoted {
			return false, at.Invalid("text after a closing quote")
		}
		if c == '"' {
			return false, at.Invalid(`a quote inside a field that is not quoted (quote the field and write "")`)
		}
		if err := s.add(c); err != nil {
			return false, err
		}
	}
}

// quoted reads a quoted field up to and with its closing quote.
func (s *scanner) quoted() error {
	open := s.pos
	_, _ = s.next() // the quote that field saw
	for {
		c, err := s.next()
		if err == io.EOF {
			return open.Invalid("a quote that is never closed")
		}
		if err != nil {
			return err
		}
		if c == '"' {
			if head, _ := s.in.Peek(1); len(head) == 0 || head[0] != '"' {
				return nil
			}
			_, _ = s.next()
		}
		if err := s.add(c); err != nil {
			return err
		}
	}
}

func (s *scanner) add(c byte) error {
	if len(s.buf) >= s.limit {
		return s.pos.TooLarge("the row", int64(s.limit))
	}
	s.buf = append(s.buf, c)
	return nil
}

func (s *scanner) text(i int) []byte { return s.buf[s.cells[i].from:s.cells[i].to] }

func (s *scanner) check() error {
	for i, c := range s.cells {
		if !utf8.Valid(s.text(i)) {
			return c.pos.Invalid("field %d is not valid UTF-8", i+1)
		}
	}
	return nil
}

// table makes records of the rows below a header.
type table struct {
	scanner
	names []string
	key   []int    // columns of the key
	label [][]byte // names as JSON, with the punctuation before a value
}

// csvRecords: a row becomes one JSON object on one line, its members in header
// order. A cell whose text is a JSON number that every IEEE double keeps
// exactly (at most 15 significant digits, in range) becomes that number, digit
// for digit as written; every other cell becomes a string, so 007, +1, 1e400
// and 17-digit identifiers stay what they are. The cells can thus be had back
// exactly: a number's literal or a string's content.
func csvRecords(r io.Reader, source string, comma byte, o Options) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		t := table{scanner: scanner{in: skipBOM(r), comma: comma, limit: o.MaxRecord, columns: MaxColumns, pos: Pos{source, 1, 1}}}
		err := t.header(o.KeyColumns)
		for err == nil {
			var rec Record
			if rec, err = t.record(); err == nil && !yield(rec, nil) {
				return
			}
		}
		if err != io.EOF {
			yield(Record{}, err)
		}
	}
}

func (t *table) header(keys []string) error {
	if err := t.row(); err == io.EOF {
		return t.pos.Invalid("no header row")
	} else if err != nil {
		return err
	}
	seen := make(map[string]bool, len(t.cells))
	for i, c := range t.cells {
		name := string(t.text(i))
		switch {
		case name == "":
			return c.pos.Invalid("column %d has no name", i+1)
		case seen[name]:
			return c.pos.Invalid("column %q is named twice", name)
		}
		seen[name] = true
		t.names = append(t.names, name)
		t.label = append(t.label, append(appendString([]byte{','}, name), ':'))
	}
	t.label[0][0] = '{'
	t.columns = len(t.names)
	if len(keys) == 0 {
		keys = t.names[:1]
	}
	for _, k := range keys {
		i := slices.Index(t.names, k)
		if i < 0 {
			return t.cells[0].pos.Invalid("no column %q (columns: %s)", k, brief(t.names))
		}
		t.key = append(t.key, i)
	}
	return nil
}

func (t *table) record() (Record, error) {
	if err := t.row(); err != nil {
		return Record{}, err
	}
	start := t.cells[0].pos
	if n := len(t.cells); n < t.columns {
		return Record{}, t.cells[n-1].pos.Invalid("the row has %d of %d fields", n, t.columns)
	}
	parts := make([]keyPart, len(t.key))
	for i, col := range t.key {
		parts[i] = keyPart{t.names[col], t.text(col), t.cells[col].pos}
	}
	key, err := joinKey(parts)
	if err != nil {
		return Record{}, err
	}
	value := make([]byte, 0, len(t.buf)+16*t.columns)
	for i := range t.cells {
		value = append(value, t.label[i]...)
		if text := t.text(i); exactNumber(text) {
			value = append(value, text...)
		} else {
			value = appendString(value, string(text))
		}
	}
	return Record{key, append(value, '}'), start}, nil
}

type keyPart struct {
	name string
	text []byte
	pos  Pos
}

// joinKey joins the parts by "/". With several parts none may contain a "/":
// (a/b, c) and (a, b/c) would be the same key.
func joinKey(parts []keyPart) ([]byte, error) {
	var key []byte
	for i, p := range parts {
		switch {
		case len(p.text) == 0:
			return nil, p.pos.Invalid("the key column %q is empty", p.name)
		case len(parts) > 1 && bytes.IndexByte(p.text, '/') >= 0:
			return nil, p.pos.Invalid(`the key column %q contains "/", which separates the parts of a key`, p.name)
		case i > 0:
			key = append(key, '/')
		}
		key = append(key, p.text...)
	}
	return key, nil
}

// brief lists names for an error message.
func brief(names []string) string {
	if len(names) > 12 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:12], ", "), len(names)-12)
	}
	return strings.Join(names, ", ")
}
