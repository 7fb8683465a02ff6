package ingest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bzzz/internal/errs"
)

// Dir writes records as files below a directory, which Tree reads back. It is
// not safe for concurrent use.
type Dir struct {
	root *os.Root
}

// OpenDir opens dir for writing and makes it if it is not there.
func OpenDir(dir string) (*Dir, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Dir{root}, nil
}

// Close releases the directory. It is idempotent.
func (d *Dir) Close() error { return d.root.Close() }

// Write writes value to the file named by key, a relative path with slashes.
// Whoever looks sees the old file or the whole new one (temporary file and
// rename); it is not synced to the disk.
//
// It writes nothing and returns errs.ErrInvalid for a key that CheckPath
// refuses, errs.ErrConflict for a key that needs a directory where another key
// is a file (a and a/b) or the reverse, and for a path through a link. Other
// keys can be written after an error.
func (d *Dir) Write(key, value []byte) error {
	name := string(key)
	if err := CheckPath(name); err != nil {
		return err
	}
	if err := d.clear(name); err != nil {
		return err
	}
	if err := d.replace(name, value); err != nil {
		return fmt.Errorf("key %q: %w", name, err)
	}
	return nil
}

// CheckPath returns errs.ErrInvalid unless key can name a file below a
// directory and comes back from there as it is: not empty, not absolute, no
// NUL, no segment that is empty, "." or ".."; where the separator is a
// backslash, none of those and no reserved name either.
func CheckPath(key string) error {
	why := ""
	switch {
	case key == "":
		why = "it is empty"
	case key[0] == '/':
		why = "it is an absolute path"
	case strings.IndexByte(key, 0) >= 0:
		why = "it contains a NUL byte"
	case os.PathSeparator == '\\' && (strings.Contains(key, `\`) || !filepath.IsLocal(key)):
		why = "it is no file name on this system"
	default:
		for segment := range strings.SplitSeq(key, "/") {
			switch segment {
			case "":
				why = "it has an empty path segment"
			case ".", "..":
				why = fmt.Sprintf("it has the path segment %q", segment)
			}
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: key %q cannot be a file: %s", errs.ErrInvalid, key, why)
}

// clear makes sure that everything above name is a directory and name is not.
func (d *Dir) clear(name string) error {
	for i := 0; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		above := name[:i]
		info, err := d.root.Lstat(above)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%w: key %q needs the directory %q, which is already %s", errs.ErrConflict, name, above, kind(info))
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
	}
	info, err := d.root.Lstat(name)
	if err == nil && info.IsDir() {
		return fmt.Errorf("%w: key %q is already a directory that holds other keys", errs.ErrConflict, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key %q: %w", name, err)
	}
	return nil
}

func kind(info fs.FileInfo) string {
	switch {
	case info.Mode().IsRegular():
		return "the file of another key"
	case info.Mode()&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

func (d *Dir) replace(name string, value []byte) (err error) {
	dir := path.Dir(name)
	if err := d.root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	temp := path.Join(dir, ".bzzz-"+rand.Text()+".tmp")
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		err = errors.Join(err, d.root.Remove(temp))
	}
	return err
}
