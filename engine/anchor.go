package engine

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// anchor is a small file in a volatile directory outside the data's volume. It
// names the store's last commit, by the stamp drawn for it, and the incarnation
// that made it, and is locked while the store is open. A store whose anchor does not name exactly
// its state has gone back in time, was copied, or lost its anchor with a
// reboot: then the replica id is drawn anew before the first write, so that no
// dot is ever used twice (docs/DESIGN.md, "Identity").
//
// The file is volatile on purpose: what outlives a restore of the data would
// vouch for the wrong past. It needs no sync, since it need not survive what
// the data does not.
type anchor struct {
	f           *os.File
	incarnation [8]byte // as found at open
	stamp       [8]byte // of the last commit
	clean       bool    // Close wrote it
	valid       bool    // found, whole and ours
}

// anchorSize: incarnation 8 | stamp 8 | clean u8 | crc32c u32. Behind it stands
// the path of the store's file, by which anchors of stores that are gone are
// known.
const anchorSize = 8 + 8 + 1 + 4

// openAnchor opens and locks the anchor of a store in dir ("" = the system's
// volatile directory, "-" = none). It returns nil where there is none to be
// had or another process holds it: the caller then draws a fresh id.
func openAnchor(dir string, instance [16]byte, data string) (*anchor, error) {
	if dir == "-" {
		return nil, nil
	}
	if dir == "" {
		if dir = runtimeDir(data); dir == "" {
			return nil, nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(instance[:])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil && !mutant("anchor not locked") {
		f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, nil
		}
		return nil, err
	}
	a := &anchor{f: f}
	b := make([]byte, anchorSize)
	n, _ := f.ReadAt(b, 0)
	if n == 0 {
		if err := a.introduce(dir, data); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if n == anchorSize && crcOK(b) {
		a.valid = true
		a.incarnation = [8]byte(b)
		a.stamp = [8]byte(b[8:])
		a.clean = b[16] == 1
	}
	return a, nil
}

// introduce writes the path of the store's file behind a new anchor, and
// removes the anchors of stores whose file is gone: nothing else would, and
// where one was wrong (its volume is away for now) it costs a fresh id.
func (a *anchor) introduce(dir, data string) error {
	path, err := filepath.Abs(filepath.Join(data, DataFile))
	if err != nil {
		return err
	}
	if _, err := a.f.WriteAt([]byte(path), anchorSize); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := filepath.Join(dir, e.Name()); len(e.Name()) == 32 && name != a.f.Name() {
			removeOrphan(name)
		}
	}
	return nil
}

// removeOrphan removes an anchor that nobody holds and whose store is gone. A
// failure leaves it to the next time.
func removeOrphan(name string) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	b := make([]byte, anchorSize+4096)
	n, _ := f.ReadAt(b, 0)
	if n <= anchorSize {
		return
	}
	if _, err := os.Stat(string(b[anchorSize:n])); errors.Is(err, fs.ErrNotExist) && lockFile(f) == nil {
		os.Remove(name)
	}
}

func crcOK(b []byte) bool {
	n := len(b) - 4
	return crc32.Checksum(b[:n], crcTable) == binary.BigEndian.Uint32(b[n:])
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// vouches reports whether the anchor names exactly this incarnation and commit.
// A store that may lose commits (any durability but always) is vouched for
// only after a clean end.
func (a *anchor) vouches(incarnation, stamp [8]byte, always bool) bool {
	if mutant("anchor ignored") {
		return incarnation != [8]byte{}
	}
	return a != nil && a.valid && incarnation != [8]byte{} && a.incarnation == incarnation &&
		a.stamp == stamp && (always || a.clean)
}

// write names the state that a commit leads to. It is called before the commit:
// a stamp names one attempt, so should that fail, or the process die in
// between, the anchor names no state that there is. (Written after it, a
// process that died in between would leave an anchor that vouches for older
// copies of the store, which lack what that commit used.)
func (a *anchor) write(incarnation, stamp [8]byte, clean bool) error {
	if a == nil {
		return nil
	}
	b := make([]byte, 0, anchorSize)
	b = append(b, incarnation[:]...)
	b = append(b, stamp[:]...)
	if clean {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
	_, err := a.f.WriteAt(b, 0)
	return err
}

// void makes the anchor vouch for nothing.
func (a *anchor) void() {
	if a != nil {
		a.f.Truncate(0) // if that fails too, a later write may succeed
	}
}

// close releases the lock. Closing the file alone would not: a child process
// that is just being started shares the lock until it has been.
func (a *anchor) close() error {
	if a == nil {
		return nil
	}
	unlockFile(a.f)
	if err := a.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
