package crdt_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/crdt/crdttest"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	attr := func(name string, size int) crdt.Attr { return crdt.Attr{Name: name, Value: make([]byte, size)} }
	blob := goldenVersions()["blob"].Blob
	tests := []struct {
		name   string
		want   error // nil: still valid
		change func(v *crdt.Version)
	}{
		{"unchanged", nil, func(*crdt.Version) {}},
		{"no key", crdt.ErrInvalid, func(v *crdt.Version) { v.Key = nil }},
		{"longest key", nil, func(v *crdt.Version) { v.Key = make([]byte, crdt.MaxKey) }},
		{"key too long", crdt.ErrTooLarge, func(v *crdt.Version) { v.Key = make([]byte, crdt.MaxKey+1) }},
		{"longest value", nil, func(v *crdt.Version) { v.Value = make([]byte, crdt.MaxValue) }},
		{"value too long", crdt.ErrTooLarge, func(v *crdt.Version) { v.Value = make([]byte, crdt.MaxValue+1) }},
		{"kind 0", crdt.ErrInvalid, func(v *crdt.Version) { v.Kind = 0 }},
		{"kind of a later build", nil, func(v *crdt.Version) { v.Kind = 255 }},
		{"zero replica", crdt.ErrInvalid, func(v *crdt.Version) { v.Dot.Replica = crdt.ReplicaID{} }},
		{"sequence 0", crdt.ErrInvalid, func(v *crdt.Version) { v.Dot.Seq, v.First = 0, 0 }},
		{"sequence above MaxSeq", crdt.ErrInvalid, func(v *crdt.Version) { v.Dot.Seq, v.Last = crdt.MaxSeq+1, crdt.MaxSeq+1 }},
		{"last stamp", nil, func(v *crdt.Version) { v.Time = crdt.MaxHLC - 1 }},
		{"stamp beyond the range", crdt.ErrInvalid, func(v *crdt.Version) { v.Time = crdt.MaxHLC }},
		{"batch begins after it", crdt.ErrInvalid, func(v *crdt.Version) { v.First = v.Dot.Seq + 1 }},
		{"batch begins at 0", crdt.ErrInvalid, func(v *crdt.Version) { v.First = 0 }},
		{"batch ends before it", crdt.ErrInvalid, func(v *crdt.Version) { v.Last = v.Dot.Seq - 1 }},
		{"delete with a value", crdt.ErrInvalid, func(v *crdt.Version) { v.Kind = crdt.Delete }},
		{"delete with a blob", crdt.ErrInvalid, func(v *crdt.Version) { v.Kind, v.Value, v.Blob = crdt.Delete, nil, blob }},
		{"value and blob", crdt.ErrInvalid, func(v *crdt.Version) { v.Blob = blob }},
		{"neither value nor blob", crdt.ErrInvalid, func(v *crdt.Version) { v.Value, v.Blob = nil, cid.Undef }},
		{"most attributes in size", nil, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("a", crdt.MaxAttrSize-1)} }},
		{"attributes too long", crdt.ErrTooLarge, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("a", crdt.MaxAttrSize)} }},
		{"too many attributes", crdt.ErrTooLarge, func(v *crdt.Version) { v.Attrs = make([]crdt.Attr, crdt.MaxAttrs+1) }},
		{"nameless attribute", crdt.ErrInvalid, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("", 1)} }},
		{"attribute name that is no text", crdt.ErrInvalid, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("\xff", 1)} }},
		{"attributes by length, then name", nil, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("b", 1), attr("c", 1), attr("aa", 1)} }},
		{"attributes out of order", crdt.ErrInvalid, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("aa", 1), attr("b", 1)} }},
		{"attribute twice", crdt.ErrInvalid, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr("a", 1), attr("a", 1)} }},
		{"expiry of 7 bytes", crdt.ErrInvalid, func(v *crdt.Version) { v.Attrs = []crdt.Attr{attr(crdt.AttrExpiry, 7)} }},
		{"expiry before 1970 after wrapping", crdt.ErrInvalid, func(v *crdt.Version) {
			v.Attrs = []crdt.Attr{{Name: crdt.AttrExpiry, Value: bytes.Repeat([]byte{0xFF}, 8)}}
		}},
		{"context of the zero replica", crdt.ErrInvalid, func(v *crdt.Version) { v.Context = crdt.Context{{Seq: 1}} }},
		{"context at 0", crdt.ErrInvalid, func(v *crdt.Version) { v.Context = crdt.Context{{Replica: ids[1]}} }},
		{"context above MaxSeq", crdt.ErrInvalid, func(v *crdt.Version) { v.Context = crdt.Context{{Replica: ids[1], Seq: crdt.MaxSeq + 1}} }},
		{"context holds itself", crdt.ErrInvalid, func(v *crdt.Version) { v.Context = crdt.Context{{Replica: ids[0], Seq: 7}} }},
		{"context out of order", crdt.ErrInvalid, func(v *crdt.Version) {
			v.Context = crdt.Context{{Replica: ids[2], Seq: 1}, {Replica: ids[1], Seq: 1}}
		}},
		{"context too long", crdt.ErrTooLarge, func(v *crdt.Version) { v.Context = make(crdt.Context, crdt.MaxContext+1) }},
	}
	for _, tt := range tests {
		v := sample(crdt.Put, "value")
		tt.change(v)
		if err := v.Validate(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Join tells the causal past and nothing more (KERNEL rule K1).
func TestJoinIsTheUnionOfPasts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		h := crdttest.Gen{Writes: 1 + r.IntN(30), Keys: 1, Replicas: 1 + r.IntN(5)}.History(r)
		held := h.Spec(crdttest.Set(r.Uint64())&h.All(), "a")
		c := crdt.Join(held...)
		if !slices.IsSortedFunc(c, func(a, b crdt.Parent) int { return a.Replica.Compare(b.Replica) }) {
			t.Fatalf("context %v does not rise", c)
		}
		r.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		if diff := cmp.Diff(c, crdt.Join(held...)); diff != "" {
			t.Fatalf("Join depends on the order of siblings:\n%s", diff)
		}
		past := map[crdt.ReplicaID]uint64{}
		direct := map[crdt.Dot]bool{}
		for _, v := range held {
			direct[v.Dot] = true
			past[v.Dot.Replica] = max(past[v.Dot.Replica], v.Dot.Seq)
			for _, p := range v.Context {
				past[p.Replica] = max(past[p.Replica], p.Seq)
			}
		}
		if len(c) != len(past) || len(c.Direct()) != len(direct) {
			t.Fatalf("context %v of %d replicas and %d parents", c, len(past), len(direct))
		}
		for _, p := range c {
			if p.Seq != past[p.Replica] || p.Direct != direct[crdt.Dot{Replica: p.Replica, Seq: p.Seq}] || c.Seq(p.Replica) != p.Seq {
				t.Fatalf("entry %v, want seq %d\n%s", p, past[p.Replica], h)
			}
		}
		if c.Seq(crdt.ReplicaID{0xEE, 0xEE}) != 0 {
			t.Fatal("a stranger is in the context")
		}
	}
}

// KERNEL trace 1: without its own tombstone in the context of the next write,
// an older write that arrives late becomes visible.
func TestContextKeepsOwnTombstone(t *testing.T) {
	t.Parallel()
	b, c := ids[1], ids[2]
	early := sample(crdt.Put, "early")
	early.Dot = crdt.Dot{Replica: b, Seq: 2}
	late := sample(crdt.Put, "late")
	late.Dot = crdt.Dot{Replica: b, Seq: 4}
	tombstone := sample(crdt.Delete, "")
	tombstone.Dot, tombstone.Context = crdt.Dot{Replica: c, Seq: 1}, crdt.Join(late)
	held, gone := crdt.Siblings{late}.Apply(tombstone)
	if len(held) != 1 || len(gone) != 1 || gone[0] != late {
		t.Fatalf("after the delete: %d held, %d gone", len(held), len(gone))
	}
	again := sample(crdt.Put, "again")
	again.Dot, again.Context = crdt.Dot{Replica: c, Seq: 2}, crdt.Join(held...)
	held, _ = held.Apply(again)
	if held, _ = held.Apply(early); len(held) != 1 || held[0] != again {
		t.Errorf("the early write is back: %d siblings", len(held))
	}
}

func TestBeforeIsATotalOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func() *crdt.Version {
			v := sample(crdt.Put, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "value"))
			v.Time = crdt.HLC(rapid.Uint64Range(1, 2).Draw(t, "time"))
			v.Dot.Replica = rapid.SampledFrom(ids[:2]).Draw(t, "replica")
			return v
		}
		a, b, c := draw(), draw(), draw()
		same := a.Digest() == b.Digest()
		if a.Before(b) && b.Before(a) || (!a.Before(b) && !b.Before(a)) != same {
			t.Fatalf("neither or both of %v and %v come first", a, b)
		}
		if a.Before(b) && b.Before(c) && !a.Before(c) {
			t.Fatal("not transitive")
		}
	})
}

func TestTokenDependsOnTheSetAlone(t *testing.T) {
	t.Parallel()
	a, b := sample(crdt.Put, "a"), sample(crdt.Put, "b")
	if (crdt.Siblings{a, b}).Token() != (crdt.Siblings{b, a}).Token() {
		t.Error("the token depends on the order")
	}
	seen := map[[32]byte]bool{}
	for _, s := range []crdt.Siblings{nil, {a}, {b}, {a, b}} {
		seen[s.Token()] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d tokens of 4 sets", len(seen))
	}
}
