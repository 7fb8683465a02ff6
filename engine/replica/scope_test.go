package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"bzzz/crdt"
)

func TestNewScopeRefuses(t *testing.T) {
	t.Parallel()
	many := make([][]byte, MaxPrefixes+1)
	for i := range many {
		many[i] = fmt.Appendf(nil, "%04d", i)
	}
	for name, prefixes := range map[string][][]byte{
		"none":         {},
		"too many":     many,
		"empty":        {[]byte("a"), {}},
		"too long":     {[]byte(strings.Repeat("x", crdt.MaxKey+1))},
		"twice":        {[]byte("a"), []byte("b"), []byte("a")},
		"within":       {[]byte("photos/2024/"), []byte("notes/"), []byte("photos/")},
		"within, near": {[]byte("a"), []byte("aa"), []byte("ab")},
	} {
		if s, err := NewScope(prefixes...); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %q, %v, want invalid", name, s, err)
		}
	}
	if s, err := NewScope(many[:MaxPrefixes]...); err != nil || len(s) != MaxPrefixes {
		t.Errorf("%d prefixes: %v", MaxPrefixes, err)
	}
}

// Scopes against their definition, over all keys of up to four of two letters.
func TestScopeIsASetOfKeys(t *testing.T) {
	t.Parallel()
	var keys [][]byte
	for n := 1; n <= 4; n++ {
		for bits := range 1 << n {
			key := make([]byte, n)
			for i := range key {
				key[i] = byte('a' + bits>>i&1)
			}
			keys = append(keys, key)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() Scope {
		for {
			if random.IntN(8) == 0 {
				return nil
			}
			var prefixes [][]byte
			for range 1 + random.IntN(4) {
				prefixes = append(prefixes, keys[random.IntN(len(keys))])
			}
			if s, err := NewScope(prefixes...); err == nil {
				return s
			}
		}
	}
	has := func(s Scope, key []byte) bool {
		for _, p := range s {
			if bytes.HasPrefix(key, p) {
				return true
			}
		}
		return s == nil
	}
	for range 2000 {
		a, b := draw(), draw()
		both, some := a.Meet(b)
		covers, common := true, false
		for _, key := range append(keys, []byte("aaaaa"), []byte("bbbbb"), []byte("c"), []byte("")) {
			x, y := has(a, key), has(b, key)
			if a.Has(key) != x {
				t.Fatalf("%q has %q: got %v", a, key, !x)
			}
			if got := some && both.Has(key); got != (x && y) {
				t.Fatalf("%q and %q have %q: got %v", a, b, key, got)
			}
			covers = covers && (x || !y)
			common = common || x && y
		}
		if a != nil && b == nil {
			covers = false // there are keys beyond those tried
		}
		if a.Covers(b) != covers || some != common {
			t.Fatalf("%q covers %q: got %v; have keys in common: got %v", a, b, a.Covers(b), some)
		}
		if again, _ := b.Meet(a); !again.Equal(both) {
			t.Fatalf("%q and %q meet in %q, the other way round in %q", a, b, both, again)
		}
		if !a.Equal(a) || a.Equal(b) != (a.Covers(b) && b.Covers(a) && len(a) == len(b)) {
			t.Fatalf("%q equals %q: got %v", a, b, a.Equal(b))
		}
	}
}
