package crdt_test

import (
	"bytes"
	"slices"
	"testing"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// numbers is the oracle: a set as a map.
type numbers map[uint64]bool

func (n numbers) set(lo, hi uint64, in bool) {
	for i := lo; i <= hi && lo > 0; i++ {
		if in {
			n[i] = true
		} else {
			delete(n, i)
		}
	}
}

// top is above every number the oracle tests use.
const top = 64

// drawSet draws a set by adding and removing runs, and its oracle.
func drawSet(t *rapid.T, name string) (crdt.SeqSet, numbers) {
	var s crdt.SeqSet
	o := numbers{}
	for range rapid.IntRange(0, 12).Draw(t, name) {
		lo := rapid.Uint64Range(0, top-1).Draw(t, "lo")
		hi := lo + rapid.Uint64Range(0, 6).Draw(t, "length")
		if lo > 0 && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
			s.RemoveRange(lo, hi)
			o.set(lo, hi, false)
		} else {
			s.AddRange(lo, hi)
			o.set(lo, hi, true)
		}
	}
	checkSet(t, s, o)
	return s, o
}

// checkSet compares all that a set tells with the oracle.
func checkSet(t *rapid.T, s crdt.SeqSet, o numbers) {
	t.Helper()
	most, base := uint64(0), uint64(0)
	for i := range o {
		most = max(most, i)
	}
	for o[base+1] {
		base++
	}
	if s.Count() != uint64(len(o)) || s.Max() != most || s.Base() != base || s.IsEmpty() != (len(o) == 0) {
		t.Fatalf("%v: count %d max %d base %d, want %d %d %d", s.Runs(), s.Count(), s.Max(), s.Base(), len(o), most, base)
	}
	for i := range uint64(top + 8) {
		if s.Has(i) != o[i] {
			t.Fatalf("%v: Has(%d) = %v", s.Runs(), i, s.Has(i))
		}
	}
	for i, r := range s.Runs() {
		if r.Lo > r.Hi || r.Lo == 0 || (i > 0 && r.Lo <= s.Runs()[i-1].Hi+1) {
			t.Fatalf("runs %v are not sorted, disjoint and apart", s.Runs())
		}
	}
}

func TestSeqSetIsASet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, ao := drawSet(t, "a")
		b, bo := drawSet(t, "b")
		union, minus, meet := numbers{}, numbers{}, numbers{}
		contains := true
		for i := range uint64(top + 8) {
			if ao[i] || bo[i] {
				union[i] = true
			}
			if ao[i] && !bo[i] {
				minus[i] = true
			}
			if ao[i] && bo[i] {
				meet[i] = true
			}
			contains = contains && (ao[i] || !bo[i])
		}
		u := a.Clone()
		u.Union(b)
		checkSet(t, u, union)
		checkSet(t, a.Minus(b), minus)
		checkSet(t, a.Intersect(b), meet)
		checkSet(t, a, ao) // none of them changed it
		checkSet(t, b, bo)
		if a.Contains(b) != contains || a.Equal(b) != (contains && b.Contains(a)) {
			t.Fatalf("Contains or Equal of %v and %v", a.Runs(), b.Runs())
		}
		lo := rapid.Uint64Range(1, top).Draw(t, "from")
		hi := lo + rapid.Uint64Range(0, 9).Draw(t, "to")
		all := true
		for i := lo; i <= hi; i++ {
			all = all && ao[i]
		}
		if a.HasRange(lo, hi) != all {
			t.Fatalf("%v: HasRange(%d, %d) = %v", a.Runs(), lo, hi, !all)
		}
		runs := slices.Clone(a.Runs())
		slices.Reverse(runs)
		if !crdt.NewSeqSet(runs...).Equal(a) {
			t.Fatalf("NewSeqSet of %v in reverse differs", a.Runs())
		}
	})
}

func TestSeqSetEncodingIsCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := drawSet(t, "a")
		b, _ := drawSet(t, "b")
		ab, bb := crdt.AppendSeqSet(nil, a), crdt.AppendSeqSet(nil, b)
		if bytes.Equal(ab, bb) != a.Equal(b) {
			t.Fatalf("%v and %v encode to %x and %x", a.Runs(), b.Runs(), ab, bb)
		}
		got, rest, err := crdt.DecodeSeqSet(append(ab, 1, 2, 3))
		if err != nil || len(rest) != 3 || !got.Equal(a) {
			t.Fatalf("%v came back as %v, rest %x, %v", a.Runs(), got.Runs(), rest, err)
		}
	})
}

func FuzzDecodeSeqSet(f *testing.F) {
	f.Add(crdt.AppendSeqSet(nil, crdt.NewSeqSet()))
	f.Add(crdt.AppendSeqSet(nil, crdt.NewSeqSet(crdt.Interval{Lo: 1, Hi: 9}, crdt.Interval{Lo: 300, Hi: crdt.MaxSeq})))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := crdt.DecodeSeqSet(b)
		if err != nil {
			return
		}
		if again := append(crdt.AppendSeqSet(nil, s), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %v, which encodes to %x", b, s.Runs(), again)
		}
		if s.Max() > crdt.MaxSeq {
			t.Fatalf("number %d above MaxSeq", s.Max())
		}
	})
}
