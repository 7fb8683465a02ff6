package session

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
	"bzzz/store"
)

// forget makes keys of n disappear as if their tombstones had been collected:
// their dots are dead, nothing else tells of them.
func (n *node) forget(name string, keys ...string) {
	claim := crdt.NewClock()
	for _, key := range keys {
		n.view(name, func(v *replica.View) {
			dots, err := v.LiveDots([]byte(key))
			must(err)
			for _, d := range dots {
				claim.Add(d)
			}
		})
		delete(n.w.versions[name], key)
	}
	must(n.batch(name, func(b *replica.Batch) error {
		_, err := b.Drop(claim, crdt.ReplicaID{7})
		return err
	}))
}

// pair returns two nodes that hold the same keys.
func pair(t testing.TB, keys int) (a, b *node) {
	t.Helper()
	w := newWorld()
	a, b = newNode(w, 1, "ns"), newNode(w, 2, "ns")
	values := map[string][]byte{}
	for i := range keys {
		values[fmt.Sprintf("key %05d", i)] = fmt.Append(nil, i)
	}
	a.put("ns", values)
	b.write("ns", "of b", "v")
	mustSync(t, a, b)
	return a, b
}

// What one side knows to be dead is dropped by the other although no tombstone
// tells (KERNEL K3, K7), while both write on.
func TestClaims(t *testing.T) {
	t.Parallel()
	for _, forgetful := range []string{"initiator", "responder", "both"} {
		t.Run(forgetful, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, 60)
			if forgetful != "responder" {
				a.forget("ns", "key 00001", "key 00002", "of b")
			}
			if forgetful != "initiator" {
				b.forget("ns", "key 00050")
			}
			r := mustSync(t, a, b).Namespaces[0]
			if r.Tier != "sketch" || r.Rounds != 1 || r.Held != nil {
				t.Errorf("report %+v, want one comparison by sketch", r)
			}
			want := map[string]int{"initiator": 58, "responder": 60, "both": 57}[forgetful]
			a.view("ns", func(v *replica.View) {
				if got := v.Counts().Keys; got != uint64(want) {
					t.Errorf("%d keys are left, want %d", got, want)
				}
			})
			if a.agreed == 0 || b.agreed == 0 {
				t.Error("no proof of agreement was noted")
			}
		})
	}
}

// A FIX may say "the rest" only in answer to an OFFER of which something rests.
func TestFixOfTheRest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		forge   bool // the frame of the side named is replaced
		fromA   bool
		wantAll bool // and wants all that is offered
	}{{name: "honest"}, {name: "nothing rests", forge: true, wantAll: true}, {name: "nothing was offered", forge: true, fromA: true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, 60)
			b.forget("ns", "key 00050", "key 00051")
			l := newLink(a, b, Config{})
			defer l.close()
			offered := crdt.NewClock()
			rests := 0
			l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
				if f.Type == wire.TypeOffer {
					m, err := wire.DecodeOffer(f.Payload, a.w.zstd)
					must(err)
					offered = m.Dots
				}
				if f.Type == wire.TypeFix {
					m, err := wire.DecodeFix(f.Payload, a.w.zstd)
					must(err)
					if m.Rest {
						rests++
					}
					if c.forge && fromA == c.fromA {
						m.Rest = true
						if c.wantAll {
							m.Want = offered
						}
						f.Payload = m.Append(nil, a.w.zstd)
					}
				}
				return []wire.Frame{f}
			}
			err := l.start()
			left := uint64(0)
			a.view("ns", func(v *replica.View) { left = v.Counts().Keys })
			if c.forge {
				if !errors.Is(err, errs.ErrInvalid) || left != 61 {
					t.Fatalf("got %v and %d keys, want it refused and 61", err, left)
				}
				return
			}
			if err != nil || rests != 1 || left != 59 {
				t.Fatalf("got %v, %d times the rest and %d keys, want once and 59", err, rests, left)
			}
		})
	}
}

// More than the brake allows is not dropped, and the clock that would make it
// dead is not adopted; what came besides is taken in (KERNEL K7).
func TestBrakeHolds(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 60)
	var gone []string
	for i := range 20 {
		gone = append(gone, fmt.Sprintf("key %05d", i))
	}
	values := a.w.versions["ns"]
	kept := map[string][]*crdt.Version{}
	for _, k := range gone {
		kept[k] = values[k]
	}
	a.forget("ns", gone...)
	b.brake = 5
	_, rb, err := sync(a, b)
	if err != nil {
		t.Fatal(err)
	}
	n := rb.Namespaces[0]
	if n.Held == nil || n.Held.Keys != 20 || n.InSync || n.Applied.Dropped != 0 {
		t.Fatalf("report %+v, want 20 keys held back", n)
	}
	a.write("ns", "later", "v")
	if _, _, err := sync(b, a); err != nil {
		t.Fatal(err)
	}
	if len(b.get("ns", "later")) != 1 || len(b.get("ns", "key 00003")) != 1 {
		t.Error("while the brake holds, writes must arrive and nothing may vanish")
	}
	b.brake = 1000
	mustSync(t, b, a)
	if got := b.get("ns", "key 00003"); len(got) != 0 {
		t.Errorf("released, but %q is still there", got)
	}
}

// wipeAll removes all records of a bucket that pick chooses.
func wipeAll(pick func(key, value []byte) bool) func(b store.Bucket) error {
	return func(b store.Bucket) error {
		var keys [][]byte
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if pick(k, v) {
				keys = append(keys, bytes.Clone(k))
			}
		}
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	}
}

// Entries that vanished from the index of live keys come back from the peer, and
// none of them is taken for a deletion (FAILURES 7).
func TestLostHeadsComeBack(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{1, 7, 40} {
		a, b := pair(t, 60)
		i := 0
		b.catchUp("ns")
		b.damage("ns", "heads", wipeAll(func(k, _ []byte) bool {
			i++
			return i <= lost
		}))
		b = b.clone()
		if _, _, err := sync(a, b); err != nil {
			t.Fatal(err)
		}
		r := mustSync(t, b, a).Namespaces[0]
		if r.Applied.Dropped != 0 {
			t.Fatalf("lost %d: report %+v", lost, r)
		}
		for n, who := range map[*node]string{a: "a", b: "b"} {
			n.view("ns", func(v *replica.View) {
				live := 0
				for _, e := range v.Heads(nil, nil) {
					ok, err := e.Live()
					must(err)
					if ok {
						live++
					}
				}
				if live != 61 {
					t.Errorf("lost %d: %s shows %d keys, want 61", lost, who, live)
				}
			})
		}
	}
}

// Where too much differs for a sketch the tree is walked.
func TestSketchGivesUpForTheTree(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 3000)
	for half, n := range []*node{a, b} {
		n.catchUp("ns")
		i := 0
		n.damage("ns", "heads", wipeAll(func(k, _ []byte) bool {
			i++
			return i%2 == half && i%30 != 0
		}))
	}
	a, b = a.clone(), b.clone()
	l := newLink(a, b, Config{})
	defer l.close()
	l.b.s.sizes.cells = 1000 // too few for the differences
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	if r := l.a.s.Report().Namespaces[0]; r.Tier != "tree" || !r.InSync || r.Sent < 1000 || r.Received < 1000 {
		t.Fatalf("report %+v, want a walk of the tree that brings all back", r)
	}
}

// A comparison may be cut at any frame: nothing is lost, and the next one brings
// agreement.
func TestCutRepair(t *testing.T) {
	t.Parallel()
	for cut := 1; ; cut++ {
		a, b := pair(t, 40)
		a.forget("ns", "key 00001", "key 00002")
		b.forget("ns", "key 00030")
		b.catchUp("ns")
		b.damage("ns", "heads", wipe(func(k, _ []byte) bool { return string(k) == "key 00020" }))
		l := newLink(a, b, Config{})
		seen := 0
		l.deliver = func(_ bool, _ int, f wire.Frame) []wire.Frame {
			if seen++; seen >= cut {
				return nil
			}
			return []wire.Frame{f}
		}
		if err := l.start(); err != nil {
			t.Fatalf("cut at frame %d: %v", cut, err)
		}
		done := l.a.s.Reconciled() && l.b.s.Reconciled()
		l.close()
		if _, _, err := sync(a, b); err != nil {
			t.Fatalf("after a cut at frame %d: %v", cut, err)
		}
		mustSync(t, b, a)
		for key, want := range map[string]int{"key 00001": 0, "key 00002": 0, "key 00030": 0, "key 00020": 1, "key 00010": 1} {
			for _, n := range []*node{a, b} {
				if got := len(n.get("ns", key)); got != want {
					t.Fatalf("after a cut at frame %d: %s has %d values on node %d, want %d", cut, key, got, n.id, want)
				}
			}
		}
		if done {
			if cut < 10 {
				t.Fatalf("session was over after %d frames: tested nothing", cut)
			}
			return
		}
	}
}
