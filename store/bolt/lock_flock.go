//go:build !windows && !plan9 && !solaris && !aix && !android

package bolt

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bzzz/store"
)

// lockPoll is how often a locked file is tried again.
const lockPoll = 10 * time.Millisecond

// lock takes the lock that bbolt takes on the same handle later, so that the
// file can be checked before bbolt maps it. Waits up to timeout.
func lock(f *os.File, readOnly bool, timeout time.Duration) (held bool, err error) {
	how := unix.LOCK_EX | unix.LOCK_NB
	if readOnly {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	for deadline := time.Now().Add(timeout); ; time.Sleep(lockPoll) {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return false, os.NewSyscallError("flock", err)
		case !time.Now().Before(deadline):
			return false, store.ErrLocked
		}
	}
}

// release gives up the lock and closes f. A mapping of f that is left behind
// would keep the lock alive.
func release(f *os.File) error {
	return errors.Join(os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_UN)), f.Close())
}

// sameOwner gives the file at path the owner and group of another, so that who
// compacts a store of somebody else (root) does not take it from him.
func sameOwner(path string, like os.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return os.Chown(path, int(want.Uid), int(want.Gid))
}
