package storetest_test

import (
	"testing"

	"bzzz/store"
	"bzzz/store/mem"
	"bzzz/store/storetest"
)

// The test file of an implementation.
func Example() {
	open := func(testing.TB) store.KV { return mem.New() }
	_ = func(t *testing.T) { storetest.Run(t, open) }
	_ = func(b *testing.B) { storetest.Bench(b, open) }
	_ = func(f *testing.F) { storetest.Fuzz(f, open) }
	// Output:
}
