//go:build windows || plan9 || solaris || aix || android

package bolt

import (
	"os"
	"time"
)

// lock takes no lock: bbolt's own on these systems is not shared between two
// takers in one process. The check of the file's pages then runs unlocked, and
// may find a file damaged that another process is writing.
func lock(*os.File, bool, time.Duration) (held bool, err error) { return false, nil }

// release closes f, and with it bbolt's lock.
func release(f *os.File) error { return f.Close() }

// sameOwner does nothing: the copy belongs to who makes it.
func sameOwner(string, os.FileInfo) error { return nil }
