//go:build !linux

package engine

import "os"

// runtimeDir returns "": a directory that is known to be volatile is only
// looked for on Linux; elsewhere every writing open takes a fresh replica id
// unless Options.RuntimeDir names one.
func runtimeDir(string) string { return "" }

// lockFile cannot promise exclusion here, so the anchor is not used.
func lockFile(*os.File) error { return ErrLocked }

func unlockFile(*os.File) {}
