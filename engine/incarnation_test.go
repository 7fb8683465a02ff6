package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/store/bolt"
	"bzzz/store/fault"
)

// node does what its standard input says, a line each, until that ends:
//
//	put N FROM   write N keys from number FROM on, and tell of each
func (c *crashTask) node() error {
	db, err := c.open()
	if err != nil {
		return err
	}
	ctx := context.Background()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.Fields(in.Text())
		n, errN := strconv.Atoi(f[1])
		from, errFrom := strconv.Atoi(f[2])
		if err := errors.Join(errN, errFrom); err != nil {
			return err
		}
		for i := range n {
			key := fmt.Appendf(nil, "key %06d", from+i)
			if err := db.Put(ctx, key, fmt.Appendf(nil, "%s of %d", key, os.Getpid())); err != nil {
				return err
			}
			h, err := db.History(ctx, key)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stdout, "wrote %d %s %d %s\n", from+i, h[0].Author, h[0].Seq, h[0].CID)
		}
		fmt.Fprintln(os.Stdout, "done")
	}
	return db.Close()
}

// lives are directories that began as one, each opened by processes of its own
// that are ended or killed, and what must hold of all of them together.
type lives struct {
	t     *testing.T
	rng   *rand.Rand
	root  string
	run   string // the volatile directory
	env   bool   // it is found by the environment, as usual, not by an option
	next  int    // number of the next key
	dots  map[string]string
	acked map[int]string // key number -> CID
	lost  map[int]bool   // written by what was rolled back since
}

func newLives(t *testing.T, env bool) *lives {
	l := &lives{
		t: t, rng: rand.New(rand.NewPCG(1, 2)), root: t.TempDir(), env: env,
		dots: map[string]string{}, acked: map[int]string{}, lost: map[int]bool{},
	}
	l.run = l.volatile()
	return l
}

// volatile returns a new run-time directory: with env one that the engine takes
// by itself, on a tmpfs of another device than the data.
func (l *lives) volatile() string {
	l.t.Helper()
	if !l.env {
		return l.t.TempDir()
	}
	const shm = "/dev/shm"
	dir, err := os.MkdirTemp(shm, "bzzz-test-")
	if err != nil {
		l.t.Skipf("no tmpfs at %s: %v", shm, err)
	}
	l.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			l.t.Error(err)
		}
	})
	return dir
}

func (l *lives) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lives) dir(name string) string  { return filepath.Join(l.root, name) }
func (l *lives) file(name string) string { return filepath.Join(l.dir(name), engine.DataFile) }

// copy makes a directory the copy of another, as cp -a would. Neither may be in
// the middle of a write.
func (l *lives) copy(from, to string) {
	l.t.Helper()
	l.must(os.RemoveAll(l.dir(to)))
	l.must(os.CopyFS(l.dir(to), os.DirFS(l.dir(from))))
}

// life is a process that has a directory open.
type life struct {
	l     *lives
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	id    string // that it last wrote under
}

// start opens a directory in a process of its own.
func (l *lives) start(name string) *life {
	l.t.Helper()
	task := crashTask{Kind: "node", Dir: l.dir(name), Run: l.run}
	if l.env {
		task.Run = ""
	}
	cmd, in, lines := childWith(l.t, task, "XDG_RUNTIME_DIR="+l.run)
	p := &life{l: l, cmd: cmd, stdin: in, lines: lines}
	p.until("opened")
	return p
}

// until reads what the process says up to a line; false if it ended before.
func (p *life) until(line string) bool {
	p.l.t.Helper()
	for p.lines.Scan() {
		text := p.lines.Text()
		switch {
		case strings.HasPrefix(text, "error"):
			p.l.t.Fatal("child: ", text)
		case strings.HasPrefix(text, "wrote "):
			p.note(strings.Fields(text))
		}
		if text == line {
			return true
		}
	}
	return false
}

// note enters an acknowledged write.
func (p *life) note(f []string) {
	p.l.t.Helper()
	if len(f) != 5 {
		return // cut by a kill
	}
	n, err := strconv.Atoi(f[1])
	p.l.must(err)
	p.id = f[2]
	p.l.dot(f[2]+":"+f[3], f[4])
	p.l.acked[n] = f[4]
}

// dot enters a version: no dot may name two.
func (l *lives) dot(dot, cid string) {
	l.t.Helper()
	if was, used := l.dots[dot]; used && was != cid {
		l.t.Fatalf("dot %s names %s and %s", dot, was, cid)
	}
	l.dots[dot] = cid
}

// put writes n keys and returns the id they were written under.
func (p *life) put(n int) string {
	p.l.t.Helper()
	_, err := fmt.Fprintf(p.stdin, "put %d %d\n", n, p.l.next)
	p.l.must(err)
	p.l.next += n
	if !p.until("done") {
		p.l.t.Fatal("the child ended")
	}
	return p.id
}

// end closes the store in good order.
func (p *life) end() {
	p.l.t.Helper()
	p.l.must(p.stdin.Close())
	p.until("") // what it still says
	p.l.must(p.cmd.Wait())
}

// kill kills the process, which is idle.
func (p *life) kill() {
	p.l.t.Helper()
	p.l.must(p.cmd.Process.Kill())
	p.until("")
	if p.cmd.Wait() == nil {
		p.l.t.Fatal("the child was not killed")
	}
}

// killWriting kills the process at a random point of its writing, after at
// least one acknowledged write.
func (p *life) killWriting() {
	p.l.t.Helper()
	const many = 1000
	_, err := fmt.Fprintf(p.stdin, "put %d %d\n", many, p.l.next)
	p.l.must(err)
	p.l.next += many
	for range 1 + p.l.rng.IntN(5) {
		if p.lines.Scan() {
			p.note(strings.Fields(p.lines.Text()))
		}
	}
	for range p.l.rng.IntN(3000) {
		runtime.Gosched()
	}
	p.kill()
}

// once opens, writes a little, closes, and returns the id it wrote under.
func (l *lives) once(name string) string {
	l.t.Helper()
	p := l.start(name)
	id := p.put(2)
	p.end()
	return id
}

// forget marks what was written from key number from on: a rollback took it.
func (l *lives) forget(from int) {
	for n := range l.acked {
		if n >= from {
			l.lost[n] = true
		}
	}
}

func (l *lives) fresh(got, old string) {
	l.t.Helper()
	if got == old || got == "" {
		l.t.Fatalf("id %s goes on, a fresh one had to be drawn", old)
	}
}

func (l *lives) same(got, old string) {
	l.t.Helper()
	if got != old {
		l.t.Fatalf("id %s was drawn, %s had to go on", got, old)
	}
}

// check collects all versions of all directories, and brings them together:
// every acknowledged write must be there that no rollback took.
func (l *lives) check(names ...string) {
	l.t.Helper()
	ctx := context.Background()
	hub := open(l.t, "", &engine.Options{Memory: true, Logger: alarms(l.t)})
	for _, name := range names {
		db := open(l.t, l.dir(name), &engine.Options{RuntimeDir: "-", Logger: alarms(l.t)})
		for n := range l.next {
			h, err := db.History(ctx, fmt.Appendf(nil, "key %06d", n))
			if err != nil && !errors.Is(err, engine.ErrNotFound) {
				l.t.Fatal(err)
			}
			for _, v := range h {
				l.dot(fmt.Sprint(v.Author, ":", v.Seq), v.CID)
			}
		}
		syncBoth(l.t, db, hub)
	}
	found := 0
	for n, cid := range l.acked {
		r, err := hub.GetAll(ctx, fmt.Appendf(nil, "key %06d", n))
		l.must(err)
		switch {
		case len(r.Siblings) == 1 && r.Siblings[0].CID == cid:
			found++
		case len(r.Siblings) == 0 && l.lost[n]:
		default:
			l.t.Fatalf("acknowledged write %d is lost or changed: %d siblings", n, len(r.Siblings))
		}
	}
	if found == 0 || len(l.dots) < found {
		l.t.Fatalf("%d writes, %d dots: nothing was tested", found, len(l.dots))
	}
	l.t.Logf("%d acknowledged writes, %d versions, %d taken by rollbacks", len(l.acked), len(l.dots), len(l.lost))
}

// reboot empties the run-time directory, as a boot does.
func (l *lives) reboot() {
	l.t.Helper()
	entries, err := os.ReadDir(l.run)
	l.must(err)
	if len(entries) == 0 {
		l.t.Fatal("there is no anchor: nothing is tested")
	}
	for _, e := range entries {
		l.must(os.RemoveAll(filepath.Join(l.run, e.Name())))
	}
}

// backup writes a backup of a directory that nobody has open.
func (l *lives) backup(name string) (file string) {
	l.t.Helper()
	db := open(l.t, l.dir(name), &engine.Options{ReadOnly: true})
	file = filepath.Join(l.t.TempDir(), "backup")
	_, err := db.Backup(context.Background(), file, nil)
	l.must(errors.Join(err, db.Close()))
	return file
}

// incarnationCases bring a store to where its id may or may not go on. Each is
// given the id that "a", closed, wrote under, and returns which directories
// there are.
var incarnationCases = []struct {
	name string
	run  func(l *lives, old string) []string
}{
	{"closed and opened again", func(l *lives, old string) []string {
		for range 3 {
			l.same(l.once("a"), old)
		}
		return []string{"a"}
	}},
	{"killed while idle", func(l *lives, old string) []string {
		p := l.start("a")
		p.put(1)
		p.kill()
		l.same(l.once("a"), old)
		return []string{"a"}
	}},
	{"copied, one after the other", func(l *lives, old string) []string {
		l.copy("a", "b")
		l.same(l.once("a"), old)
		l.fresh(l.once("b"), old)
		l.once("a")
		return []string{"a", "b"}
	}},
	{"copied, the copy first", func(l *lives, old string) []string {
		l.copy("a", "b")
		l.same(l.once("b"), old)
		l.fresh(l.once("a"), old)
		return []string{"a", "b"}
	}},
	{"copied, both at once in two processes", func(l *lives, old string) []string {
		l.copy("a", "b")
		a, b := l.start("a"), l.start("b")
		for range 3 {
			l.same(a.put(2), old)
			l.fresh(b.put(2), old)
		}
		b.kill()
		a.killWriting()
		l.once("b")
		l.once("a")
		return []string{"a", "b"}
	}},
	{"copied while open, both go on", func(l *lives, old string) []string {
		a := l.start("a")
		a.put(2)
		l.copy("a", "b")
		l.same(a.put(2), old)
		l.fresh(l.once("b"), old)
		a.end()
		return []string{"a", "b"}
	}},
	{"volume rolled back while closed", func(l *lives, old string) []string {
		l.copy("a", "old")
		from := l.next
		l.same(l.once("a"), old)
		l.forget(from)
		l.copy("old", "a")
		l.fresh(l.once("a"), old)
		return []string{"a"}
	}},
	{"volume rolled back after a kill, and forward again", func(l *lives, old string) []string {
		l.copy("a", "old")
		p := l.start("a")
		p.put(3)
		p.kill()
		l.copy("a", "new")
		l.copy("old", "a")
		id := l.once("a")
		l.fresh(id, old)
		l.copy("new", "b")
		l.fresh(l.once("b"), old)
		return []string{"a", "b"}
	}},
	{"older backup restored over it", func(l *lives, old string) []string {
		file := l.backup("a")
		from := l.next
		l.same(l.once("a"), old)
		l.forget(from)
		_, err := engine.RestoreBackup(context.Background(), file, l.dir("a"), &engine.RestoreOptions{Force: true})
		l.must(err)
		id := l.once("a")
		l.fresh(id, old)
		l.same(l.once("a"), id)
		return []string{"a"}
	}},
	{"backup of this very state restored beside it", func(l *lives, old string) []string {
		file := l.backup("a")
		for _, name := range []string{"b", "c"} {
			_, err := engine.RestoreBackup(context.Background(), file, l.dir(name), nil)
			l.must(err)
		}
		b, c := l.start("b"), l.start("c")
		idB, idC := b.put(2), c.put(2)
		l.fresh(idB, old)
		l.fresh(idC, old)
		l.fresh(idB, idC)
		b.end()
		c.end()
		l.same(l.once("a"), old)
		return []string{"a", "b", "c"}
	}},
	{"backup file put in place by hand, twice", func(l *lives, old string) []string {
		file := l.backup("a")
		b, err := os.ReadFile(file)
		l.must(err)
		ids := map[string]bool{old: true}
		for _, name := range []string{"b", "c"} {
			l.must(os.MkdirAll(l.dir(name), 0o755))
			l.must(os.WriteFile(l.file(name), b, 0o600))
			ids[l.once(name)] = true
		}
		if len(ids) != 3 {
			l.t.Fatalf("3 stores wrote under %d ids", len(ids))
		}
		return []string{"a", "b", "c"}
	}},
	{"reboot", func(l *lives, old string) []string {
		l.reboot()
		id := l.once("a")
		l.fresh(id, old)
		l.same(l.once("a"), id)
		return []string{"a"}
	}},
	{"reboot after a kill", func(l *lives, old string) []string {
		p := l.start("a")
		p.killWriting()
		l.reboot()
		l.fresh(l.once("a"), old)
		return []string{"a"}
	}},
	{"container restarts with the same volume", func(l *lives, old string) []string {
		first := l.run
		l.run = l.volatile()
		id := l.once("a")
		l.fresh(id, old)
		l.run = first // its anchor speaks of an older state
		l.fresh(l.once("a"), id)
		return []string{"a"}
	}},
	{"two containers, a copy each", func(l *lives, old string) []string {
		l.copy("a", "b")
		a, first := l.start("a"), l.run
		l.run = l.volatile()
		b := l.start("b")
		l.same(a.put(2), old)
		l.fresh(b.put(2), old)
		b.end()
		a.end()
		l.run = first
		l.same(l.once("a"), old)
		return []string{"a", "b"}
	}},
	{"killed at random points", func(l *lives, old string) []string {
		for range 12 {
			l.start("a").killWriting()
		}
		l.once("a")
		return []string{"a"}
	}},
	{"killed at random points, older copies come back", func(l *lives, old string) []string {
		for range 8 {
			l.copy("a", "old")
			from := l.next
			l.start("a").killWriting()
			if l.rng.IntN(2) == 0 {
				l.forget(from)
				l.copy("old", "a")
			}
		}
		l.once("a")
		return []string{"a"}
	}},
}

// TestIncarnations runs the cases in real processes on real directories, with
// the run-time directory given by option and found by the environment.
func TestIncarnations(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("every open takes a fresh id on this system")
	}
	t.Parallel()
	for _, env := range []bool{false, true} {
		for _, tt := range incarnationCases {
			t.Run(fmt.Sprintf("environment=%t/%s", env, tt.name), func(t *testing.T) {
				t.Parallel()
				l := newLives(t, env)
				old := l.once("a")
				l.check(tt.run(l, old)...)
			})
		}
	}
}

// TestDeathAtACommit ends a process right before and right behind a commit
// reaches the store, the anchor being written first. Neither that store nor a
// copy from before may use again what the commit used.
func TestDeathAtACommit(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.CrashBefore, fault.CrashAfter} {
		for _, order := range [][]string{{"a", "old"}, {"old", "a"}} {
			t.Run(fmt.Sprint(kind, order), func(t *testing.T) {
				t.Parallel()
				c := newCopies(t)
				c.open("a")
				id := c.put("a")
				c.close("a")
				kv, err := bolt.Open(c.data("a"), nil)
				c.must(err)
				opts := c.options()
				opts.Store = fault.Wrap(kv, &fault.Plan{At: map[int]fault.Kind{2: kind}})
				db, err := engine.Open(c.dir("a"), opts)
				c.must(err)
				c.dbs["a"] = db
				c.same(c.put("a"), id)
				c.copy("a", "old")
				if err := db.Put(context.Background(), []byte("never acknowledged"), nil); !errors.Is(err, fault.ErrInjected) {
					t.Fatalf("got %v, want the injected death", err)
				}
				data, anchor := c.readData("a"), c.readAnchor()
				_ = db.Close() // the dead close nothing: what it does is undone
				delete(c.dbs, "a")
				c.must(kv.Close())
				c.must(os.WriteFile(c.data("a"), data, 0o600))
				c.must(os.WriteFile(c.anchor(), anchor, 0o600))
				for _, name := range order {
					c.open(name)
					if got := c.put(name); name == "old" || kind == fault.CrashBefore {
						c.fresh(got, id)
					}
				}
				h, err := c.dbs["a"].History(context.Background(), []byte("never acknowledged"))
				if kind == fault.CrashAfter {
					c.must(err)
				}
				for _, v := range h {
					if cid, used := c.dots[crdt.Dot{Replica: v.Author, Seq: v.Seq}]; used {
						t.Fatalf("dot %s:%d names %s and %s", v.Author, v.Seq, cid, v.CID)
					}
				}
				c.converge("a", "old")
			})
		}
	}
}

// incarnations are copies of a store beside a second node, with what each of
// them must hold.
type incarnations struct {
	*copies
	peer  *engine.DB
	held  map[string]map[string]bool // directory -> acknowledged keys it must have
	saved map[string]map[string]bool // backup file -> the same
	did   map[string]int
}

const peerName = "peer"

// TestNoDotIsUsedTwiceBesideAPeer runs random sequences of all that can happen
// to a directory beside a second node that it syncs with. No dot is used twice,
// and every acknowledged write is there in the end of which a directory or the
// peer had a copy that no rollback took.
func TestNoDotIsUsedTwiceBesideAPeer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	did := map[string]int{}
	t.Cleanup(func() { // after all seeds
		t.Logf("%v", did)
		for _, what := range []string{"write", "close", "crash", "crash in a commit", "copy", "roll back or forward", "reboot", "sync", "backup", "restore", "compact"} {
			if did[what] < 5 {
				t.Errorf("%q happened %d times: too little was tested", what, did[what])
			}
		}
	})
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			i := &incarnations{
				copies: newCopies(t), held: map[string]map[string]bool{"a": {}, peerName: {}},
				saved: map[string]map[string]bool{}, did: map[string]int{},
			}
			i.peer = open(t, "", &engine.Options{Logger: alarms(t), SweepInterval: -1})
			i.open("a")
			rng := rand.New(rand.NewPCG(seed, 6))
			names := []string{"a"}
			for range 80 {
				names = i.step(rng, names)
			}
			i.settle(names)
			mu.Lock()
			defer mu.Unlock()
			for what, n := range i.did {
				did[what] += n
			}
		})
	}
}

// step does one random thing.
func (i *incarnations) step(rng *rand.Rand, names []string) []string {
	i.t.Helper()
	name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
	isOpen := i.dbs[name] != nil
	did := func(what string) { i.did[what]++ }
	switch rng.IntN(13) {
	case 0, 1, 2:
		if !isOpen {
			i.open(name)
		}
		i.put(name)
		i.held[name][fmt.Sprintf("key %04d", i.n)] = true
		did("write")
	case 3:
		if isOpen {
			i.close(name)
			did("close")
		}
	case 4:
		if isOpen {
			i.crash(name, nil, i.anchorOf(name))
			did("crash")
		}
	case 5:
		if isOpen {
			i.crashBeforeCommit(name)
			did("crash in a commit")
		}
	case 6:
		if len(names) < 5 {
			to := fmt.Sprint("copy", len(names))
			i.copy(name, to)
			i.held[to] = maps.Clone(i.held[name])
			did("copy")
			return append(names, to)
		}
	case 7:
		if other != name && i.dbs[other] == nil {
			i.copy(name, other)
			i.held[other] = maps.Clone(i.held[name])
			did("roll back or forward")
		}
	case 8:
		if rng.IntN(3) == 0 && len(i.dbs) == 0 {
			i.must(os.RemoveAll(i.run))
			did("reboot")
		}
	case 9:
		if isOpen {
			i.syncPeer(name)
			did("sync")
		}
	case 10:
		if isOpen {
			file := filepath.Join(i.root, fmt.Sprint("backup", len(i.saved)))
			_, err := i.dbs[name].Backup(context.Background(), file, nil)
			i.must(err)
			i.saved[file] = maps.Clone(i.held[name])
			did("backup")
		}
	case 11:
		if !isOpen && len(i.saved) > 0 {
			file := filepath.Join(i.root, fmt.Sprint("backup", rng.IntN(len(i.saved))))
			_, err := engine.RestoreBackup(context.Background(), file, i.dir(name), &engine.RestoreOptions{Force: true})
			i.must(err)
			i.held[name] = maps.Clone(i.saved[file])
			did("restore")
		}
	case 12:
		if isOpen {
			_, err := i.dbs[name].Compact(context.Background(), nil)
			i.must(err)
			did("compact")
		}
	}
	return names
}

// anchorOf returns the bytes of the anchor of an open directory: restored ones
// have one of their own.
func (i *incarnations) anchorOf(name string) []byte {
	i.t.Helper()
	b, err := os.ReadFile(i.anchorPath(name))
	i.must(err)
	return b
}

func (i *incarnations) anchorPath(name string) string {
	id := i.dbs[name].InstanceID()
	return filepath.Join(i.run, fmt.Sprintf("%x", id[:]))
}

// crash ends a directory as kill -9 would, with the given anchor.
func (i *incarnations) crash(name string, data, anchor []byte) {
	i.t.Helper()
	if data == nil {
		data = i.readData(name)
	}
	path := i.anchorPath(name)
	i.close(name)
	i.must(os.WriteFile(i.data(name), data, 0o600))
	i.must(os.WriteFile(path, anchor, 0o600))
}

// crashBeforeCommit ends a directory between the anchor and the commit.
func (i *incarnations) crashBeforeCommit(name string) {
	i.t.Helper()
	data := i.readData(name)
	i.must(i.dbs[name].Put(context.Background(), []byte("never acknowledged"), nil))
	i.crash(name, data, i.anchorOf(name))
}

// syncPeer syncs a directory with the second node; each has what the other had.
func (i *incarnations) syncPeer(name string) {
	i.t.Helper()
	r, _, err := engine.SyncLocal(context.Background(), i.dbs[name], i.peer, engine.SyncOptions{})
	i.must(err)
	if !r.InSync {
		i.t.Fatalf("%s and the peer differ after a sync", name)
	}
	maps.Copy(i.held[name], i.held[peerName])
	maps.Copy(i.held[peerName], i.held[name])
}

// settle syncs all with the peer and checks what must be there.
func (i *incarnations) settle(names []string) {
	i.t.Helper()
	ctx := context.Background()
	must := maps.Clone(i.held[peerName])
	for _, name := range names {
		maps.Copy(must, i.held[name])
		if i.dbs[name] == nil {
			i.open(name)
		}
		i.syncPeer(name)
	}
	for key := range must {
		if v, err := i.peer.Get(ctx, []byte(key)); err != nil || string(v) != i.acked[key] {
			i.t.Fatalf("%s: got %q, %v, want %q", key, v, err, i.acked[key])
		}
	}
	ids := map[crdt.Dot]string{}
	for key := range i.acked {
		h, err := i.peer.History(ctx, []byte(key))
		if errors.Is(err, engine.ErrNotFound) && !must[key] {
			continue
		}
		i.must(err)
		for _, v := range h {
			dot := crdt.Dot{Replica: v.Author, Seq: v.Seq}
			if was := i.dots[dot]; was != v.CID {
				i.t.Fatalf("dot %s names %s here, %q was written", dot, v.CID, was)
			}
			ids[dot] = v.CID
		}
	}
	if len(ids) < len(must) {
		i.t.Fatalf("%d versions of %d keys", len(ids), len(must))
	}
}
