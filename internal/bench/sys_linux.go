package bench

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// initialMmap is the address space for a raw bbolt file, as store/bolt sets it.
const initialMmap = int(min(16<<30, int64(^uint(0)>>2)))

// flushData makes a file's bytes durable, as bbolt does on this system.
func flushData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// writtenBytes returns how many bytes this process has handed to write calls.
func writtenBytes() uint64 { return procField("/proc/self/io", "wchar:") }

// anonymousBytes returns the process's resident memory that no file backs.
func anonymousBytes() uint64 { return procField("/proc/self/smaps_rollup", "Anonymous:") << 10 }

// procField reads a number from a file of lines "name number", 0 if it has none.
func procField(path, name string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) >= 2 && string(f[0]) == name {
			n, err := strconv.ParseUint(string(f[1]), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}
