package crdt_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// ids are three incarnations of two nodes, and one of a third.
var ids = [...]crdt.ReplicaID{
	crdt.NewReplicaID([8]byte{1}, [8]byte{1}),
	crdt.NewReplicaID([8]byte{1}, [8]byte{2}),
	crdt.NewReplicaID([8]byte{2}, [8]byte{1}),
	crdt.NewReplicaID([8]byte{0xFF}, [8]byte{0xFF}),
}

// drawClock draws a clock and its oracle, dot by dot.
func drawClock(t *rapid.T, name string) (crdt.Clock, map[crdt.Dot]bool) {
	c, o := crdt.NewClock(), map[crdt.Dot]bool{}
	for range rapid.IntRange(0, 30).Draw(t, name) {
		d := crdt.Dot{Replica: rapid.SampledFrom(ids[:]).Draw(t, "replica"), Seq: rapid.Uint64Range(1, 9).Draw(t, "seq")}
		c.Add(d)
		o[d] = true
	}
	return c, o
}

// checkClock compares a clock with the oracle.
func checkClock(t *rapid.T, what string, c crdt.Clock, want func(crdt.Dot) bool) {
	t.Helper()
	count, replicas := uint64(0), []crdt.ReplicaID(nil)
	for _, r := range ids {
		base, any := uint64(0), false
		for seq := uint64(1); seq <= 10; seq++ {
			d := crdt.Dot{Replica: r, Seq: seq}
			if c.Has(d) != want(d) {
				t.Fatalf("%s: Has(%v) = %v", what, d, c.Has(d))
			}
			if want(d) {
				count++
				any = true
				if base == seq-1 {
					base = seq
				}
			}
		}
		if any {
			replicas = append(replicas, r)
		}
		if c.Base(r) != base {
			t.Fatalf("%s: Base = %d, want %d", what, c.Base(r), base)
		}
	}
	if c.Count() != count || c.IsEmpty() != (count == 0) || c.Len() != len(replicas) || !slices.Equal(c.Replicas(), replicas) {
		t.Fatalf("%s: %d dots of %v, want %d of %v", what, c.Count(), c.Replicas(), count, replicas)
	}
}

func TestClockIsASetOfDots(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, ao := drawClock(t, "a")
		b, bo := drawClock(t, "b")
		merged := a.Clone()
		merged.Merge(b)
		checkClock(t, "merged", merged, func(d crdt.Dot) bool { return ao[d] || bo[d] })
		checkClock(t, "minus", a.Minus(b), func(d crdt.Dot) bool { return ao[d] && !bo[d] })
		checkClock(t, "meet", a.Meet(b), func(d crdt.Dot) bool { return ao[d] && bo[d] })
		checkClock(t, "a, unchanged", a, func(d crdt.Dot) bool { return ao[d] })
		checkClock(t, "b, unchanged", b, func(d crdt.Dot) bool { return bo[d] })
		contains := true
		for d := range bo {
			contains = contains && ao[d]
		}
		if a.Contains(b) != contains || a.Equal(b) != (contains && len(ao) == len(bo)) {
			t.Fatalf("Contains = %v, Equal = %v", a.Contains(b), a.Equal(b))
		}
		merged.Add(crdt.Dot{Replica: ids[0], Seq: 10}) // shares nothing with a or b
		checkClock(t, "a, still unchanged", a, func(d crdt.Dot) bool { return ao[d] })
		a.Set(ids[1], crdt.SeqSet{})
		checkClock(t, "a, one replica removed", a, func(d crdt.Dot) bool { return ao[d] && d.Replica != ids[1] })
	})
}

func TestClockEncodingIsCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, ao := drawClock(t, "a")
		b, _ := drawClock(t, "b")
		ab, bb := a.Append(nil), b.Append(nil)
		if bytes.Equal(ab, bb) != a.Equal(b) {
			t.Fatalf("equal clocks and equal bytes differ: %x, %x", ab, bb)
		}
		got, rest, err := crdt.DecodeClock(append(ab, 7))
		if err != nil || !bytes.Equal(rest, []byte{7}) {
			t.Fatalf("DecodeClock: rest %x, %v", rest, err)
		}
		checkClock(t, "decoded", got, func(d crdt.Dot) bool { return ao[d] })
	})
}

func TestDecodeClockRefuses(t *testing.T) {
	t.Parallel()
	tag1, tag2 := "\x01\x00\x00\x00\x00\x00\x00\x00", "\x02\x00\x00\x00\x00\x00\x00\x00"
	one := tag1 + "\x01\x00\x00" // incarnation 1: one run, 1..1
	tests := []struct{ name, in string }{
		{"empty input", ""},
		{"more tags than bytes", "\x7f" + tag1},
		{"tags fall", "\x02" + tag2 + "\x01" + one + tag1 + "\x01" + one},
		{"tag twice", "\x02" + tag1 + "\x01" + one + tag1 + "\x01" + one},
		{"no incarnation", "\x01" + tag1 + "\x00" + one},
		{"incarnation twice", "\x01" + tag1 + "\x02" + one + one},
		{"no dot", "\x01" + tag1 + "\x01" + tag1 + "\x00\x00"},
		{"cut short", "\x01" + tag1 + "\x01" + tag1[:5]},
		{"long varint", "\x81\x00" + tag1 + "\x01" + one},
		{"above MaxSeq", "\x01" + tag1 + "\x01" + tag1 + "\x01\x00\x80\x80\x80\x80\x80\x80\x40"},
		{"varint above 64 bits", "\x01" + tag1 + "\x01" + tag1 + "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00"},
	}
	for _, tt := range tests {
		if c, _, err := crdt.DecodeClock([]byte(tt.in)); !errors.Is(err, crdt.ErrInvalid) {
			t.Errorf("%s: %d dots, %v, want ErrInvalid", tt.name, c.Count(), err)
		}
	}
	if _, _, err := crdt.DecodeClock([]byte("\x01" + tag1 + "\x01" + one)); err != nil {
		t.Errorf("the form they derive from: %v", err)
	}
}

func FuzzDecodeClock(f *testing.F) {
	c := crdt.NewClock()
	f.Add(c.Append(nil))
	c.AddRange(ids[0], 1, 300)
	c.AddRange(ids[1], 7, 9)
	c.Add(crdt.Dot{Replica: ids[3], Seq: crdt.MaxSeq})
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := crdt.DecodeClock(b)
		if err != nil {
			return
		}
		if again := append(c.Append(nil), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to a clock that encodes to %x", b, again)
		}
	})
}

func TestReplicaIDText(t *testing.T) {
	t.Parallel()
	r := crdt.NewReplicaID([8]byte{1, 2, 3}, [8]byte{4, 5, 6})
	if got := r.Short(); got != "010203-0405" {
		t.Errorf("Short = %q", got)
	}
	if got, err := crdt.ParseReplicaID(r.String()); got != r || err != nil {
		t.Errorf("ParseReplicaID(String) = %v, %v", got, err)
	}
	for _, s := range []string{"", "01", r.String() + "00", "zz" + r.String()[2:]} {
		if _, err := crdt.ParseReplicaID(s); !errors.Is(err, crdt.ErrInvalid) {
			t.Errorf("ParseReplicaID(%q) = %v, want ErrInvalid", s, err)
		}
	}
}

// Counts that would wrap around stay at the greatest number: they bound what
// peers may claim.
func TestClockCountDoesNotWrap(t *testing.T) {
	t.Parallel()
	c := crdt.NewClock()
	for i := range uint32(1<<16 + 1) {
		c.AddRange(crdt.ReplicaID{0: 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}, 1, crdt.MaxSeq)
	}
	if got := c.Count(); got != math.MaxUint64 {
		t.Errorf("%d dots, want the greatest number", got)
	}
}
