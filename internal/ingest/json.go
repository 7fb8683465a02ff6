package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

// Fields calls fn for each member of the JSON object in text, in order, with
// the place of its value. pos is the place of the first byte of text, which
// must be one object on one line, nothing behind it. It returns a *Fault for
// malformed JSON, invalid UTF-8, anything that is not an object, and a member
// named twice; or the first error of fn. raw is valid during the call.
func Fields(pos Pos, text []byte, fn func(name string, raw json.RawMessage, at Pos) error) error {
	if i := invalidUTF8(text); i >= 0 {
		return shift(pos, i).Invalid("not valid UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			return shift(pos, max(0, int(se.Offset)-1)).Invalid("%s", se.Error())
		}
		return pos.Invalid("%s", err.Error())
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return pos.Invalid("want a JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return pos.Invalid("%s", err.Error())
		}
		key, _ := name.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return pos.Invalid("%s", err.Error())
		}
		at := shift(pos, int(dec.InputOffset())-len(raw))
		if seen[key] {
			return at.Invalid("member %q is there twice", key)
		}
		seen[key] = true
		if err := fn(key, raw, at); err != nil {
			return err
		}
	}
	return nil
}

// Text decodes a JSON string. It refuses half a surrogate pair, for which
// encoding/json would put U+FFFD.
func Text(at Pos, raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", at.Invalid("want a string")
	}
	if loneSurrogate(raw) {
		return "", at.Invalid("half a surrogate pair in a string")
	}
	return s, nil
}

func shift(p Pos, n int) Pos {
	p.Column += n
	return p
}

func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}

// loneSurrogate reports whether the valid JSON string raw holds a \u escape of
// half a surrogate pair.
func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		unit := hexUnit(raw[i+1:])
		i += 4
		if unit < 0xd800 || unit > 0xdfff {
			continue
		}
		rest := raw[i+1:]
		if unit >= 0xdc00 || len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
			return true
		}
		if low := hexUnit(rest[2:]); low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}

func hexUnit(digits []byte) uint64 {
	u, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // valid JSON: four hex digits
	return u
}

// appendString appends s, valid UTF-8, as a JSON string: only what RFC 8259
// section 7 demands is escaped.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// exactNumber reports whether text is a JSON number (RFC 8259 section 6) that
// any reader working with IEEE 754 doubles keeps exactly: at most 15
// significant digits (DBL_DIG) and within the range of normal doubles.
func exactNumber(text []byte) bool {
	if len(text) == 0 || len(text) > 32 || text[0] != '-' && (text[0] < '0' || text[0] > '9') || !json.Valid(text) {
		return false
	}
	mantissa := text
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
	}
	digits, zero := 0, true
	for _, c := range mantissa {
		if c == '-' || c == '.' || c == '0' && zero {
			continue
		}
		digits, zero = digits+1, false
	}
	v, err := strconv.ParseFloat(string(text), 64)
	const smallestNormal = 0x1p-1022
	return err == nil && digits <= 15 && (zero || math.Abs(v) >= smallestNormal)
}
