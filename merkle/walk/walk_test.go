package walk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bzzz/merkle"
	"bzzz/merkle/walk"
)

// pair makes two sets of about n keys of a shape that differ in up to d keys.
func pair(rng *rand.Rand, key func(*rand.Rand, int) string, n, d int) (a, b map[string]uint64) {
	a = map[string]uint64{}
	for i := range n {
		a[key(rng, i)] = 0
	}
	b = maps.Clone(a)
	sides := [2]map[string]uint64{a, b}
	present := slices.Sorted(maps.Keys(a))
	from := 0
	clustered := rng.IntN(3) == 0
	if len(present) > d && d > 0 {
		from = rng.IntN(len(present) - d)
	}
	for i := range d {
		k := key(rng, n+i)
		switch {
		case len(present) == 0 || rng.IntN(3) == 0: // a new key
		case clustered:
			k = present[(from+i)%len(present)]
		default:
			k = present[rng.IntN(len(present))]
		}
		if side := sides[rng.IntN(2)]; rng.IntN(3) == 0 {
			delete(side, k)
		} else {
			side[k] = rng.Uint64()
		}
	}
	switch rng.IntN(12) {
	case 0:
		clear(sides[rng.IntN(2)])
	case 1: // one side keeps a few keys of many
		side := sides[rng.IntN(2)]
		maps.DeleteFunc(side, func(string, uint64) bool { return rng.IntN(len(present)/10+2) > 0 })
	case 2: // all differ
		for k := range a {
			a[k] = 7
		}
	}
	return a, b
}

// TestWalks: thousands of random pairs of sets of every shape and size, with
// every setting; both sides' offers are exactly the difference.
func TestWalks(t *testing.T) {
	t.Parallel()
	for name, key := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(300) {
				rng := rand.New(rand.NewPCG(seed, 31))
				n := rng.IntN(2 << rng.IntN(12))
				a, b := pair(rng, key, n, rng.IntN(1+n)>>rng.IntN(12)+rng.IntN(3))
				c := walk.Config{Salt: saltOf(seed), Cut: []int{0, 4, 8}[rng.IntN(3)], Spread: []int{0, -1, 4, 16, 1000}[rng.IntN(5)]}
				if rng.IntN(3) == 0 {
					p := key(rng, rng.IntN(n+1))
					c.Prefix = []byte(p[:rng.IntN(len(p)+1)])
				}
				check(t, indexOf(t, setOf(a)), indexOf(t, setOf(b)), c)
			}
		})
	}
}

// TestWindow: with windows so small that most regions wait, each side with its
// own, a walk finds the same, and what waits stays near the window.
func TestWindow(t *testing.T) {
	t.Parallel()
	for name, key := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			most := 0
			for seed := range uint64(100) {
				rng := rand.New(rand.NewPCG(seed, 37))
				n := rng.IntN(2 << rng.IntN(12))
				a, b := pair(rng, key, n, rng.IntN(1+n))
				widest := 0
				r := check(t, indexOf(t, setOf(a)), indexOf(t, setOf(b)), walk.Config{Salt: saltOf(seed)}, func(w *walk.Walk) {
					window := rng.IntN(40)
					widest = max(widest, window)
					w.SetWindow(window, 1+rng.IntN(400))
				})
				if r.pending > widest+300 {
					t.Fatalf("seed %d: %d regions wait with windows of %d", seed, r.pending, widest)
				}
				most = max(most, r.messages)
			}
			if most < 20 {
				t.Errorf("at most %d messages: the windows were not used", most)
			}
		})
	}
}

// TestEdges: the ends of the scale.
func TestEdges(t *testing.T) {
	t.Parallel()
	few, many := map[string]uint64{}, map[string]uint64{}
	for i := range 20 {
		few[ucxl(i)] = 1
	}
	for i := range 5000 {
		many[ucxl(i)] = 1
	}
	apart := map[string]uint64{}
	for i := range 5000 {
		apart["other/"+ucxl(i)] = 1
	}
	changed := maps.Clone(many)
	for k := range changed {
		changed[k] = 2
	}
	sets := map[string]map[string]uint64{
		"none": {}, "one": {"k": 1}, "few": few, "many": many, "apart": apart, "changed": changed,
	}
	for na, a := range sets {
		for nb, b := range sets {
			t.Run(na+"-"+nb, func(t *testing.T) {
				x, y := indexOf(t, setOf(a)), indexOf(t, setOf(b))
				r := check(t, x, y, walk.Config{Salt: saltOf(1)})
				if na == nb && (r.messages != 2 || r.bytes > 24) {
					t.Errorf("equal sets: %d messages of %d bytes", r.messages, r.bytes)
				}
				if (na == "none" || nb == "none" || nb == "apart" && na == "many") && r.messages > 3 {
					t.Errorf("%d messages for sets apart", r.messages)
				}
			})
		}
	}
}

// TestTurns: calls out of turn and bad configurations are ErrInvalid.
func TestTurns(t *testing.T) {
	t.Parallel()
	x := indexOf(t, setOf(map[string]uint64{"a": 1}))
	y := indexOf(t, setOf(map[string]uint64{"b": 1}))
	for _, c := range []walk.Config{
		{Cut: 3}, {Cut: 5}, {Cut: 16}, {Spread: -2}, {Prefix: make([]byte, merkle.MaxKey+1)},
	} {
		if _, err := walk.New(x, c); !errors.Is(err, walk.ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	responder, err := walk.New(x, walk.Config{})
	must(t, err)
	if _, err := responder.Start(); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("a responder starts: %v", err)
	}
	initiator, err := walk.New(y, walk.Config{Initiator: true})
	must(t, err)
	msg, err := initiator.Start()
	must(t, err)
	if _, err := initiator.Start(); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("a second start: %v", err)
	}
	if _, _, err := initiator.Receive(msg); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("an OPEN to the initiator: %v", err)
	}
	out, _, err := responder.Receive(msg)
	must(t, err)
	if _, _, err := responder.Receive(msg); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("a second OPEN: %v", err)
	}
	if _, _, err := responder.Receive(out); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("after an error: %v", err)
	}
	for _, c := range []walk.Config{{Cut: 8}, {Prefix: []byte("b")}} {
		other, err := walk.New(x, c)
		must(t, err)
		if _, _, err := other.Receive(msg); !errors.Is(err, walk.ErrInvalid) {
			t.Errorf("%+v takes another's OPEN: %v", c, err)
		}
	}
	fresh, err := walk.New(y, walk.Config{Initiator: true})
	must(t, err)
	if _, _, err := fresh.Receive(out); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("a message before the start: %v", err)
	}
}

// TestOffersBreakOff: offers go on where they were broken off.
func TestOffersBreakOff(t *testing.T) {
	t.Parallel()
	many := map[string]uint64{}
	for i := range 3000 {
		many[ucxl(i)] = 1
	}
	x, y := indexOf(t, setOf(many)), indexOf(t, setOf(nil))
	c := walk.Config{Initiator: true}
	a, err := walk.New(x, c)
	must(t, err)
	b, err := walk.New(y, walk.Config{})
	must(t, err)
	msg, err := a.Start()
	must(t, err)
	if msg, _, err = b.Receive(msg); err != nil {
		t.Fatal(err)
	}
	if msg, _, err = a.Receive(msg); err != nil || msg != nil {
		t.Fatalf("%x, %v", msg, err)
	}
	var got []string
	for len(got) < len(many) {
		for key, err := range a.Offers() {
			must(t, err)
			if got = append(got, string(key)); len(got)%7 == 0 {
				break
			}
		}
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(many))) {
		t.Errorf("%d offers, or in another order", len(got))
	}
	for key := range a.Offers() {
		t.Errorf("one more offer, %q", key)
	}
}

// lossy is a set that loses a key after its tree was built.
type lossy struct {
	set
	lost []byte
}

func (l *lossy) Range(start, end []byte, fn func([]byte, merkle.Digest) error) error {
	return l.set.Range(start, end, func(key []byte, leaf merkle.Digest) error {
		if bytes.Equal(key, l.lost) {
			return nil
		}
		return fn(key, leaf)
	})
}

// TestDamage: damage of one's own tree or leaves is ErrCorrupt, in Receive or in
// Offers, and ends the walk.
func TestDamage(t *testing.T) {
	t.Parallel()
	all := map[string]uint64{}
	for i := range 2000 {
		all[ucxl(i)] = 1
	}
	good := setOf(all)
	other := maps.Clone(all)
	for i := range 10 {
		other[ucxl(700+i)] = 2
	}
	for name, there := range map[string]map[string]uint64{"few differ": other, "one side": {}} {
		b, err := walk.New(indexOf(t, setOf(there)), walk.Config{})
		must(t, err)
		leaves := &lossy{good, nil}
		a, err := walk.New(indexOf(t, leaves), walk.Config{Initiator: true})
		must(t, err)
		leaves.lost = []byte(ucxl(705))
		msg, err := a.Start()
		must(t, err)
		sides := [2]*walk.Walk{a, b}
		var failed error
		for turn := 1; msg != nil && failed == nil; turn = 1 - turn {
			if msg, _, failed = sides[turn].Receive(msg); failed != nil {
				break
			}
			for _, err := range sides[turn].Offers() {
				failed = err
			}
		}
		if !errors.Is(failed, walk.ErrCorrupt) {
			t.Errorf("%s: %v", name, failed)
		}
		if _, _, err := a.Receive(nil); !errors.Is(err, walk.ErrCorrupt) {
			t.Errorf("%s: after damage: %v", name, err)
		}
	}
}

// TestBytes: the table of MERKLE.md section 5 on 100 k keys. A tenth of its keys
// with a tenth of its differences costs at most a tenth of its bytes, plus a
// fifth; single differences cost what they cost there, or less.
func TestBytes(t *testing.T) {
	t.Parallel()
	base := sorted(100_000, ucxl)
	x := indexOf(t, base)
	for _, c := range []struct {
		d         int
		clustered bool
		bytes     int
	}{
		{0, false, 60}, {1, false, 519}, {10, false, 21_000 / 10}, {100, false, 135_000 / 10}, {1000, false, 756_000 / 10},
		{100, true, 4500 / 2}, {1000, true, 37_500 / 10},
	} {
		rng := rand.New(rand.NewPCG(uint64(c.d), 51))
		r := check(t, x, indexOf(t, changed(base, rng, c.d, c.clustered, c.clustered)), walk.Config{Salt: saltOf(9)})
		if r.bytes > c.bytes*12/10 || r.messages > 9 {
			t.Errorf("d=%d, clustered %v: %d bytes in %d messages, want %d", c.d, c.clustered, r.bytes, r.messages, c.bytes)
		}
		t.Logf("d=%d, clustered %v: %d bytes in %d messages", c.d, c.clustered, r.bytes, r.messages)
	}
}

// TestForks: small tiles at different paths of one depth. Where the byte that is
// to tell them does not, the walk goes on below and finds the same.
func TestForks(t *testing.T) {
	t.Parallel()
	blind := uint64(0) // a salt under which both paths have one byte
	for walk.Check(saltOf(blind), []byte("stem/a/"), 14) != walk.Check(saltOf(blind), []byte("stem/b/"), 14) {
		blind++
	}
	for _, n := range []int{500, 20_000} { // the second is MANY on one side, further down too
		a, b := map[string]uint64{}, map[string]uint64{}
		for i := range 120 {
			common := fmt.Sprintf("common/%d", i)
			a[common], b[common] = 1, 1
		}
		for i := range n {
			k := string(binary.BigEndian.AppendUint16(nil, uint16(i*131)))
			if b["stem/b/"+k] = 1; i < 500 {
				a["stem/a/"+k] = 1
			}
		}
		x, y := indexOf(t, setOf(a)), indexOf(t, setOf(b))
		told := check(t, y, x, walk.Config{Salt: saltOf(blind + 1)})
		not := check(t, y, x, walk.Config{Salt: saltOf(blind)})
		if not.bytes < 2*told.bytes || not.bytes > told.bytes+8*n {
			t.Errorf("%d keys: %d bytes where the byte tells, %d where not", n, told.bytes, not.bytes)
		}
		check(t, x, y, walk.Config{Salt: saltOf(blind)})
	}
}

// TestOneMoreEverywhere: one side has a key more in every small region, which
// looks clustered. Where its first byte is that of another key SHORT does not
// show it; that is no lie.
func TestOneMoreEverywhere(t *testing.T) {
	t.Parallel()
	a, b := map[string]uint64{}, map[string]uint64{}
	for i := range 20_000 {
		k := ucxl(i)
		a[k], b[k] = 1, 1
		if i%10 == 0 {
			b[k+"+"] = 1
		}
	}
	x, y := indexOf(t, setOf(a)), indexOf(t, setOf(b))
	check(t, x, y, walk.Config{})
	check(t, y, x, walk.Config{})
}

// TestChains: trees as deep as they get, a tile for every key.
func TestChains(t *testing.T) {
	t.Parallel()
	a, b := map[string]uint64{}, map[string]uint64{}
	for i := range 8 {
		key := []byte{byte(i)}
		for range 1000 {
			key = append(key, byte(i*7))
			a[string(key)], b[string(key)] = 1, 2
		}
	}
	x := indexOf(t, setOf(a))
	r := check(t, x, indexOf(t, setOf(b)), walk.Config{})
	t.Logf("all of 8 chains differ: %d bytes in %d messages", r.bytes, r.messages)
	delete(b, string(bytes.Repeat([]byte{0}, 700)))
	check(t, x, indexOf(t, setOf(b)), walk.Config{Spread: walk.NoInlining})
}

// TestLarge: 100 k keys of several shapes.
func TestLarge(t *testing.T) {
	t.Parallel()
	const n = 100_000
	rng := rand.New(rand.NewPCG(5, 5))
	for _, name := range []string{"random", "stem"} {
		base := map[string]uint64{}
		for i := range n {
			base[shapes[name](rng, i)] = 0
		}
		x := indexOf(t, setOf(base))
		for _, d := range []int{30, 5000} {
			b := maps.Clone(base)
			for k := range base {
				if rng.IntN(n) < d {
					b[k] = 1
				}
			}
			r := check(t, x, indexOf(t, setOf(b)), walk.Config{Salt: saltOf(uint64(d))})
			t.Logf("%s, d=%d: %d bytes in %d messages", name, d, r.bytes, r.messages)
		}
		maps.DeleteFunc(base, func(k string, _ uint64) bool { return rng.IntN(2) == 0 || strings.HasSuffix(k, "7") })
		check(t, x, indexOf(t, setOf(base)), walk.Config{})
	}
}
