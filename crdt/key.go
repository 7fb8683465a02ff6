package crdt

import (
	"bytes"
	"fmt"
)

// Keys as stored are order-preserving tuples. A name (what a user calls a key)
// is its bytes with every 0x00 written as 0x00 0xFF; a 0x00 followed by
// anything else separates components, so that an element of a set, a field of
// a map or the slot of a counter lies right behind the name it belongs to and
// inside every prefix that holds the name. Byte order of stored keys is the
// order of names, whatever bytes the names have.
const (
	escape  = 0x00
	escaped = 0xFF
)

// Mark is the byte after 0x00 that says what the component behind it is.
type Mark byte

// The marks. 0x00 is the namespace's own records (a stored key that begins
// with it has no name), 0xFF is taken by escaped zero bytes.
const (
	MarkSystem   Mark = 0x00 // records of the namespace itself
	MarkCounter  Mark = 0x10 // a counter's slot: 16 bytes of ReplicaID
	MarkAddSet   Mark = 0x11 // an element of an add-wins set
	MarkRemSet   Mark = 0x12 // an element of a remove-wins set
	MarkMap      Mark = 0x13 // a field of a map; the field is a name of its own
	MarkList     Mark = 0x14 // an element of a list: its position
	MarkListBind Mark = 0x15 // binding of a list's short writer id
)

// AppendName appends the stored form of a name or of a prefix of names.
func AppendName(b, name []byte) []byte {
	for {
		i := bytes.IndexByte(name, escape)
		if i < 0 {
			return append(b, name...)
		}
		b = append(append(b, name[:i+1]...), escaped)
		name = name[i+1:]
	}
}

// AppendMark appends a separator.
func AppendMark(b []byte, m Mark) []byte { return append(b, escape, byte(m)) }

// SplitName returns the name a stored key begins with, and what lies behind it:
// nothing, or a mark (rest[0] is 0x00, rest[1] the mark) and its component.
// The name shares key's bytes unless it holds a zero byte. ErrInvalid for a
// key that ends in the middle of an escape.
func SplitName(key []byte) (name, rest []byte, err error) {
	i := bytes.IndexByte(key, escape)
	if i < 0 {
		return key, nil, nil
	}
	name = key[:i:i]
	for i >= 0 {
		if len(key) < i+2 {
			return nil, nil, fmt.Errorf("stored key ends in an escape: %w", ErrInvalid)
		}
		if key[i+1] != escaped {
			return name, key[i:], nil
		}
		name = append(name, escape)
		key = key[i+2:]
		if i = bytes.IndexByte(key, escape); i < 0 {
			return append(name, key...), nil, nil
		}
		name = append(name, key[:i]...)
	}
	return name, nil, nil
}

// SplitMark returns the mark at the front of what SplitName left and the
// component behind it. ok is false if rest does not begin with a mark.
func SplitMark(rest []byte) (m Mark, component []byte, ok bool) {
	if len(rest) < 2 || rest[0] != escape || rest[1] == escaped {
		return 0, nil, false
	}
	return Mark(rest[1]), rest[2:], true
}

// PrefixEnd returns the first key behind all keys that begin with prefix, nil
// if there is none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
