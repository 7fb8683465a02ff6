package walk

// SetWindow makes the window of pending regions and the messages small.
func (w *Walk) SetWindow(pending, length int) { w.window, w.length = pending, length }

// Check returns the byte that stands for a path under a salt.
func Check(salt [16]byte, path []byte, depth int) byte {
	w := &Walk{cfg: Config{Salt: salt}}
	return w.check(path, depth)
}

// Pending returns the weight of the regions that wait to be expanded.
func (w *Walk) Pending() int { return w.mine.weight + w.theirs.weight }

// Reads returns the number of keys and tiles read.
func (w *Walk) Reads() uint64 { return w.reads }
