package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// tmpfsMagic is f_type of a tmpfs (linux/magic.h).
const tmpfsMagic = 0x01021994

// runtimeDir returns the volatile directory for anchors, "" if the system has
// none: the first of $XDG_RUNTIME_DIR, /run and /dev/shm that is a tmpfs on
// another device than the data. Below the shared ones every user has a
// directory of his own that nobody else may write.
func runtimeDir(data string) string {
	var d syscall.Stat_t
	if syscall.Stat(data, &d) != nil {
		return ""
	}
	uid := strconv.Itoa(os.Getuid())
	for _, c := range []struct{ base, name string }{
		{os.Getenv("XDG_RUNTIME_DIR"), "bzzz"}, {"/run", "bzzz-" + uid}, {"/dev/shm", "bzzz-" + uid},
	} {
		if c.base == "" {
			continue
		}
		var fs syscall.Statfs_t
		var st syscall.Stat_t
		if syscall.Statfs(c.base, &fs) != nil || int64(fs.Type) != tmpfsMagic ||
			syscall.Stat(c.base, &st) != nil || st.Dev == d.Dev {
			continue
		}
		dir := filepath.Join(c.base, c.name)
		if os.Mkdir(dir, 0o700) != nil && !ownDir(dir) {
			continue
		}
		return dir
	}
	return ""
}

// ownDir reports whether dir is a directory of ours that nobody else can write.
func ownDir(dir string) bool {
	var st syscall.Stat_t
	if syscall.Lstat(dir, &st) != nil {
		return false
	}
	return st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Getuid() && st.Mode&0o022 == 0
}

func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return fmt.Errorf("anchor %s: %w", f.Name(), ErrLocked)
	}
	return err
}

// unlockFile releases the lock for everybody who shares it.
func unlockFile(f *os.File) { syscall.Flock(int(f.Fd()), syscall.LOCK_UN) } // closing follows
