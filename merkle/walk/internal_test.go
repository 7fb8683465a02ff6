package walk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/mem"
)

// numbers is merkle.Leaves of the keys 0..n-1 in two bytes, those that other divides with
// another value.
type numbers struct{ n, other int }

func (s numbers) Leaf([]byte) (d merkle.Digest, live bool, err error) { return d, false, nil }

func (s numbers) Range(start, end []byte, fn func([]byte, merkle.Digest) error) error {
	for i := range s.n {
		key := binary.BigEndian.AppendUint16(nil, uint16(i))
		if string(key) < string(start) || end != nil && string(key) >= string(end) {
			continue
		}
		leaf := sha256.Sum256(key)
		if i%s.other == 0 {
			leaf[0]++
		}
		if err := fn(key, leaf); err != nil {
			return err
		}
	}
	return nil
}

func (s numbers) index(t *testing.T) *merkle.Index {
	t.Helper()
	kv := mem.New()
	var x *merkle.Index
	err := kv.Update(func(tx store.Tx) error {
		b, err := tx.CreateBucket("tree", store.Ordered)
		if err == nil {
			_, err = merkle.Rebuild(b, s, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := kv.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(snap.Release)
	if x, err = merkle.Open(snap.Bucket("tree"), s); err != nil {
		t.Fatal(err)
	}
	return x
}

// lie is Receive of a peer that says of equal subtrees that they differ, and
// expands them truly. It works where no TILE skips, whose check byte would tell.
func (w *Walk) lie(t *testing.T, msg []byte, short bool) []byte {
	t.Helper()
	r := &reader{rest: msg[1:], cut: w.cfg.Cut}
	if err := w.settle(r); err != nil {
		t.Fatal(err)
	}
	salt := w.cfg.Salt
	w.cfg.Salt[0]++
	out, err := w.answer([]byte{msgStep}, r)
	w.cfg.Salt = salt
	for i := range w.mine.entries {
		w.mine.entries[i].dense = short
	}
	if err == nil {
		out, err = w.ask(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestExpandsWhatIsEqual: a peer that expands what is equal is found out, with
// LEAVES and with SHORT.
func TestExpandsWhatIsEqual(t *testing.T) {
	t.Parallel()
	for _, short := range []bool{false, true} {
		expandsWhatIsEqual(t, short)
	}
}

func expandsWhatIsEqual(t *testing.T, short bool) {
	t.Helper()
	x, y := numbers{5000, 97}.index(t), numbers{5000, 98}.index(t)
	honest, err := New(x, Config{Initiator: true})
	if err != nil {
		t.Fatal(err)
	}
	liar, err := New(y, Config{})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := honest.Start()
	if err != nil {
		t.Fatal(err)
	}
	if msg, _, err = liar.Receive(msg); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if msg, _, err = honest.Receive(msg); err != nil {
			break
		}
		if short && i > 0 { // the lies were about TILEs
			msg, _, err = liar.Receive(msg)
			if err != nil {
				t.Fatal(err)
			}
		} else {
			msg = liar.lie(t, msg, short)
		}
	}
	if !errors.Is(err, ErrInvalid) || honest.hollow != maxHollow+1 {
		t.Errorf("short %v: %v after %d expansions of equal regions", short, err, honest.hollow)
	}
}

// TestForms: what may follow what.
func TestForms(t *testing.T) {
	t.Parallel()
	expansions := []expansion{
		{cuts: []uint64{1}},
		{cuts: []uint64{1}, short: true},
		{tile: true, depth: 3},
		{tile: true, depth: 4},
		{tile: true, depth: 4, many: true},
	}
	for f, want := range []string{
		anyForm:     "leaves tile tile many",
		innerForm:   "leaves short tile tile many",
		afterTile:   "leaves tile",
		afterLeaves: "many",
		afterShort:  "tile tile many",
		afterPart:   "leaves",
	} {
		e := entry{node: merkle.Node{Depth: 4}, form: form(f)}
		var got []string
		for i, name := range []string{"leaves", "short", "tile", "tile", "many"} {
			if e.takes(&expansions[i]) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("form %d takes %q, want %q", f, got, want)
		}
	}
}

// TestBounds: what a peer could pile up is bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	w, err := New(numbers{10, 1}.index(t), Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range maxPending + 1 {
		w.push(&w.mine, entry{node: w.top})
	}
	if err := w.turn(&w.mine, maxPending); !errors.Is(err, ErrTooLarge) {
		t.Errorf("pending regions: %v", err)
	}
	for range maxPending {
		w.mine.drop()
	}
	if err := w.read(spareReads); err != nil {
		t.Error(err)
	}
	if err := w.read(readsPerKey*w.top.Count + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reads: %v", err)
	}
	w.reads = 0
	for range maxExpansions + 1 {
		w.push(&w.theirs, entry{node: w.top, form: innerForm})
	}
	msg := make([]byte, 0, MaxMessage)
	d := sha256.Sum256([]byte("another"))
	for range maxExpansions + 1 {
		msg = w.appendCut(append(msg, 1), &d)
	}
	if _, err := w.answer(nil, &reader{rest: msg, cut: 4}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("expansions: %v", err)
	}
	w.offers.list = nil
	for range MaxWaiting + 1 {
		w.offers.add(w.top)
	}
	if _, _, err := w.Receive(nil); !errors.Is(err, ErrInvalid) || w.Waiting() != MaxWaiting+1 {
		t.Errorf("offers that wait: %v", err)
	}
}

// TestKeptKeys: where keys of regions take too much room the region is kept and
// read again, with the same result.
func TestKeptKeys(t *testing.T) {
	t.Parallel()
	x := numbers{20, 1}.index(t)
	w, err := New(x, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, kept := range []int{0, keptBytes} {
		w.offers.kept = kept
		var s some
		i := 0
		err := x.Keys(w.top, func(key []byte, leaf merkle.Digest) error {
			i++
			if s.next(key, leaf, i%7 != 0); i%7 == 0 {
				want = append(want, string(key))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.offers.addSome(w.top, &s)
	}
	if len(w.offers.list) != len(want)/2+1 {
		t.Fatalf("%d offers for %d keys", len(w.offers.list), len(want))
	}
	for key, err := range w.Offers() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(key))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("offers %q, want %q", got, want)
	}
}

// FuzzExpansion: whatever the bytes, what is read of them is bounded by them and
// keeps to the rules.
func FuzzExpansion(f *testing.F) {
	f.Fuzz(func(t *testing.T, msg, path []byte, at int, cut bool) {
		if at < 0 || at > 2*len(path) || len(path) > merkle.MaxKey {
			return
		}
		r := &reader{rest: msg, cut: 4}
		if cut {
			r.cut = 8
		}
		size := r.cut
		list := r.expansion(nil, path[:(at+1)/2], at, 0)
		if r.err != nil {
			return
		}
		cuts := 0
		for i, e := range list {
			if e.short {
				size = 1
			}
			if cuts += len(e.cuts); e.size < 1 || i+e.size > len(list) || e.tile != (e.mask != 0) {
				t.Fatalf("expansion %d of %d: %+v", i, len(list), e)
			}
			if e.tile && (e.depth < at || e.depth >= 2*merkle.MaxKey || e.many && len(e.path) != (e.depth+1)/2) {
				t.Fatalf("expansion %d: %+v", i, e)
			}
		}
		if cuts*size > len(msg) || len(list) > 1+maxInlined || len(list) > 0 && list[0].size != len(list) {
			t.Fatalf("%d expansions with %d cuts of %d bytes", len(list), cuts, len(msg))
		}
	})
}
