//go:build mutant

package session

import (
	"os"
	mutex "sync" // the tests have a function sync

	"bzzz/crdt"
)

// planted names the fault that this build shows: see docs/KERNEL.md, "Traces".
var planted = os.Getenv("BZZZ_MUTANT")

// mutant reports whether the planted fault of that name is on. Where it is, the
// code does what a rule of the kernel forbids, and a test has to fail.
func mutant(name string) bool { return name == planted }

// cursors are what senders take for received because they have sent it.
var cursors = struct {
	mutex.Mutex
	of map[[16]byte]crdt.Clock
}{of: map[[16]byte]crdt.Clock{}}

// believed adds to what a sender takes for received by the peer of a journal,
// and returns all of it: a cursor on the side that cannot know.
func believed(journal [16]byte, sent crdt.Clock) crdt.Clock {
	cursors.Lock()
	defer cursors.Unlock()
	c, known := cursors.of[journal]
	if !known {
		c = crdt.NewClock()
	}
	c = c.Clone()
	c.Merge(sent)
	cursors.of[journal] = c
	return c.Clone()
}
