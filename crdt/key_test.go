package crdt_test

import (
	"bytes"
	"errors"
	"testing"

	"bzzz/crdt"

	"pgregory.net/rapid"
)

// names draws names from the bytes that matter to the encoding.
func names() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x10, 0x15, 'a', 0xFE, 0xFF}), 0, 5)
}

var marks = []crdt.Mark{crdt.MarkCounter, crdt.MarkAddSet, crdt.MarkRemSet, crdt.MarkMap, crdt.MarkList, crdt.MarkListBind}

func TestNamesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := names().Draw(t, "a"), names().Draw(t, "b")
		ka, kb := crdt.AppendName(nil, a), crdt.AppendName(nil, b)
		if bytes.Compare(ka, kb) != bytes.Compare(a, b) {
			t.Fatalf("names %x, %x are stored as %x, %x", a, b, ka, kb)
		}
		if bytes.HasPrefix(ka, kb) != bytes.HasPrefix(a, b) {
			t.Fatalf("prefix: names %x, %x are stored as %x, %x", a, b, ka, kb)
		}
		// What belongs to a name lies right behind it: before every longer name.
		m := rapid.SampledFrom(marks).Draw(t, "mark")
		part := append(crdt.AppendMark(ka, m), names().Draw(t, "part")...)
		if bytes.Compare(ka, part) >= 0 || (bytes.Compare(a, b) < 0 && bytes.Compare(part, kb) >= 0) {
			t.Fatalf("part %x of %x is not right behind it (%x)", part, ka, kb)
		}
	})
}

func TestStoredKeysAreUnambiguous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name, part := names().Draw(t, "name"), names().Draw(t, "part")
		m := rapid.SampledFrom(marks).Draw(t, "mark")
		key := crdt.AppendName(nil, name)
		gotName, rest, err := crdt.SplitName(key)
		if _, _, ok := crdt.SplitMark(rest); !bytes.Equal(gotName, name) || len(rest) != 0 || ok || err != nil {
			t.Fatalf("%x splits into %x, %x, %v", key, gotName, rest, err)
		}
		key = append(crdt.AppendMark(key, m), part...)
		whole := bytes.Clone(key)
		gotName, rest, err = crdt.SplitName(key)
		gotMark, component, ok := crdt.SplitMark(rest)
		if !bytes.Equal(gotName, name) || gotMark != m || !bytes.Equal(component, part) || !ok || err != nil {
			t.Fatalf("%x splits into %x, %x, %x, %v", key, gotName, gotMark, component, err)
		}
		if gotName = append(gotName, "tail"...); !bytes.Equal(key, whole) {
			t.Fatalf("appending to the name changed the key to %x", key)
		}
	})
}

func TestSplitNameRefuses(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"\x00", "a\x00", "a\x00\xff\x00"} {
		if _, _, err := crdt.SplitName([]byte(key)); !errors.Is(err, crdt.ErrInvalid) {
			t.Errorf("SplitName(%q) = %v, want ErrInvalid", key, err)
		}
	}
	for _, rest := range []string{"", "\x00", "\x00\xff", "a\x10"} {
		if _, _, ok := crdt.SplitMark([]byte(rest)); ok {
			t.Errorf("SplitMark(%q) finds a mark", rest)
		}
	}
}

func TestPrefixEndIsTheFirstKeyBehind(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prefix, key := names().Draw(t, "prefix"), names().Draw(t, "key")
		end := crdt.PrefixEnd(prefix)
		inside := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
		if inside != bytes.HasPrefix(key, prefix) {
			t.Fatalf("PrefixEnd(%x) = %x: key %x", prefix, end, key)
		}
	})
}

func FuzzSplitName(f *testing.F) {
	f.Add([]byte("name"))
	f.Add([]byte("a\x00\xffb\x00\x14position"))
	f.Fuzz(func(t *testing.T, key []byte) {
		name, rest, err := crdt.SplitName(key)
		if err != nil {
			return
		}
		if again := append(crdt.AppendName(nil, name), rest...); !bytes.Equal(again, key) {
			t.Fatalf("%x splits into %x and %x, which join to %x", key, name, rest, again)
		}
	})
}
