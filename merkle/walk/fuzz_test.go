package walk_test

import (
	"testing"

	"bzzz/merkle"
	"bzzz/merkle/walk"
)

// cutMessages splits fuzzed bytes into messages: a byte of length, or 0 and two,
// and so many bytes.
func cutMessages(data []byte) (messages [][]byte) {
	for len(data) > 2 {
		n, head := int(data[0]), 1
		if n == 0 {
			n, head = int(data[1])<<8|int(data[2]), 3
		}
		n = min(n, len(data)-head)
		messages = append(messages, data[head:head+n])
		data = data[head+n:]
	}
	return messages
}

// joinMessages is the reverse.
func joinMessages(messages [][]byte) (data []byte) {
	for _, m := range messages {
		if len(m) > 0 && len(m) < 256 {
			data = append(data, byte(len(m)))
		} else {
			data = append(data, 0, byte(len(m)>>8), byte(len(m)))
		}
		data = append(data, m...)
	}
	return data
}

// fuzzSets are what both sides hold while messages are fuzzed.
func fuzzSets() (a, b set) {
	x, y := map[string]uint64{}, map[string]uint64{}
	for i := range 1500 {
		k := ucxl(i)
		x[k], y[k] = 1, 1
		switch {
		case i < 8:
			y[k] = 2
		case i%100 == 0:
			delete(y, k)
		case i%130 == 0:
			x[k+"/more"] = 1
		}
	}
	x["a"], x["ab"], y["abc"] = 1, 1, 1
	return setOf(x), setOf(y)
}

// FuzzReceive: no message, at any place of a walk, makes a side panic, offer
// what it does not hold or offer it twice, or fail in another way than it says.
func FuzzReceive(f *testing.F) {
	a, b := fuzzSets()
	x, y := indexOf(f, a), indexOf(f, b)
	for _, initiator := range []bool{false, true} {
		f.Add(joinMessages(transcript(f, x, y, initiator)), initiator)
	}
	f.Fuzz(func(t *testing.T, data []byte, initiator bool) {
		v := newVictim(t, y, b, walk.Config{})
		if initiator {
			v = newVictim(t, x, a, walk.Config{Initiator: true})
			_, err := v.Start()
			must(t, err)
		}
		for _, msg := range cutMessages(data) {
			if _, done, err := v.feed(t, msg); err != nil || done {
				break
			}
		}
	})
}

// transcript returns the messages that one side of an honest walk gets.
func transcript(t testing.TB, x, y *merkle.Index, initiator bool) (messages [][]byte) {
	a, err := walk.New(x, walk.Config{Initiator: true})
	must(t, err)
	b, err := walk.New(y, walk.Config{})
	must(t, err)
	msg, err := a.Start()
	must(t, err)
	sides := [2]*walk.Walk{a, b}
	for turn := 1; msg != nil; turn = 1 - turn {
		if (turn == 0) == initiator {
			messages = append(messages, msg)
		}
		msg, _, err = sides[turn].Receive(msg)
		must(t, err)
	}
	return messages
}

// FuzzWalk: whatever two sets hold, the offers are the difference.
func FuzzWalk(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, spread int8, eight bool) {
		if len(data) > 8<<10 {
			return
		}
		var sets [2]map[string]uint64
		sets[0], sets[1] = map[string]uint64{}, map[string]uint64{}
		for last := ""; len(data) > 2; {
			// A key is the beginning of the one before and some bytes.
			n := min(1+int(data[1]&7), len(data)-2)
			key := last[:min(len(last), int(data[1]>>3))] + string(data[2:2+n])
			for side := range sets {
				if data[0]&(1<<side) != 0 {
					sets[side][key] = uint64(data[0] >> 2 & 1)
				}
			}
			if data[0]&8 != 0 { // overwritten on one side
				sets[0][key] = 9
			}
			for i := range int(data[0]>>4) * 5 { // and keys behind it on both
				k := key + string([]byte{byte(i * 7)})
				sets[0][k], sets[1][k] = 1, 1
			}
			last, data = key, data[2+n:]
		}
		c := walk.Config{Spread: max(int(spread), walk.NoInlining)}
		if eight {
			c.Cut = 8
		}
		check(t, indexOf(t, setOf(sets[0])), indexOf(t, setOf(sets[1])), c)
	})
}
