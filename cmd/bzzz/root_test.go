package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// TestEveryCommandIsExplained: what it does in a line, at length, and by example.
func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "  bzzz ") {
			t.Errorf("%s: Short, Long or Example missing", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short ends with a full stop", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), len(line), line)
			}
		}
		for _, c := range cmd.Commands() {
			check(c)
		}
	}
	check(newRootCmd(&app{}))
}

func TestParsePoint(t *testing.T) {
	t.Parallel()
	const cid = "bafyreifp7txwnoa2elaa4bgr75gt3kokxl45zunk34wkiwbi2brpi4nwl4"
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text string
		want engine.Point
	}{
		{"now", engine.Point{}},
		{"~3", engine.StepsBack(3)},
		{"2h30m", engine.AtTime(now.Add(-150 * time.Minute))},
		{"30d", engine.AtTime(now.AddDate(0, 0, -30))},
		{"2026-01-31", engine.AtTime(time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local))},
		{"2026-01-31 08:09:10", engine.AtTime(time.Date(2026, 1, 31, 8, 9, 10, 0, time.Local))},
		{"2026-01-31T08:09", engine.AtTime(time.Date(2026, 1, 31, 8, 9, 0, 0, time.Local))},
		{"2026-01-31T08:09:10.25Z", engine.AtTime(time.Date(2026, 1, 31, 8, 9, 10, 250e6, time.UTC))},
	} {
		got, err := parsePoint(c.text, now, true)
		if err != nil || got != (point{at: c.want}) {
			t.Errorf("parsePoint(%q) = %v, %v, want %v", c.text, got, err, c.want)
		}
	}
	if got, err := parsePoint(cid, now, true); err != nil || got.cid != "" {
		t.Errorf("parsePoint of a CID: %v, %v", got, err)
	}
	for text, certain := range map[string]bool{cid[:14]: true, "bafy": true, cid[len(cid)-8:]: false, "yesterday": false} {
		if got, err := parsePoint(text, now, true); err != nil || got.cid != text || (got.err == nil) != certain {
			t.Errorf("parsePoint(%q) = %v, %v, want a part of a CID", text, got, err)
		}
	}
	for _, text := range []string{"", "~", "~-1", "~x", "-2h", "next week", "2026-02-30", "bafy+", "abc", "40000d", "9223372036854775807d", "+5", "12"} {
		if got, err := parsePoint(text, now, true); err == nil {
			t.Errorf("parsePoint(%q) = %v, want an error", text, got)
		}
	}
	for _, text := range []string{"~1", cid, cid[:14], cid[len(cid)-8:]} {
		if _, err := parsePoint(text, now, false); err == nil {
			t.Errorf("parsePoint(%q) for many keys: want an error", text)
		}
	}
}

func TestShortCIDs(t *testing.T) {
	t.Parallel()
	a := &app{p: cliout.New(cliout.Options{})}
	one, two := engine.Version{CID: "bafyaaaa1234567z"}, engine.Version{CID: "bafybbbb1234567z"}
	for _, c := range []struct {
		list []engine.Version
		want string
	}{
		{[]engine.Version{one}, "1234567z"}, {[]engine.Version{one, one}, "1234567z"}, {[]engine.Version{one, two}, "a1234567z"},
	} {
		if got := a.shortCIDs(c.list)(one.CID); got != c.want {
			t.Errorf("shortCIDs(%v): got %v, want %s", c.list, got, c.want)
		}
	}
	a.p = cliout.New(cliout.Options{Format: cliout.JSON})
	if got := a.shortCIDs(nil)(one.CID); got != one.CID {
		t.Errorf("for programs: got %v, want all of it", got)
	}
}

func TestCommonLen(t *testing.T) {
	t.Parallel()
	const same = "this is what they have in common: "
	for _, c := range []struct {
		values []string
		want   int
	}{
		{nil, 0}, {[]string{same + same}, 0}, {[]string{same + same, same + same}, 0}, {[]string{"a", "b"}, 0},
		{[]string{same + "a", same + "b"}, 0}, {[]string{same + "a longer text", same + "b"}, len(same) - kept},
		{[]string{same + "x", same[:21] + strings.Repeat("y", 30), same + "y"}, 21 - kept},
	} {
		var values [][]byte
		for _, v := range c.values {
			values = append(values, []byte(v))
		}
		for _, values := range [][][]byte{values, append([][]byte{nil}, values...)} {
			if got := commonLen(values...); got != c.want {
				t.Errorf("commonLen(%q): got %d, want %d", values, got, c.want)
			}
		}
	}
}
