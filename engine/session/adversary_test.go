package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
	"bzzz/merkle/sketch"
)

// apart returns two nodes that a comparison has to bring together: each knows
// some of the other's keys to be dead, and b has lost one from its index.
func apart(t testing.TB) (a, b *node) {
	t.Helper()
	a, b = pair(t, 40)
	a.forget("ns", "key 00001", "key 00002")
	b.forget("ns", "key 00030")
	b.catchUp("ns")
	b.damage("ns", "heads", wipe(func(k, _ []byte) bool { return string(k) == "key 00020" }))
	return a, b
}

// together returns what is wrong with two nodes of apart after an honest
// session, and how many bytes it took.
func together(a, b *node) (size int64, err error) {
	ra, _, err := sync(a, b)
	if err != nil {
		return 0, err
	}
	if n := ra.Namespaces[0]; !n.InSync {
		return 0, fmt.Errorf("not in sync: %+v", n)
	}
	if err := keysOfApart(a, b); err != nil {
		return 0, err
	}
	return ra.BytesIn + ra.BytesOut, errors.Join(a.check("ns"), b.check("ns"))
}

// keysOfApart returns which of the nodes shows what it must not, or lacks what
// nobody deleted.
func keysOfApart(nodes ...*node) (err error) {
	for i := range 40 {
		key, want := fmt.Sprintf("key %05d", i), 1
		if i == 1 || i == 2 || i == 30 {
			want = 0
		}
		for _, n := range nodes {
			if got := len(n.get("ns", key)); got != want {
				err = errors.Join(err, fmt.Errorf("%s has %d values on node %d, want %d", key, got, n.id, want))
			}
		}
	}
	return err
}

// noneLost returns which keys a node shows no more that nobody deleted.
func noneLost(nodes ...*node) (err error) {
	for i := range 40 {
		if i == 1 || i == 2 || i == 20 || i == 30 {
			continue
		}
		for _, n := range nodes {
			if len(n.get("ns", fmt.Sprintf("key %05d", i))) != 1 {
				err = errors.Join(err, fmt.Errorf("node %d lost key %d", n.id, i))
			}
		}
	}
	return err
}

// giveUp makes a sketch's first cells those of a set too large to compare, so
// that the initiator walks the tree.
func giveUp(f wire.Frame) wire.Frame {
	if f.Type != wire.TypeCells {
		return f
	}
	m, err := wire.DecodePart(f.Payload)
	must(err)
	h, err := sketch.ParseHeader(m.Data[1 : 1+m.Data[0]])
	must(err)
	h.Items = sketch.MaxItems
	m.Data = h.Append([]byte{0})
	m.Data[0] = byte(len(m.Data) - 1)
	return wire.Frame{Type: f.Type, Payload: m.Append(nil)}
}

// isControl tells the frames of a comparison that carry no version.
func isControl(t wire.Type) bool {
	switch t {
	case wire.TypeRepair, wire.TypeCells, wire.TypeMore, wire.TypeWalk, wire.TypeOffer, wire.TypeFix, wire.TypeCheck:
		return true
	}
	return false
}

// faults are what a bad line or a bad peer does to one frame.
var faults = map[string]func(f wire.Frame) []wire.Frame{
	"dropped": func(wire.Frame) []wire.Frame { return nil },
	"doubled": func(f wire.Frame) []wire.Frame { return []wire.Frame{f, f} },
	"cut short": func(f wire.Frame) []wire.Frame {
		return []wire.Frame{{Type: f.Type, Payload: f.Payload[:len(f.Payload)/2]}}
	},
	"emptied": func(f wire.Frame) []wire.Frame { return []wire.Frame{{Type: f.Type}} },
	"flipped": func(f wire.Frame) []wire.Frame {
		bad := bytes.Clone(f.Payload)
		for i := range bad {
			bad[i] ^= byte(i * 37)
		}
		return []wire.Frame{{Type: f.Type, Payload: bad}}
	},
	"one bit flipped": func(f wire.Frame) []wire.Frame {
		bad := bytes.Clone(f.Payload)
		if len(bad) > 0 {
			bad[len(bad)*2/3] ^= 16
		}
		return []wire.Frame{{Type: f.Type, Payload: bad}}
	},
	"late": nil, // overtaken by the next
}

// Every frame of a comparison, by sketch and by tree, in either direction, is
// dropped, doubled, overtaken, cut, or changed: both sides end with an error or
// agree, nothing is lost, and an honest session afterwards brings agreement for
// at most twice the bytes.
func TestFaultsInRepair(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	for _, tier := range []string{"sketch", "tree"} {
		t.Run(tier, func(t *testing.T) {
			t.Parallel()
			pass := func(f wire.Frame) wire.Frame { return f }
			if tier == "tree" {
				pass = giveUp
			}
			whole := newLink(base1.clone(), base2.clone(), Config{})
			whole.deliver = func(_ bool, _ int, f wire.Frame) []wire.Frame { return []wire.Frame{pass(f)} }
			if err := whole.start(); err != nil {
				t.Fatal(err)
			}
			whole.close()
			n, cells := whole.a.s.Report().Namespaces[0], whole.b.count(wire.TypeCells)
			if !n.InSync || cells != 1 || whole.b.count(wire.TypeWalk) == 0 || (whole.a.count(wire.TypeRepair) == 2) != (tier == "sketch") {
				t.Fatalf("%d frames of cells, report %+v", cells, n)
			}
			plain, err := together(base1.clone(), base2.clone())
			if err != nil {
				t.Fatal(err)
			}
			runs := 0
			for what := range faults {
				for _, fromA := range []bool{true, false} {
					log := whole.b.log
					if fromA {
						log = whole.a.log
					}
					for at, f := range log {
						if isControl(f.Type) {
							runs++
							faultAt(t, base1, base2, pass, what, fromA, at, plain)
						}
					}
				}
			}
			if runs < 50 {
				t.Errorf("%d runs test little", runs)
			}
		})
	}
}

// faultAt runs a session with one faulty frame, and an honest one after it.
func faultAt(t *testing.T, base1, base2 *node, pass func(wire.Frame) wire.Frame, what string, fromA bool, at int, plain int64) {
	t.Helper()
	a, b := base1.clone(), base2.clone()
	a.brake, b.brake = 5, 5
	l := newLink(a, b, Config{})
	var held []wire.Frame
	victim := wire.Type(0)
	l.deliver = func(dir bool, n int, f wire.Frame) []wire.Frame {
		f = pass(f)
		switch {
		case dir != fromA:
		case n == at && faults[what] == nil:
			victim, held = f.Type, []wire.Frame{f}
			return nil
		case n == at:
			victim = f.Type
			return faults[what](f)
		case len(held) > 0:
			f, held = held[0], append(held[:0], f)
			return []wire.Frame{held[0], f}
		}
		return []wire.Frame{f}
	}
	err := l.start()
	l.close()
	name := fmt.Sprintf("%s %s, frame %d from a: %v", victim, what, at, fromA)
	if sent := len(l.a.log) + len(l.b.log); sent > 200 {
		t.Errorf("%s: %d frames", name, sent)
	}
	for _, n := range l.a.s.Report().Namespaces {
		if n.InSync && (err == nil) {
			if e := inSync(a, b, "ns"); e != nil {
				t.Errorf("%s: taken for agreement: %v", name, e)
			}
		}
	}
	if e := noneLost(a, b); e != nil {
		t.Fatalf("%s (session ended with %v): %v", name, err, e)
	}
	a, b = a.clone(), b.clone()
	size, err := together(a, b)
	if err != nil {
		t.Fatalf("%s: honest session: %v", name, err)
	}
	if size > 2*plain {
		t.Errorf("%s: honest session took %d bytes, %d without a fault before", name, size, plain)
	}
}

// lie is a session in which the frames of one type that come from the liar are
// replaced; what follows it is honest.
func lie(a, b *node, fromA bool, typ wire.Type, change func(payload []byte) []wire.Frame) *link {
	l := newLink(a, b, Config{})
	l.deliver = func(dir bool, _ int, f wire.Frame) []wire.Frame {
		if dir == fromA && f.Type == typ {
			return change(f.Payload)
		}
		return []wire.Frame{f}
	}
	_ = l.start() // ends as it may; the caller looks
	l.close()
	return l
}

// huge is a clock of as many dots as there can be, in a few runs: of strangers, and of who is given.
func huge(ids ...crdt.ReplicaID) crdt.Clock {
	c := crdt.NewClock()
	for _, id := range append(ids, crdt.ReplicaID{77, 1}, crdt.ReplicaID{78, 1}) {
		c.AddRange(id, 1, crdt.MaxSeq>>1)
	}
	return c
}

func frame1(t wire.Type, payload []byte) []wire.Frame {
	return []wire.Frame{{Type: t, Payload: payload}}
}

// Frames of a comparison out of turn or out of bounds are refused by name.
func TestLiesAreRefused(t *testing.T) {
	t.Parallel()
	z := wire.NewZstd()
	again := func(typ wire.Type) func([]byte) []wire.Frame {
		return func(p []byte) []wire.Frame { return []wire.Frame{{Type: typ, Payload: p}, {Type: typ, Payload: p}} }
	}
	repair := func(change func(m *wire.Repair)) func([]byte) []wire.Frame {
		return func(p []byte) []wire.Frame {
			m, err := wire.DecodeRepair(p)
			must(err)
			change(&m)
			return frame1(wire.TypeRepair, m.Append(nil))
		}
	}
	more := func(n uint64) func([]byte) []wire.Frame {
		return func(p []byte) []wire.Frame {
			return []wire.Frame{{Type: wire.TypeRepair, Payload: p}, {Type: wire.TypeMore, Payload: wire.More{Cells: n}.Append(nil)}}
		}
	}
	walk := func(data []byte) func([]byte) []wire.Frame {
		return func([]byte) []wire.Frame { return frame1(wire.TypeWalk, wire.Part{Data: data}.Append(nil)) }
	}
	tests := []struct {
		name  string
		fromA bool // the liar is the initiator
		typ   wire.Type
		tree  bool // the liar asks for the tree at once
		lie   func([]byte) []wire.Frame
		want  error
	}{
		{"REPAIR again", true, wire.TypeRepair, false, again(wire.TypeRepair), errs.ErrInvalid},
		{"agreement again", false, wire.TypeRepair, false, again(wire.TypeRepair), errs.ErrInvalid},
		{"agreement to another mode", false, wire.TypeRepair, false, repair(func(m *wire.Repair) { m.Mode = wire.ModeCareful }), errs.ErrInvalid},
		{"back to the sketch", true, wire.TypeRepair, false, func(p []byte) []wire.Frame {
			up := repair(func(m *wire.Repair) { m.Mode = wire.ModeCareful })(p)
			return append(up, wire.Frame{Type: wire.TypeRepair, Payload: p})
		}, errs.ErrInvalid},
		{"no cells", true, wire.TypeRepair, false, repair(func(m *wire.Repair) { m.Cells = 0 }), errs.ErrInvalid},
		{"2^40 cells", true, wire.TypeRepair, false, repair(func(m *wire.Repair) { m.Cells = 1 << 40 }), errs.ErrInvalid},
		{"MORE of 0", true, wire.TypeRepair, false, more(0), errs.ErrInvalid},
		{"MORE of 2^40", true, wire.TypeRepair, false, more(1 << 40), errs.ErrInvalid},
		{"MORE of 2^64-1", true, wire.TypeRepair, false, more(1<<64 - 1), errs.ErrInvalid},
		{"MORE to the initiator", false, wire.TypeCells, false, func([]byte) []wire.Frame {
			return frame1(wire.TypeMore, wire.More{Cells: 1}.Append(nil))
		}, errs.ErrInvalid},
		{"CELLS to the responder", true, wire.TypeFix, false, func(p []byte) []wire.Frame {
			return frame1(wire.TypeCells, wire.Part{Data: []byte{0}}.Append(nil))
		}, errs.ErrInvalid},
		{"CELLS again", false, wire.TypeCells, false, again(wire.TypeCells), errs.ErrInvalid},
		{"OFFER to who peels", false, wire.TypeCells, false, func([]byte) []wire.Frame {
			return frame1(wire.TypeOffer, wire.Offer{Dots: crdt.NewClock()}.Append(nil, z))
		}, errs.ErrInvalid},
		{"FIX again", true, wire.TypeFix, false, again(wire.TypeFix), errs.ErrInvalid},
		{"OFFER again", true, wire.TypeOffer, false, again(wire.TypeOffer), errs.ErrInvalid},
		{"OFFER of everything", true, wire.TypeOffer, false, func([]byte) []wire.Frame {
			return frame1(wire.TypeOffer, wire.Offer{Dots: huge(crdt.ReplicaID{1, 1})}.Append(nil, z))
		}, errs.ErrTooLarge},
		{"OFFER that wraps around", true, wire.TypeOffer, false, func([]byte) []wire.Frame {
			c := crdt.NewClock()
			for i := range uint32(1 << 16) { // 2^64 dots in all
				c.AddRange(crdt.ReplicaID{15: byte(i), 14: byte(i >> 8), 0: 1}, 1, crdt.MaxSeq)
			}
			return frame1(wire.TypeOffer, wire.Offer{Dots: c}.Append(nil, z))
		}, errs.ErrTooLarge},
		{"WALK of garbage", true, wire.TypeWalk, true, walk(noise(500, 1)), nil},
		{"WALK of nothing", true, wire.TypeWalk, true, walk(nil), errs.ErrInvalid},
		{"WALK answered by garbage", false, wire.TypeWalk, true, walk(noise(50, 2)), nil},
		{"WALK deeper than any key", true, wire.TypeWalk, true, walk(bytes.Repeat([]byte{3, 255, 255}, 4000)), nil},
		{"WALK after the end", true, wire.TypeOffer, true, func(p []byte) []wire.Frame {
			return []wire.Frame{{Type: wire.TypeOffer, Payload: p}, {Type: wire.TypeWalk, Payload: wire.Part{Data: []byte{2}}.Append(nil)}}
		}, errs.ErrInvalid},
	}
	base1, base2 := apart(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := base1.clone(), base2.clone()
			l := newLink(a, b, Config{})
			l.deliver = func(dir bool, _ int, f wire.Frame) []wire.Frame {
				if tt.tree {
					f = giveUp(f)
				}
				if dir == tt.fromA && f.Type == tt.typ {
					return tt.lie(f.Payload)
				}
				return []wire.Frame{f}
			}
			_ = l.start()
			l.close()
			err := l.a.err
			if tt.fromA {
				err = l.b.err
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err == nil && tt.want == nil {
				t.Error("accepted")
			}
			if e := noneLost(a, b); e != nil {
				t.Error(e)
			}
			if _, e := together(a.clone(), b.clone()); e != nil {
				t.Errorf("honest session: %v", e)
			}
		})
	}
}

// randomCells makes well-formed cells of no set, under a header.
func randomCells(first []byte, header func(*sketch.Header), n int, seed byte) []byte {
	m, err := wire.DecodePart(first)
	must(err)
	h, err := sketch.ParseHeader(m.Data[1 : 1+m.Data[0]])
	must(err)
	header(&h)
	data := h.Append([]byte{0})
	data[0] = byte(len(data) - 1)
	rnd := noise(n*(sketch.ItemSize+4), seed)
	data = binary.AppendUvarint(append(data, 0), uint64(n))
	for i := range n {
		data = append(data, rnd[i*(sketch.ItemSize+4):(i+1)*(sketch.ItemSize+4)]...)
		data = binary.AppendUvarint(data, uint64(rnd[i]%4))
	}
	return wire.Part{Data: data}.Append(nil)
}

// Cells that are those of no set make the initiator walk the tree, whatever
// their number and header say; the trees are honest, so both agree.
func TestCellsOfNoSet(t *testing.T) {
	t.Parallel()
	headers := map[string]func(*sketch.Header){
		"honest header":    func(*sketch.Header) {},
		"2^16 cells":       func(h *sketch.Header) { h.Cells = sketch.MaxCells },
		"items beyond all": func(h *sketch.Header) { h.Items = sketch.MaxItems },
		"no items":         func(h *sketch.Header) { h.Items = 0 },
		"one cell":         func(h *sketch.Header) { h.Cells = 1 },
	}
	base1, base2 := apart(t)
	walked := 0
	for name, header := range headers {
		for seed := range byte(20) {
			a, b := base1.clone(), base2.clone()
			first := true
			l := lie(a, b, false, wire.TypeCells, func(p []byte) []wire.Frame {
				if first {
					first = false
					return frame1(wire.TypeCells, randomCells(p, header, 1+int(seed), seed))
				}
				return frame1(wire.TypeCells, p)
			})
			if sent := len(l.a.log) + len(l.b.log); sent > 100 {
				t.Errorf("%s, seed %d: %d frames", name, seed, sent)
			}
			if l.a.err == nil {
				walked++
			} else if !errors.Is(l.a.err, errs.ErrCorrupt) {
				t.Errorf("%s, seed %d: %v", name, seed, l.a.err)
			}
			if l.a.err == nil && l.a.s.Reconciled() && !l.a.s.Report().Namespaces[0].InSync {
				t.Errorf("%s, seed %d: not in sync", name, seed)
			}
			if err := noneLost(a, b); err != nil {
				t.Errorf("%s, seed %d: %v", name, seed, err)
			}
			if _, err := together(a.clone(), b.clone()); err != nil {
				t.Errorf("%s, seed %d: honest session: %v", name, seed, err)
			}
		}
	}
	if walked < 20 {
		t.Errorf("%d of 100 sessions walked the tree instead", walked)
	}
}

// A peer that offers and answers before the walk is over has ended it: what
// comes of it afterwards would be read from a snapshot that has been released.
func TestWalkAfterTheStream(t *testing.T) {
	t.Parallel()
	base1, base2 := apart(t)
	z := base1.w.zstd
	for _, fromA := range []bool{true, false} {
		a, b := base1.clone(), base2.clone()
		l := newLink(a, b, Config{})
		var kept []wire.Frame
		l.deliver = func(dir bool, _ int, f wire.Frame) []wire.Frame {
			f = giveUp(f)
			switch {
			case len(kept) > 0:
				return nil // the liar has said what it had to say
			case dir != fromA || f.Type != wire.TypeWalk:
				return []wire.Frame{f}
			}
			kept = append(kept, f)
			return []wire.Frame{
				{Type: wire.TypeOffer, Payload: wire.Offer{Dots: crdt.NewClock()}.Append(nil, z)},
				{Type: wire.TypeFix, Payload: wire.Fix{Want: crdt.NewClock(), Dead: crdt.NewClock()}.Append(nil, z)},
			}
		}
		_ = l.start()
		victim := l.a.s
		if fromA {
			victim = l.b.s
		}
		if len(kept) == 0 || victim.spaces[0].phase != repairing || !victim.spaces[0].sentDone {
			t.Fatalf("from a %v: %d walks, the victim is in phase %d: the test is broken", fromA, len(kept), victim.spaces[0].phase)
		}
		if err := victim.Receive(kept[0]); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("from a %v: got %v, want invalid", fromA, err)
		}
		l.close()
		if _, err := together(a.clone(), b.clone()); err != nil {
			t.Error(err)
		}
	}
}

// Cells that are asked for without end come to an end: no more than the sketch
// has are sent.
func TestMoreWithoutEnd(t *testing.T) {
	t.Parallel()
	a, b := apart(t)
	l := newLink(a, b, Config{})
	defer l.close()
	l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
		if !fromA && f.Type == wire.TypeCells {
			return nil // the initiator waits: what follows is the liar's
		}
		return []wire.Frame{f}
	}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	sent := firstCells
	for n := 1; ; n = 2*n + 1 {
		err := l.b.s.Receive(wire.Frame{Type: wire.TypeMore, Payload: wire.More{Cells: uint64(min(n, maxPart))}.Append(nil)})
		if err != nil {
			if !errors.Is(err, errs.ErrInvalid) || sent < 256 {
				t.Errorf("after %d cells: %v", sent, err)
			}
			return
		}
		if sent += min(n, maxPart); sent > sketch.MaxCells+maxPart {
			t.Fatalf("%d cells and no end", sent)
		}
		l.b.s.Output()
	}
}
