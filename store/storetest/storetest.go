// Package storetest is the suite that every implementation of store.KV passes.
//
// Run has one subtest per sentence of the contract, a random history against
// a plain map, readers beside a writer for the race detector, and, for stores
// that outlive their Close, what a reopened store must hold. Bench measures,
// Fuzz turns bytes into histories.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"bzzz/store"
)

// Open makes an empty store for one test. The suite closes it.
type Open func(t testing.TB) store.KV

// Reopener is what a store has in addition if it outlives its Close: Reopen
// closes it and opens what it kept.
type Reopener interface {
	store.KV
	Reopen(t testing.TB) store.KV
}

// Run runs the whole suite against the stores that open makes.
func Run(t *testing.T, open func(t testing.TB) store.KV) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"KV", kvTests},
		{"End", endTests},
		{"Tx", txTests},
		{"Bucket", bucketTests},
		{"Cursor", cursorTests},
		{"History", historyTests},
		{"Reopen", reopenTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range group.tests {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					s := open(t)
					tt.run(suite{t, s})
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(s suite)
}

// suite is one test's store, with helpers that end the test on errors.
type suite struct {
	testing.TB
	kv store.KV
}

var errStop = errors.New("stop")

// must ends the test if err is not nil.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr ends the test if err is not want.
func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func (s suite) close() {
	s.Helper()
	must(s, s.kv.Close())
}

// view and update fail the test if the transaction does; they are for the test
// goroutine only.
func (s suite) view(fn func(tx store.Tx)) {
	s.Helper()
	must(s, s.kv.View(func(tx store.Tx) error { fn(tx); return nil }))
}

func (s suite) update(fn func(tx store.Tx)) {
	s.Helper()
	must(s, s.kv.Update(func(tx store.Tx) error { fn(tx); return nil }))
}

func (s suite) snapshot() store.Snapshot {
	s.Helper()
	snap, err := s.kv.Snapshot()
	must(s, err)
	return snap
}

// fill creates bucket name with the given keys, each with itself as value.
func (s suite) fill(name string, keys ...string) {
	s.Helper()
	s.update(func(tx store.Tx) {
		b := s.create(tx, name)
		for _, k := range keys {
			must(s, b.Put([]byte(k), []byte(k)))
		}
	})
}

func (s suite) create(tx store.Tx, name string) store.Bucket {
	s.Helper()
	b, err := tx.CreateBucket(name, store.Ordered)
	must(s, err)
	return b
}

// put stores one pair in an existing bucket.
func (s suite) put(name, key, value string) {
	s.Helper()
	s.update(func(tx store.Tx) { must(s, tx.Bucket(name).Put([]byte(key), []byte(value))) })
}

// wantGet fails unless key has value in tx; the value "-" means none.
func (s suite) wantGet(tx store.Tx, name, key, value string) {
	s.Helper()
	b := tx.Bucket(name)
	if b == nil {
		s.Fatalf("bucket %q is missing", name)
	}
	got := b.Get([]byte(key))
	if value == "-" && got != nil || value != "-" && (got == nil || string(got) != value) {
		s.Fatalf("bucket %q key %q: got %q (nil: %v), want %q", name, key, got, got == nil, value)
	}
}

// wantKeys fails unless the bucket holds exactly these keys, in both directions.
func (s suite) wantKeys(b store.Bucket, want ...string) {
	s.Helper()
	var got []string
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		got = append(got, string(k))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Fatalf("forward: got %q, want %q", got, want)
	}
	i := len(want)
	for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
		if i--; i < 0 || string(k) != want[i] {
			s.Fatalf("backward, %d left: got %q, want of %q", i, k, want)
		}
	}
	if i != 0 {
		s.Fatalf("backward: %d keys missing of %q", i, want)
	}
}

// keys returns n rising keys.
func keys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("key-%06d", i)
	}
	return out
}

// panics runs fn and returns what it panicked with.
func panics(fn func()) (r any) {
	defer func() { r = recover() }()
	fn()
	return nil
}

func big(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }
