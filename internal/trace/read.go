package trace

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"time"

	"bzzz/internal/errs"
	"bzzz/internal/ingest"
)

// The bounds of a trace file in bytes.
const (
	MaxLine     = 16 << 20
	MaxInflated = 1 << 30
)

// Version is the format that Read knows and Write writes.
const Version = 1

// Header is the first line of a trace.
type Header struct {
	Commits int
	Authors int
	Paths   int
}

// Reader reads a trace line by line. Its memory grows with the paths and the
// longest line, not with the commits.
type Reader struct {
	lines   *ingest.Lines
	pos     ingest.Pos // of the line that Next read last
	header  Header
	next    int // id of the next commit
	authors map[int]bool
	paths   map[string]bool
	head    int
	tree    map[string]File
}

// NewReader reads the first line of the trace r, plain or gzip, which errors
// call source.
func NewReader(r io.Reader, source string) (*Reader, error) {
	in := bufio.NewReader(r)
	r = in
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		r = ingest.Gunzip(in, source, MaxInflated)
	}
	t := &Reader{lines: ingest.NewLines(r, source, MaxLine), authors: map[int]bool{}, paths: map[string]bool{}}
	line, pos, err := t.lines.Next()
	if err == io.EOF {
		return nil, pos.Invalid("no header")
	}
	if err != nil {
		return nil, err
	}
	return t, t.readHeader(line, pos)
}

func (t *Reader) readHeader(line []byte, pos ingest.Pos) error {
	var format int
	counts := map[string]*int{"format": &format, "commits": &t.header.Commits, "authors": &t.header.Authors, "paths": &t.header.Paths}
	err := members(pos, line, []string{"format", "commits", "authors", "paths"}, func(name string, raw json.RawMessage, at ingest.Pos) error {
		return integer(at, raw, 0, math.MaxInt32, counts[name])
	})
	if err == nil && format != Version {
		return &ingest.Fault{Pos: pos, Err: errs.Wrap("trace.Read", "format "+strconv.Itoa(format), errs.ErrUnsupported)}
	}
	return err
}

// Header returns the first line.
func (t *Reader) Header() Header { return t.header }

// End returns what the last line says, once Next has returned io.EOF.
func (t *Reader) End() (head int, tree map[string]File) { return t.head, t.tree }

// Next returns the next commit, io.EOF after the last line. Every other error
// is a *ingest.Fault with its line, or an error of the input.
func (t *Reader) Next() (Commit, error) {
	if t.tree != nil {
		return Commit{}, io.EOF
	}
	line, pos, err := t.lines.Next()
	t.pos = pos
	switch {
	case err == io.EOF:
		return Commit{}, pos.Invalid("the trace ends after %d of %d commits, without its head", t.next, t.header.Commits)
	case err != nil:
		return Commit{}, err
	case t.next == t.header.Commits:
		if err := t.readEnd(line, pos); err != nil {
			return Commit{}, err
		}
		return Commit{}, io.EOF
	}
	c, err := t.readCommit(line, pos)
	if err == nil {
		t.next++
	}
	return c, err
}

func (t *Reader) readCommit(line []byte, pos ingest.Pos) (Commit, error) {
	c := Commit{ID: t.next}
	err := members(pos, line, []string{"id", "parents", "author", "time", "set", "del"}, func(name string, raw json.RawMessage, at ingest.Pos) (err error) {
		switch name {
		case "id":
			return integer(at, raw, t.next, t.next, &c.ID)
		case "parents":
			c.Parents, err = t.parents(at, raw)
		case "author":
			err = integer(at, raw, 0, t.header.Authors-1, &c.Author)
			t.authors[c.Author] = true
		case "time":
			var s int64
			err = integer(at, raw, -1<<35, 1<<35, &s) // 881 to 3058
			c.Time = time.Unix(s, 0).UTC()
		case "set":
			c.Set, err = files(at, raw)
		case "del":
			c.Del, err = paths(at, raw)
		}
		return err
	})
	if err != nil {
		return Commit{}, err
	}
	for _, path := range c.Del {
		if _, ok := c.Set[path]; ok {
			return Commit{}, pos.Invalid("path %q is set and deleted", path)
		}
		t.paths[path] = true
	}
	for path := range c.Set {
		t.paths[path] = true
	}
	if len(t.paths) > t.header.Paths {
		return Commit{}, pos.Invalid("more than the %d paths of the header", t.header.Paths)
	}
	return c, nil
}

func (t *Reader) readEnd(line []byte, pos ingest.Pos) error {
	err := members(pos, line, []string{"head", "tree"}, func(name string, raw json.RawMessage, at ingest.Pos) (err error) {
		if name == "head" {
			return integer(at, raw, 0, t.next-1, &t.head)
		}
		t.tree, err = files(at, raw)
		return err
	})
	if err == nil && (len(t.authors) != t.header.Authors || len(t.paths) != t.header.Paths) {
		err = pos.Invalid("%d authors and %d paths, the header says %d and %d", len(t.authors), len(t.paths), t.header.Authors, t.header.Paths)
	}
	if err == nil {
		err = t.atEnd()
	}
	if err != nil {
		t.tree = nil
	}
	return err
}

func (t *Reader) atEnd() error {
	_, pos, err := t.lines.Next()
	if err == nil {
		return pos.Invalid("a line after the head")
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// members calls fn for the members of an object, which must be exactly names.
func members(pos ingest.Pos, line []byte, names []string, fn func(name string, raw json.RawMessage, at ingest.Pos) error) error {
	missing := make(map[string]bool, len(names))
	for _, n := range names {
		missing[n] = true
	}
	err := ingest.Fields(pos, line, func(name string, raw json.RawMessage, at ingest.Pos) error {
		if !missing[name] {
			return at.Invalid("unknown field %q (want %q)", name, names)
		}
		delete(missing, name)
		return fn(name, raw, at)
	})
	if err != nil {
		return err
	}
	for _, n := range names {
		if missing[n] {
			return pos.Invalid("no field %q", n)
		}
	}
	return nil
}

func integer[T int | int64](at ingest.Pos, raw json.RawMessage, low, high T, dst *T) error {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		if low == high {
			return at.Invalid("got %.40s, want %d", raw, low)
		}
		return at.Invalid("got %.40s, want a whole number from %d to %d", raw, low, high)
	}
	*dst = T(n)
	return nil
}

func (t *Reader) parents(at ingest.Pos, raw json.RawMessage) ([]int, error) {
	var items []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return nil, at.Invalid("want a list of parents")
	}
	out := make([]int, len(items))
	for i, item := range items {
		if integer(at, item, 0, t.next-1, &out[i]) != nil {
			return nil, at.Invalid("parent %.40s is no commit before %d", item, t.next)
		}
	}
	return out, nil
}

func paths(at ingest.Pos, raw json.RawMessage) ([]string, error) {
	var items []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return nil, at.Invalid("want a list of paths")
	}
	seen := make(map[string]bool, len(items))
	out := make([]string, len(items))
	for i, item := range items {
		path, err := ingest.Text(at, item)
		if err != nil {
			return nil, err
		}
		if path == "" || seen[path] {
			return nil, at.Invalid("path %q is empty or there twice", path)
		}
		seen[path], out[i] = true, path
	}
	return out, nil
}

func files(at ingest.Pos, raw json.RawMessage) (map[string]File, error) {
	tree := map[string]File{}
	err := ingest.Fields(at, raw, func(path string, raw json.RawMessage, at ingest.Pos) error {
		if path == "" {
			return at.Invalid("an empty path")
		}
		f, err := file(at, raw)
		tree[path] = f
		return err
	})
	return tree, err
}

// file parses ["hash", size].
func file(at ingest.Pos, raw json.RawMessage) (f File, err error) {
	var pair []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &pair) != nil || len(pair) != 2 {
		return f, at.Invalid(`want ["hash", size]`)
	}
	hash, err := ingest.Text(at, pair[0])
	if err != nil {
		return f, err
	}
	digest, err := hex.DecodeString(hash)
	if err != nil || len(digest) != len(f.Hash) || hex.EncodeToString(digest) != hash {
		return f, at.Invalid("hash %.60q is not %d lower-case hexadecimal digits", hash, 2*len(f.Hash))
	}
	copy(f.Hash[:], digest)
	return f, integer(at, pair[1], 0, 1<<50, &f.Size)
}

// Read reads a whole trace, plain or gzip, and verifies it (Verify).
func Read(r io.Reader, source string) (*Trace, error) {
	in, err := NewReader(r, source)
	if err != nil {
		return nil, err
	}
	t := &Trace{Authors: in.header.Authors, Paths: in.header.Paths}
	var lines []ingest.Pos // of the commits, then of the head
	for err == nil {
		var c Commit
		if c, err = in.Next(); err == nil {
			t.Commits = append(t.Commits, c)
		}
		lines = append(lines, in.pos)
	}
	if err != io.EOF {
		return nil, err
	}
	t.Head, t.Tree = in.End()
	if at, err := t.verify(); err != nil {
		return nil, &ingest.Fault{Pos: lines[at], Err: err}
	}
	return t, nil
}
