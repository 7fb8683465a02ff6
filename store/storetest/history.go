package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"

	"bzzz/store"
)

var historyTests = []test{
	{"RandomHistoryEqualsAMap", func(s suite) { random(s, 1, 60) }},
	{"AnotherRandomHistoryEqualsAMap", func(s suite) { random(s, 2, 60) }},
}

var reopenTests = []test{
	{"ReopenedStoreHoldsEveryCommit", func(s suite) {
		if _, ok := s.kv.(Reopener); !ok {
			s.close() // it ends with its Close
			return
		}
		s.fill("b", keys(300)...)
		s.put("b", "empty", "")
		_ = s.kv.Update(func(tx store.Tx) error { wreckKeys(tx.Bucket("b")); return errStop })
		var id uint64
		s.view(func(tx store.Tx) { id = tx.ID() })
		for range 3 {
			s.kv = s.kv.(Reopener).Reopen(s)
			s.view(func(tx store.Tx) {
				if tx.ID() < id {
					s.Fatalf("ID fell from %d to %d", id, tx.ID())
				}
				id = tx.ID()
				s.wantGet(tx, "b", "empty", "")
				s.wantKeys(tx.Bucket("b"), append([]string{"empty"}, keys(300)...)...)
			})
		}
		s.update(func(tx store.Tx) {
			if tx.ID() != id+1 {
				s.Fatalf("got write ID %d, want %d", tx.ID(), id+1)
			}
		})
		s.close()
	}},
	{"ReopenedStoreOfARandomHistory", func(s suite) {
		if _, ok := s.kv.(Reopener); !ok {
			s.close()
			return
		}
		random(s, 3, 60)
	}},
}

func wreckKeys(b store.Bucket) {
	for _, k := range keys(300) {
		_ = b.Put([]byte(k), []byte("lost"))
	}
}

// model is the oracle: what the buckets hold, in plain maps.
type model map[string]map[string]string

func (m model) clone() model {
	out := model{}
	for name, b := range m {
		out[name] = maps.Clone(b)
	}
	return out
}

// history drives a store and the oracle side by side. Its choices come from
// pick, which returns a number in [0, n).
type history struct {
	suite
	pick  func(n int) int
	now   model
	snaps []heldSnapshot
}

type heldSnapshot struct {
	store.Snapshot
	state model
}

func random(s suite, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 0x62_7a_7a_7a))
	h := &history{suite: s, pick: rng.IntN, now: model{}}
	for range steps {
		h.step()
	}
	h.end()
}

// step does one update, or something about snapshots, and compares.
func (h *history) step() {
	switch h.pick(8) {
	case 0:
		if len(h.snaps) < 4 {
			h.snaps = append(h.snaps, heldSnapshot{h.snapshot(), h.now.clone()})
		}
	case 1:
		if len(h.snaps) > 0 {
			i := h.pick(len(h.snaps))
			h.compare(h.snaps[i], h.snaps[i].state)
			h.snaps[i].Release()
			h.snaps = slices.Delete(h.snaps, i, i+1)
		}
	case 2:
		if r, ok := h.kv.(Reopener); ok {
			h.release()
			h.kv = r.Reopen(h)
		}
	default:
		h.change()
	}
	h.view(func(tx store.Tx) { h.compare(tx, h.now) })
}

func (h *history) release() {
	for _, s := range h.snaps {
		h.compare(s, s.state)
		s.Release()
	}
	h.snaps = nil
}

func (h *history) end() {
	h.release()
	h.close()
}

// change runs one Update of some operations that commits, fails or panics.
func (h *history) change() {
	next := h.now.clone()
	how := h.pick(6)
	err := errors.New("not run")
	r := panics(func() {
		err = h.kv.Update(func(tx store.Tx) error {
			for range 1 + h.pick(40) {
				h.operation(tx, next)
			}
			switch how {
			case 0:
				return errStop
			case 1:
				panic(errStop)
			}
			return nil
		})
	})
	switch {
	case how == 0:
		wantErr(h, "failing update", err, errStop)
	case how == 1 && r != errStop:
		h.Fatalf("got panic %v, want %v", r, errStop)
	case how > 1:
		if r != nil {
			h.Fatalf("unexpected panic: %v", r)
		}
		must(h, err)
		h.now = next
	}
}

func (h *history) operation(tx store.Tx, m model) {
	name := string(rune('A' + h.pick(3)))
	b := tx.Bucket(name)
	if (b == nil) != (m[name] == nil) {
		h.Fatalf("bucket %q: got nil %v", name, b == nil)
	}
	if b == nil {
		_, err := tx.CreateBucket(name, store.Order(h.pick(2)))
		must(h, err)
		m[name] = map[string]string{}
		return
	}
	switch op := h.pick(40); {
	case op == 0:
		must(h, tx.DeleteBucket(name))
		delete(m, name)
	case op < 4: // a run of keys
		prefix := h.key()
		for i := range h.pick(60) {
			k, v := fmt.Sprintf("%s%03d", prefix, i), h.value()
			must(h, b.Put([]byte(k), v))
			m[name][k] = string(v)
		}
	case op < 8: // a range goes
		from, ks := h.key(), sorted(m[name])
		for _, k := range ks[sort.SearchStrings(ks, from):] {
			if h.pick(30) == 0 {
				break
			}
			must(h, b.Delete([]byte(k)))
			delete(m[name], k)
		}
	case op < 12:
		h.wander(b, m[name])
	case op < 18:
		k := h.key()
		must(h, b.Delete([]byte(k)))
		delete(m[name], k)
	default:
		k, v := h.key(), h.value()
		must(h, b.Put([]byte(k), v))
		m[name][k] = string(v)
	}
}

func (h *history) key() string {
	k := string([]byte{byte('a' + h.pick(5)), byte('a' + h.pick(5)), byte(h.pick(3))}[:1+h.pick(3)])
	if h.pick(20) == 0 {
		k += string(bytes.Repeat([]byte{'k'}, 1+h.pick(1000)))
	}
	return k
}

func (h *history) value() []byte {
	n := h.pick(40)
	switch h.pick(40) {
	case 0:
		n = h.pick(20000)
	case 1:
		return nil
	}
	return bytes.Repeat([]byte{byte('0' + h.pick(10))}, n)
}

// wander walks a cursor at random over the bucket and over an index of the
// oracle's keys, from -1 (before the first) to len (after the last).
func (h *history) wander(b store.Bucket, m map[string]string) {
	ks, at := sorted(m), -1
	c := b.Cursor()
	for range h.pick(30) {
		var k, v []byte
		switch h.pick(8) {
		case 0:
			k, v = c.First()
			at = 0
		case 1:
			k, v = c.Last()
			at = len(ks) - 1
		case 2:
			seek := h.key()
			k, v = c.Seek([]byte(seek))
			at = sort.SearchStrings(ks, seek)
		case 3, 4, 5:
			k, v = c.Next()
			at = min(at+1, len(ks))
		default:
			k, v = c.Prev()
			at = max(at-1, -1)
		}
		if at < 0 || at >= len(ks) {
			if k != nil || v != nil {
				h.Fatalf("past an end: got %q", k)
			}
			continue
		}
		if k == nil || v == nil || string(k) != ks[at] || string(v) != m[ks[at]] {
			h.Fatalf("cursor: got %q, want %q", k, ks[at])
		}
	}
}

// compare fails unless tx holds exactly what m holds.
func (h *history) compare(tx store.Tx, m model) {
	h.Helper()
	if got, want := slices.Collect(tx.Buckets()), slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
		h.Fatalf("got buckets %q, want %q", got, want)
	}
	for name, want := range m {
		b := tx.Bucket(name)
		ks := sorted(want)
		h.wantKeys(b, ks...)
		c, i := b.Cursor(), 0
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if string(v) != want[ks[i]] || v == nil {
				h.Fatalf("bucket %q key %q: got %d bytes, want %d", name, k, len(v), len(want[ks[i]]))
			}
			i++
		}
		k := h.key()
		got := b.Get([]byte(k))
		if v, ok := want[k]; ok != (got != nil) || string(got) != v {
			h.Fatalf("bucket %q key %q: got %q", name, k, got)
		}
		h.wander(b, want)
	}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
