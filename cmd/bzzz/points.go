package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
)

// pointHelp explains the forms that parsePoint reads.
const pointHelp = `A point in history is one of
  now                    the current state
  2h, 30d                so long ago
  2026-01-31             a day at 00:00, local time
  2026-01-31T12:00:00    a moment, local time
  2026-01-31T12:00:00Z   a moment with its zone (RFC 3339)
  a mark                 as "bzzz mark" printed it`

// keyPointHelp are the forms that one key's history has besides.
const keyPointHelp = `
  ~2                     two versions back
  bafy... or 4eyqwl2m    the version with this CID, or one that begins or ends so`

// minCID is how much of a CID a point must have that says nothing else.
const minCID = 4

// parsePoint reads a point in history; one of a single key's history only if
// oneKey is set. Its errors are the user's to correct.
func parsePoint(s string, now time.Time, oneKey bool) (point, error) {
	steps, back := strings.CutPrefix(s, "~")
	switch cid := strings.HasPrefix(s, "baf") && cidPart(s); {
	case s == "now":
		return point{}, nil
	case (back || cid) && !oneKey:
		return point{}, fmt.Errorf("%q names a version of one key: want a time or a mark", s)
	case back:
		n, err := strconv.Atoi(steps)
		if err != nil || n < 0 {
			return point{}, fmt.Errorf("%q: want ~ and a number of steps", s)
		}
		return point{at: engine.StepsBack(n)}, nil
	case cid:
		return cidPoint(s)
	}
	if t, err := parseTime(s, now); err == nil {
		return point{at: engine.AtTime(t)}, nil
	}
	if m, err := engine.ParseMark(s); err == nil {
		return point{at: engine.AtMark(m)}, nil
	}
	err := fmt.Errorf("%q is no time, duration or mark (such as 2026-01-31T12:00:00Z, 2h, or what bzzz mark printed)", s)
	if oneKey && len(s) >= minCID && cidPart(s) {
		return point{cid: s, err: err}, nil // the end of a CID, if there is such a version
	}
	return point{}, err
}

// cidPoint reads a CID, or the beginning or the end of one.
func cidPoint(s string) (point, error) {
	if p, err := engine.AtCID(s); err == nil {
		return point{at: p}, nil
	}
	if !cidPart(s) {
		return point{}, fmt.Errorf("%q is no CID, nor the beginning or the end of one", s)
	}
	return point{cid: s}, nil
}

// parseTime reads a moment, or how long ago it was.
func parseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := parseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time (such as 2026-01-31T12:00:00Z) and no duration (such as 2h)", s)
	}
	return now.Add(-d), nil
}

// maxDays keeps a duration in days within what time.Duration can hold.
const maxDays = 100 * 365

// parseDuration reads a Go duration that is not negative, or whole days as 30d.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > maxDays {
			return 0, fmt.Errorf("%q is no number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration (such as 90s, 2h, 30d)", s)
	}
	return d, nil
}

// duration is a flag that parseDuration reads.
type duration time.Duration

func (d *duration) Set(s string) error {
	v, err := parseDuration(s)
	*d = duration(v)
	return err
}

func (d *duration) String() string {
	const day = 24 * time.Hour
	switch v := time.Duration(*d); {
	case v == 0:
		return "0"
	case v%day == 0:
		return fmt.Sprintf("%dd", v/day)
	default:
		return v.String()
	}
}

func (d *duration) Type() string { return "duration" }

// pointFlag reads a point that a flag gave; an error is one of usage.
func pointFlag(cmd *cobra.Command, name, value string, oneKey bool) (point, error) {
	p, err := parsePoint(value, time.Now(), oneKey)
	if err != nil {
		return p, usage(cmd, "--%s: %w", name, err)
	}
	if p.err != nil {
		p.err = fmt.Errorf("--%s: %w", name, p.err)
	}
	return p, nil
}
