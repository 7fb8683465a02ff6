//go:build !windows && !plan9 && !solaris && !aix && !android

package bolt

import (
	"errors"
	"os"
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
