package crdttest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"
)

// Counter is what a counter does with one slot; see KERNEL "Counter". seen is
// what the writer holds of the slot, folded.
type Counter struct {
	// Count returns the owner's next version: seen, with delta on its totals.
	Count func(seen crdt.Slot, delta int64) crdt.Slot
	// Reset returns the version by which anybody sets the slot to nothing.
	Reset func(seen crdt.Slot) crdt.Slot
	// Fold returns what a reader makes of the siblings of the slot.
	Fold func(crdt.Siblings) crdt.Slot
}

// CounterLaws fails t if after some history in which an owner counts, others
// reset, and both receive late, in any order, or never, the slot's value is
// not the sum of the increments that no reset had seen.
func CounterLaws(t testing.TB, c Counter) {
	t.Helper()
	if err := CheckCounter(c, 1, 2000); err != nil {
		t.Fatal(err)
	}
}

// CheckCounter is CounterLaws as a function: it returns the first history of
// the seed that breaks the law, or nil.
func CheckCounter(c Counter, seed uint64, histories int) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for range histories {
		if err := c.check(r); err != nil {
			return err
		}
	}
	return nil
}

// slotRun is one history of a slot: replica 0 counts, the others reset.
type slotRun struct {
	c        Counter
	versions crdt.Siblings
	seen     []crdt.Siblings      // what each replica received
	known    []map[int64]bool     // the increments in each replica's past
	past     map[crdt.Dot][]int64 // and in each version's
	counted  []int64              // each of another size, a power of two
	reset    map[int64]bool       // those that a reset had seen
	trace    strings.Builder
}

// check runs one history and compares what a reader of all of it sees.
func (c Counter) check(r *rand.Rand) error {
	h := &slotRun{c: c, past: map[crdt.Dot][]int64{}, reset: map[int64]bool{}}
	for range 1 + r.IntN(4) {
		h.seen = append(h.seen, nil)
		h.known = append(h.known, map[int64]bool{})
	}
	for range 2 + r.IntN(12) {
		w := r.IntN(len(h.seen))
		switch {
		case len(h.versions) > 0 && r.IntN(2) == 0:
			h.receive(w, h.versions[r.IntN(len(h.versions))])
		case w == 0:
			h.count(int64(1-2*r.IntN(2)) << len(h.counted))
		case len(h.seen[w]) > 0: // a reset writes to the slots it sees only
			maps.Copy(h.reset, h.known[w])
			fmt.Fprintf(&h.trace, "%d resets\n", w)
			h.write(w, c.Reset(h.fold(w)))
		}
	}
	want := int64(0)
	for _, d := range h.counted {
		if !h.reset[d] {
			want += d
		}
	}
	if got := c.Fold(crdt.Maximal(h.versions)).Value(); got != want {
		return fmt.Errorf("counter shows %d, want %d, after\n%s", got, want, h.trace.String())
	}
	return nil
}

func (h *slotRun) fold(w int) crdt.Slot { return h.c.Fold(crdt.Maximal(h.seen[w])) }

func (h *slotRun) receive(w int, v *crdt.Version) {
	if slices.Contains(h.seen[w], v) {
		return
	}
	fmt.Fprintf(&h.trace, "%d receives %s:%d\n", w, v.Dot.Replica.Short(), v.Dot.Seq)
	h.seen[w] = append(h.seen[w], v)
	for _, d := range h.past[v.Dot] {
		h.known[w][d] = true
	}
}

func (h *slotRun) count(delta int64) {
	fmt.Fprintf(&h.trace, "0 counts %d\n", delta)
	h.counted = append(h.counted, delta)
	h.known[0][delta] = true
	h.write(0, h.c.Count(h.fold(0), delta))
}

func (h *slotRun) write(w int, s crdt.Slot) {
	v := &crdt.Version{
		Key: []byte("slot"), Kind: crdt.Count, Value: s.Append(nil), Context: crdt.Join(crdt.Maximal(h.seen[w])...),
		Dot: crdt.Dot{Replica: crdt.ReplicaID{byte(w + 1)}, Seq: uint64(len(h.versions) + 1)},
	}
	h.versions = append(h.versions, v)
	h.past[v.Dot] = slices.Collect(maps.Keys(h.known[w]))
	h.seen[w] = append(h.seen[w], v)
}
