package walk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/merkle"
	"bzzz/merkle/walk"
	"bzzz/store"
	"bzzz/store/mem"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// item is a live key and its leaf.
type item struct {
	key  []byte
	leaf merkle.Digest
}

// set is merkle.Leaves over a sorted slice.
type set []item

func (s set) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(i item, k []byte) int { return bytes.Compare(i.key, k) })
}

func (s set) Leaf(key []byte) (merkle.Digest, bool, error) {
	i, ok := s.find(key)
	if !ok {
		return merkle.Digest{}, false, nil
	}
	return s[i].leaf, true, nil
}

func (s set) Range(start, end []byte, fn func([]byte, merkle.Digest) error) error {
	i, _ := s.find(start)
	for ; i < len(s) && (end == nil || bytes.Compare(s[i].key, end) < 0); i++ {
		if err := fn(s[i].key, s[i].leaf); err != nil {
			return err
		}
	}
	return nil
}

// leafOf is a digest that commits to a key and one of its values.
func leafOf(key string, value uint64) merkle.Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(key), value))
}

// setOf returns the sorted set of key -> value.
func setOf(values map[string]uint64) set {
	s := make(set, 0, len(values))
	for k, v := range values {
		s = append(s, item{[]byte(k), leafOf(k, v)})
	}
	slices.SortFunc(s, func(a, b item) int { return bytes.Compare(a.key, b.key) })
	return s
}

// indexOf builds the index of leaves in a twin of a store.
func indexOf(t testing.TB, leaves merkle.Leaves) *merkle.Index {
	t.Helper()
	kv := mem.New()
	must(t, kv.Update(func(tx store.Tx) error {
		b, err := tx.CreateBucket("tree", store.Ordered)
		if err != nil {
			return err
		}
		_, err = merkle.Rebuild(b, leaves, 1)
		return err
	}))
	snap, err := kv.Snapshot()
	must(t, err)
	t.Cleanup(snap.Release)
	x, err := merkle.Open(snap.Bucket("tree"), leaves)
	must(t, err)
	return x
}

// result is what a walk came to.
type result struct {
	offers   [2][]string // sorted
	messages int
	bytes    int
	largest  int
	pending  int // the most regions that waited on one side
	first    *walk.Walk
	second   *walk.Walk
}

// drain takes all offers that wait; those of one message must rise.
func drain(t testing.TB, w *walk.Walk, to *[]string) {
	t.Helper()
	from := len(*to)
	for key, err := range w.Offers() {
		must(t, err)
		*to = append(*to, string(key))
	}
	if !slices.IsSorted((*to)[from:]) {
		t.Fatal("the offers of a message do not rise")
	}
	if w.Waiting() != 0 {
		t.Fatalf("%d offers wait after all were taken", w.Waiting())
	}
}

// run walks two indexes, the first being the initiator. setup is called with
// both sides before the walk starts.
func run(t testing.TB, a, b *merkle.Index, c walk.Config, setup ...func(w *walk.Walk)) *result {
	t.Helper()
	r := &result{}
	c.Initiator = false
	var err error
	r.second, err = walk.New(b, c)
	must(t, err)
	c.Initiator = true
	r.first, err = walk.New(a, c)
	must(t, err)
	for _, f := range setup {
		f(r.first)
		f(r.second)
	}
	msg, err := r.first.Start()
	must(t, err)
	sides := [2]*walk.Walk{r.first, r.second}
	var done [2]bool
	for turn := 1; msg != nil; turn = 1 - turn {
		r.messages++
		r.bytes += len(msg)
		r.largest = max(r.largest, len(msg))
		if len(msg) > walk.MaxMessage {
			t.Fatalf("a message of %d bytes", len(msg))
		}
		if msg, done[turn], err = sides[turn].Receive(msg); err != nil {
			t.Fatalf("message %d: %v", r.messages, err)
		}
		drain(t, sides[turn], &r.offers[turn])
		r.pending = max(r.pending, sides[turn].Pending())
	}
	if !done[0] || !done[1] || r.first.Stats().Sent+r.second.Stats().Sent != r.messages ||
		r.first.Stats().BytesReceived+r.second.Stats().BytesReceived != r.bytes {
		t.Fatalf("done %v after %d messages", done, r.messages)
	}
	for i := range r.offers {
		slices.Sort(r.offers[i])
	}
	return r
}

// difference returns what each side is to offer, by merkle.Diff.
func difference(t testing.TB, a, b *merkle.Index, prefix []byte) (want [2][]string) {
	t.Helper()
	for d, err := range merkle.Diff(a, b) {
		must(t, err)
		if !bytes.HasPrefix(d.Key, prefix) {
			continue
		}
		if d.A != nil {
			want[0] = append(want[0], string(d.Key))
		}
		if d.B != nil {
			want[1] = append(want[1], string(d.Key))
		}
	}
	return want
}

// check runs a walk and compares the offers with the difference.
func check(t testing.TB, a, b *merkle.Index, c walk.Config, setup ...func(w *walk.Walk)) *result {
	t.Helper()
	want := difference(t, a, b, c.Prefix)
	r := run(t, a, b, c, setup...)
	for i := range want {
		if !slices.Equal(r.offers[i], want[i]) {
			t.Fatalf("side %d offers %d keys, want %d", i, len(r.offers[i]), len(want[i]))
		}
	}
	return r
}

// saltOf returns a salt that differs by seed.
func saltOf(seed uint64) (s [16]byte) {
	binary.BigEndian.PutUint64(s[:], seed)
	return s
}

// shapes make key number i of a kind of key.
var shapes = map[string]func(rng *rand.Rand, i int) string{
	"sequential": func(_ *rand.Rand, i int) string { return fmt.Sprintf("key-%08d", i) },
	"binary":     func(_ *rand.Rand, i int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(i))) },
	"random": func(rng *rand.Rand, _ int) string {
		return string(binary.BigEndian.AppendUint64(nil, rng.Uint64()))[:1+rng.IntN(8)]
	},
	"dense": func(rng *rand.Rand, _ int) string { return nasty(rng, 1+rng.IntN(5)) },
	"stem": func(rng *rand.Rand, i int) string {
		return "a/long/stem/that/all/of/the/keys/share/" + []string{"", "", "left/", "leftmost/of/all/"}[rng.IntN(4)] + fmt.Sprint(i)
	},
	"chain": func(rng *rand.Rand, _ int) string {
		return string(bytes.Repeat([]byte("c"), 1+rng.IntN(200))) + nasty(rng, rng.IntN(2))
	},
	"long": func(rng *rand.Rand, _ int) string {
		return nasty(rng, 1) + string(bytes.Repeat([]byte("l"), 1000)) + nasty(rng, rng.IntN(24))
	},
	"ucxl": func(rng *rand.Rand, _ int) string { return ucxl(rng.IntN(100_000)) },
}

// nasty returns n bytes of a small alphabet.
func nasty(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = []byte{0, 1, 0x10, 'a', 'b', 0xF0, 0xFF, byte(rng.IntN(256))}[rng.IntN(8)]
	}
	return string(b)
}

// ucxl is key number i of a namespace of addresses: 100 agents with 10,000 keys
// each, in tasks of 50.
func ucxl(i int) string {
	return fmt.Sprintf("ucxl/agent%02d/dev@project%02d/task%04d/2025/notes-%06d.md", i/10000, i/1000%10, i/50, i)
}
