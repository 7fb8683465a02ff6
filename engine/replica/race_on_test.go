//go:build race

package replica

// raceEnabled tells that the race detector makes everything ten times slower:
// random histories are fewer then. They run whole without it.
const raceEnabled = true
