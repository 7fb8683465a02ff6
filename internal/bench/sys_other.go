//go:build !linux

package bench

import "os"

// initialMmap leaves the mapping of a raw bbolt file to bbolt.
const initialMmap = 0

// flushData makes a file's bytes durable.
func flushData(f *os.File) error { return f.Sync() }

// writtenBytes is not known here.
func writtenBytes() uint64 { return 0 }

// anonymousBytes is not known here.
func anonymousBytes() uint64 { return 0 }
