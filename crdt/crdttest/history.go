package crdttest

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"bzzz/crdt"
)

// MaxWrites is the most writes of one history.
const MaxWrites = 64

// Set is a set of the writes of a history, by index.
type Set uint64

// Has reports whether write i is in the set.
func (s Set) Has(i int) bool { return s>>i&1 != 0 }

// Len returns how many writes are in the set.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// History is what honest replicas wrote, in an order in which they may have
// written it.
type History struct {
	Versions []*crdt.Version
	// Past holds for each write what it supersedes. It is kept apart from the
	// versions' contexts, as the truth they have to tell.
	Past []Set
}

// All returns the set of all writes.
func (h History) All() Set { return Set(1)<<len(h.Versions) - 1 }

// Keys returns the keys written, in the order of their first write.
func (h History) Keys() []string {
	var keys []string
	seen := map[string]bool{}
	for _, v := range h.Versions {
		if k := string(v.Key); !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	return keys
}

// Spec returns the siblings of a key for a replica that has received exactly
// the given writes: those that none of the others supersedes. It is the
// definition, O(n^2), and looks at no context.
func (h History) Spec(received Set, key string) crdt.Siblings {
	var out crdt.Siblings
	for i, v := range h.Versions {
		if !received.Has(i) || string(v.Key) != key {
			continue
		}
		superseded := false
		for j := range h.Versions {
			superseded = superseded || (received.Has(j) && h.Past[j].Has(i))
		}
		if !superseded {
			out = append(out, v)
		}
	}
	return out
}

// String prints one write a line: its index, key, kind, dot and what it
// supersedes, in truth and by its context.
func (h History) String() string {
	var b strings.Builder
	for i, v := range h.Versions {
		fmt.Fprintf(&b, "%2d %s %-6s %s:%d time %x past %v context", i, v.Key, v.Kind, v.Dot.Replica.Short(), v.Dot.Seq, uint64(v.Time), h.indices(h.Past[i]))
		for _, p := range v.Context {
			fmt.Fprintf(&b, " %s:%d", p.Replica.Short(), p.Seq)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (h History) indices(s Set) []int {
	out := []int{}
	for i := range h.Versions {
		if s.Has(i) {
			out = append(out, i)
		}
	}
	return out
}

// Gen says what histories to make.
type Gen struct {
	Replicas int // default 3
	Keys     int // default 2; dots count writes of all keys, so each key's have gaps
	Writes   int // default 12, at most MaxWrites
	// Kinds are drawn evenly; default Put, Put, Delete.
	Kinds []crdt.Kind
	// Context makes the context of a write from the siblings it replaces;
	// default crdt.Join. Others are for planting mistakes.
	Context func(crdt.Siblings) crdt.Context
}

func (g Gen) withDefaults() Gen {
	if g.Replicas <= 0 {
		g.Replicas = 3
	}
	if g.Keys <= 0 {
		g.Keys = 2
	}
	if g.Writes <= 0 {
		g.Writes = 12
	}
	g.Writes = min(g.Writes, MaxWrites)
	if len(g.Kinds) == 0 {
		g.Kinds = []crdt.Kind{crdt.Put, crdt.Put, crdt.Delete}
	}
	if g.Context == nil {
		g.Context = func(s crdt.Siblings) crdt.Context { return crdt.Join(s...) }
	}
	return g
}

// replica is one writer: what it has received, and what it holds of each key.
type replica struct {
	id    crdt.ReplicaID
	seq   uint64
	clock crdt.HLC
	seen  Set
	held  map[string]crdt.Siblings
}

// History makes a history: replicas write what they like and receive single
// writes of others in any order or never, so that they hold gaps; a write
// supersedes all siblings its replica holds, tombstones included. Replicas'
// physical clocks are far apart and stand still; the same seed makes the same
// history.
func (g Gen) History(r *rand.Rand) History {
	g = g.withDefaults()
	h := History{}
	replicas := make([]*replica, g.Replicas)
	for i := range replicas {
		replicas[i] = &replica{
			id:    crdt.NewReplicaID([8]byte{byte(r.IntN(256)), byte(i)}, [8]byte{byte(r.IntN(256))}),
			clock: crdt.HLC(r.IntN(3)) << 40,
			held:  map[string]crdt.Siblings{},
		}
	}
	for len(h.Versions) < g.Writes {
		w := replicas[r.IntN(len(replicas))]
		if n := len(h.Versions); n > 0 && r.IntN(3) != 0 {
			w.receive(h, r.IntN(n))
			continue
		}
		g.write(&h, w, r)
	}
	return h
}

// receive takes write i in unless it was there before.
func (w *replica) receive(h History, i int) {
	if w.seen.Has(i) {
		return
	}
	w.seen |= 1 << i
	key := string(h.Versions[i].Key)
	w.held[key] = h.Spec(w.seen, key)
}

// write adds a write of w to the history.
func (g Gen) write(h *History, w *replica, r *rand.Rand) {
	key := string('a' + rune(r.IntN(g.Keys)))
	past := Set(0)
	for i, v := range h.Versions {
		// Implicitly superseded: own earlier writes of the key (KERNEL rule K1).
		known := string(v.Key) == key && w.seen.Has(i)
		if known && (v.Dot.Replica == w.id || holds(w.held[key], v.Dot)) {
			past |= 1<<i | h.Past[i]
		}
	}
	w.seq++
	w.clock = w.clock.Next(0)
	time := w.clock
	for i, v := range h.Versions {
		if past.Has(i) && time <= v.Time {
			time = v.Time.Next(0)
		}
	}
	v := &crdt.Version{
		Key: []byte(key), Kind: g.Kinds[r.IntN(len(g.Kinds))], Dot: crdt.Dot{Replica: w.id, Seq: w.seq},
		Time: time, First: w.seq, Last: w.seq, Context: g.Context(w.held[key]),
	}
	if v.Kind != crdt.Delete {
		v.Value = binary.AppendUvarint(nil, uint64(len(h.Versions)))
	}
	h.Versions = append(h.Versions, v)
	h.Past = append(h.Past, past)
	w.receive(*h, len(h.Versions)-1)
}

func holds(s crdt.Siblings, d crdt.Dot) bool {
	return slices.ContainsFunc(s, func(v *crdt.Version) bool { return v.Dot == d })
}
