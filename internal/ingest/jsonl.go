package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"iter"
	"slices"
)

// jsonlRecords: without KeyColumns each line is what Writer writes; with them
// it is any object, which becomes the value as it stands.
func jsonlRecords(r io.Reader, source string, o Options) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := NewLines(r, source, o.MaxRecord)
		for {
			line, pos, err := lines.Next()
			if err == io.EOF {
				return
			}
			rec := Record{Pos: pos}
			if err == nil && len(o.KeyColumns) > 0 {
				err = rec.fromObject(line, o.KeyColumns)
			} else if err == nil {
				err = rec.fromPair(line)
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// fromPair parses {"key":...,"value":...}; either may have _base64 instead.
func (r *Record) fromPair(line []byte) error {
	err := Fields(r.Pos, line, func(name string, raw json.RawMessage, at Pos) (err error) {
		dst := &r.Key
		switch name {
		case "key", "key_base64":
		case "value", "value_base64":
			dst = &r.Value
		default:
			return at.Invalid(`unknown member %q (want "key" and "value"; for other objects name the key columns)`, name)
		}
		if *dst != nil {
			return at.Invalid("%q beside its other form: give one of the two", name)
		}
		switch name {
		case "key":
			var s string
			s, err = Text(at, raw)
			*dst = []byte(s)
		case "value":
			*dst = bytes.Clone(raw)
		default:
			*dst, err = unbase64(at, raw)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case r.Key == nil:
		return r.Pos.Invalid(`no "key" (for other objects name the key columns)`)
	case len(r.Key) == 0:
		return r.Pos.Invalid("the key is empty")
	case r.Value == nil:
		return r.Pos.Invalid(`no "value"`)
	}
	return nil
}

func unbase64(at Pos, raw json.RawMessage) ([]byte, error) {
	s, err := Text(at, raw)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodedLen(len(b)) != len(s) { // the decoder skips line feeds
		return nil, at.Invalid("not canonical base64 (RFC 4648 section 4, with padding)")
	}
	return b, nil // not nil even if empty
}

// fromObject takes the key from the named members and the line as the value.
func (r *Record) fromObject(line []byte, names []string) error {
	parts := make([]keyPart, len(names))
	err := Fields(r.Pos, line, func(name string, raw json.RawMessage, at Pos) error {
		i := slices.Index(names, name)
		if i < 0 {
			return nil
		}
		text, err := scalar(at, name, raw)
		parts[i] = keyPart{name, text, at}
		return err
	})
	if err != nil {
		return err
	}
	for i, name := range names {
		if parts[i].name == "" {
			return r.Pos.Invalid("no member %q for the key", name)
		}
	}
	if r.Key, err = joinKey(parts); err != nil {
		return err
	}
	r.Value = bytes.Clone(bytes.TrimSpace(line))
	return nil
}

// scalar is a member as part of a key: a string's content, a number or boolean
// as written.
func scalar(at Pos, name string, raw json.RawMessage) ([]byte, error) {
	switch raw[0] {
	case '"':
		s, err := Text(at, raw)
		return []byte(s), err
	case '{', '[', 'n':
		return nil, at.Invalid("the key member %q is no string, number or boolean", name)
	}
	return bytes.Clone(raw), nil
}
