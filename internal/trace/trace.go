// Package trace reads the edit history of a real project and replays it on
// replicas: who changed which path when, on top of what, and what came out.
//
// Read parses a trace strictly, Verify checks that it agrees with itself, and
// Replay drives any Cluster through it and compares the outcome with the right
// answer that the trace carries. The method is that of the data's README:
//
//   - A replica cannot forget, so there is one for every pending (commit,
//     child) edge: when a commit has k children, k-1 fresh replicas are synced
//     from its replica at that moment.
//   - A commit is written on a replica that holds exactly the state of its
//     first parent. For a merge that replica first syncs with the replicas that
//     stand for the other parents, which are retired; then only what differs
//     from the final state is written.
//   - The replica of the head must hold exactly the tree of the trace before it
//     syncs with anybody else.
//   - Last, the replicas that remain sync with each other until all roots agree.
package trace

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"time"

	"bzzz/internal/errs"
)

// File is what a path holds: the hash and the size of a content that the trace
// itself does not carry.
type File struct {
	Hash [20]byte
	Size int64 // bytes
}

// String prints the hash in hexadecimal and the size.
func (f File) String() string { return fmt.Sprintf("%x(%d)", f.Hash, f.Size) }

// Append appends the value that stands for f in a store: the 20 bytes of the
// hash, then the size as a minimal unsigned varint. 21 to 29 bytes, one form.
func (f File) Append(dst []byte) []byte {
	return binary.AppendUvarint(append(dst, f.Hash[:]...), uint64(f.Size))
}

// ParseFile is the inverse of Append. It returns errs.ErrInvalid for anything
// that Append does not write.
func ParseFile(value []byte) (File, error) {
	var f File
	if len(value) > len(f.Hash) {
		size, n := binary.Uvarint(value[copy(f.Hash[:], value):])
		f.Size = int64(size)
		if n > 0 && f.Size >= 0 && string(f.Append(nil)) == string(value) {
			return f, nil
		}
	}
	return File{}, fmt.Errorf("%w: %s is no hash and size of a file", errs.ErrInvalid, hex.EncodeToString(value[:min(len(value), 32)]))
}

// Commit is one edit. Parents come before it; the first is the one it was
// written on. Set and Del are the final state of every path that differs from
// the parent, for a merge from at least one of its parents.
type Commit struct {
	ID      int
	Parents []int
	Author  int
	Time    time.Time // by the author's clock, whole seconds, UTC
	Set     map[string]File
	Del     []string
}

// Trace is a whole history and its outcome.
type Trace struct {
	Authors int
	Paths   int
	Commits []Commit // Commits[i].ID == i
	Head    int
	Tree    map[string]File // the right state of Head
}

// distinct returns the parents of c without repetition, in order.
func (c *Commit) distinct() []int {
	seen := make(map[int]bool, len(c.Parents))
	var out []int
	for _, p := range c.Parents {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// apply turns the state of the first parent into that of c, in place.
func (c *Commit) apply(tree map[string]File) {
	for _, path := range c.Del {
		delete(tree, path)
	}
	maps.Copy(tree, c.Set)
}

// children counts, for every commit, the commits that name it as a parent.
func (t *Trace) children() []int {
	n := make([]int, len(t.Commits))
	for i := range t.Commits {
		for _, p := range t.Commits[i].distinct() {
			n[p]++
		}
	}
	return n
}
