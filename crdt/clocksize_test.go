package crdt

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestClockOfRetiredIDsIsSmall: a thousand ids of one node, each with a few
// writes from 1 on, take 16 KiB at most, however random they are.
func TestClockOfRetiredIDsIsSmall(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	tag := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, tt := range []struct {
		name    string
		highest uint64
	}{{"few writes each", 100}, {"up to 10,000 writes each", 10_000}, {"up to 2^40 writes each", 1 << 40}} {
		c := NewClock()
		for range 1000 {
			id := NewReplicaID(tag, [8]byte(binary.BigEndian.AppendUint64(nil, rng.Uint64())))
			c.AddRange(id, 1, 1+rng.Uint64N(tt.highest))
		}
		n := len(c.Append(nil))
		t.Logf("%s: %d bytes, %.1f an id", tt.name, n, float64(n)/1000)
		if c.Len() != 1000 || n > 16<<10 {
			t.Errorf("%s: the clock of %d ids has %d bytes, want 1,000 in 16 KiB", tt.name, c.Len(), n)
		}
	}
}
