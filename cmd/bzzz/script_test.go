package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/bbolt"

	"bzzz/engine"
	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"
	"bzzz/store"
	"bzzz/store/bolt"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bzzz": main})
}

// TestScripts runs the command line as users do: testdata/script has one
// script a topic.
func TestScripts(t *testing.T) {
	t.Parallel()
	data, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", data)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command takes a second more
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rc": rc, "interrupt": interrupt, "setfrom": setFrom, "flip": flip, "cut": cut, "big": big, "noise": noise,
			"lock": lock, "otherformat": otherFormat, "otherprogram": otherProgram, "maketrace": makeTrace, "typed": typed,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "race" {
				return raceEnabled, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

func need(ts *testscript.TestScript, neg bool, args []string, n int, form string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", form)
	}
}

// rc CODE PROGRAM ARGS... runs a program that must end with that exit code.
func rc(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "rc CODE PROGRAM ARGS...")
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// interrupt SIGNAL PROGRAM ARGS... runs a program until it has printed a line,
// sends it INT or TERM, and wants the exit code 130.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "interrupt SIGNAL PROGRAM ARGS...")
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	ts.Check(err)
	ts.Check(cmd.Process.Signal(map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM}[args[0]]))
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		ts.Fatalf("ended with %v, want exit code 130", cmd.ProcessState)
	}
}

// setfrom NAME FIELD sets a variable to a field of the JSON object, or the
// first of them, that the last command printed; without FIELD to the output.
func setFrom(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "setfrom NAME [FIELD]")
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) > 1 {
		_, after, ok := strings.Cut(text, `"`+args[1]+`":"`)
		if !ok {
			ts.Fatalf("no %q in %s", args[1], text)
		}
		text, _, _ = strings.Cut(after, `"`)
	}
	ts.Setenv(args[0], text)
}

// flip FILE TEXT flips a bit of every occurrence of a text.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "flip FILE TEXT")
	path, old := ts.MkAbs(args[0]), ts.ReadFile(args[0])
	damaged := args[1][:len(args[1])-1] + string(args[1][len(args[1])-1]^1)
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%s does not contain %q", path, args[1])
	}
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(old, args[1], damaged)), 0o600))
}

// cut FILE N leaves the first n bytes of a file.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "cut FILE N")
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

// big FILE N makes a file of n bytes.
func big(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "big FILE N")
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat("x", n)), 0o600))
}

// noise FILE N SEED [TEXT] makes a file of n bytes that do not pack, with a text
// in the middle.
func noise(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "noise FILE N SEED [TEXT]")
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", args[2])))).Read(b) // never fails
	if len(args) > 3 {
		copy(b[n/2:], args[3])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// lock DIR opens a store in this process until the script ends.
func lock(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "lock DIR")
	db, err := engine.Open(ts.MkAbs(args[0]), &engine.Options{RuntimeDir: "-"})
	ts.Check(err)
	ts.Defer(func() { _ = db.Close() })
}

// otherformat DIR makes a store say that it has another format.
func otherFormat(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "otherformat DIR")
	kv, err := bolt.Open(filepath.Join(ts.MkAbs(args[0]), engine.DataFile), nil)
	ts.Check(err)
	ts.Check(kv.Update(func(tx store.Tx) error {
		return tx.Bucket("db").Put([]byte("format"), binary.BigEndian.AppendUint32(nil, 99))
	}))
	ts.Check(kv.Close())
}

// otherprogram DIR makes a file of another program where a store would be.
func otherProgram(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "otherprogram DIR")
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o700))
	db, err := bbolt.Open(filepath.Join(ts.MkAbs(args[0]), engine.DataFile), 0o600, nil)
	ts.Check(err)
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}))
	ts.Check(db.Close())
}

// maketrace FILE COMMITS writes a random edit trace, packed.
func makeTrace(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "maketrace FILE COMMITS")
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	z := gzip.NewWriter(f)
	ts.Check(trace.Write(z, tracetest.Generate(7, tracetest.Shape{Commits: n})))
	ts.Check(errors.Join(z.Close(), f.Close()))
}

// typed DIR makes a store with a map of all that a map can hold.
func typed(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "typed DIR")
	db, err := engine.Open(ts.MkAbs(args[0]), &engine.Options{RuntimeDir: "-"})
	ts.Check(err)
	ctx := context.Background()
	ts.Check(db.Update(ctx, func(t *engine.Txn) error {
		m := t.Map([]byte("user"))
		return errors.Join(m.Put(ctx, []byte("name"), []byte("Ada")), m.Put(ctx, []byte("bytes"), []byte{0xFF}),
			m.Counter([]byte("logins")).Add(ctx, 3), m.Min([]byte("score")).Set(ctx, -1),
			m.Set([]byte("tags")).Add(ctx, []byte("x"), []byte("y")), m.RemoveWinsSet([]byte("banned")).Add(ctx, []byte("b")),
			m.List([]byte("many")).Append(ctx, slices.Repeat([][]byte{[]byte("e")}, 300)...),
			m.Map([]byte("address")).Put(ctx, []byte("city"), []byte("London")),
			m.Put(ctx, []byte("twice"), []byte("r")), m.Counter([]byte("twice")).Add(ctx, 1))
	}))
	ts.Check(db.Close())
}
