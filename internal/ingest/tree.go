package ingest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
)

// MaxNamed is how many left-out files a Summary names; the rest is counted.
const MaxNamed = 1000

// Reason says why Tree left a file out.
type Reason string

// The reasons.
const (
	ReasonLink     Reason = "symbolic link"
	ReasonSpecial  Reason = "not a regular file"
	ReasonTooLarge Reason = "too large"
)

// Skip names a file that was left out.
type Skip struct {
	Path   string // relative, with slashes
	Reason Reason
}

// Summary tells what Tree read and what it left out.
type Summary struct {
	Files   int
	Bytes   int64
	Skipped int    // all that were left out
	Skips   []Skip // the first MaxNamed of them
}

func (s *Summary) skip(path string, why Reason) {
	if s.Skipped++; len(s.Skips) < MaxNamed {
		s.Skips = append(s.Skips, Skip{path, why})
	}
}

// Tree streams the regular files below dir: relative slash paths are the keys,
// contents the values, one file in memory at a time. The order is that of
// fs.WalkDir: each directory by name, depth first. Links are never followed
// (os.Root), and like special files and files above MaxFile they are left out
// and named in sum, which is complete when the sequence ends and may be nil. A
// file that cannot be read ends the sequence with its error.
func Tree(dir string, o Options, sum *Summary) iter.Seq2[Record, error] {
	if sum == nil {
		sum = new(Summary)
	}
	w := walker{limit: o.withDefaults().MaxFile, sum: sum}
	return func(yield func(Record, error) bool) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer root.Close()
		w.root = root
		err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rec, err := w.file(path, d.Type())
			if err == nil && rec.Key != nil && !yield(rec, nil) {
				err = errStop
			}
			return err
		})
		if err != nil && err != errStop {
			yield(Record{}, fmt.Errorf("%s: %w", dir, err))
		}
	}
}

var errStop = errors.New("the receiver has had enough")

type walker struct {
	root  *os.Root
	limit int64
	sum   *Summary
}

// file reads one file; the record has no key if the file is left out.
func (w *walker) file(path string, mode fs.FileMode) (Record, error) {
	switch {
	case mode&fs.ModeSymlink != 0:
		w.sum.skip(path, ReasonLink)
		return Record{}, nil
	case !mode.IsRegular():
		w.sum.skip(path, ReasonSpecial)
		return Record{}, nil
	}
	before, err := w.root.Lstat(path)
	if err != nil {
		return Record{}, err
	}
	f, err := w.root.Open(path)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	// What was opened must be what was looked at: a link may have come between.
	if now, err := f.Stat(); err != nil {
		return Record{}, err
	} else if !os.SameFile(before, now) || !now.Mode().IsRegular() {
		w.sum.skip(path, ReasonLink)
		return Record{}, nil
	}
	value, err := io.ReadAll(io.LimitReader(f, w.limit+1))
	if err != nil {
		return Record{}, err
	}
	if int64(len(value)) > w.limit {
		w.sum.skip(path, ReasonTooLarge)
		return Record{}, nil
	}
	w.sum.Files++
	w.sum.Bytes += int64(len(value))
	return Record{Key: []byte(path), Value: value, Pos: Pos{Source: path}}, nil
}
