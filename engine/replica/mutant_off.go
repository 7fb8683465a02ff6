//go:build !mutant

package replica

// mutant reports whether the planted fault of that name is on: never in a
// build without the tag.
func mutant(string) bool { return false }
