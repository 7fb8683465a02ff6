package ingest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// Writer writes records as JSON lines, the form that FormatJSONL reads back
// byte for byte. It is not safe for concurrent use.
type Writer struct {
	out *bufio.Writer
	buf []byte
}

// NewWriter returns a Writer to w. Call Flush at the end.
func NewWriter(w io.Writer) *Writer { return &Writer{out: bufio.NewWriterSize(w, 64<<10)} }

// Write writes one line; key and value are not kept.
func (w *Writer) Write(key, value []byte) error {
	w.buf = AppendRecord(w.buf[:0], key, value)
	_, err := w.out.Write(w.buf)
	return err
}

// Flush writes what is buffered.
func (w *Writer) Flush() error { return w.out.Flush() }

// AppendRecord appends the line {"key":K,"value":V} and a line feed. The same
// record always gives the same bytes. A key that is not valid UTF-8 goes as
// "key_base64"; a value that is not one JSON text on one line, without space
// around it and in valid UTF-8, goes as "value_base64". A JSON value goes as it
// is, not reformatted.
func AppendRecord(dst, key, value []byte) []byte {
	if utf8.Valid(key) {
		dst = appendString(append(dst, `{"key":`...), string(key))
	} else {
		dst = appendBase64(append(dst, `{"key_base64":`...), key)
	}
	if embeds(value) {
		dst = append(append(dst, `,"value":`...), value...)
	} else {
		dst = appendBase64(append(dst, `,"value_base64":`...), value)
	}
	return append(dst, '}', '\n')
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// embeds reports whether value can stand in a line and come back as it is.
func embeds(value []byte) bool {
	return len(value) > 0 && len(bytes.TrimSpace(value)) == len(value) && bytes.IndexByte(value, '\n') < 0 &&
		utf8.Valid(value) && json.Valid(value) && !deep(value)
}

// deep reports whether value is nested so deeply (encoding/json stops at
// 10,000 levels) that it cannot be read inside the object of a line.
func deep(value []byte) bool {
	const limit = 10_000
	brackets := bytes.Count(value, []byte{'['}) + bytes.Count(value, []byte{'{'})
	return brackets >= limit && !json.Valid(bytes.Join([][]byte{{'['}, {']'}}, value))
}
