package engine_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/engine"
)

// anchorSize is the length of what an anchor says; behind it stands a path.
const anchorSize = 21

// alarms fails a test on any message of a level above warn: a dot used twice
// is logged as an error.
func alarms(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&alarm{t}, &slog.HandlerOptions{Level: slog.LevelError}))
}

type alarm struct{ t testing.TB }

func (a *alarm) Write(b []byte) (int, error) {
	a.t.Errorf("alarm: %s", b)
	return len(b), nil
}

// copies are directories that began as one, and the volatile directory that
// they share: what backups, clones and crashes make of a node.
type copies struct {
	t     testing.TB
	root  string
	run   string
	dbs   map[string]*engine.DB
	dots  map[crdt.Dot]string // every dot that any of them ever used -> CID
	acked map[string]string   // every write; each has a key of its own
	gone  map[string]bool     // those that only a rolled-back directory held
	n     int
}

func newCopies(t testing.TB) *copies {
	c := &copies{
		t: t, root: t.TempDir(), run: t.TempDir(), dbs: map[string]*engine.DB{},
		dots: map[crdt.Dot]string{}, acked: map[string]string{}, gone: map[string]bool{},
	}
	t.Cleanup(func() {
		for name := range c.dbs {
			c.close(name)
		}
	})
	return c
}

func (c *copies) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *copies) dir(name string) string { return filepath.Join(c.root, name) }

func (c *copies) options() *engine.Options {
	return &engine.Options{RuntimeDir: c.run, SweepInterval: -1, Logger: alarms(c.t)}
}

func (c *copies) open(name string) *engine.DB {
	c.t.Helper()
	db, err := engine.Open(c.dir(name), c.options())
	c.must(err)
	c.dbs[name] = db
	return db
}

func (c *copies) close(name string) {
	c.t.Helper()
	c.must(c.dbs[name].Close())
	delete(c.dbs, name)
}

// put writes a key that nobody wrote before and enters its dot. It returns the
// replica id it was written under.
func (c *copies) put(name string) crdt.ReplicaID {
	c.t.Helper()
	ctx := context.Background()
	c.n++
	key, value := fmt.Sprintf("key %04d", c.n), fmt.Sprintf("%d at %s", c.n, name)
	c.must(c.dbs[name].Put(ctx, []byte(key), []byte(value)))
	h, err := c.dbs[name].History(ctx, []byte(key))
	c.must(err)
	if len(h) != 1 {
		c.t.Fatalf("%d versions of a key written once", len(h))
	}
	dot := crdt.Dot{Replica: h[0].Author, Seq: h[0].Seq}
	if cid, used := c.dots[dot]; used {
		c.t.Fatalf("%s uses dot %s again: %s and %s", name, dot, cid, h[0].CID)
	}
	c.dots[dot], c.acked[key] = h[0].CID, value
	return h[0].Author
}

func (c *copies) data(name string) string { return filepath.Join(c.dir(name), engine.DataFile) }

// copy makes a second directory of the state of the first, or replaces it.
func (c *copies) copy(from, to string) {
	c.t.Helper()
	c.must(os.MkdirAll(c.dir(to), 0o755))
	c.must(os.WriteFile(c.data(to), c.readData(from), 0o600))
}

// anchor returns the file of the anchor that the copies share.
func (c *copies) anchor() string {
	c.t.Helper()
	files, err := os.ReadDir(c.run)
	c.must(err)
	if len(files) != 1 {
		c.t.Fatalf("%d anchors, want 1", len(files))
	}
	return filepath.Join(c.run, files[0].Name())
}

func (c *copies) readAnchor() []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.anchor())
	c.must(err)
	return b
}

// crash ends a copy as kill -9 would: what Close does to directory and anchor
// is undone. data and anchor, if not nil, are what the kill left of them.
func (c *copies) crash(name string, data, anchor []byte) {
	c.t.Helper()
	if data == nil {
		data = c.readData(name)
	}
	if anchor == nil {
		anchor = c.readAnchor()
	}
	c.close(name)
	c.must(os.WriteFile(c.data(name), data, 0o600))
	c.must(os.WriteFile(c.anchor(), anchor, 0o600))
}

// crashInCommit ends a copy in a commit that the anchor knows of and the store
// does not; nobody was told of its write.
func (c *copies) crashInCommit(name string) {
	c.t.Helper()
	data := c.readData(name)
	c.must(c.dbs[name].Put(context.Background(), []byte("never acknowledged"), nil))
	c.crash(name, data, nil)
}

func (c *copies) readData(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.data(name))
	c.must(err)
	return b
}

// converge syncs all copies through a hub and checks that nothing that any of
// them acknowledged is lost, and that they agree.
func (c *copies) converge(names ...string) {
	c.t.Helper()
	ctx := context.Background()
	hub, err := engine.Open("", &engine.Options{Memory: true, Logger: alarms(c.t)})
	c.must(err)
	defer hub.Close()
	for range 2 {
		for _, name := range names {
			if c.dbs[name] == nil {
				c.open(name)
			}
			_, _, err := engine.SyncLocal(ctx, c.dbs[name], hub, engine.SyncOptions{Namespaces: []string{"default"}})
			c.must(err)
		}
	}
	want, err := hub.State(ctx)
	c.must(err)
	for _, name := range names {
		got, err := c.dbs[name].State(ctx)
		c.must(err)
		if got.Root != want.Root || !got.Clock.Equal(want.Clock) {
			c.t.Fatalf("%s and the hub differ after syncing", name)
		}
	}
	for key, value := range c.acked {
		r, err := hub.GetAll(ctx, []byte(key))
		c.must(err)
		if c.gone[key] && len(r.Siblings) == 0 {
			continue
		}
		if len(r.Siblings) != 1 || string(r.Siblings[0].Value) != value {
			c.t.Fatalf("%q: got %v, want %q", key, r.Siblings, value)
		}
	}
}

func TestIDGoesOnOverReopening(t *testing.T) {
	t.Parallel()
	c := newCopies(t)
	ids := map[crdt.ReplicaID]bool{}
	for i := range 100 {
		c.open("a")
		if i%5 != 4 { // some opens write nothing
			ids[c.put("a")] = true
		}
		if i%7 == 3 {
			c.crash("a", nil, nil)
		} else {
			c.close("a")
		}
	}
	if len(ids) != 1 {
		t.Fatalf("100 opens wrote under %d replica ids, want 1", len(ids))
	}
	c.converge("a")
}

// Each case brings a node to where its replica id may not go on. It gets the
// id that "a" wrote under, and returns which copies there are.
func TestIDIsDrawnAnew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		run  func(c *copies, old crdt.ReplicaID) []string
	}{
		{"copied directory, original first", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			c.copy("a", "b")
			c.open("a")
			c.same(c.put("a"), old)
			c.close("a")
			c.open("b")
			c.fresh(c.put("b"), old)
			return []string{"a", "b"}
		}},
		{"copied directory, copy first", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			c.copy("a", "b")
			c.open("b")
			c.same(c.put("b"), old) // whoever opens first keeps it
			c.close("b")
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a", "b"}
		}},
		{"copied directory, both open", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			c.copy("a", "b")
			c.open("a")
			c.open("b")
			id := c.put("b")
			c.fresh(id, old)
			c.same(c.put("a"), old)
			c.same(c.put("b"), id)
			return []string{"a", "b"}
		}},
		{"copied while open", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "b")
			c.open("b")
			c.fresh(c.put("b"), old)
			c.same(c.put("a"), old)
			return []string{"a", "b"}
		}},
		{"copy that only made a namespace while the original was open", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "b")
			c.open("b")
			c.makeNamespace("b", "other")
			c.put("a") // as many commits
			c.crash("a", nil, nil)
			c.crash("b", nil, nil)
			c.open("b")
			c.fresh(c.put("b"), old)
			return []string{"a", "b"}
		}},
		{"copy that only closed while the original was open", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "b")
			c.open("b")
			c.close("b") // may commit the free list
			c.put("a")
			c.crash("a", nil, nil)
			c.open("b")
			c.fresh(c.put("b"), old)
			return []string{"a", "b"}
		}},
		{"rolled back data", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "old")
			c.forgetFrom("a")
			c.crash("a", nil, nil)
			c.copy("old", "a")
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a"}
		}},
		{"rolled back data that first only made a namespace", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "old")
			c.forgetFrom("a")
			c.crash("a", nil, nil)
			c.copy("old", "a")
			c.open("a")
			c.makeNamespace("a", "other")
			c.close("a")
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a"}
		}},
		{"reboot", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			c.must(os.Remove(c.anchor()))
			c.open("a")
			id := c.put("a")
			c.fresh(id, old)
			c.close("a")
			c.open("a")
			c.same(c.put("a"), id)
			return []string{"a"}
		}},
		{"another container", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			c.copy("a", "b")
			here := c.run
			c.run = c.t.TempDir()
			c.open("b")
			c.fresh(c.put("b"), old)
			c.close("b")
			c.run = here
			c.open("a")
			c.same(c.put("a"), old)
			return []string{"a", "b"}
		}},
		{"older anchor", func(c *copies, old crdt.ReplicaID) []string {
			before := c.readAnchor()
			c.put("a")
			c.crash("a", nil, before)
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a"}
		}},
		{"killed in a commit", func(c *copies, old crdt.ReplicaID) []string {
			c.crashInCommit("a")
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a"}
		}},
		{"killed behind a commit, and an older copy opened", func(c *copies, old crdt.ReplicaID) []string {
			c.copy("a", "b")
			c.put("a")
			c.crash("a", nil, nil)
			c.open("b")
			c.fresh(c.put("b"), old)
			c.open("a")
			c.fresh(c.put("a"), old) // b has taken over the anchor
			return []string{"a", "b"}
		}},
		{"damaged anchor", func(c *copies, old crdt.ReplicaID) []string {
			for i := range anchorSize {
				c.spoilAnchor(old, func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b })
				old = c.put("a")
			}
			return []string{"a"}
		}},
		{"cut anchor", func(c *copies, old crdt.ReplicaID) []string {
			for _, n := range []int{0, 1, 8, 20} {
				c.spoilAnchor(old, func(b []byte) []byte { return b[:n] })
				old = c.put("a")
			}
			return []string{"a"}
		}},
		{"dropped namespace", func(c *copies, old crdt.ReplicaID) []string {
			c.makeNamespace("a", "other")
			c.same(c.put("a"), old)
			c.must(c.dbs["a"].DropNamespace(context.Background(), "other"))
			id := c.put("a")
			c.fresh(id, old)
			c.crash("a", nil, nil)
			c.open("a")
			c.same(c.put("a"), id)
			return []string{"a"}
		}},
		{"namespace dropped before a crash", func(c *copies, old crdt.ReplicaID) []string {
			c.makeNamespace("a", "other")
			c.must(c.dbs["a"].DropNamespace(context.Background(), "other"))
			c.crash("a", nil, nil)
			c.open("a")
			c.fresh(c.put("a"), old)
			return []string{"a"}
		}},
		{"no volatile directory", func(c *copies, old crdt.ReplicaID) []string {
			c.close("a")
			here := c.run
			c.run = "-"
			c.open("a")
			c.fresh(c.put("a"), old)
			c.close("a")
			c.run = here
			return []string{"a"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCopies(t)
			c.open("a")
			var old crdt.ReplicaID
			for range 3 {
				old = c.put("a")
			}
			c.converge(tt.run(c, old)...)
		})
	}
}

func (c *copies) fresh(got, old crdt.ReplicaID) {
	c.t.Helper()
	if got == old {
		c.t.Fatal("the old replica id goes on")
	}
}

func (c *copies) same(got, want crdt.ReplicaID) {
	c.t.Helper()
	if got != want {
		c.t.Fatal("a fresh replica id was drawn")
	}
}

func (c *copies) makeNamespace(name, ns string) {
	c.t.Helper()
	_, err := c.dbs[name].CreateNamespace(context.Background(), ns)
	c.must(err)
}

// forgetFrom writes what a rollback will take back.
func (c *copies) forgetFrom(name string) {
	c.t.Helper()
	for range 2 {
		c.put(name)
		c.gone[fmt.Sprintf("key %04d", c.n)] = true
	}
}

// spoilAnchor reopens "a" with a changed anchor and checks that a fresh id is
// drawn.
func (c *copies) spoilAnchor(old crdt.ReplicaID, change func([]byte) []byte) {
	c.t.Helper()
	c.close("a")
	c.must(os.WriteFile(c.anchor(), change(c.readAnchor()), 0o600))
	c.open("a")
	c.fresh(c.put("a"), old)
}

// Whatever happens to copies of a directory, no dot is used twice.
func TestNoDotIsUsedTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCopies(t)
			rng := rand.New(rand.NewPCG(seed, 5))
			c.open("a")
			c.put("a")
			names := []string{"a"}
			for range 60 {
				names = c.step(rng, names)
			}
			// What a rollback took back lives on only where somebody has it.
			for key := range c.acked {
				c.gone[key] = true
			}
			c.converge(names...)
		})
	}
}

// step does one random thing to the copies.
func (c *copies) step(rng *rand.Rand, names []string) []string {
	c.t.Helper()
	name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
	isOpen := c.dbs[name] != nil
	switch rng.IntN(12) {
	case 0, 1, 2:
		if !isOpen {
			c.open(name)
		}
		c.put(name)
	case 3:
		if !isOpen {
			c.open(name)
		}
		c.makeNamespace(name, fmt.Sprint("ns", rng.IntN(3)))
	case 4, 5:
		if isOpen {
			c.close(name)
		} else {
			c.open(name)
		}
	case 6:
		if isOpen {
			c.crash(name, nil, nil)
		}
	case 7:
		if isOpen {
			c.crashInCommit(name)
		}
	case 8:
		if len(names) < 5 {
			to := fmt.Sprint("copy", len(names))
			c.copy(name, to)
			names = append(names, to)
		}
	case 9:
		if other != name && c.dbs[other] == nil { // a rollback, forward or back
			c.copy(name, other)
		}
	case 10:
		if rng.IntN(4) == 0 && len(c.dbs) == 0 { // a reboot
			os.RemoveAll(c.run)
		}
	case 11:
		if isOpen && c.dbs[other] != nil && other != name {
			_, _, err := engine.SyncLocal(context.Background(), c.dbs[name], c.dbs[other], engine.SyncOptions{})
			c.must(err)
		}
	}
	return names
}

func TestReadOnlyOpenChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := newCopies(t)
	c.open("a")
	id := c.put("a")
	for _, end := range []func(){func() { c.close("a") }, func() { c.crash("a", nil, nil) }} {
		end()
		data, anchor := c.readData("a"), c.readAnchor()
		opts := c.options()
		opts.ReadOnly = true
		first, err := engine.Open(c.dir("a"), opts)
		c.must(err)
		second, err := engine.Open(c.dir("a"), opts) // beside the first
		c.must(err)
		for _, db := range []*engine.DB{first, second} {
			if v, err := db.Get(ctx, []byte("key 0001")); err != nil || string(v) != c.acked["key 0001"] {
				t.Fatalf("got %q, %v", v, err)
			}
			if err := db.Put(ctx, []byte("k"), nil); err != engine.ErrReadOnly {
				t.Fatalf("got %v, want read-only", err)
			}
			if _, err := db.CreateNamespace(ctx, "new"); err == nil {
				t.Fatal("made a namespace read-only")
			}
			c.must(db.Close())
		}
		entries, err := os.ReadDir(c.dir("a"))
		c.must(err)
		if !bytes.Equal(data, c.readData("a")) || !bytes.Equal(anchor, c.readAnchor()) || len(entries) != 1 {
			t.Fatal("a read-only open changed something")
		}
		c.open("a")
		c.same(c.put("a"), id)
	}
}

// The anchor bears the instance's name and nobody else may read it.
func TestAnchorFile(t *testing.T) {
	t.Parallel()
	c := newCopies(t)
	db := c.open("a")
	id := db.InstanceID()
	info, err := os.Stat(c.anchor())
	c.must(err)
	if info.Name() != hex.EncodeToString(id[:]) || info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("anchor %s with mode %v", info.Name(), info.Mode())
	}
	other := newCopies(t)
	other.run = c.run
	if got := other.open("a").InstanceID(); got == id {
		t.Fatal("two stores share an instance id")
	}
	files, err := os.ReadDir(c.run)
	c.must(err)
	if len(files) != 2 || !slices.ContainsFunc(files, func(f os.DirEntry) bool { return f.Name() == info.Name() }) {
		t.Fatalf("%d anchors for two stores", len(files))
	}
}
