package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

var update = flag.Bool("update", false, "rewrite testdata/golden and the seed corpora")

// recode decodes a payload of any type and encodes what came out.
func recode(typ Type, p []byte, z *Zstd, d *Decoder) ([]byte, error) {
	switch typ {
	case TypeHello:
		m, err := DecodeHello(p)
		return m.Append(nil), err
	case TypeWelcome:
		m, err := DecodeWelcome(p)
		return m.Append(nil), err
	case TypeOpen:
		m, err := DecodeOpen(p)
		return m.Append(nil), err
	case TypeCheck:
		m, err := DecodeCheck(p)
		return m.Append(nil), err
	case TypeCredit:
		m, err := DecodeCredit(p)
		return m.Append(nil), err
	case TypeBye:
		m, err := DecodeBye(p)
		return m.Append(nil), err
	case TypeState:
		m, err := DecodeState(p, z)
		return m.Append(nil, z), err
	case TypeDone:
		m, err := DecodeDone(p, z)
		return m.Append(nil, z), err
	case TypeBundle:
		m, err := DecodeBundle(p, z)
		return m.Append(nil, z), err
	case TypeRepair:
		m, err := DecodeRepair(p)
		return m.Append(nil), err
	case TypeMore:
		m, err := DecodeMore(p)
		return m.Append(nil), err
	case TypeCells, TypeWalk:
		m, err := DecodePart(p)
		return m.Append(nil), err
	case TypeOffer:
		m, err := DecodeOffer(p, z)
		return m.Append(nil, z), err
	case TypeFix:
		m, err := DecodeFix(p, z)
		return m.Append(nil, z), err
	case TypeWant:
		m, err := DecodeWant(p)
		return m.Append(nil), err
	case TypeBlock:
		m, err := DecodeBlock(p)
		return m.Append(nil), err
	case TypePast, TypePastAt:
		m, err := DecodePast(p)
		return m.Append(nil), err
	case TypeBatch, TypeHistory:
		b, err := d.Decode(p)
		if err != nil {
			return nil, err
		}
		e := NewEncoder(z)
		for i := range b.Versions {
			if !e.Add(&b.Versions[i]) {
				return nil, fmt.Errorf("version %d does not fit again", i)
			}
		}
		return e.Flush(b.NS, b.Number), nil
	}
	return nil, fmt.Errorf("no such message")
}

func fill(n byte, b []byte) {
	for i := range b {
		b[i] = n + byte(i)
	}
}

func sampleClock(n int) crdt.Clock {
	c := crdt.NewClock()
	for i := range n {
		c.AddRange(replica(byte(i)), 1, uint64(1000*i+7))
		c.AddRange(replica(byte(i)), uint64(1000*i+10), uint64(1000*i+12))
	}
	return c
}

func sampleSnapshot() Snapshot {
	s := Snapshot{Node: replica(1), Epoch: 0x0102030405060708, Count: 50_000, Clock: sampleClock(2), Gone: crdt.NewClock()}
	fill(10, s.Journal[:])
	fill(40, s.Root[:])
	return s
}

type sample struct {
	typ     Type
	payload []byte
}

// samples returns one payload of each type, the golden ones.
func samples(z *Zstd) map[string]sample {
	hello := Hello{MinProto: 1, MaxProto: 1, Caps: 3, Entries: []Entry{{Namespace: "default"}}}
	fill(1, hello.Salt[:])
	fill(100, hello.Entries[0].Digest[:])
	welcome := Welcome{Proto: 1, Caps: 3, Verdicts: []Verdict{
		{Code: Equal, Proof: hello.Salt}, {Code: Differs}, {Code: Refused, Kind: errs.KindReadOnly},
	}, Extra: []string{"logs", "späße"}}
	scope := [][]byte{[]byte("a/"), []byte("b/")}
	parts := Welcome{Proto: 1, Verdicts: []Verdict{{Code: Narrowed, Prefixes: scope}, {Code: Narrowed}}, Extra: []string{"logs"}, Parts: []Offered{{"notes", scope}}}
	check := Check{NS: 1, Root: sampleSnapshot().Root, Behind: true}
	e := NewEncoder(z)
	for _, v := range sampleVersions() {
		e.Add(&v)
	}
	batch := bytes.Clone(e.Flush(0, 3))
	return map[string]sample{
		"hello":   {TypeHello, hello.Append(nil)},
		"welcome": {TypeWelcome, welcome.Append(nil)},
		"open":    {TypeOpen, Open{[]Entry{{Namespace: "notes", Prefixes: [][]byte{[]byte("a/"), []byte("b/")}}}}.Append(nil)},
		"state":   {TypeState, State{NS: 300, Snapshot: sampleSnapshot()}.Append(nil, z)},
		"based":   {TypeState, State{NS: 3, Based: true, Base: [16]byte{9, 8, 7}, Snapshot: sampleSnapshot()}.Append(nil, z)},
		"batch":   {TypeBatch, batch},
		"history": {TypeHistory, batch},
		"done":    {TypeDone, Done{1, 2, 3, sampleClock(3), sampleClock(1)}.Append(nil, z)},
		"parts":   {TypeWelcome, parts.Append(nil)},
		"check":   {TypeCheck, check.Append(nil)},
		"credit":  {TypeCredit, Credit{4 << 20}.Append(nil)},
		"bye":     {TypeBye, Bye{errs.KindUnsupported, "no common protocol"}.Append(nil)},
		"bundle":  {TypeBundle, Bundle{"default", sampleClock(1), sampleSnapshot()}.Append(nil, z)},
		"repair":  {TypeRepair, Repair{1, ModeSketch, hello.Salt, check.Root, 50_000, 24}.Append(nil)},
		"cells":   {TypeCells, Part{1, []byte("cells")}.Append(nil)},
		"more":    {TypeMore, More{1, 300}.Append(nil)},
		"want":    {TypeWant, Want{[]Item{{true, 0, check.Root}, {false, 65536, check.Root}}}.Append(nil)},
		"block":   {TypeBlock, Block{Item{false, 5, check.Root}, true, []byte("chunk")}.Append(nil)},
		"past":    {TypePast, Past{1, 300, false}.Append(nil)},
		"pastat":  {TypePastAt, Past{1, 300, true}.Append(nil)},
		"walk":    {TypeWalk, Part{1, nil}.Append(nil)},
		"offer":   {TypeOffer, Offer{1, sampleClock(2)}.Append(nil, z)},
		"fix":     {TypeFix, Fix{NS: 1, Want: sampleClock(1), Dead: sampleClock(2)}.Append(nil, z)},
		"fixrest": {TypeFix, Fix{NS: 1, Want: sampleClock(1), Dead: crdt.NewClock(), Rest: true, Sum: SumOf(sampleClock(2))}.Append(nil, z)},
	}
}

// sampleStream returns all samples but the second batch as a stream, and where
// its frames begin.
func sampleStream(z *Zstd) (stream []byte, bounds []int) {
	all := samples(z)
	for _, name := range []string{"bundle", "hello", "welcome", "open", "state", "batch", "done", "check", "credit", "repair", "cells", "more", "walk", "offer", "fix", "want", "block", "past", "pastat", "bye"} {
		bounds = append(bounds, len(stream))
		stream = AppendFrame(stream, all[name].typ, all[name].payload)
	}
	return stream, bounds
}

func TestGolden(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	for name, s := range samples(z) {
		path := filepath.Join("testdata", "golden", name+".hex")
		got := hexLines(AppendFrame(nil, s.typ, s.payload))
		if *update {
			writeFile(t, path, got)
			writeSeed(t, "FuzzDecode", name, fmt.Sprintf("byte(%q)\n[]byte(%q)\n", rune(s.typ), s.payload))
			writeSeed(t, "FuzzReader", name, fmt.Sprintf("[]byte(%q)\n", AppendFrame(nil, s.typ, s.payload)))
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: got\n%swant\n%s%v", name, got, want, err)
		}
		again, err := recode(s.typ, s.payload, z, NewDecoder(z))
		if err != nil || !bytes.Equal(again, s.payload) {
			t.Errorf("%s: decodes to\n%swant\n%s%v", name, hexLines(again), hexLines(s.payload), err)
		}
	}
}

func hexLines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}

func writeSeed(t *testing.T, fuzz, name, body string) {
	writeFile(t, filepath.Join("testdata", "fuzz", fuzz, name), "go test fuzz v1\n"+body)
}

func writeFile(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The frames that decide what a check costs when nothing differs (S3).
func TestOpeningSizes(t *testing.T) {
	t.Parallel()
	hello := Hello{MinProto: 1, MaxProto: 2, Caps: 1<<14 - 1, Entries: []Entry{{Namespace: "default", Met: true}}}
	if n := len(AppendFrame(nil, TypeHello, hello.Append(nil))); n > 47 {
		t.Errorf("HELLO of %d bytes, want at most 47", n)
	}
	welcome := Welcome{Proto: 1, Caps: 1<<14 - 1, Verdicts: []Verdict{{Code: Equal}}}
	if n := len(AppendFrame(nil, TypeWelcome, welcome.Append(nil))); n > 18 {
		t.Errorf("WELCOME of %d bytes, want at most 18", n)
	}
}

func TestMessagesIdentity(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	opts := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(crdt.Clock.Equal)}
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 4).Draw(t, "entries")
		hello := Hello{MinProto: 1, MaxProto: rapid.Uint64Min(1).Draw(t, "max"), Caps: rapid.Uint64().Draw(t, "caps"), Entries: entries}
		gotHello, err := DecodeHello(hello.Append(nil))
		same(t, gotHello, hello, err, opts)

		welcome := Welcome{
			Proto: hello.MaxProto, Caps: hello.Caps,
			Verdicts: rapid.SliceOfN(rapid.Custom(drawVerdict), 0, 4).Draw(t, "verdicts"),
			Extra:    rapid.SliceOfN(drawName(), 0, 4).Draw(t, "extra"),
			Parts:    rapid.SliceOfN(rapid.Custom(drawPart), 0, 3).Draw(t, "parts"),
		}
		gotWelcome, err := DecodeWelcome(welcome.Append(nil))
		same(t, gotWelcome, welcome, err, opts)

		clock, gone := drawClock(t), drawClock(t)
		state := State{NS: hello.Caps >> 1, Based: hello.Caps&1 != 0, Snapshot: sampleSnapshot()}
		if state.Based {
			fill(byte(hello.Caps), state.Base[:])
		}
		state.Epoch, state.Count, state.Clock, state.Gone = hello.Caps, hello.Caps, clock, gone
		gotState, err := DecodeState(state.Append(nil, z), z)
		same(t, gotState, state, err, opts)

		done := Done{hello.Caps, hello.MaxProto, hello.MinProto, gone, clock}
		gotDone, err := DecodeDone(done.Append(nil, z), z)
		same(t, gotDone, done, err, opts)

		bundle := Bundle{drawName().Draw(t, "name"), drawClock(t), state.Snapshot}
		gotBundle, err := DecodeBundle(bundle.Append(nil, z), z)
		same(t, gotBundle, bundle, err, opts)
	})
}

func same[T any](t *rapid.T, got, want T, err error, opts cmp.Options) {
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Fatal(d)
	}
}

func drawName() *rapid.Generator[string] {
	return rapid.StringMatching(`[ -~äß€😀]{1,60}`)
}

func drawEntry(t *rapid.T) Entry {
	e := Entry{Namespace: drawName().Draw(t, "name")}
	e.Prefixes = drawPrefixes(t, 0)
	if e.Met = rapid.Bool().Draw(t, "met"); e.Met {
		fill(rapid.Byte().Draw(t, "hint"), e.Hint[:])
	}
	fill(rapid.Byte().Draw(t, "digest"), e.Digest[:])
	return e
}

func drawPrefixes(t *rapid.T, least int) [][]byte {
	var out [][]byte
	for _, b := range rapid.SliceOfNDistinct(rapid.Byte(), least, 4, rapid.ID).Draw(t, "prefixes") {
		out = append(out, []byte{b, 1})
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

func drawPart(t *rapid.T) Offered {
	return Offered{drawName().Draw(t, "name"), drawPrefixes(t, 1)}
}

func drawVerdict(t *rapid.T) Verdict {
	switch rapid.IntRange(1, 4).Draw(t, "code") {
	case 1:
		return Verdict{Code: Equal, Proof: [8]byte{rapid.Byte().Draw(t, "proof")}}
	case 2:
		return Verdict{Code: Differs}
	case 4:
		return Verdict{Code: Narrowed, Prefixes: drawPrefixes(t, 0)}
	}
	return Verdict{Code: Refused, Kind: errs.Kind(rapid.Byte().Draw(t, "kind"))}
}

func drawClock(t *rapid.T) crdt.Clock {
	c := crdt.NewClock()
	for range rapid.IntRange(0, 100).Draw(t, "ranges") {
		lo := rapid.Uint64Range(1, 1000).Draw(t, "lo")
		c.AddRange(replica(rapid.Byte().Draw(t, "replica")), lo, lo+9)
	}
	return c
}

func TestBye(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                   "plain",
		"\x1b[31mred\r\n\u0085":   "[31mred",
		"bad \xff byte":           "bad \uFFFD byte",
		strings.Repeat("€", 1000): strings.Repeat("€", MaxMessage/3),
	} {
		m, err := DecodeBye(Bye{errs.KindInvalid, in}.Append(nil))
		if err != nil || m.Message != want || m.Kind != errs.KindInvalid {
			t.Errorf("%.20q: got %.20q, %v", in, m.Message, err)
		}
	}
}

// What each decoder refuses, beside what the bit flips find.
func TestStrict(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	cat := func(parts ...any) []byte {
		var b []byte
		for _, p := range parts {
			switch p := p.(type) {
			case int:
				b = append(b, byte(p))
			case string:
				b = append(b, p...)
			case []byte:
				b = append(b, p...)
			}
		}
		return b
	}
	zero := make([]byte, 72)
	digest := zero[:16]
	opening := cat(1, 1, 0, zero[:8])
	tests := []struct {
		name    string
		typ     Type
		payload []byte
		want    error
	}{
		{"hello: protocols 2 to 1", TypeHello, cat(2, 1, 0, zero[:8]), errs.ErrInvalid},
		{"hello: long varint", TypeHello, cat(0x81, 0, 1, 0, zero[:8]), errs.ErrInvalid},
		{"hello: 11-byte varint", TypeHello, bytes.Repeat([]byte{0xff}, 30), errs.ErrInvalid},
		{"hello: empty name", TypeHello, cat(opening, 0, digest), errs.ErrInvalid},
		{"hello: name of 256 bytes", TypeHello, cat(opening, 0x80, 8, bytes.Repeat([]byte("a"), 256), digest), errs.ErrInvalid},
		{"hello: control character", TypeHello, cat(opening, 4, "\n", digest), errs.ErrInvalid},
		{"hello: not UTF-8", TypeHello, cat(opening, 4, 0xff, digest), errs.ErrInvalid},
		{"hello: scope without prefix", TypeHello, cat(opening, 5, "a", 0, digest), errs.ErrInvalid},
		{"hello: empty prefix", TypeHello, cat(opening, 5, "a", 1, 0, digest), errs.ErrInvalid},
		{"hello: prefixes fall", TypeHello, cat(opening, 5, "a", 2, 1, "b", 1, "a", digest), errs.ErrInvalid},
		{"hello: prefix within prefix", TypeHello, cat(opening, 5, "a", 2, 1, "b", 2, "ba", digest), errs.ErrInvalid},
		{"hello: 257 prefixes", TypeHello, cat(opening, 5, "a", 0x81, 2, digest), errs.ErrInvalid},
		{"hello: 4,097 entries", TypeHello, cat(opening, bytes.Repeat(cat(4, "a", digest), 4097)), errs.ErrInvalid},
		{"welcome: unknown verdict", TypeWelcome, cat(1, 0, 9), errs.ErrInvalid},
		{"welcome: verdict after names", TypeWelcome, cat(1, 0, 4, 1, "a", 2), errs.ErrInvalid},
		{"welcome: too many", TypeWelcome, cat(1, 0, bytes.Repeat([]byte{2}, 5000)), errs.ErrInvalid},
		{"check: too long", TypeCheck, cat(0, zero[:48], 0, 0), errs.ErrInvalid},
		{"check: unknown flag", TypeCheck, cat(0, zero[:48], 4), errs.ErrInvalid},
		{"repair: unknown mode", TypeRepair, cat(0, 4, zero[:40], 0, 0), errs.ErrInvalid},
		{"repair: cut short", TypeRepair, cat(0, 1, zero[:40], 0), errs.ErrInvalid},
		{"more: empty", TypeMore, nil, errs.ErrInvalid},
		{"want: manifest with a size", TypeWant, cat(3, zero[:32]), errs.ErrInvalid},
		{"want: cut short", TypeWant, cat(2, zero[:31]), errs.ErrInvalid},
		{"block: neither here nor missing", TypeBlock, cat(2, zero[:32], 2), errs.ErrInvalid},
		{"block: missing with data", TypeBlock, cat(2, zero[:32], 0, 1), errs.ErrInvalid},
		{"past: empty", TypePast, nil, errs.ErrInvalid},
		{"cells: empty", TypeCells, nil, errs.ErrInvalid},
		{"offer: clock missing", TypeOffer, cat(0, 0), errs.ErrInvalid},
		{"fix: the rest and a clock", TypeFix, cat(0, 1, 0, 0), errs.ErrInvalid},
		{"fix: one clock", TypeFix, cat(0, 0, 0), errs.ErrInvalid},
		{"credit: empty", TypeCredit, nil, errs.ErrInvalid},
		{"bye: long", TypeBye, cat(0, bytes.Repeat([]byte("a"), 1025)), errs.ErrInvalid},
		{"bye: escape", TypeBye, cat(0, "\x1b[2J"), errs.ErrInvalid},
		{"done: empty", TypeDone, nil, errs.ErrInvalid},
		{"done: unknown packing", TypeDone, cat(2, zero[:4]), errs.ErrInvalid},
		{"done: clocks missing", TypeDone, cat(0, 0, 0), errs.ErrInvalid},
		{"state: huge clock", TypeState, cat(0, 0, zero, 0, 0xff, 0xff, 0xff, 0x7f), errs.ErrInvalid},
		{"bundle: magic", TypeBundle, cat("BZZZBNDM", 1, 0), errs.ErrInvalid},
		{"bundle: format", TypeBundle, cat("BZZZBNDL", 2, 0), errs.ErrUnsupported},
		{"bundle: empty", TypeBundle, nil, errs.ErrInvalid},
	}
	for _, tt := range tests {
		if _, err := recode(tt.typ, tt.payload, z, nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Each decoder refuses, or reads something that encodes and decodes again.
func FuzzDecode(f *testing.F) {
	z := NewZstd()
	for _, s := range samples(z) {
		f.Add(byte(s.typ), s.payload)
	}
	for _, s := range hostile() {
		f.Add(byte(s.typ), s.payload)
	}
	f.Fuzz(func(t *testing.T, typ byte, p []byte) {
		if !Type(typ).Known() {
			return
		}
		again, err := recode(Type(typ), p, z, NewDecoder(z))
		if err != nil {
			return
		}
		switch Type(typ) {
		case TypeHello, TypeWelcome, TypeOpen, TypeCheck, TypeCredit, TypeBye:
			if !bytes.Equal(again, p) {
				t.Errorf("%s accepts %x, which is %x", Type(typ), p, again)
			}
		}
		third, err := recode(Type(typ), again, z, NewDecoder(z))
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("%s: %x, then %x: %v", Type(typ), again, third, err)
		}
	})
}
