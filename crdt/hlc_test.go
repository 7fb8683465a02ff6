package crdt_test

import (
	"testing"
	"time"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// stamps draws valid stamps, those at the ends of the range more often.
func stamps() *rapid.Generator[crdt.HLC] {
	return rapid.Custom(func(t *rapid.T) crdt.HLC {
		return crdt.HLC(rapid.OneOf(
			rapid.Uint64Range(0, 1<<17),
			rapid.Uint64Range(0, uint64(crdt.MaxHLC)-1),
			rapid.Uint64Range(uint64(crdt.MaxHLC)-3, uint64(crdt.MaxHLC)-1),
		).Draw(t, "stamp"))
	})
}

func TestHLCNextIsAfterAndNotBeforeNow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, now := stamps().Draw(t, "h"), stamps().Draw(t, "now")
		next, last := h.Next(now), crdt.MaxHLC-1
		switch {
		case next < now || next > last:
			t.Fatalf("%x.Next(%x) = %x is before now or beyond the range", h, now, next)
		case next <= h && h != last:
			t.Fatalf("%x.Next(%x) = %x is not after h", h, now, next)
		case next > now && next > h+1:
			t.Fatalf("%x.Next(%x) = %x skips stamps", h, now, next)
		}
	})
}

func TestHLCObserveIsBoundedByDrift(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, seen, now := stamps().Draw(t, "h"), stamps().Draw(t, "seen"), stamps().Draw(t, "now")
		drift := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "drift"))
		got := h.Observe(seen, now, drift)
		want := h
		if ahead := seen.Time().Sub(now.Time()); seen > h && (seen <= now || ahead <= drift) {
			want = seen
		}
		// A stamp within the limit's last millisecond may go either way.
		if edge := now.Time().Add(drift).UnixMilli() - seen.Time().UnixMilli(); got != want && (edge < 0 || edge > 1) {
			t.Fatalf("%x.Observe(%x, %x, %v) = %x, want %x", h, seen, now, drift, got, want)
		}
		if got < h {
			t.Fatalf("%x.Observe(%x, %x) = %x went back", h, seen, now, got)
		}
	})
}

func TestHLCTables(t *testing.T) {
	t.Parallel()
	at := func(ms int64) crdt.HLC { return crdt.HLCFromTime(time.UnixMilli(ms)) }
	tests := []struct {
		name      string
		got, want crdt.HLC
	}{
		{"before 1970", at(-1), 0},
		{"a millisecond", at(5), 5 << 16},
		{"last millisecond", at(1<<47 - 1), crdt.MaxHLC - 1<<16},
		{"beyond the range", at(1 << 47), crdt.MaxHLC - 1},
		{"clock jumped back", at(1000).Next(at(10)), at(1000) + 1},
		{"counter overflows into the milliseconds", (at(7) + 0xFFFF).Next(at(7)), at(8)},
		{"end of the range", (crdt.MaxHLC - 1).Next(0), crdt.MaxHLC - 1},
		{"caller's now beyond the range", crdt.HLC(3).Next(crdt.MaxHLC + 9), crdt.MaxHLC - 1},
		{"within drift", at(10).Observe(at(1000), at(100), 900*time.Millisecond), at(1000)},
		{"beyond drift", at(10).Observe(at(1001), at(100), 900*time.Millisecond), at(10)},
		{"the past", at(10).Observe(at(9), at(100), time.Hour), at(10)},
		{"beyond the range, whatever the drift", at(10).Observe(crdt.MaxHLC, crdt.MaxHLC-1, time.Hour), at(10)},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %x, want %x", tt.name, uint64(tt.got), uint64(tt.want))
		}
	}
	if h := at(1234) + 77; h.Counter() != 77 || h.Time() != time.UnixMilli(1234).UTC() {
		t.Errorf("%x: counter %d, time %v", uint64(h), h.Counter(), h.Time())
	}
}
