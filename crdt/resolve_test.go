package crdt_test

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// at returns a version by replica i at a time, expiring at a millisecond (0: never).
func at(kind crdt.Kind, i int, time crdt.HLC, value string, expiry uint64) *crdt.Version {
	v := sample(kind, value)
	v.Dot.Replica, v.Time = ids[i], time
	if expiry != 0 {
		v.Attrs = []crdt.Attr{{Name: crdt.AttrExpiry, Value: binary.BigEndian.AppendUint64(nil, expiry)}}
	}
	return v
}

func number(n int64) string { return string(crdt.AppendNumber(nil, n)) }

func TestFold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		resolver   string
		siblings   crdt.Siblings
		want       []string
		concurrent bool
		mixed      bool
	}{
		{"nothing", "lww", nil, nil, false, false},
		{"tombstone", "lww", crdt.Siblings{at(crdt.Delete, 0, 9, "", 0)}, nil, false, false},
		{"latest", "lww", crdt.Siblings{at(crdt.Put, 0, 1, "a", 0), at(crdt.Put, 1, 2, "b", 0)}, []string{"b"}, true, false},
		{"tie by replica", "lww", crdt.Siblings{at(crdt.Put, 1, 1, "b", 0), at(crdt.Put, 0, 1, "a", 0)}, []string{"b"}, true, false},
		{"all, latest first", "mv", crdt.Siblings{at(crdt.Put, 0, 1, "a", 0), at(crdt.Put, 1, 2, "b", 0)}, []string{"b", "a"}, true, false},
		{"unknown resolver shows all", "newer", crdt.Siblings{at(crdt.Put, 0, 1, "a", 0), at(crdt.Put, 1, 2, "b", 0)}, []string{"b", "a"}, true, false},
		{"put beats a concurrent later delete", "lww", crdt.Siblings{at(crdt.Put, 0, 1, "a", 0), at(crdt.Delete, 1, 9, "", 0)}, []string{"a"}, false, false},
		{"expired", "lww", crdt.Siblings{at(crdt.Put, 0, 1, "a", 100)}, nil, false, false},
		{"expires in the next millisecond", "lww", crdt.Siblings{at(crdt.Put, 0, 1, "a", 101)}, []string{"a"}, false, false},
		{"expired winner gives way", "lww", crdt.Siblings{at(crdt.Put, 0, 1, "a", 0), at(crdt.Put, 1, 2, "b", 7)}, []string{"a"}, false, false},
		{"max", "lww", crdt.Siblings{at(crdt.Max, 0, 1, number(3), 0), at(crdt.Max, 1, 2, number(-3), 0)}, []string{number(3)}, true, false},
		{"min", "lww", crdt.Siblings{at(crdt.Min, 0, 1, number(3), 0), at(crdt.Min, 1, 2, number(-3), 0)}, []string{number(-3)}, true, false},
		{"malformed number loses", "lww", crdt.Siblings{at(crdt.Max, 0, 9, "high", 0), at(crdt.Max, 1, 2, number(-3), 0)}, []string{number(-3)}, true, false},
		{"malformed number alone", "lww", crdt.Siblings{at(crdt.Max, 0, 9, "high", 0)}, []string{"high"}, false, false},
		{"highest kind of mixed ones", "lww", crdt.Siblings{at(crdt.Put, 0, 9, "a", 0), at(crdt.Max, 1, 1, number(1), 0)}, []string{number(1)}, true, true},
		{"expired kind does not mix", "lww", crdt.Siblings{at(crdt.Put, 0, 9, "a", 0), at(crdt.Max, 1, 1, number(1), 7)}, []string{"a"}, false, false},
		{"kinds of sets show all", "lww", crdt.Siblings{at(crdt.Add, 0, 1, "a", 0), at(crdt.Add, 1, 2, "b", 0)}, []string{"b", "a"}, true, false},
	}
	for _, tt := range tests {
		for range 2 {
			w := crdt.Fold(tt.siblings, crdt.BuiltinResolvers().Get(tt.resolver), 100)
			var got []string
			for _, v := range w.Shown {
				got = append(got, string(v.Value))
			}
			if !slices.Equal(got, tt.want) || w.Concurrent() != tt.concurrent || w.Mixed != tt.mixed || len(w.Siblings) != len(tt.siblings) {
				t.Errorf("%s: shown %q, concurrent %v, mixed %v, want %q, %v, %v", tt.name, got, w.Concurrent(), w.Mixed, tt.want, tt.concurrent, tt.mixed)
			}
			if value, ok := w.Value(); ok != (len(tt.want) > 0) || (ok && string(value) != tt.want[0]) {
				t.Errorf("%s: Value = %q, %v", tt.name, value, ok)
			}
			slices.Reverse(tt.siblings) // their order carries no meaning
		}
	}
}

func TestResolversWith(t *testing.T) {
	t.Parallel()
	r, err := crdt.BuiltinResolvers().With(crdt.Resolvers{"first": crdt.LWW})
	if err != nil || len(r) != 3 || len(crdt.BuiltinResolvers()) != 2 {
		t.Fatalf("With = %d resolvers, %v", len(r), err)
	}
	for name, bad := range map[string]crdt.Resolvers{"taken": {"lww": crdt.MV}, "empty": {"": crdt.MV}, "nil": {"x": nil}} {
		if _, err := r.With(bad); !errors.Is(err, crdt.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestNumberOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		if (number(a) < number(b)) != (a < b) {
			t.Fatalf("byte order of %d and %d", a, b)
		}
		if got, err := crdt.DecodeNumber([]byte(number(a))); got != a || err != nil {
			t.Fatalf("%d came back as %d, %v", a, got, err)
		}
	})
	if _, err := crdt.DecodeNumber(make([]byte, 7)); !errors.Is(err, crdt.ErrInvalid) {
		t.Errorf("7 bytes: %v, want ErrInvalid", err)
	}
}

func slot(s crdt.Slot) *crdt.Version { return sample(crdt.Count, string(s.Append(nil))) }

func TestSlot(t *testing.T) {
	t.Parallel()
	count := func(s crdt.Slot, deltas ...int64) crdt.Slot {
		for _, d := range deltas {
			var err error
			if s, err = s.Count(d); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	start := count(crdt.Slot{}, 5, -2)
	tests := []struct {
		name     string
		siblings crdt.Siblings
		want     int64
	}{
		{"nothing", nil, 0},
		{"counts", crdt.Siblings{slot(start)}, 3},
		{"below zero", crdt.Siblings{slot(count(start, -10))}, -7},
		{"reset", crdt.Siblings{slot(start.Reset())}, 0},
		{"count after a reset", crdt.Siblings{slot(count(start.Reset(), 4))}, 4},
		{"reset beside a concurrent count", crdt.Siblings{slot(start.Reset()), slot(count(start, 10))}, 10},
		{"reset beside a concurrent count down", crdt.Siblings{slot(start.Reset()), slot(count(start, -10))}, -10},
		{"concurrent resets, one saw less", crdt.Siblings{slot(start.Reset()), slot(count(start, 1).Reset()), slot(count(start, 1, 1))}, 1},
		{"floor beyond the totals", crdt.Siblings{slot(crdt.Slot{Plus: 1, PlusFloor: 9, MinusFloor: 9})}, 0},
		{"malformed counts as nothing", crdt.Siblings{sample(crdt.Count, "\xff"), slot(start)}, 3},
		{"another kind counts as nothing", crdt.Siblings{sample(crdt.Put, string(start.Append(nil)))}, 0},
	}
	for _, tt := range tests {
		got := crdt.FoldSlot(tt.siblings)
		if got.Value() != tt.want || got.IsFloored() != (tt.want == 0) {
			t.Errorf("%s: %+v is worth %d, want %d", tt.name, got, got.Value(), tt.want)
		}
	}
}

func TestSlotLimits(t *testing.T) {
	t.Parallel()
	for _, d := range []int64{math.MaxInt64, math.MinInt64, 1 << 51, -1 << 51} {
		if s, err := (crdt.Slot{Plus: 3}).Count(d); !errors.Is(err, crdt.ErrTooLarge) || s != (crdt.Slot{Plus: 3}) {
			t.Errorf("Count(%d) = %+v, %v, want ErrTooLarge", d, s, err)
		}
	}
	full, err := crdt.Slot{}.Count(1<<51 - 1)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for range 4096 {
		if sum += full.Value(); sum < 0 {
			t.Fatal("the sum of 4,096 full slots overflows")
		}
	}
}

// Join is commutative, associative and idempotent, and resets lose nothing
// that comes after them.
func TestSlotJoinIsALattice(t *testing.T) {
	t.Parallel()
	draw := rapid.Custom(func(t *rapid.T) crdt.Slot {
		n := rapid.Uint64Range(0, 9)
		return crdt.Slot{Plus: n.Draw(t, "plus"), Minus: n.Draw(t, "minus"), PlusFloor: n.Draw(t, "+floor"), MinusFloor: n.Draw(t, "-floor")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c")
		if a.Join(b) != b.Join(a) || a.Join(a) != a || a.Join(b).Join(c) != a.Join(b.Join(c)) {
			t.Fatalf("Join of %v, %v, %v", a, b, c)
		}
		if !a.Reset().IsFloored() || a.Reset().Join(a) != a.Reset() {
			t.Fatalf("Reset of %v = %v", a, a.Reset())
		}
		if got, err := crdt.DecodeSlot(a.Append(nil)); got != a || err != nil {
			t.Fatalf("%v came back as %v, %v", a, got, err)
		}
	})
}

func FuzzDecodeSlot(f *testing.F) {
	f.Add(crdt.Slot{}.Append(nil))
	f.Add(crdt.Slot{Plus: 300, Minus: 4, PlusFloor: 200, MinusFloor: 1<<51 - 1}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := crdt.DecodeSlot(b)
		if err == nil && string(s.Append(nil)) != string(b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, s, s.Append(nil))
		}
	})
}

func TestSets(t *testing.T) {
	t.Parallel()
	add, remove, tombstone := sample(crdt.Add, "e"), sample(crdt.Remove, "e"), sample(crdt.Delete, "")
	tests := []struct {
		name                string
		siblings            crdt.Siblings
		addWins, removeWins bool
	}{
		{"nothing", nil, false, false},
		{"add", crdt.Siblings{add}, true, true},
		{"removed by a delete", crdt.Siblings{tombstone}, false, false},
		{"removed by a remove", crdt.Siblings{remove}, false, false},
		{"add beside a delete", crdt.Siblings{tombstone, add}, true, true},
		{"add beside a remove", crdt.Siblings{remove, add}, true, false},
	}
	for _, tt := range tests {
		if got := crdt.InAddWins(tt.siblings); got != tt.addWins {
			t.Errorf("%s: add-wins %v", tt.name, got)
		}
		if got := crdt.InRemoveWins(tt.siblings); got != tt.removeWins {
			t.Errorf("%s: remove-wins %v", tt.name, got)
		}
	}
}
