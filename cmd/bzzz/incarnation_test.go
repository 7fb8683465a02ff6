package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"bzzz/engine"
)

// TestThousandCommandsOneID: each command opens and closes the store, and all
// of them on one boot write under one replica id.
func TestThousandCommandsOneID(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("every open takes a fresh id on this system")
	}
	run1 := func(args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(args, strings.NewReader(""), &out, &errOut); code != 0 {
			t.Fatalf("bzzz %q: exit code %d: %s", args, code, errOut.String())
		}
		return out.String()
	}
	boot, err := os.MkdirTemp("/dev/shm", "bzzz-test-")
	if err != nil {
		t.Skipf("no tmpfs to anchor in: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(boot); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("XDG_RUNTIME_DIR", boot)
	dir := filepath.Join(t.TempDir(), "data")
	const commands = 1000
	for n := range commands {
		run1("--data", dir, "put", fmt.Sprintf("key %d", n%50), fmt.Sprint(n))
	}
	if n := replicas(t, dir); n != 1 {
		t.Fatalf("%d commands wrote under %d replica ids, want 1", commands, n)
	}
	if err := os.RemoveAll(filepath.Join(boot, "bzzz")); err != nil { // a reboot
		t.Fatal(err)
	}
	for n := range 3 {
		run1("--data", dir, "put", "after", fmt.Sprint(n))
	}
	if n := replicas(t, dir); n != 2 {
		t.Fatalf("%d replica ids on two boots, want 2", n)
	}
}

// replicas returns how many ids ever wrote to a store.
func replicas(t *testing.T, dir string) int {
	t.Helper()
	db, err := engine.Open(dir, &engine.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Namespaces[0].Replicas
}
