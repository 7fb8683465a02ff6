package engine_test

import (
	"context"
	"fmt"
	"testing"

	"bzzz/engine"
)

// TestRetiredIDsCostLittle: a node that took a thousand fresh replica ids in its
// life sends its clock in 16 KiB, and nothing of it where both are equal.
func TestRetiredIDsCostLittle(t *testing.T) {
	t.Parallel()
	const (
		ids    = 1000
		limit  = 16 << 10 // of a clock, one way
		others = 600      // of everything else, one way; all of it where the two have met
	)
	ctx := context.Background()
	a := open(t, "", &engine.Options{Memory: true, SweepInterval: -1})
	b := open(t, "", &engine.Options{Memory: true, SweepInterval: -1})
	for n := range ids {
		// Whoever drops a namespace takes a fresh id.
		if _, err := a.CreateNamespace(ctx, "other"); err != nil {
			t.Fatal(err)
		}
		if err := a.DropNamespace(ctx, "other"); err != nil {
			t.Fatal(err)
		}
		for range 1 + n%5 {
			if err := a.Put(ctx, fmt.Appendf(nil, "k%d", n%20), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	syncBoth(t, a, b)
	stats, err := a.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	clock := stats.Namespaces[0].ClockBytes
	if n := stats.Namespaces[0].Replicas; n != ids || clock > limit {
		t.Errorf("the clock of %d ids has %d bytes, want %d ids in %d", n, clock, ids, limit)
	}
	sync := func() engine.SyncReport {
		t.Helper()
		r, _, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
		if err != nil || !r.InSync {
			t.Fatal(r, err)
		}
		return r
	}
	equal := sync()
	if n := equal.BytesSent + equal.BytesReceived; n > 200 {
		t.Errorf("equal stores exchanged %d bytes", n)
	}
	if err := a.Put(ctx, []byte("new"), nil); err != nil {
		t.Fatal(err)
	}
	r := sync()
	if r.BytesSent > others || r.BytesReceived > others {
		t.Errorf("one new version cost %d and %d bytes between stores that have met, want %d at most", r.BytesSent, r.BytesReceived, others)
	}
	stranger := open(t, "", &engine.Options{Memory: true, SweepInterval: -1})
	met, _, err := engine.SyncLocal(ctx, b, stranger, engine.SyncOptions{})
	if err != nil || met.BytesSent > int64(3*clock) || met.BytesReceived > others {
		t.Errorf("a stranger was sent %d bytes and sent %d (%v), want the clock, what of it is dead, and 22 keys", met.BytesSent, met.BytesReceived, err)
	}
	t.Logf("a clock of %d ids: %d bytes, %.1f each; a sync of one new version sends %d and receives %d bytes, of none %d and %d",
		ids, clock, float64(clock)/ids, r.BytesSent, r.BytesReceived, equal.BytesSent, equal.BytesReceived)
}
