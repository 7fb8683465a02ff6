package crdt

import (
	"time"
)

// HLC is a hybrid logical clock stamp: 48 bits of milliseconds since 1970 and
// 16 bits of counter. It orders concurrent versions only; a version that saw
// another beats it whatever their stamps say.
//
// Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
type HLC uint64

// MaxHLC is the first stamp that every replica refuses.
const MaxHLC HLC = 1 << 63

// HLCFromTime returns the first stamp of a moment's millisecond. Moments before
// 1970 give 0, moments past the range (year 6429) give the last stamp.
func HLCFromTime(t time.Time) HLC {
	ms := t.UnixMilli()
	if ms < 0 {
		return 0
	}
	if ms >= 1<<47 {
		return MaxHLC - 1
	}
	return HLC(ms) << 16
}

// Time returns the stamp's millisecond as a moment in UTC.
func (h HLC) Time() time.Time { return time.UnixMilli(int64(h >> 16)).UTC() }

// Counter returns the stamp's position within its millisecond.
func (h HLC) Counter() uint16 { return uint16(h) }

// Next returns the stamp of a local event: after h, and not before now. The
// counter overflows into the milliseconds. It stays below MaxHLC.
func (h HLC) Next(now HLC) HLC {
	if now > h {
		return min(now, MaxHLC-1)
	}
	return h.after()
}

// after returns the stamp right behind h, the last valid one behind itself.
func (h HLC) after() HLC {
	if h >= MaxHLC-1 {
		return MaxHLC - 1
	}
	return h + 1
}

// Observe returns the local clock after a stamp was seen: the later of both,
// unless the stamp is more than drift ahead of now, which never moves it.
func (h HLC) Observe(seen, now HLC, drift time.Duration) HLC {
	limit := now + HLC(drift.Milliseconds())<<16
	if seen > h && seen <= limit && seen < MaxHLC {
		return seen
	}
	return h
}
