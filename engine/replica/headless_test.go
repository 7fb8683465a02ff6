package replica

import (
	"math"
	"testing"

	"bzzz/crdt"
	"bzzz/store"
)

// A version whose head was lost to damage dies all the same when what replaces
// it arrives: else a repair would bring it back once the delete is collected.
func TestHeadlessVersionIsReplaced(t *testing.T) {
	t.Parallel()
	for _, caughtUp := range []bool{true, false} {
		a, b := newNode(t, 1), newNode(t, 2)
		v := a.write("k", crdt.Put, "deleted later")
		a.write("other", crdt.Put, "kept")
		b.pull(a, 100)
		if caughtUp {
			a.must(a.batch(func(bt *Batch) error { return bt.Finish(true) }))
		}
		a.must(a.kv.Update(func(tx store.Tx) error { return tx.Bucket(a.r.names.heads).Delete([]byte("k")) }))
		b.write("k", crdt.Delete, "")
		a.pull(b, 100)
		if n := a.collect(math.MaxUint64, 100).Tombstones; n != 1 {
			t.Fatalf("%d tombstones collected, want 1", n)
		}
		a.heal(100)
		if s := a.siblings("k"); len(s) != 0 {
			t.Fatalf("caught up %v: %v is back, %s was deleted", caughtUp, s, v.Dot)
		}
		if got := len(a.siblings("other")); got != 1 {
			t.Fatalf("%d siblings of another key", got)
		}
		a.verify()
	}
}
