package storetest

import (
	"testing"

	"bzzz/store"
)

// maxFuzzSteps bounds one fuzzed history.
const maxFuzzSteps = 30

// Fuzz turns bytes into a history against a plain map: every choice takes one
// byte of the input, and the history ends with it.
func Fuzz(f *testing.F, open func(t testing.TB) store.KV) {
	f.Add([]byte("a short history"))
	f.Add([]byte{7, 5, 39, 0, 1, 1, 1, 20, 2, 2, 2, 0, 0, 3, 7, 0, 1, 2, 3, 4, 5, 6, 7})
	f.Fuzz(func(t *testing.T, in []byte) {
		pick := func(n int) int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b) % n
		}
		h := &history{suite: suite{t, open(t)}, pick: pick, now: model{}}
		for range maxFuzzSteps {
			if len(in) == 0 {
				break
			}
			h.step()
		}
		h.end()
	})
}
