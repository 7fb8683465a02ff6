package cliout

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Safe returns s as a terminal may show it on one line: as it is if every
// character is printable, else quoted with Go's escapes. Text that is empty,
// begins or ends with a space or begins with a quote is quoted too, so that the
// form is unambiguous.
func Safe(s string) string {
	if s == "" || s[0] == '"' || s[0] == ' ' || s[len(s)-1] == ' ' || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// clean escapes what does not print, keeping line feeds and tabs.
func clean(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\n' || r == '\t' || strconv.IsPrint(r) && !(r == utf8.RuneError && n == 1):
			b.WriteString(s[i : i+n])
		default:
			quoted := strconv.Quote(s[i : i+n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// Bytes is a number of bytes: 1.5 KiB in a table, 1536 in JSON.
type Bytes int64

// String prints with binary units (IEC 80000-13) and one decimal.
func (b Bytes) String() string {
	n, sign := float64(b), ""
	if n < 0 {
		n, sign = -n, "-"
	}
	if n < 1024 {
		return fmt.Sprintf("%s%.0f B", sign, n)
	}
	unit := 0
	for n >= 1023.95 && unit < len("KMGTPE") { // what would print as 1024.0
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%s%.1f %ciB", sign, n, "KMGTPE"[unit-1])
}

// Count is a number of things: 12,345 in a table, 12345 in JSON.
type Count int64

// String prints with a comma every three digits.
func (c Count) String() string {
	s := strconv.FormatInt(int64(c), 10)
	digits := strings.TrimPrefix(s, "-")
	sign := s[:len(s)-len(digits)]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Duration prints d with about three digits: 1.23ms, 4.5s, 3m20s, 2d4h.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch a := d.Abs(); {
	case a < time.Microsecond:
		return d.String()
	case a < time.Millisecond:
		return d.Round(10 * time.Nanosecond).String()
	case a < time.Second:
		return d.Round(10 * time.Microsecond).String()
	case a < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	case a < time.Hour:
		return d.Round(time.Second).String()
	case a < day:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%dh", d/day, d.Abs()%day/time.Hour)
	}
}
