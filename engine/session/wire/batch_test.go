package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// sampleVersions has every field in use.
func sampleVersions() []crdt.Version {
	a, b := replica(1), replica(2)
	at := crdt.HLC(1_760_000_000_000 << 16)
	blob := crdt.DigestCID([32]byte{1, 2, 3})
	both := crdt.Context{{Replica: a, Seq: 7, Direct: true}, {Replica: b, Seq: 3}}
	slices.SortFunc(both, func(x, y crdt.Parent) int { return x.Replica.Compare(y.Replica) })
	return []crdt.Version{
		{Key: []byte("key-1"), Kind: crdt.Put, Dot: crdt.Dot{Replica: a, Seq: 9}, Time: at, First: 9, Last: 10, Value: []byte("one")},
		{Key: []byte("key-2"), Kind: crdt.Put, Dot: crdt.Dot{Replica: a, Seq: 10}, Time: at + 1, First: 9, Last: 10, Value: []byte{}},
		{Key: []byte("key"), Kind: crdt.Delete, Dot: crdt.Dot{Replica: b, Seq: 4}, Time: at - 9<<16, First: 4, Last: 4, Context: both},
		{
			Key: []byte{0, 255}, Kind: crdt.Add, Dot: crdt.Dot{Replica: b, Seq: 5}, Time: at + 5<<16, First: 5, Last: 5, Blob: blob,
			Attrs: []crdt.Attr{{Name: crdt.AttrType, Value: []byte("text/plain")}, {Name: "other"}},
		},
	}
}

// sameVersions compares what identifies versions: all of their fields.
func sameVersions(got, want []crdt.Version) error {
	if len(got) != len(want) {
		return fmt.Errorf("got %d versions, want %d", len(got), len(want))
	}
	for i := range got {
		if g, w := got[i].AppendCanonical(nil), want[i].AppendCanonical(nil); !bytes.Equal(g, w) {
			return fmt.Errorf("version %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
	return nil
}

func drawVersion(t *rapid.T) crdt.Version {
	id := func(label string) crdt.ReplicaID { return replica(rapid.ByteRange(0, 5).Draw(t, label)) }
	seq := rapid.OneOf(rapid.Uint64Range(2, 20), rapid.Uint64Range(2, crdt.MaxSeq))
	v := crdt.Version{
		Key:  rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 20), rapid.SliceOfN(rapid.ByteRange(0, 1), 1, crdt.MaxKey)).Draw(t, "key"),
		Kind: crdt.Kind(rapid.ByteMin(1).Draw(t, "kind")),
		Dot:  crdt.Dot{Replica: id("replica"), Seq: seq.Draw(t, "seq")},
		Time: crdt.HLC(rapid.OneOf(rapid.Uint64Max(200<<16), rapid.Uint64Max(uint64(crdt.MaxHLC-1))).Draw(t, "time")),
	}
	v.First = rapid.OneOf(rapid.Just(v.Dot.Seq), rapid.Uint64Range(1, v.Dot.Seq)).Draw(t, "first")
	v.Last = rapid.OneOf(rapid.Just(v.Dot.Seq), rapid.Uint64Range(v.Dot.Seq, crdt.MaxSeq)).Draw(t, "last")
	switch {
	case v.Kind == crdt.Delete:
	case rapid.IntRange(0, 9).Draw(t, "blob") == 0:
		v.Blob = crdt.DigestCID([32]byte{rapid.Byte().Draw(t, "digest")})
	default:
		v.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
	}
	for n := range rapid.IntRange(0, 6).Draw(t, "parents") {
		p := crdt.Parent{Replica: replica(byte(n)), Seq: seq.Draw(t, "parent"), Direct: rapid.Bool().Draw(t, "direct")}
		if p.Replica == v.Dot.Replica {
			p.Seq = rapid.Uint64Range(1, v.Dot.Seq-1).Draw(t, "own")
		}
		v.Context = append(v.Context, p)
	}
	slices.SortFunc(v.Context, func(a, b crdt.Parent) int { return a.Replica.Compare(b.Replica) })
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zä]{1,10}`), 0, 3, rapid.ID).Draw(t, "attrs") {
		if name != crdt.AttrExpiry {
			v.Attrs = append(v.Attrs, crdt.Attr{Name: name, Value: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "attr")})
		}
	}
	crdt.SortAttrs(v.Attrs)
	return v
}

func TestBatchIdentity(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	rapid.Check(t, func(t *rapid.T) {
		e, d := NewEncoder(z), NewDecoder(z)
		for n := range rapid.IntRange(1, 4).Draw(t, "batches") {
			vs := rapid.SliceOfN(rapid.Custom(drawVersion), 1, 30).Draw(t, "versions")
			if rapid.Bool().Draw(t, "same again") { // runs
				vs = append(vs, slices.Repeat(vs[len(vs)-1:], 5)...)
			}
			for i := range vs {
				if !e.Add(&vs[i]) {
					t.Fatal("does not fit")
				}
			}
			payload := e.Flush(uint64(n), 1<<40)
			again := bytes.Clone(payload)
			b, err := d.Decode(payload)
			if err != nil {
				t.Fatal(err)
			}
			clear(payload) // the versions share nothing with it
			if err := sameVersions(b.Versions, vs); err != nil || b.NS != uint64(n) || b.Number != 1<<40 {
				t.Fatal(b.NS, b.Number, err)
			}
			if n == 0 {
				if p, err := recode(TypeBatch, again, z, NewDecoder(z)); err != nil || !bytes.Equal(p, again) {
					t.Fatalf("encodes as %x, then as %x: %v", again, p, err)
				}
			}
		}
	})
}

// The bytes that PERFORMANCE S1 and S2 count on, everything included.
func TestBytesPerVersion(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		z := NewZstd()
		stream := frames(NewEncoder(z), nil, s.vs, s.cut)
		if got := float64(len(stream)) / float64(len(s.vs)); got > s.most {
			t.Errorf("%s: %.1f bytes a version, want at most %.0f", s.name, got, s.most)
		}
		r, d := NewReader(bytes.NewReader(stream)), NewDecoder(z)
		var got []crdt.Version
		for len(got) < len(s.vs) {
			f, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			b, err := d.Decode(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b.Versions...)
		}
		if err := sameVersions(got, s.vs); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

func TestEmptyBatch(t *testing.T) {
	t.Parallel()
	e := NewEncoder(NewZstd())
	if p := e.Flush(0, 0); p != nil || e.Len() != 0 || e.Count() != 0 {
		t.Errorf("got %x of %d bytes", p, e.Len())
	}
}

// An encoder that is never flushed by size stops where the decoder would.
func TestFullBatch(t *testing.T) {
	t.Parallel()
	a := replica(1)
	next := func(v crdt.Version, i int) crdt.Version {
		v.Dot = crdt.Dot{Replica: a, Seq: uint64(i + 1)}
		v.First, v.Last = v.Dot.Seq, v.Dot.Seq
		return v
	}
	long := crdt.Context{}
	for i := range 100 {
		long = append(long, crdt.Parent{Replica: crdt.ReplicaID{255, byte(i)}, Seq: 1})
	}
	for name, v := range map[string]crdt.Version{
		"tiny":        {Key: []byte("k"), Kind: crdt.Delete},
		"long keys":   {Key: bytes.Repeat([]byte("k"), crdt.MaxKey), Kind: crdt.Delete},
		"long values": {Key: []byte("k"), Kind: crdt.Put, Value: make([]byte, crdt.MaxValue)},
		"contexts":    {Key: []byte("k"), Kind: crdt.Delete, Context: long},
	} {
		e, z := NewEncoder(NewZstd()), NewZstd()
		var vs []crdt.Version
		for i := 0; ; i++ {
			v := next(v, i)
			if !e.Add(&v) {
				break
			}
			vs = append(vs, v)
		}
		if n := e.Count(); n != len(vs) {
			t.Errorf("%s: count %d, want %d", name, n, len(vs))
		}
		p := e.Flush(0, 0)
		b, err := NewDecoder(z).Decode(p)
		if err != nil || len(p) > MaxData {
			t.Fatalf("%s: %d versions in %d bytes: %v", name, len(vs), len(p), err)
		}
		if err := sameVersions(b.Versions[len(vs)-9:], vs[len(vs)-9:]); err != nil || len(b.Versions) != len(vs) {
			t.Errorf("%s: %d versions, want %d: %v", name, len(b.Versions), len(vs), err)
		}
	}
}

// Ids are interned anew before the decoder's table is full.
func TestReset(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	e, d := NewEncoder(z), NewDecoder(z)
	v := sampleVersions()[0]
	v.Context = make(crdt.Context, 50_000)
	for n := range resetReplicas/len(v.Context) + 3 {
		for i := range v.Context {
			v.Context[i] = crdt.Parent{Replica: crdt.ReplicaID{byte(n), byte(i >> 8), byte(i), 1}, Seq: 1}
		}
		if !e.Add(&v) {
			t.Fatal("does not fit")
		}
		b, err := d.Decode(e.Flush(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if n < 9 { // the reset comes after that
			continue
		}
		if err := sameVersions(b.Versions, []crdt.Version{v}); err != nil {
			t.Fatal(n, err)
		}
	}
	if got, want := len(d.lanes), 3*len(v.Context); got > want || got != len(e.lanes) {
		t.Errorf("decoder knows %d replicas, encoder %d: never reset", got, len(e.lanes))
	}
}

// raw makes a batch of uncompressed sections.
func raw(flags byte, n int, meta, values []byte) []byte {
	b := binary.AppendUvarint([]byte{0, 0, 0, flags}, uint64(n))
	b = binary.AppendUvarint(b, uint64(len(meta)))
	return append(append(b, meta...), values...)
}

// zipped compresses without the package's own bounds.
func zipped(b []byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<16))
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(b, nil)
}

// hostile returns payloads that claim far more than they hold.
func hostile() map[string]sample {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x7f}
	ids := append([]byte{1}, bytes.Repeat([]byte{7}, 16)...)
	run := func(v byte, n uint64) []byte { return binary.AppendUvarint([]byte{v, v}, n-2) }
	columns := func(n uint64, rest ...[]byte) []byte { // up to and with the keys: all "k"
		m := bytes.Clone(ids)
		for _, v := range []byte{1, 0, 2, 0, 2, 1, 0} {
			m = append(m, run(v, n)...)
		}
		m = append(m, 0)
		m = append(m, bytes.Repeat([]byte{1}, int(n-1))...)
		m = append(append(m, run(1, n)...), 'k')
		return append(m, bytes.Join(rest, nil)...)
	}
	zeros := zipped(make([]byte, 2*MaxData))
	return map[string]sample{
		"versions":        {TypeBatch, raw(0, MaxVersions, ids, nil)},
		"versions beyond": {TypeBatch, raw(0, MaxVersions+1, make([]byte, MaxVersions+1), nil)},
		"metadata length": {TypeBatch, append([]byte{0, 0, 0, 0, 1}, huge...)},
		"new ids":         {TypeBatch, raw(0, 1, append(huge, ids...), nil)},
		"run":             {TypeBatch, raw(0, 3, append(ids, 1, 1, 0xff, 0xff, 0x7f), nil)},
		"parents":         {TypeBatch, raw(0, 50, columns(50, run(100, 50)), nil)},
		"parents, zipped": {TypeBatch, raw(flagMeta, 1000, zipped(columns(1000, binary.AppendUvarint([]byte{0x80, 8, 0x80, 8}, 998), run(0, 1_024_000), make([]byte, 1_024_000))), nil)},
		"value":           {TypeBatch, raw(0, 2, columns(2, run(0, 2), append(huge, 0), run(0, 2)), nil)},
		"attributes":      {TypeBatch, raw(0, 2, columns(2, run(0, 2), run(0, 2), append(huge, 0)), nil)},
		"attribute names": {TypeBatch, raw(0, 2, columns(2, run(0, 2), run(0, 2), []byte{1, 0}, huge, []byte{0}), nil)},
		"metadata bomb":   {TypeBatch, raw(flagMeta, MaxVersions, zeros, nil)},
		"value bomb":      {TypeBatch, raw(flagValues, 1, ids, zeros)},
		"1 MiB of zeros":  {TypeBatch, raw(flagMeta, MaxVersions, zipped(make([]byte, 1<<20)), nil)},
		"clock bomb":      {TypeState, append([]byte{1}, zeros...)},
		"1 MiB clock":     {TypeDone, append([]byte{1}, zipped(append([]byte{0, 0, 0, 0xff, 0xff, 3}, make([]byte, 1<<20-6)...))...)},
		"window of 8 EiB": {TypeDone, []byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0}},
		"claim of 4 GiB":  {TypeDone, []byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0}},
		"claim of 1 MiB":  {TypeDone, []byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x10, 0, 1, 0, 0}},
		"entries":         {TypeHello, append([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 'a'}, huge...)},
		"clock":           {TypeDone, append([]byte{0, 0, 0, 0}, huge...)},
	}
}

// Not parallel: it measures what the decoders allocate.
func TestHostile(t *testing.T) {
	z := NewZstd()
	for name, s := range hostile() {
		if *update && len(s.payload) < 4096 {
			seed := fmt.Sprintf("byte(%q)\n[]byte(%q)\n", rune(s.typ), s.payload)
			writeSeed(t, "FuzzDecode", "hostile-"+strings.NewReplacer(" ", "-", ",", "").Replace(name), seed)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := recode(s.typ, s.payload, z, NewDecoder(z))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 96<<20 {
			t.Errorf("%s: %d bytes allocated for %d", name, got, len(s.payload))
		} else if testing.Verbose() {
			t.Logf("%-16s %8d bytes: %9d allocated: %v", name, len(s.payload), got, err)
		}
	}
	stream := []byte{4, 0x80, 0x80, 0x80, 4, 1, 2, 3} // claims 8 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := NewReader(bytes.NewReader(stream)).Next()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; err == nil || got > 256<<10 {
		t.Errorf("frame: %d bytes allocated, %v", got, err)
	}
}

// What a batch decoder refuses, beside what the bit flips find.
func TestBatchStrict(t *testing.T) {
	t.Parallel()
	good := func(change func(v *crdt.Version)) []byte {
		e := NewEncoder(NewZstd())
		v := sampleVersions()[0]
		change(&v)
		e.Add(&v)
		return e.Flush(0, 0)
	}
	link, err := cid.NewPrefixV1(cid.Raw, 0).Sum(make([]byte, MaxLink)) // identity
	if err != nil {
		t.Fatal(err)
	}
	dot := sampleVersions()[0].Dot.String()
	tests := []struct {
		name    string
		payload []byte
		text    string
	}{
		{"unknown flag", raw(8, 1, []byte{0}, nil), "unknown flags 0x8"},
		{"no version", raw(0, 0, []byte{0}, nil), "0 versions"},
		{"no metadata", raw(0, 1, nil, nil), "1 versions in 0 bytes"},
		{"values left over", append(good(func(*crdt.Version) {}), 1), "values: 1 bytes too many"},
		{"sequence 0", good(func(v *crdt.Version) { v.Dot.Seq = 0 }), "bad dot"},
		{"sequence too high", good(func(v *crdt.Version) { v.Dot.Seq = crdt.MaxSeq + 1 }), "bad dot"},
		{"time too late", good(func(v *crdt.Version) { v.Time = crdt.MaxHLC }), "version 0 of 1: version " + dot},
		{"batch before", good(func(v *crdt.Version) { v.First = 11 }), "not within its batch"},
		{"batch behind", good(func(v *crdt.Version) { v.Last = 8 }), "not within its batch"},
		{"empty key", good(func(v *crdt.Version) { v.Key = nil }), "empty key"},
		{"long key", good(func(v *crdt.Version) { v.Key = make([]byte, crdt.MaxKey+1) }), "key 0 of 1025 bytes"},
		{"long value", good(func(v *crdt.Version) { v.Value = make([]byte, crdt.MaxValue+1) }), "value of 65537 bytes"},
		{"long link", good(func(v *crdt.Version) { v.Blob = link }), "link of"},
		{"zero replica", good(func(v *crdt.Version) { v.Dot.Replica = crdt.ReplicaID{} }), "bad dot"},
		{"unsorted attributes", good(func(v *crdt.Version) { v.Attrs = []crdt.Attr{{Name: "b"}, {Name: "a"}} }), "rising order"},
	}
	for _, tt := range tests {
		d := NewDecoder(NewZstd())
		_, err := d.Decode(tt.payload)
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.text)
			continue
		}
		if _, again := d.Decode(good(func(*crdt.Version) {})); again != err {
			t.Errorf("%s: then %v, want the same error", tt.name, again)
		}
	}
}

// Batches that are repeated, left out or moved are refused, not decoded with
// the wrong differences.
func TestBatchOrder(t *testing.T) {
	t.Parallel()
	e := NewEncoder(NewZstd())
	w := newWriter(replica(1))
	var batches [][]byte
	for i := range 4 {
		v := w.put(key(i), nil)
		e.Add(&v)
		batches = append(batches, bytes.Clone(e.Flush(0, 0)))
	}
	if e.Batches() != 4 {
		t.Errorf("got %d batches flushed, want 4", e.Batches())
	}
	for name, order := range map[string][]int{
		"repeated": {0, 0}, "first left out": {1}, "left out": {0, 2}, "swapped": {1, 0}, "again later": {0, 1, 2, 1},
	} {
		d := NewDecoder(NewZstd())
		for i, n := range order {
			_, err := d.Decode(batches[n])
			if last := i == len(order)-1; !last && n == i && err != nil || (last || n != i) && !errors.Is(err, errs.ErrInvalid) {
				t.Errorf("%s: batch %d: got %v", name, n, err)
			}
		}
	}
}

// A column has one encoding.
func TestColumn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Uint64Max(3)).Draw(t, "numbers")
		var col column
		for _, v := range want {
			col.put(v)
		}
		col.end()
		c, got := cursor{b: col.b}, make([]uint64, len(want))
		c.column(got)
		if err := c.end("column"); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v as %v reads as %v: %v", want, col.b, got, err)
		}
	})
	for _, b := range [][]byte{{7, 7, 0, 7}, {7, 7, 3}, {7, 7}, {7}, {7, 7, 1, 7}} {
		c := cursor{b: b}
		c.column(make([]uint64, 4))
		if c.end("column") == nil {
			t.Errorf("%v: accepted", b)
		}
	}
}

// What PERFORMANCE allows: a tenth of an allocation a version each side.
func TestAllocations(t *testing.T) {
	z := NewZstd()
	for name, vs := range map[string][]crdt.Version{"values": bulk(10_000), "documents": documents(10_000)} {
		e, d := NewEncoder(z), NewDecoder(z)
		per := testing.AllocsPerRun(5, func() {
			for i := range vs {
				e.Add(&vs[i])
			}
			if _, err := d.Decode(e.Flush(0, 0)); err != nil {
				t.Fatal(err)
			}
		}) / float64(len(vs))
		if per > 0.01 {
			t.Errorf("%s: %.3f allocations a version", name, per)
		}
	}
}
