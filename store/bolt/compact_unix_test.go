//go:build unix

package bolt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bzzz/store/bolt"
)

// A compacted file has the mode and the owner that it had, and a link to it
// stays one.
func TestCompactKeepsModeOwnerAndLink(t *testing.T) {
	t.Parallel()
	s := filled(t, bolt.Options{}, 100)
	must(t, s.Close())
	must(t, os.Chmod(s.path, 0o640))
	if os.Getuid() == 0 {
		must(t, os.Chown(s.path, 12345, 23456))
	}
	before, err := os.Stat(s.path)
	must(t, err)
	link := filepath.Join(t.TempDir(), "link.db")
	must(t, os.Symlink(s.path, link))
	l := openFile(t, link, bolt.Options{})
	_, _, err = l.Compact(context.Background(), nil)
	must(t, errors.Join(err, l.Close()))
	info, err := os.Lstat(link)
	if err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	after, err := os.Stat(s.path)
	must(t, err)
	if os.SameFile(before, after) || after.Mode() != before.Mode() {
		t.Errorf("the mode was %v and is %v", before.Mode(), after.Mode())
	}
	if b, ok := before.Sys().(*syscall.Stat_t); ok {
		if a, ok := after.Sys().(*syscall.Stat_t); !ok || a.Uid != b.Uid || a.Gid != b.Gid {
			t.Errorf("owner %d:%d became %d:%d", b.Uid, b.Gid, a.Uid, a.Gid)
		}
	}
}
