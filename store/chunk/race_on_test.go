//go:build race

package chunk_test

// raceEnabled tells that the race detector slows everything down. The histories
// run in one goroutine, where it has nothing to find.
const raceEnabled = true
