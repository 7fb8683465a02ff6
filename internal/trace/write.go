package trace

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
)

type headerLine struct {
	Format  int `json:"format"`
	Commits int `json:"commits"`
	Authors int `json:"authors"`
	Paths   int `json:"paths"`
}

type commitLine struct {
	ID      int               `json:"id"`
	Parents []int             `json:"parents"`
	Author  int               `json:"author"`
	Time    int64             `json:"time"`
	Set     map[string][2]any `json:"set"`
	Del     []string          `json:"del"`
}

type endLine struct {
	Head int               `json:"head"`
	Tree map[string][2]any `json:"tree"`
}

// Write writes t in the form that Read reads, canonically: members in order,
// paths sorted, no space. It is neither verified nor packed.
func Write(w io.Writer, t *Trace) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(headerLine{Version, len(t.Commits), t.Authors, t.Paths}); err != nil {
		return err
	}
	for i := range t.Commits {
		c := &t.Commits[i]
		del := slices.Sorted(slices.Values(c.Del))
		line := commitLine{c.ID, append([]int{}, c.Parents...), c.Author, c.Time.Unix(), pairs(c.Set), append([]string{}, del...)}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	if err := enc.Encode(endLine{t.Head, pairs(t.Tree)}); err != nil {
		return err
	}
	return out.Flush()
}

func pairs(tree map[string]File) map[string][2]any {
	out := make(map[string][2]any, len(tree))
	for path, f := range tree {
		out[path] = [2]any{hex.EncodeToString(f.Hash[:]), f.Size}
	}
	return out
}
