package walk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/merkle"
	"bzzz/merkle/walk"
)

// victim is a side of a walk under watch: what it offers must be its own, each
// key once, and what it sends and says must keep to the contract.
type victim struct {
	*walk.Walk
	own     set
	offered map[string]bool
}

func newVictim(t testing.TB, x *merkle.Index, own set, c walk.Config) *victim {
	t.Helper()
	w, err := walk.New(x, c)
	must(t, err)
	return &victim{w, own, map[string]bool{}}
}

// feed gives the victim a message and checks what it does.
func (v *victim) feed(t testing.TB, msg []byte) (out []byte, done bool, err error) {
	t.Helper()
	out, done, err = v.Receive(msg)
	if len(out) > walk.MaxMessage || err != nil && (out != nil || done) {
		t.Fatalf("%d bytes, done %v, %v", len(out), done, err)
	}
	if err != nil && !errors.Is(err, walk.ErrInvalid) && !errors.Is(err, walk.ErrTooLarge) && !errors.Is(err, walk.ErrUnsupported) {
		t.Fatalf("an error of another kind: %v", err)
	}
	for key, err := range v.Offers() {
		must(t, err)
		if _, live := v.own.find(key); !live || v.offered[string(key)] {
			t.Fatalf("offers %q, live %v, before %v", key, live, v.offered[string(key)])
		}
		v.offered[string(key)] = true
	}
	return out, done, err
}

// TestMangled: an honest walk in which one message is changed on its way ends in
// an error or in the end, and no side offers what is not its own. An unchanged
// repetition is an error.
func TestMangled(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 41))
	for _, name := range []string{"sequential", "dense", "stem", "chain"} {
		a, b := pair(rng, shapes[name], 1500, 200)
		sa, sb := setOf(a), setOf(b)
		x, y := indexOf(t, sa), indexOf(t, sb)
		failed, ended := 0, 0
		for trial := range 300 {
			at, n := rng.IntN(8), 0
			sides := [2]*victim{newVictim(t, x, sa, walk.Config{Initiator: true}), newVictim(t, y, sb, walk.Config{})}
			msg, err := sides[0].Start()
			must(t, err)
			for turn := 1; msg != nil && err == nil; turn = 1 - turn {
				if n++; n > 400 {
					t.Fatal("a walk without an end")
				}
				if n-1 == at {
					msg = mangle(rng, msg)
				}
				last := bytes.Clone(msg)
				msg, _, err = sides[turn].feed(t, msg)
				if err == nil && trial%50 == 0 && rng.IntN(4) == 0 {
					if _, _, err = sides[turn].feed(t, last); err == nil && len(last) > 40 {
						t.Fatal("a message is taken twice")
					}
				}
			}
			if err != nil {
				failed++
			} else {
				ended++
			}
		}
		if failed < 50 || ended < 10 {
			t.Errorf("%s: %d walks failed, %d ended", name, failed, ended)
		}
	}
}

// mangle returns a changed copy of a message.
func mangle(rng *rand.Rand, msg []byte) []byte {
	m := bytes.Clone(msg)
	at := rng.IntN(len(m))
	switch rng.IntN(5) {
	case 0:
		m[at] ^= 1 << rng.IntN(8)
	case 1:
		m[at] = byte(rng.IntN(256))
	case 2:
		m = m[:at]
	case 3:
		m = append(m, m[at:]...)
	case 4:
		m = slices.Insert(m, at, byte(rng.IntN(256)))
	}
	return m
}

// openOf returns the OPEN of an empty initiator without a prefix.
func openOf(tag byte) []byte {
	return append([]byte{1, 1, 4, 0}, bytes.Repeat([]byte{tag}, 16)...)
}

// step returns a STEP of these parts.
func stepOf(parts ...[]byte) []byte { return append([]byte{3}, slices.Concat(parts...)...) }

// tile returns a TILE without a path.
func tile(flags byte, mask uint16, cuts int, more ...byte) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{0x80 | flags}, mask)
	return slices.Concat(b, make([]byte, 4*cuts), more)
}

// TestBadMessages: each is refused, by a responder that has asked about its
// whole (a TILE) or by an initiator that waits for the first expansion.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	all := map[string]uint64{}
	for i := range 40 {
		all[ucxl(i)] = 1
	}
	own := setOf(all)
	x := indexOf(t, own)
	deep := binary.AppendUvarint(nil, 2*merkle.MaxKey+1)
	nested := bytes.Repeat(tile(0x40, 3, 2, 1, 0), 40)
	toInitiator := map[string][]byte{
		"nothing":          {},
		"no kind":          {9},
		"open":             openOf(1),
		"same and more":    {2, 0},
		"idle":             stepOf(),
		"kind":             stepOf([]byte{0x21}),
		"flag":             stepOf(tile(0x04, 3, 2)),
		"one slot":         stepOf(tile(0, 1, 1)),
		"no slot":          stepOf(tile(0, 0, 0)),
		"cuts cut off":     stepOf(tile(0, 3, 1)),
		"leaves cut off":   stepOf([]byte{5, 0, 0}),
		"two wholes":       stepOf([]byte{0, 0}),
		"two expansions":   stepOf(tile(0, 3, 2), tile(0, 3, 2)),
		"skip nothing":     stepOf([]byte{0xA0, 3, 0, 0, 7}, make([]byte, 8)),
		"skip too far":     stepOf([]byte{0xA0, 3, 0}, deep, []byte{7}, make([]byte, 8)),
		"long number":      stepOf([]byte{0xA0, 3, 0, 0x81, 0, 7}, make([]byte, 8)),
		"path cut off":     stepOf([]byte{0xA8, 3, 0, 9, 'u', 'c'}),
		"path not packed":  stepOf([]byte{0xA8, 3, 0, 1, 0x77}, make([]byte, 8)),
		"end at half byte": stepOf([]byte{0xB8, 3, 0, 1, 0x70}, make([]byte, 12)),
		"inline nothing":   stepOf(tile(0x40, 3, 2, 0, 0)),
		"inline no slot":   stepOf(tile(0x40, 3, 2, 4, 0), tile(0, 3, 2)),
		"inline leaves":    stepOf(tile(0x40, 3, 2, 1, 0), []byte{1, 0, 0, 0, 0}),
		"inline too much":  stepOf(nested, tile(0, 3, 2)),
		"many in few":      stepOf(tile(0x40, 3, 2, 1, 0), tile(0x08, 3, 2)),
		"too long":         stepOf(make([]byte, walk.MaxMessage)),
	}
	for name, msg := range toInitiator {
		v := newVictim(t, x, own, walk.Config{Initiator: true})
		_, err := v.Start()
		must(t, err)
		if _, _, err := v.feed(t, msg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	toResponder := map[string][]byte{
		"no answer":        stepOf(),
		"kind":             stepOf([]byte{6}),
		"no bits":          stepOf([]byte{1, 0}),
		"no want":          stepOf([]byte{2, 0}),
		"stray bits":       stepOf([]byte{1, 0xFF}),
		"both":             stepOf([]byte{3, 1, 1}),
		"bits cut off":     stepOf([]byte{3, 1}),
		"two answers":      stepOf([]byte{4, 4}),
		"MINE, then EMPTY": stepOf([]byte{5, 0}),
		"MINE, then deep":  stepOf([]byte{5, 0xA0, 3, 0, 120, 7}, make([]byte, 8)),
		"not asked":        stepOf([]byte{4}, tile(0, 3, 2)),
	}
	for name, msg := range toResponder {
		v := newVictim(t, x, own, walk.Config{})
		_, _, err := v.feed(t, openOf(1))
		must(t, err)
		if _, _, err := v.feed(t, msg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestMineTwice: MINE is no answer where the region was turned before.
func TestMineTwice(t *testing.T) {
	t.Parallel()
	few := map[string]uint64{}
	for i := range 20 {
		few[ucxl(i)] = 1
	}
	own := setOf(few)
	v := newVictim(t, indexOf(t, own), own, walk.Config{Initiator: true})
	_, err := v.Start()
	must(t, err)
	out, _, err := v.feed(t, stepOf(tile(0, 3, 2)))
	if err != nil || len(out) != 2+1+4*20 || out[1] != 5 {
		t.Fatalf("%x, %v, want MINE and LEAVES", out, err)
	}
	if _, _, err = v.feed(t, stepOf([]byte{5})); !errors.Is(err, walk.ErrInvalid) {
		t.Errorf("MINE to LEAVES after MINE: %v", err)
	}

	for i := range 40 {
		few[ucxl(i)] = 1
	}
	own = setOf(few)
	x := indexOf(t, own)
	parts := 0
	for first := 0; first < 256; first += 32 {
		v := newVictim(t, x, own, walk.Config{})
		_, _, err := v.feed(t, openOf(1))
		must(t, err)
		short := []byte{1, 0x0F, 0x40} // all four slots differ, and the first is 32 SHORT keys
		for i := range 32 {
			short = append(short, byte(first+i))
		}
		out, _, err := v.feed(t, stepOf(short))
		must(t, err)
		if out[1] == 4 { // none matches
			continue
		}
		parts++
		if _, _, err = v.feed(t, stepOf([]byte{5})); !errors.Is(err, walk.ErrInvalid) {
			t.Errorf("MINE to LEAVES after SHORT: %v", err)
		}
	}
	if parts == 0 {
		t.Error("no SHORT matched a key")
	}
}

// TestOtherSalt: to a peer that hashes otherwise everything differs. The walk
// ends, and each side offers its keys, all of them and once.
func TestOtherSalt(t *testing.T) {
	t.Parallel()
	all := map[string]uint64{}
	for i := range 20_000 {
		all[ucxl(i)] = 1
	}
	own := setOf(all)
	x := indexOf(t, own)
	sides := [2]*victim{
		newVictim(t, x, own, walk.Config{Initiator: true, Salt: saltOf(1)}),
		newVictim(t, x, own, walk.Config{Salt: saltOf(2)}),
	}
	msg, err := sides[0].Start()
	must(t, err)
	for turn := 1; msg != nil; turn = 1 - turn {
		msg, _, err = sides[turn].feed(t, msg)
		must(t, err)
	}
	for i, v := range sides {
		if len(v.offered) != len(all) || v.Stats().Received > 20 {
			t.Errorf("side %d offers %d of %d keys after %d messages", i, len(v.offered), len(all), v.Stats().Received)
		}
	}
}

// TestEndless: a peer that claims many keys beside every nibble of ours comes to
// the end of the key, with work linear in what it sends.
func TestEndless(t *testing.T) {
	t.Parallel()
	key := nasty(rand.New(rand.NewPCG(1, 1)), 1000)
	own := setOf(map[string]uint64{key: 1})
	v := newVictim(t, indexOf(t, own), own, walk.Config{})
	_, _, err := v.feed(t, openOf(1)) // LEAVES of one key
	must(t, err)
	messages := 0
	for depth := 0; ; depth++ {
		slot := merkle.SlotAt(append([]byte(key), 0), depth)
		mask := uint16(1)<<(slot-1) | uint16(1)<<(slot%16)
		out, done, err := v.feed(t, stepOf([]byte{5}, tile(0x08, mask, 2))) // MINE, and a TILE with MANY
		messages++
		if err != nil || done {
			break
		}
		if len(out) > 20 {
			t.Fatalf("%d bytes at depth %d", len(out), depth)
		}
	}
	if messages > 2*len(key)+2 || v.Reads() > uint64(4*messages) {
		t.Errorf("%d messages and %d reads for a key of %d bytes", messages, v.Reads(), len(key))
	}
}
