package cliout

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Key is bytes that users chose: a key or a value. A table shows them by Safe;
// JSON has a string, or for bytes that are not valid UTF-8 base64 under the
// column's name with "_base64".
type Key []byte

// Preview is like Key, but a table of Rows may show the beginning alone, and
// "…", to stay within its Width.
type Preview []byte

// Field is a named value. Strings are shown by Safe in a table; Bytes, Count,
// Key, Preview, time.Duration (JSON: seconds), time.Time (JSON: RFC 3339) and nil
// (table: "-") have forms of their own; everything else is its JSON.
type Field struct {
	Name  string // lower case with underscores; JSON keys are stable
	Value any
}

// cellText is a value in a table, and whether it is a number.
func cellText(v any) (text string, number bool) {
	switch v := v.(type) {
	case nil:
		return "-", false
	case string:
		return Safe(v), false
	case Key:
		return Safe(string(v)), false
	case Preview:
		return Safe(string(v)), false
	case Bytes, Count:
		return fmt.Sprint(v), true
	case time.Duration:
		return Duration(v), true
	case time.Time:
		if v.IsZero() {
			return "-", false
		}
		return v.Format("2006-01-02 15:04:05"), false
	case error:
		return Safe(v.Error()), false
	}
	switch k := reflect.ValueOf(v).Kind(); {
	case k >= reflect.Int && k <= reflect.Float64 && k != reflect.Uintptr:
		return fmt.Sprint(v), true
	case k == reflect.String || k == reflect.Bool:
		return Safe(fmt.Sprint(v)), false
	}
	text = string(appendJSON(nil, v))
	return clean(text), false
}

// Cut returns the value by Safe if it has at most n characters that way, else
// as much of its beginning as fits, and "…".
func Cut(value []byte, n int) string {
	if len(value) <= utf8.UTFMax*n {
		if text := Safe(string(value)); utf8.RuneCountInString(text) <= n {
			return text
		}
	}
	for end := min(len(value), utf8.UTFMax*n); ; {
		for end > 0 && end < len(value) && !utf8.RuneStart(value[end]) {
			end-- // not within a character
		}
		text := Safe(string(value[:end]) + "…")
		over := utf8.RuneCountInString(text) - n
		if over <= 0 || end == 0 {
			return text
		}
		end -= min(end, max(1, over/utf8.UTFMax)) // a byte takes 4 characters at most
	}
}

// appendMember appends "name":value.
func appendMember(dst []byte, name string, v any) []byte {
	if p, ok := v.(Preview); ok {
		v = Key(p)
	}
	switch t := v.(type) {
	case Key:
		if v = string(t); !utf8.Valid(t) {
			name, v = name+"_base64", base64.StdEncoding.EncodeToString(t)
		}
	case string:
		if !utf8.ValidString(t) {
			name, v = name+"_base64", base64.StdEncoding.EncodeToString([]byte(t))
		}
	case time.Duration:
		v = t.Seconds()
	case time.Time:
		if v = t.Format(time.RFC3339Nano); t.IsZero() {
			v = nil
		}
	case error:
		v = strings.ToValidUTF8(t.Error(), "\uFFFD")
	}
	return appendJSON(append(appendJSON(dst, name), ':'), v)
}

// appendJSON appends v with every character that does not print escaped: JSON
// itself lets DEL, the C1 controls and the bidirectional overrides through. A
// value that has no JSON is shown as text.
func appendJSON(dst []byte, v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		buf.Reset()
		_ = enc.Encode(fmt.Sprint(v)) // a string always has
	}
	text := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case strconv.IsPrint(r):
			dst = append(dst, text[:n]...)
		case r > 0xffff:
			high, low := surrogates(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[n:]
	}
	return dst
}

// surrogates splits a rune above U+FFFF for JSON (RFC 8259 section 7).
func surrogates(r rune) (high, low rune) {
	r -= 0x10000
	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}

// JSONText returns v as it stands in printed JSON: on one line, what does not
// print escaped.
func JSONText(v any) string { return string(appendJSON(nil, v)) }

func appendObject(dst []byte, fields []Field) []byte {
	dst = append(dst, '{')
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMember(dst, f.Name, f.Value)
	}
	return append(dst, '}')
}
