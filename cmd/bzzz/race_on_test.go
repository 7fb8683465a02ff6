//go:build race

package main

// raceEnabled tells that the race detector makes everything ten times slower.
const raceEnabled = true
