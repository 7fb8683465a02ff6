package replica

import (
	"math"
	"testing"

	"bzzz/crdt"
)

// explain explains and checks that every journal record is in one class.
func (n *node) explain(keep Retention, until uint64) (e Explained) {
	n.t.Helper()
	n.view(func(v *View) {
		var err error
		e, err = v.Explain(keep, until, func(int) error { return nil })
		n.must(err)
	})
	var sum int64
	for _, s := range []Size{e.Values, e.Young, e.Guards, e.Witness, e.Recent, e.Aged, e.Unread, e.Removable, e.Records, e.Unlinked} {
		if s.Count < 0 || s.Bytes < 0 || s.Count == 0 && s.Bytes != 0 {
			n.t.Fatalf("class of %+v in %+v", s, e)
		}
		sum += s.Bytes
	}
	if got := int64(n.bytesIn(n.r.names.journal)); got != sum {
		n.t.Fatalf("journal of %d bytes, %d explained: %+v", got, sum, e)
	}
	return e
}

func TestExplain(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for range 3 {
		a.write("k", crdt.Put, "v")
	}
	a.write("young", crdt.Put, "v")
	a.write("young", crdt.Delete, "")
	early := b.write("gap", crdt.Put, "1")
	b.write("other", crdt.Put, "skipped by a")
	a.apply(b.write("gap", crdt.Put, "2"))
	a.write("gap", crdt.Delete, "")
	a.drop(dotsOf(a.write("dropped", crdt.Put, "v")))

	e := a.explain(Retention{Versions: 8, Since: crdt.MaxHLC}, math.MaxUint64)
	for name, tt := range map[string]struct{ got, want int }{
		"values": {e.Values.Count, 1}, "young": {e.Young.Count, 2}, "recent": {e.Recent.Count, 4},
		"records": {e.Records.Count, 1}, "unlinked": {e.Unlinked.Count, 1}, "removable": {e.Removable.Count, 0},
		"heads": {e.Heads.Count, 3},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d: %+v", name, tt.got, tt.want, e)
		}
	}
	e = a.explain(Retention{Since: crdt.MaxHLC, Tombstones: crdt.MaxHLC}, math.MaxUint64)
	want := Blocking{Replica: b.r.Self(), First: 1, Last: 2, Tombstones: 1}
	if len(e.Blocking) != 1 || e.Blocking[0] != want || e.Guards.Count != 1 {
		t.Fatalf("blocking %+v, want %+v", e.Blocking, want)
	}
	got := a.collect(math.MaxUint64, 10)
	if left := a.explain(Retention{Since: crdt.MaxHLC}, math.MaxUint64); left.Values.Count != 1 || left.Guards.Count+left.Young.Count != 1 {
		t.Fatalf("left %+v", left)
	}
	// The collection's own record came and went with it.
	if removed := got.Removed + got.Records - 1; removed != e.Removable.Count {
		t.Errorf("removed %+v, explained %+v", got, e.Removable)
	}
	a.apply(early)
	if e = a.explain(Retention{Tombstones: crdt.MaxHLC}, math.MaxUint64); e.Guards.Count != 1 || e.Blocking[0].First != 2 {
		t.Fatalf("after the first missing one arrived: %+v", e)
	}
	if e = a.explain(Retention{Since: crdt.MaxHLC}, 0); e.Removable.Count != 0 || e.Unread.Count != 1 {
		t.Fatalf("what nobody has read is removable: %+v", e)
	}
}
