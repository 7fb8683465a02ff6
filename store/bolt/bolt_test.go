package bolt_test

import (
	"path/filepath"
	"testing"

	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/storetest"
)

// file is a store with its path, to be opened again.
type file struct {
	*bolt.Store
	path string
	opts bolt.Options
}

func (f file) Reopen(t testing.TB) store.KV {
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return openFile(t, f.path, f.opts)
}

func openFile(t testing.TB, path string, opts bolt.Options) file {
	t.Helper()
	s, err := bolt.Open(path, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return file{s, path, opts}
}

func opener(opts bolt.Options) func(testing.TB) store.KV {
	return func(t testing.TB) store.KV { return openFile(t, filepath.Join(t.TempDir(), "s.db"), opts) }
}

func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, opener(bolt.Options{}))
}

func FuzzHistory(f *testing.F) { storetest.Fuzz(f, opener(bolt.Options{Durability: bolt.None})) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, opener(bolt.Options{})) }
