package list_test

import (
	"encoding/hex"
	"testing"

	"bzzz/merkle/list"
)

// TestBuilder: leaf by leaf gives the roots of the reference tests and, for
// every length up to 300, what the RFC's recursion gives.
func TestBuilder(t *testing.T) {
	t.Parallel()
	var ct list.Builder
	for n, want := range ctRoots {
		if got := ct.Root(); hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %d leaves is %x, want %s", n, got, want)
		}
		if n < len(ctLeaves) {
			ct.Add(unhex(t, ctLeaves[n]))
		}
	}
	leaves := manyLeaves(300)
	var b list.Builder
	for n := range len(leaves) + 1 {
		if got := b.Root(); got != oracle(leaves[:n]) {
			t.Fatalf("root of %d leaves is %x, the oracle says %x", n, got, oracle(leaves[:n]))
		}
		if b.Len() != uint64(n) {
			t.Fatalf("%d leaves, want %d", b.Len(), n)
		}
		if n < len(leaves) {
			b.Add(leaves[n])
		}
	}
}
