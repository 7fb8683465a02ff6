package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"bzzz/engine"
)

// childEnv holds the task of a process that a test starts to kill it.
const childEnv = "BZZZ_TEST_CHILD"

const (
	crashWriters = 8
	crashKeys    = 6 // of each writer, besides its marker
)

// crashTask is what a child is to do.
type crashTask struct {
	Kind       string // "write", "lock", "full", "tight", "node"
	Dir, Run   string
	Durability engine.Durability
	Seed       uint64
	Next       [crashWriters]uint64 // first transaction of each writer
	FileLimit  uint64               // RLIMIT_FSIZE, 0 = none
	Compact    bool                 // "write" also compacts all the time
}

// runChild does a task until it is killed or its standard input ends.
func runChild(task string) int {
	var c crashTask
	err := json.Unmarshal([]byte(task), &c)
	if err == nil {
		switch c.Kind {
		case "write":
			err = c.write()
		case "lock":
			err = c.lock()
		case "full":
			err = c.full()
		case "tight":
			err = c.tight()
		case "node":
			err = c.node()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, "error", err)
		return 1
	}
	return 0
}

// open opens the task's directory and says so.
func (c *crashTask) open() (*engine.DB, error) {
	fmt.Fprintln(os.Stdout, "opening")
	db, err := engine.Open(c.Dir, &engine.Options{RuntimeDir: c.Run, Durability: c.Durability})
	if err == nil {
		fmt.Fprintln(os.Stdout, "opened")
	}
	return db, err
}

// lock holds the directory until standard input ends.
func (c *crashTask) lock() error {
	db, err := c.open()
	if err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin)
	return db.Close()
}

// write runs the writers; each tells of a transaction once it is acknowledged.
// The end of standard input ends them in good order.
func (c *crashTask) write() error {
	db, err := c.open()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var wg sync.WaitGroup
	failed := make([]error, crashWriters)
	var compacting error
	for w := range crashWriters {
		wg.Go(func() {
			for n := c.Next[w]; ctx.Err() == nil; n++ {
				// Not ctx: a writer that stops knows what became of its last write.
				if failed[w] = crashWrite(context.Background(), db, c.Seed, w, n); failed[w] != nil {
					return
				}
				fmt.Fprintf(os.Stdout, "ack %d %d %s\n", w, n, db.ReplicaID())
			}
		})
	}
	if c.Compact {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := db.Compact(context.Background(), nil); err != nil {
					compacting = err
					return
				}
				fmt.Fprintln(os.Stdout, "compacted")
			}
		})
	}
	wg.Wait()
	return errors.Join(append(failed, compacting, db.Close())...)
}

func crashKey(w, k int) string { return fmt.Sprintf("w%d/k%d", w, k) }

// crashOps is what the n-th transaction of a writer does to its keys: "" deletes.
func crashOps(seed uint64, w int, n uint64) map[string]string {
	rng := rand.New(rand.NewPCG(seed<<8|uint64(w), n))
	ops := map[string]string{fmt.Sprintf("w%d/marker", w): strconv.FormatUint(n, 10)}
	for k := range crashKeys {
		switch rng.IntN(4) {
		case 0:
			ops[crashKey(w, k)] = ""
		case 1, 2:
			ops[crashKey(w, k)] = fmt.Sprintf("%d.%d.%s", w, n, strings.Repeat("x", rng.IntN(300)))
		}
	}
	return ops
}

// crashWrite runs the n-th transaction of a writer: its own keys, a number that
// all writers raise by reading it, and a counter.
func crashWrite(ctx context.Context, db *engine.DB, seed uint64, w int, n uint64) error {
	ops := crashOps(seed, w, n)
	return db.Update(ctx, func(tx *engine.Txn) error {
		for _, key := range slices.Sorted(maps.Keys(ops)) {
			var err error
			if value := ops[key]; value == "" {
				_, err = tx.Delete([]byte(key))
			} else {
				err = tx.Put([]byte(key), []byte(value))
			}
			if err != nil {
				return err
			}
		}
		sum, err := readNumber(tx.Get([]byte("sum")))
		if err != nil {
			return err
		}
		if err := tx.Put([]byte("sum"), strconv.AppendUint(nil, sum+1, 10)); err != nil {
			return err
		}
		return tx.Counter([]byte("count")).Add(ctx, 1)
	})
}

// readNumber reads what a register holds as a number, 0 if it is absent.
func readNumber(value []byte, err error) (uint64, error) {
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(value), 10, 64)
}

// crashRig kills processes that write to one directory, and checks it in
// between.
type crashRig struct {
	t      *testing.T
	task   crashTask
	rng    *rand.Rand
	acked  [crashWriters]uint64 // last acknowledged transaction
	held   [crashWriters]uint64 // last one found in the store
	state  [crashWriters]map[string]string
	dots   map[string]string // replica:seq -> CID, over all incarnations
	ids    []string          // replica ids in the order of their first use
	ackNum int

	compactions int // that children told of
}

func newCrashRig(t *testing.T, d engine.Durability, seed uint64) *crashRig {
	c := &crashRig{t: t, rng: rand.New(rand.NewPCG(seed, 9)), dots: map[string]string{}}
	c.task = crashTask{Kind: "write", Dir: t.TempDir(), Run: t.TempDir(), Durability: d, Seed: seed}
	for w := range crashWriters {
		c.state[w] = map[string]string{}
	}
	return c
}

// child starts a process with a task.
func child(t *testing.T, task crashTask) (cmd *exec.Cmd, stdin io.WriteCloser, lines *bufio.Scanner) {
	t.Helper()
	return childWith(t, task)
}

// childWith starts a process with a task and more of the environment.
func childWith(t *testing.T, task crashTask, env ...string) (cmd *exec.Cmd, stdin io.WriteCloser, lines *bufio.Scanner) {
	t.Helper()
	b, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), childEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewScanner(out)
}

// round lets a child write until so many acknowledgements have come, negative
// ends it while it opens, and kills it, or ends it in good order.
func (c *crashRig) round(acks int, kill bool) {
	c.t.Helper()
	for w := range crashWriters {
		c.task.Next[w] = c.held[w] + 1
	}
	cmd, stdin, lines := child(c.t, c.task)
	n := 0
	end := func() {
		for range c.rng.IntN(2000) { // anywhere within a commit
			runtime.Gosched()
		}
		if kill {
			cmd.Process.Kill()
		} else {
			stdin.Close()
		}
	}
	for lines.Scan() { // to the last one: what the pipe holds was acknowledged
		line := lines.Text()
		if acks < 0 && line == "opening" || acks == 0 && line == "opened" {
			end()
		}
		if !strings.HasPrefix(line, "ack ") {
			if strings.HasPrefix(line, "error") {
				c.t.Fatal("child: ", line)
			}
			if line == "compacted" {
				c.compactions++
			}
			continue
		}
		c.ack(line)
		if n++; n == acks {
			end()
		}
	}
	stdin.Close()
	if err := cmd.Wait(); !kill && err != nil {
		c.t.Fatalf("child: %v", err)
	}
	c.ackNum += n
}

func (c *crashRig) ack(line string) {
	c.t.Helper()
	f := strings.Fields(line)
	if len(f) != 4 {
		return // cut by the kill
	}
	w, _ := strconv.Atoi(f[1])
	n, err := strconv.ParseUint(f[2], 10, 64)
	if err != nil || n != max(c.acked[w], c.held[w])+1 {
		c.t.Fatalf("%q: acknowledged after %d: %v", line, c.acked[w], err)
	}
	c.acked[w] = n
	if !slices.Contains(c.ids, f[3]) {
		c.ids = append(c.ids, f[3])
	}
}

// check opens the directory and compares it with what was acknowledged.
func (c *crashRig) check(readOnly bool) {
	c.t.Helper()
	ctx := context.Background()
	db, err := engine.Open(c.task.Dir, &engine.Options{
		RuntimeDir: c.task.Run, Durability: c.task.Durability, ReadOnly: readOnly,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			c.t.Fatal(err)
		}
	}()
	total := uint64(0)
	for w := range crashWriters {
		c.checkWriter(db, w)
		total += c.held[w]
	}
	if sum, err := readNumber(db.Get(ctx, []byte("sum"))); err != nil || sum != total {
		c.t.Fatalf("%d transactions took place, their sum is %d: %v", total, sum, err)
	}
	if n, err := db.Counter([]byte("count")).Value(ctx); err != nil || uint64(n) != total {
		c.t.Fatalf("%d transactions took place, the counter says %d: %v", total, n, err)
	}
	report, err := db.Verify(ctx, nil)
	if err != nil || len(report.Problems) > 0 {
		c.t.Fatalf("verify: %v %v", err, report.Problems)
	}
	c.checkDots(db)
	if !readOnly { // so that long runs do not read ever more
		if _, err := db.Collect(ctx, engine.Retention{Versions: 20, Age: -1}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// checkWriter compares one writer's keys with its transactions replayed: each
// one that took place did so wholly, and every acknowledged one did.
func (c *crashRig) checkWriter(db *engine.DB, w int) {
	c.t.Helper()
	ctx := context.Background()
	n, err := readNumber(db.Get(ctx, fmt.Appendf(nil, "w%d/marker", w)))
	if err != nil || n < c.acked[w] || n > max(c.acked[w], c.held[w])+1 {
		c.t.Fatalf("writer %d: transaction %d was acknowledged, the store has %d: %v", w, c.acked[w], n, err)
	}
	for c.held[w] < n {
		c.held[w]++
		for k, v := range crashOps(c.task.Seed, w, c.held[w]) {
			if v == "" {
				delete(c.state[w], k)
			} else {
				c.state[w][k] = v
			}
		}
	}
	c.acked[w] = n
	got := map[string]string{}
	for e, err := range db.Scan(ctx, engine.Range{Prefix: fmt.Appendf(nil, "w%d/", w)}) {
		if err != nil {
			c.t.Fatal(err)
		}
		if e.Conflict {
			c.t.Fatalf("%q has concurrent values with one writer", e.Key)
		}
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, c.state[w]) {
		c.t.Fatalf("writer %d after transaction %d: got %v, want %v", w, n, got, c.state[w])
	}
}

// checkDots records every version that the store retains: a dot must name the
// same one for ever.
func (c *crashRig) checkDots(db *engine.DB) {
	c.t.Helper()
	keys := []string{"sum"}
	for w := range crashWriters {
		keys = append(keys, fmt.Sprintf("w%d/marker", w))
		for k := range crashKeys {
			keys = append(keys, crashKey(w, k))
		}
	}
	for _, key := range keys {
		history, err := db.History(context.Background(), []byte(key))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, v := range history {
			dot := fmt.Sprint(v.Author, ":", v.Seq)
			if cid, seen := c.dots[dot]; seen && cid != v.CID {
				c.t.Fatalf("dot %s names %s and %s", dot, cid, v.CID)
			}
			c.dots[dot] = v.CID
		}
	}
}

// kills returns how many processes a run kills.
func kills(t *testing.T, usual int) int {
	if s := os.Getenv("BZZZ_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCrashRig(t, engine.DurableAlways, 1)
	n := kills(t, 60)
	for i := range n {
		acks := 1 + c.rng.IntN(60)
		switch i % 10 {
		case 3:
			acks = 0
		case 7:
			acks = -1
		}
		c.round(acks, true)
		c.check(i%3 == 0)
	}
	if c.ackNum < n || len(c.dots) < c.ackNum {
		t.Fatalf("%d acknowledgements, %d versions: the load was no load", c.ackNum, len(c.dots))
	}
	t.Logf("%d kills, %d acknowledged transactions, %d versions, %d replica ids", n, c.ackNum, len(c.dots), len(c.ids))
	mirror := open(t, "", &engine.Options{Memory: true})
	db := open(t, c.task.Dir, &engine.Options{RuntimeDir: c.task.Run})
	syncBoth(t, db, mirror)
}

// Where commits are not flushed one by one, a replica id goes on only after a
// clean end.
func TestKillOfLazyDurabilityTakesAFreshID(t *testing.T) {
	t.Parallel()
	for _, d := range []engine.Durability{engine.DurableInterval, engine.DurableNone} {
		t.Run(fmt.Sprint("durability=", d), func(t *testing.T) {
			t.Parallel()
			c := newCrashRig(t, d, uint64(d)+20)
			n := kills(t, 12)
			want := 1
			for i := range n {
				clean := i%4 == 3
				c.round(20+c.rng.IntN(60), !clean)
				c.check(true)
				if len(c.ids) != want {
					t.Fatalf("round %d: %d replica ids so far, want %d", i, len(c.ids), want)
				}
				if !clean {
					want++
				}
			}
			t.Logf("%d rounds, %d acknowledged transactions, %d replica ids", n, c.ackNum, len(c.ids))
		})
	}
}

// The child's own output must be whole lines, or the parent counts wrongly.
func TestChildReportsAFailedOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/"+engine.DataFile, bytes.Repeat([]byte("no store "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, stdin, lines := child(t, crashTask{Kind: "write", Dir: dir, Run: t.TempDir()})
	defer stdin.Close()
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if err := cmd.Wait(); err == nil || !strings.HasPrefix(last, "error") {
		t.Fatalf("got %v, %q, want an error", err, last)
	}
}
