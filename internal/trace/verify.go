package trace

import (
	"fmt"
	"maps"
	"slices"

	"bzzz/internal/errs"
)

// Verify returns errs.ErrInvalid, naming the commit, unless the trace agrees
// with itself: commits are in order and after their parents, every path that
// differs from a parent is listed and only what a parent holds is deleted, and
// the state of the head is Tree. O(commits x paths).
func (t *Trace) Verify() error {
	_, err := t.verify()
	return err
}

// verify returns with an error the commit at fault, len(t.Commits) for the head.
func (t *Trace) verify() (at int, err error) {
	for i := range t.Commits {
		if err := t.Commits[i].ordered(i); err != nil {
			return i, err
		}
	}
	if t.Head < 0 || t.Head >= len(t.Commits) {
		return len(t.Commits), invalid("head %d of %d commits", t.Head, len(t.Commits))
	}
	uses := t.children()
	pending := map[int]map[string]File{} // states that a child still needs
	for i := range t.Commits {
		c := &t.Commits[i]
		state := map[string]File{}
		if len(c.Parents) > 0 {
			maps.Copy(state, pending[c.Parents[0]])
		}
		c.apply(state)
		if err := c.complete(state, pending); err != nil {
			return i, err
		}
		for _, p := range c.distinct() {
			if uses[p]--; uses[p] == 0 {
				delete(pending, p)
			}
		}
		if uses[i] > 0 {
			pending[i] = state
		}
		if i == t.Head && !maps.Equal(state, t.Tree) {
			return len(t.Commits), invalid("the commits do not lead to the tree of the head: %v", compare("head", t.Tree, state, 1)[0])
		}
	}
	return 0, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w trace: %s", errs.ErrInvalid, fmt.Sprintf(format, args...))
}

// ordered checks that c is commit i, and its parents come before it.
func (c *Commit) ordered(i int) error {
	if c.ID != i {
		return invalid("commit %d at place %d", c.ID, i)
	}
	for _, p := range c.Parents {
		if p < 0 || p >= i {
			return invalid("commit %d has the parent %d, which does not come before it", i, p)
		}
	}
	return nil
}

// complete checks what c lists against the states before and after it.
func (c *Commit) complete(state map[string]File, parents map[int]map[string]File) error {
	listed := make(map[string]bool, len(c.Del))
	for _, path := range c.Del {
		if _, set := c.Set[path]; set || listed[path] {
			return invalid("commit %d lists %q twice", c.ID, path)
		}
		if !slices.ContainsFunc(c.Parents, func(p int) bool { _, ok := parents[p][path]; return ok }) {
			return invalid("commit %d deletes %q, which no parent holds", c.ID, path)
		}
		listed[path] = true
	}
	if len(c.Parents) < 2 {
		return nil // with one parent the state follows from the list
	}
	for _, p := range c.Parents {
		for _, d := range compare("", parents[p], state, -1) {
			if _, set := c.Set[d.Path]; !set && !listed[d.Path] {
				return invalid("commit %d does not list %q, which differs from its parent %d", c.ID, d.Path, p)
			}
		}
	}
	return nil
}

// Diff is a path that holds something else than it should.
type Diff struct {
	Where string `json:"where"` // "head", "merge 17", "replica 3"
	Path  string `json:"path"`
	Want  string `json:"want"` // "none" for a path that should not be there
	Got   string `json:"got"`
}

// String prints the difference on one line.
func (d Diff) String() string {
	return fmt.Sprintf("%s: %q: want %s, got %s", d.Where, d.Path, d.Want, d.Got)
}

// compare lists the paths, in order, in which got differs from want, at most n
// of them (all if n < 0).
func compare(where string, want, got map[string]File, n int) []Diff {
	var paths []string
	for path, f := range want {
		if g, ok := got[path]; !ok || g != f {
			paths = append(paths, path)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if n >= 0 && len(paths) > n {
		paths = paths[:n]
	}
	out := make([]Diff, len(paths))
	for i, path := range paths {
		out[i] = Diff{where, path, show(want, path), show(got, path)}
	}
	return out
}

func show(tree map[string]File, path string) string {
	if f, ok := tree[path]; ok {
		return f.String()
	}
	return "none"
}
