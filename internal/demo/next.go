package demo

import (
	"fmt"
	"path/filepath"
	"strings"
)

// end prints where the data lies, what to do with it, and the outcome.
func (t *Text) end(r *Report) error {
	var b strings.Builder
	if err := t.heading(10, "Where the data lies, and what to try next"); err != nil {
		return err
	}
	dir, pick := r.Dir, "bafy..."
	if r.Kept {
		pick = loser(r)
		fmt.Fprintf(&b, "The three stores are in %s\n\n", dir)
	} else {
		fmt.Fprintf(&b, "The three stores were in %s and are removed.\nTo look around in them, keep them:\n\n", dir)
		dir = "bzzz-demo"
		fmt.Fprintf(&b, "  %s demo --dir %s\n", t.program, dir)
	}
	for _, c := range nextCommands(t.program, dir, pick) {
		b.WriteString("  " + c + "\n")
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	return t.p.Data([]byte(b.String()))
}

// Summary is the outcome in a line.
func (r *Report) Summary() string {
	held := 0
	for _, c := range r.Checks {
		if c.OK {
			held++
		}
	}
	root := "none"
	if len(r.Roots) > 0 {
		root = r.Roots[0].Root[:rootDigits]
	}
	return fmt.Sprintf("%d of %d claims hold; root of all three %s; %.1f s", held, len(r.Checks), root, r.Seconds)
}

// nextCommands are worth trying on the stores.
func nextCommands(program, dir, pick string) []string {
	at := func(node, rest string) string {
		return program + " --data " + quoted(filepath.Join(dir, node)) + " " + rest
	}
	return []string{
		at("ann", "ls -l 'Seattle/2012-01'"),
		at("ann", "log '"+keyAll+"'"),
		at("ann", "at '"+keyAll+"' --steps 1"),
		at("ann", "conflicts"),
		at("ann", "conflicts resolve '"+keyTwo+"' --pick "+pick),
		at("ann", "sync "+quoted(filepath.Join(dir, "ben"))),
		at("ben", "conflicts"),
	}
}

// pickLen is how much of a CID names a version among a few: the first 8
// characters are the same in all of them.
const pickLen = 14

// loser returns the beginning of the CID of a value that stands beside the one
// shown of the conflict that is left.
func loser(r *Report) string {
	for _, rec := range r.Records {
		for _, v := range rec.Versions {
			if rec.Key == keyTwo && v.Fate == "beside" {
				return v.CID[:pickLen]
			}
		}
	}
	return "bafy..."
}

// quoted returns a path as a shell takes it.
func quoted(path string) string {
	if strings.IndexFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:", r))
	}) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
