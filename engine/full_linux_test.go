package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"bzzz/engine"
)

// full fills the directory until the limit on the size of files stops it, as a
// full disk would, and tells of each acknowledged write.
func (c *crashTask) full() error {
	signal.Ignore(syscall.SIGXFSZ) // then a write beyond the limit fails
	limit := syscall.Rlimit{Cur: c.FileLimit, Max: c.FileLimit}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	ctx := context.Background()
	for n := 0; ; n++ {
		err := db.Put(ctx, fmt.Appendf(nil, "k%06d", n), fullValue(n))
		if err == nil {
			fmt.Fprintf(os.Stdout, "ack %d\n", n)
			continue
		}
		// bbolt keeps the cause of some errors only as text.
		fmt.Fprintf(os.Stdout, "full %v %v\n", errors.Is(err, engine.ErrPoisoned), strings.Contains(err.Error(), syscall.EFBIG.Error()))
		_, readErr := db.Get(ctx, []byte("k000000"))
		again := db.Put(ctx, []byte("later"), nil)
		fmt.Fprintf(os.Stdout, "later %v %v\n", errors.Is(readErr, engine.ErrPoisoned), errors.Is(again, engine.ErrPoisoned))
		return db.Close()
	}
}

func fullValue(n int) []byte { return fmt.Appendf(nil, "%d %s", n, strings.Repeat("v", 4000)) }

func TestFullDiskLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for _, limit := range []uint64{1 << 20, 1<<20 + 4096, 3<<20 + 512} {
		t.Run(fmt.Sprint("limit=", limit), func(t *testing.T) {
			t.Parallel()
			dir, run := t.TempDir(), t.TempDir()
			cmd, stdin, lines := child(t, crashTask{Kind: "full", Dir: dir, Run: run, FileLimit: limit})
			defer stdin.Close()
			acked := 0
			var said []string
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "ack ") {
					acked++
				} else {
					said = append(said, lines.Text())
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("close after the failure: %v: %v", err, said)
			}
			all := strings.Join(said, "\n")
			if acked < 50 || !strings.Contains(all, "full true true") || !strings.Contains(all, "later true true") {
				t.Fatalf("%d acknowledged, then:\n%s", acked, all)
			}
			ctx := context.Background()
			db := open(t, dir, &engine.Options{RuntimeDir: run})
			for n := range acked {
				got, err := db.Get(ctx, fmt.Appendf(nil, "k%06d", n))
				if err != nil || string(got) != string(fullValue(n)) {
					t.Fatalf("write %d of %d: %d bytes, %v", n, acked, len(got), err)
				}
			}
			if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) > 0 {
				t.Fatalf("verify: %v %v", err, r.Problems)
			}
			if err := db.Put(ctx, []byte("room again"), nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tight makes a store, and has no room for a second of its size.
func (c *crashTask) tight() error {
	signal.Ignore(syscall.SIGXFSZ)
	db, err := c.open()
	if err != nil {
		return err
	}
	ctx := context.Background()
	for n := range 300 {
		if err := db.Put(ctx, fmt.Appendf(nil, "k%06d", n), fullValue(n)); err != nil {
			return err
		}
	}
	limit := syscall.Rlimit{Cur: c.FileLimit, Max: c.FileLimit}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	_, backup := db.Backup(ctx, c.Dir+"/backup", nil)
	_, compact := db.Compact(ctx, nil)
	full := func(err error) bool { return err != nil && strings.Contains(err.Error(), syscall.EFBIG.Error()) }
	_, get := db.Get(ctx, []byte("k000000"))
	fmt.Fprintf(os.Stdout, "full %v %v, then %v\n", full(backup), full(compact), get)
	return nil // without Close, which would need room
}

// Where there is no room for a copy, nothing of it stays, and the store goes on.
func TestNoRoomForACopy(t *testing.T) {
	t.Parallel()
	dir, run := t.TempDir(), t.TempDir()
	cmd, stdin, lines := child(t, crashTask{Kind: "tight", Dir: dir, Run: run, FileLimit: 400 << 10})
	defer stdin.Close()
	said := ""
	for lines.Scan() {
		said = lines.Text()
	}
	if err := cmd.Wait(); err != nil || said != "full true true, then <nil>" {
		t.Fatalf("got %q, %v", said, err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	db := open(t, dir, &engine.Options{RuntimeDir: run})
	if r, err := db.Verify(context.Background(), nil); err != nil || len(r.Problems) > 0 {
		t.Fatalf("verify: %v %v", err, r.Problems)
	}
}

// A directory that nobody may write is refused with what the system says.
func TestOpenWhereNothingCanBeMade(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Open(file+"/sub", nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Fatalf("got %v, want not a directory", err)
	}
	if _, err := engine.Open("/proc/nowhere", nil); err == nil {
		t.Fatal("opened below /proc")
	}
}
