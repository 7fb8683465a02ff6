package replica

import (
	"errors"
	"testing"

	"bzzz/crdt"
)

// KERNEL K1: a write lies above everything that it covers in time, however far
// ahead the writer of that was, and whatever this node's clock says.
func TestTraceTime(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.now += crdt.HLC(1) << 45 // years ahead: it does not move a's clock
	far := b.write("k", crdt.Put, "from the future")
	a.apply(far)
	v := a.write("k", crdt.Put, "now")
	if v.Time <= far.Time {
		t.Errorf("stamp %#x of a write that covers one of %#x", v.Time, far.Time)
	}
	if later := a.write("j", crdt.Put, "beside"); later.Time >= far.Time {
		t.Error("a stamp of the future has moved the clock")
	}
}

// A clock or gone mark that jumps beyond 2^40 is refused, and changes nothing;
// one of just 2^40 is taken.
func TestTracePoisonedClock(t *testing.T) {
	t.Parallel()
	stranger := crdt.ReplicaID{9, 9}
	upTo := func(n uint64) crdt.Clock {
		c := crdt.NewClock()
		c.AddRange(stranger, n, n)
		return c
	}
	tests := map[string]struct {
		dots, gone crdt.Clock
		want       error
	}{
		"clock":               {upTo(maxJump + 1), crdt.NewClock(), ErrInvalid},
		"gone mark":           {upTo(1), upTo(maxJump + 2), ErrInvalid},
		"gone mark of nobody": {crdt.NewClock(), upTo(crdt.MaxSeq), ErrInvalid},
		"neither":             {upTo(maxJump), upTo(2 * maxJump), nil},
	}
	for name, tt := range tests {
		n := newNode(t, 1)
		n.write("k", crdt.Put, "v")
		before := n.clock()
		err := n.batch(func(b *Batch) error { _, err := b.Adopt(tt.dots, tt.gone); return err })
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		n.reopen()
		if got := n.clock().Equal(before); got != (tt.want != nil) {
			t.Errorf("%s: the clock is as before: %v", name, got)
		}
		n.view(func(v *View) {
			if got := v.Gone().IsEmpty(); got != (tt.want != nil) {
				t.Errorf("%s: no gone marks: %v", name, got)
			}
		})
		n.verify()
	}
}
