package engine

import (
	"bytes"
	"testing"
	"time"
)

func FuzzScrubRecord(f *testing.F) {
	var s scrubber
	s.begun = time.UnixMilli(1 << 40)
	s.stats = ScrubStats{LastPass: time.UnixMilli(1 << 39), Passes: 3, Found: 300, Repaired: 200, Asked: 99, Unrepaired: 1}
	b, err := s.append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again scrubber
		if s.decode(b) != nil {
			return
		}
		once, err := s.append(nil)
		if err != nil || again.decode(once) != nil {
			t.Fatalf("%x does not survive: %v", b, err)
		}
		if twice, err := again.append(nil); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x became %x, then %x (%v)", b, once, twice, err)
		}
	})
}
