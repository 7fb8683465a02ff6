package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
	"bzzz/store/mem"
)

// node is one store with one namespace, driven directly: no engine.
type node struct {
	t   testing.TB
	kv  store.KV
	r   *Replica
	now crdt.HLC
}

func newNode(t testing.TB, id byte) *node {
	t.Helper()
	n := &node{t: t, kv: mem.New(), now: 1 << 30}
	cfg := Config{Name: "test", Prefix: "n1/"}
	n.must(n.kv.Update(func(tx store.Tx) error { return Create(tx, cfg, [16]byte{id}) }))
	n.open(cfg, id)
	t.Cleanup(func() { n.must(n.kv.Close()) })
	return n
}

func (n *node) open(cfg Config, id byte) {
	n.t.Helper()
	n.must(n.kv.View(func(tx store.Tx) (err error) {
		n.r, err = Open(tx, cfg)
		return err
	}))
	n.r.SetSelf(crdt.ReplicaID{id, 1})
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// batch runs one committed batch.
func (n *node) batch(fn func(b *Batch) error) error {
	var b *Batch
	err := n.kv.Update(func(tx store.Tx) (err error) {
		if b, err = n.r.Begin(tx, n.now); err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		return b.Finish(false)
	})
	if err == nil {
		b.Done()
	}
	return err
}

// write writes key in a transaction of its own.
func (n *node) write(key string, kind crdt.Kind, value string) *crdt.Version {
	n.t.Helper()
	var out *crdt.Version
	n.must(n.batch(func(b *Batch) error {
		s, err := b.Siblings([]byte(key))
		if err != nil {
			return err
		}
		w := Write{Key: []byte(key), Kind: kind, Siblings: s}
		if kind != crdt.Delete {
			w.Value = []byte(value)
		}
		vs, err := b.Commit([]Write{w}, n.now)
		if err == nil {
			out = vs[0]
		}
		return err
	}))
	return out
}

// view runs fn on the current state.
func (n *node) view(fn func(v *View)) {
	n.t.Helper()
	n.must(n.kv.View(func(tx store.Tx) error {
		v, err := n.r.View(tx)
		if err == nil {
			fn(v)
		}
		return err
	}))
}

// pull takes from o what n lacks, at most limit versions; only a complete pull
// adopts.
func (n *node) pull(o *node, limit int) Applied {
	n.t.Helper()
	var have crdt.Clock
	n.view(func(v *View) { have = v.Clock() })
	var got []*crdt.Version
	var clock crdt.Clock
	complete := true
	o.view(func(v *View) {
		clock = v.Clock()
		for ver, err := range v.Missing(have, func(crdt.Dot) { n.t.Error("lost version") }) {
			n.must(err)
			if len(got) == limit {
				complete = false
				return
			}
			c, err := crdt.DecodeCanonical(ver.AppendCanonical(nil))
			n.must(err)
			got = append(got, c)
		}
	})
	var sum Applied
	n.must(n.batch(func(b *Batch) (err error) {
		if sum, err = b.Apply(got); err != nil || !complete {
			return err
		}
		_, err = b.Adopt(clock, crdt.NewClock())
		return err
	}))
	return sum
}

func (n *node) root() (root [32]byte) {
	n.view(func(v *View) {
		var err error
		root, err = v.Root()
		n.must(err)
	})
	return root
}

func (n *node) clock() (c crdt.Clock) {
	n.view(func(v *View) { c = v.Clock() })
	return c
}

func (n *node) siblings(key string) (out crdt.Siblings) {
	n.view(func(v *View) {
		s, err := v.Siblings([]byte(key))
		n.must(err)
		for _, ver := range s {
			c, err := crdt.DecodeCanonical(ver.AppendCanonical(nil))
			n.must(err)
			out = append(out, c)
		}
	})
	return out
}

func (n *node) verify() {
	n.t.Helper()
	n.view(func(v *View) {
		n.must(v.Verify(func(p Problem) { n.t.Errorf("verify: %s %q %s: %v", p.What, p.Key, p.Dot, p.Err) }, func(int) error { return nil }))
	})
}

// reopen loads the replica from its store again.
func (n *node) reopen() {
	id := n.r.Self()
	n.open(n.r.cfg, id[0])
}

func TestWriteReadReplace(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	v1 := n.write("k", crdt.Put, "one")
	v2 := n.write("k", crdt.Put, "two")
	if got := v2.Context.Direct(); len(got) != 1 || got[0] != v1.Dot {
		t.Fatalf("direct parents %v, want %v", got, v1.Dot)
	}
	s := n.siblings("k")
	if len(s) != 1 || string(s[0].Value) != "two" {
		t.Fatalf("siblings %v, want two alone", s)
	}
	n.write("k", crdt.Delete, "")
	s = n.siblings("k")
	if len(s) != 1 || s[0].Kind != crdt.Delete {
		t.Fatalf("siblings %v, want a tombstone", s)
	}
	n.verify()
	n.reopen()
	n.verify()
}

func TestConcurrentWritesStaySideBySide(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.write("k", crdt.Put, "from a")
	b.write("k", crdt.Put, "from b")
	a.pull(b, 100)
	b.pull(a, 100)
	if got := len(a.siblings("k")); got != 2 {
		t.Fatalf("a has %d siblings, want 2", got)
	}
	if a.root() != b.root() || !a.clock().Equal(b.clock()) {
		t.Fatal("roots or clocks differ after both pulled")
	}
	a.view(func(v *View) {
		if c := v.Counts(); c.Conflicts != 1 || c.Keys != 1 || c.Versions != 2 {
			t.Fatalf("counts %+v, want 1 key, 2 versions, 1 conflict", c)
		}
	})
	a.write("k", crdt.Put, "both seen")
	b.pull(a, 100)
	if s := b.siblings("k"); len(s) != 1 || string(s[0].Value) != "both seen" {
		t.Fatalf("siblings %v, want the one that saw both", s)
	}
}

// TestRandomHistories runs replicas that write, delete, pull in part and
// reopen, and compares them with the fold of the union of all versions.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			randomHistory(t, seed)
		})
	}
}

func randomHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	var nodes []*node
	for i := range 2 + rng.IntN(3) {
		nodes = append(nodes, newNode(t, byte(i+1)))
	}
	all := map[string][]*crdt.Version{}
	for range 120 {
		n := nodes[rng.IntN(len(nodes))]
		n.now += crdt.HLC(rng.IntN(5)) << 16
		key := string(rune('a' + rng.IntN(6)))
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			all[key] = append(all[key], n.write(key, crdt.Put, fmt.Sprint(rng.Uint32())))
		case 4:
			all[key] = append(all[key], n.write(key, crdt.Delete, ""))
		case 5:
			n.reopen()
			if rng.IntN(2) == 0 {
				n.must(n.batch(func(b *Batch) error { return b.Finish(true) }))
			}
		case 6:
			n.must(n.batch(func(b *Batch) error {
				_, err := b.Collect(nil, Retention{Versions: 1, Since: crdt.MaxHLC}, math.MaxUint64, 100)
				return err
			}))
		default:
			n.pull(nodes[rng.IntN(len(nodes))], rng.IntN(12))
		}
		if rng.IntN(8) == 0 {
			n.checkViews(rng.IntN(3) == 0)
		}
		if rng.IntN(20) == 0 {
			n.verify()
		}
	}
	for range 2 {
		for _, n := range nodes {
			for _, o := range nodes {
				n.pull(o, 1<<20)
			}
		}
	}
	for _, n := range nodes {
		n.verify()
		if n.root() != nodes[0].root() || !n.clock().Equal(nodes[0].clock()) {
			t.Fatal("roots or clocks differ after everybody pulled from everybody")
		}
		for key, versions := range all {
			want, got := crdt.Maximal(versions).Sorted(), n.siblings(key).Sorted()
			if !slices.EqualFunc(want, got, func(a, b *crdt.Version) bool { return a.Digest() == b.Digest() }) {
				t.Fatalf("key %s: siblings %v, want %v", key, got, want)
			}
		}
	}
}

func TestFailedBatchLeavesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.write("k", crdt.Put, "kept")
	boom := errors.New("boom")
	err := n.batch(func(b *Batch) error {
		if _, err := b.Commit([]Write{{Key: []byte("x"), Kind: crdt.Put, Value: []byte("lost")}}, n.now); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want the callback's error", err)
	}
	v := n.write("y", crdt.Put, "next")
	if v.Dot.Seq != 2 {
		t.Fatalf("dot %s after a failed batch, want seq 2", v.Dot)
	}
	if s := n.siblings("x"); len(s) != 0 {
		t.Fatalf("failed write is visible: %v", s)
	}
	n.verify()
}

func TestGapIsNotTakenForSeen(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	first := a.write("k1", crdt.Put, "1")
	second := a.write("k2", crdt.Put, "2")
	b.must(b.batch(func(bt *Batch) error { _, err := bt.Apply([]*crdt.Version{second}); return err }))
	if c := b.clock(); c.Has(first.Dot) || !c.Has(second.Dot) || c.Base(second.Dot.Replica) != 0 {
		t.Fatal("the gap counts as seen")
	}
	if got := b.pull(a, 10); got.New != 1 {
		t.Fatalf("pull took in %+v, want the one missing version", got)
	}
}

// TestDotUsedTwice: two versions under one dot (KERNEL K2 (1)): the smaller
// digest keeps the dot everywhere, the other's content is written again.
func TestDotUsedTwice(t *testing.T) {
	t.Parallel()
	a, b, other := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	v := a.write("k", crdt.Put, "one")
	other.r.SetSelf(a.r.Self())
	w := other.write("k2", crdt.Put, "two")
	if v.Dot != w.Dot {
		t.Fatal("test is broken: dots differ")
	}
	for _, order := range [][]*crdt.Version{{v, w}, {w, v}} {
		b = newNode(t, 2)
		var sum Applied
		for _, x := range order {
			b.must(b.batch(func(bt *Batch) error {
				got, err := bt.Apply([]*crdt.Version{x})
				sum.Add(got)
				return err
			}))
		}
		if sum.Forks != 1 {
			t.Fatalf("forks %d, want 1", sum.Forks)
		}
		dv, dw := v.Digest(), w.Digest()
		keeper, yielded := v, w
		if bytes.Compare(dw[:], dv[:]) < 0 {
			keeper, yielded = w, v
		}
		if s := b.siblings(string(keeper.Key)); len(s) != 1 || s[0].Dot != v.Dot {
			t.Fatalf("the smaller digest lost the dot: %v", s)
		}
		if order[0] == yielded { // b held the one that had to yield
			if s := b.siblings(string(yielded.Key)); len(s) != 1 || !bytes.Equal(s[0].Value, yielded.Value) || s[0].Dot.Replica != b.r.Self() {
				t.Fatalf("content of the yielding version is gone: %v", s)
			}
		}
		b.verify()
	}
}
