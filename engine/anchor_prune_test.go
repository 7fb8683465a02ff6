package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAnchorsOfRemovedStoresGo: a new store's anchor takes those of stores
// that are gone with it, and no others.
func TestAnchorsOfRemovedStoresGo(t *testing.T) {
	t.Parallel()
	if runtimeDir(t.TempDir()) == "" {
		if f, err := os.CreateTemp(t.TempDir(), ""); err != nil || lockFile(f) != nil {
			t.Skip("anchors are not used on this system")
		}
	}
	run := t.TempDir()
	make := func() (dir string) {
		dir = filepath.Join(t.TempDir(), "store")
		db, err := Open(dir, &Options{RuntimeDir: run})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	count := func() int {
		entries, err := os.ReadDir(run)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	gone, kept := make(), make()
	if n := count(); n != 2 {
		t.Fatalf("%d anchors, want 2", n)
	}
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	held, err := Open(kept, &Options{RuntimeDir: run})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	make()
	if n := count(); n != 2 {
		t.Fatalf("%d anchors, want those of the 2 stores that are left", n)
	}
}
