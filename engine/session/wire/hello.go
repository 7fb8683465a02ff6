package wire

import (
	"bytes"
	"encoding/binary"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// Bounds of the opening messages.
const (
	MaxNamespace = 255  // bytes of a namespace's name
	MaxEntries   = 4096 // namespaces in one message
	MaxPrefixes  = 256  // prefixes of one scope
)

// Entry offers one namespace. Namespaces are numbered through the session, from
// 0, in the order in which HELLO and then OPEN name them.
//
//	entry = name length << 2 | met << 1 | scoped | name
//	      | if scoped: number of prefixes, for each its length and its bytes
//	      | if met: hint [5]
//	      | digest [16]
//
// Prefixes are 1 to 1,024 bytes, in rising order, none of them the beginning of
// another.
type Entry struct {
	Namespace string   // 1..MaxNamespace bytes of UTF-8 without control characters
	Prefixes  [][]byte // the scope; none means the whole namespace
	Met       bool
	Hint      [5]byte  // if Met: the beginning of the digest of a state that both may once have agreed on
	Digest    [16]byte // of root, clock and gone marks, salted
}

func (e Entry) append(dst []byte) []byte {
	head := uint64(len(e.Namespace)) << 2
	if len(e.Prefixes) > 0 {
		head |= 1
	}
	if e.Met {
		head |= 2
	}
	dst = binary.AppendUvarint(dst, head)
	dst = append(dst, e.Namespace...)
	if len(e.Prefixes) > 0 {
		dst = appendPrefixes(dst, e.Prefixes)
	}
	if e.Met {
		dst = append(dst, e.Hint[:]...)
	}
	return append(dst, e.Digest[:]...)
}

func (c *cursor) entry() Entry {
	var e Entry
	head := c.count("as the head of an entry", MaxNamespace<<2|3)
	e.Namespace = c.namespace(head >> 2)
	if head&1 == 1 {
		if e.Prefixes = c.prefixes(); e.Prefixes == nil {
			c.fail("scope without a prefix")
		}
	}
	if e.Met = head&2 != 0; e.Met {
		c.fill(e.Hint[:])
	}
	c.fill(e.Digest[:])
	return e
}

func (c *cursor) namespace(n int) string {
	if n == 0 || n > MaxNamespace {
		c.fail("namespace of %d bytes (1 to %d)", n, MaxNamespace)
	}
	return c.text("namespace", n)
}

// appendPrefixes appends the number of prefixes, and for each its length and
// its bytes.
func appendPrefixes(dst []byte, prefixes [][]byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(prefixes)))
	for _, p := range prefixes {
		dst = append(binary.AppendUvarint(dst, uint64(len(p))), p...)
	}
	return dst
}

// prefixes reads what appendPrefixes appended.
func (c *cursor) prefixes() [][]byte {
	var out [][]byte
	for range c.count("prefixes", MaxPrefixes) {
		out = append(out, c.prefix(out))
	}
	return out
}

// prefix reads the prefix that follows the ones before it.
func (c *cursor) prefix(before [][]byte) []byte {
	p := bytes.Clone(c.take(c.count("bytes of a prefix", crdt.MaxKey)))
	if len(p) == 0 {
		c.fail("empty prefix")
	}
	if n := len(before); n > 0 && (bytes.Compare(before[n-1], p) >= 0 || bytes.HasPrefix(p, before[n-1])) {
		c.fail("prefixes out of order or within one another")
	}
	return p
}

// entries reads entries up to the end.
func (c *cursor) entries() []Entry {
	var out []Entry
	for len(c.b) > 0 && c.err == nil {
		if len(out) == MaxEntries {
			c.fail("more than %d namespaces", MaxEntries)
			break
		}
		out = append(out, c.entry())
	}
	return out
}

// Hello is the initiator's first message. With one namespace of 7 bytes and
// capabilities below 2^14 its frame has 42 bytes at most. That no namespace is
// named twice is for the session to check.
//
//	HELLO = min protocol | max protocol | capabilities | salt [8] | entry ...
type Hello struct {
	MinProto, MaxProto uint64 // the protocol versions spoken
	Caps               uint64 // a bit for each optional ability
	Salt               [8]byte
	Entries            []Entry
}

// Append appends the payload.
func (m Hello) Append(dst []byte) []byte {
	for _, n := range [...]uint64{m.MinProto, m.MaxProto, m.Caps} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = append(dst, m.Salt[:]...)
	for _, e := range m.Entries {
		dst = e.append(dst)
	}
	return dst
}

// DecodeHello reads what Append appended.
func DecodeHello(payload []byte) (Hello, error) {
	c := cursor{b: payload}
	m := Hello{MinProto: c.uvarint(), MaxProto: c.uvarint(), Caps: c.uvarint()}
	if m.MinProto > m.MaxProto {
		c.fail("protocols %d to %d", m.MinProto, m.MaxProto)
	}
	c.fill(m.Salt[:])
	m.Entries = c.entries()
	return m, c.end("hello")
}

// Open names further namespaces, as HELLO does; their numbers go on from there.
//
//	OPEN = entry ...
type Open struct{ Entries []Entry }

// Append appends the payload.
func (m Open) Append(dst []byte) []byte {
	for _, e := range m.Entries {
		dst = e.append(dst)
	}
	return dst
}

// DecodeOpen reads what Append appended.
func DecodeOpen(payload []byte) (Open, error) {
	c := cursor{b: payload}
	m := Open{c.entries()}
	return m, c.end("open")
}

// Code is the responder's verdict on one namespace. Numbers never change their
// meaning.
type Code byte

// The codes. 4 and 6 are taken by the names that follow the verdicts.
const (
	Equal    Code = 1 // both hold the same, Proof shows it
	Differs  Code = 2 // to be reconciled
	Refused  Code = 3 // for the reason in Kind
	Narrowed Code = 5 // only the scope in Prefixes is to be reconciled

	codeExtra Code = 4
	codePart  Code = 6
)

// Verdict answers one Entry.
type Verdict struct {
	Code  Code
	Proof [8]byte   // if Equal
	Kind  errs.Kind // if Refused
	// If Narrowed: what the responder holds of what was asked for, in the form of
	// an Entry's; none if that is nothing.
	Prefixes [][]byte
}

// Offered is a namespace of which the responder holds only a scope.
type Offered struct {
	Namespace string
	Prefixes  [][]byte // as an Entry's, at least one
}

// Welcome is the responder's first message. Its frame has 17 bytes for one
// equal namespace.
//
//	WELCOME = protocol | capabilities | item ...
//	item    = 1 | proof [8]      equal         } verdicts, in the order
//	        | 2                  differs       } of HELLO's entries
//	        | 3 | error kind u8  refused       }
//	        | 5 | prefixes       narrowed      }
//	        | 4 | length | name  a namespace the responder has besides
//	        | 6 | length | name | prefixes     one of which it has a part
type Welcome struct {
	Proto    uint64 // chosen from the range in HELLO
	Caps     uint64 // the responder's
	Verdicts []Verdict
	Extra    []string
	Parts    []Offered
}

// Append appends the payload.
func (m Welcome) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, m.Proto)
	dst = binary.AppendUvarint(dst, m.Caps)
	for _, v := range m.Verdicts {
		dst = append(dst, byte(v.Code))
		switch v.Code {
		case Equal:
			dst = append(dst, v.Proof[:]...)
		case Refused:
			dst = append(dst, byte(v.Kind))
		case Narrowed:
			dst = appendPrefixes(dst, v.Prefixes)
		}
	}
	for _, name := range m.Extra {
		dst = appendText(append(dst, byte(codeExtra)), name)
	}
	for _, p := range m.Parts {
		dst = appendPrefixes(appendText(append(dst, byte(codePart)), p.Namespace), p.Prefixes)
	}
	return dst
}

// DecodeWelcome reads what Append appended. Whether there is a verdict for each
// entry is for the caller to check.
func DecodeWelcome(payload []byte) (Welcome, error) {
	c := cursor{b: payload}
	m := Welcome{Proto: c.uvarint(), Caps: c.uvarint()}
	for len(c.b) > 0 && c.err == nil {
		if len(m.Verdicts) > MaxEntries || len(m.Extra)+len(m.Parts) > MaxEntries {
			c.fail("more than %d namespaces", MaxEntries)
			break
		}
		v := Verdict{Code: Code(c.u8())}
		switch {
		case v.Code == codeExtra:
			m.Extra = append(m.Extra, c.namespace(c.count("bytes of a namespace", MaxNamespace)))
			if len(m.Parts) > 0 {
				c.fail("names out of order")
			}
			continue
		case v.Code == codePart:
			m.Parts = append(m.Parts, c.offered())
			continue
		case v.Code == Narrowed:
			v.Prefixes = c.prefixes()
		case v.Code == Equal:
			c.fill(v.Proof[:])
		case v.Code == Refused:
			v.Kind = errs.Kind(c.u8())
		case v.Code != Differs:
			c.fail("unknown verdict %d", v.Code)
		}
		if len(m.Extra)+len(m.Parts) > 0 {
			c.fail("verdict after the names")
		}
		m.Verdicts = append(m.Verdicts, v)
	}
	return m, c.end("welcome")
}

func (c *cursor) offered() Offered {
	p := Offered{Namespace: c.namespace(c.count("bytes of a namespace", MaxNamespace)), Prefixes: c.prefixes()}
	if p.Prefixes == nil {
		c.fail("part of a namespace without a prefix")
	}
	return p
}
