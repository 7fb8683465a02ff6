package crdt_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"bzzz/crdt"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"pgregory.net/rapid"
)

// Golden files change on purpose only: the bytes are the identity of versions.
var update = flag.Bool("update", false, "rewrite testdata/versions.json")

const goldenFile = "testdata/versions.json"

// golden is one version of the golden file, in terms that need no crdt.
type golden struct {
	Name      string            `json:"name"`
	Key       string            `json:"key"`
	Kind      uint64            `json:"kind"`
	Replica   string            `json:"replica"`
	Seq       uint64            `json:"seq"`
	Time      uint64            `json:"time"`
	First     uint64            `json:"first"`
	Last      uint64            `json:"last"`
	Context   []goldenParent    `json:"context"`
	Value     *string           `json:"value"` // hex; null with a blob or a delete
	Blob      string            `json:"blob,omitempty"`
	Attrs     map[string]string `json:"attrs,omitempty"`
	Canonical string            `json:"canonical"`
	CID       string            `json:"cid"`
}

type goldenParent struct {
	Replica string `json:"replica"`
	Seq     uint64 `json:"seq"`
	Direct  bool   `json:"direct"`
}

// sample returns a small valid version.
func sample(kind crdt.Kind, value string) *crdt.Version {
	v := &crdt.Version{Key: []byte("k"), Kind: kind, Dot: crdt.Dot{Replica: ids[0], Seq: 7}, Time: 1 << 40, First: 7, Last: 7}
	if kind != crdt.Delete {
		v.Value = []byte(value)
	}
	return v
}

// goldenVersions are the versions of the golden file.
func goldenVersions() map[string]*crdt.Version {
	out := map[string]*crdt.Version{}
	for k := crdt.Delete; k <= crdt.Bind; k++ {
		out["kind-"+k.String()] = sample(k, "value")
	}
	out["kind-unknown"] = sample(200, "opaque")
	out["empty-value"] = sample(crdt.Put, "")
	out["number"] = sample(crdt.Max, string(crdt.AppendNumber(nil, -5)))
	out["slot"] = sample(crdt.Count, string(crdt.Slot{Plus: 300, Minus: 4, PlusFloor: 200}.Append(nil)))
	v := sample(crdt.Put, "in a batch, with parents")
	v.Dot.Seq, v.First, v.Last, v.Time = crdt.MaxSeq-1, crdt.MaxSeq-2, crdt.MaxSeq, crdt.MaxHLC-1
	v.Context = crdt.Context{{Replica: ids[0], Seq: 3}, {Replica: ids[1], Seq: 300, Direct: true}, {Replica: ids[3], Seq: crdt.MaxSeq, Direct: true}}
	out["context"] = v
	v = sample(crdt.Put, "attributes")
	v.Key = []byte{0, 0xFF, 'n', 'a', 'm', 'e'}
	v.Attrs = []crdt.Attr{{Name: "type", Value: []byte("text/plain")}, {Name: "expiry", Value: []byte{0, 0, 1, 2, 3, 4, 5, 6}}}
	crdt.SortAttrs(v.Attrs)
	out["attributes"] = v
	v = sample(crdt.Put, "")
	v.Value = nil
	v.Blob, _ = cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}.Sum([]byte("blob"))
	out["blob"] = v
	v = sample(crdt.Put, strings.Repeat("x", 300))
	v.Key = bytes.Repeat([]byte{0xAB}, crdt.MaxKey)
	out["long"] = v
	return out
}

func toGolden(name string, v *crdt.Version) golden {
	g := golden{
		Name: name, Key: hex.EncodeToString(v.Key), Kind: uint64(v.Kind), Replica: v.Dot.Replica.String(), Seq: v.Dot.Seq,
		Time: uint64(v.Time), First: v.First, Last: v.Last, Context: []goldenParent{},
		Canonical: hex.EncodeToString(v.AppendCanonical(nil)), CID: v.CID().String(),
	}
	for _, p := range v.Context {
		g.Context = append(g.Context, goldenParent{p.Replica.String(), p.Seq, p.Direct})
	}
	if v.Value != nil {
		s := hex.EncodeToString(v.Value)
		g.Value = &s
	}
	if v.Blob.Defined() {
		g.Blob = v.Blob.String()
	}
	for _, a := range v.Attrs {
		if g.Attrs == nil {
			g.Attrs = map[string]string{}
		}
		g.Attrs[a.Name] = hex.EncodeToString(a.Value)
	}
	return g
}

func TestGoldenVersions(t *testing.T) {
	t.Parallel()
	versions := goldenVersions()
	var all []golden
	for name, v := range versions {
		if err := v.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := crdt.DecodeCanonical(v.AppendCanonical(nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(v, got, cmp.Comparer(func(a, b cid.Cid) bool { return a.Equals(b) })); diff != "" {
			t.Errorf("%s came back different:\n%s", name, diff)
		}
		all = append(all, toGolden(name, v))
	}
	slices.SortFunc(all, func(a, b golden) int { return strings.Compare(a.Name, b.Name) })
	got, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(goldenFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("identities of versions changed:\n%s", diff)
	}
}

// unhex decodes a hexadecimal field of the golden file.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The golden bytes and CIDs follow from the fields by other people's code:
// fxamacker's deterministic CBOR (RFC 8949 section 4.2.1) and go-cid's hashing.
func TestGoldenVersionsAgreeWithOtherCode(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(file, &all); err != nil || len(all) < 15 {
		t.Fatalf("%d golden versions, %v", len(all), err)
	}
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		context := []any{}
		for _, p := range g.Context {
			context = append(context, []any{unhex(t, p.Replica), p.Seq, p.Direct})
		}
		var value any
		switch {
		case g.Blob != "":
			link, err := cid.Decode(g.Blob)
			if err != nil {
				t.Fatal(err)
			}
			value = cbor.Tag{Number: 42, Content: append([]byte{0}, link.Bytes()...)}
		case g.Value != nil:
			value = unhex(t, *g.Value)
		}
		attrs := map[string][]byte{}
		for name, v := range g.Attrs {
			attrs[name] = unhex(t, v)
		}
		got, err := enc.Marshal([]any{1, unhex(t, g.Key), g.Kind, unhex(t, g.Replica), g.Seq, g.Time, g.First, g.Last, context, value, attrs})
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != g.Canonical {
			t.Errorf("%s: deterministic CBOR is\n%x, golden is\n%s", g.Name, got, g.Canonical)
		}
		id, err := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: -1}.Sum(got)
		if err != nil || id.String() != g.CID {
			t.Errorf("%s: CID %s (%v), golden %s", g.Name, id, err, g.CID)
		}
		if digest, err := crdt.ParseCID(g.CID); err != nil || !crdt.DigestCID(digest).Equals(id) {
			t.Errorf("%s: ParseCID: %v", g.Name, err)
		}
	}
}

func TestDecodeCanonicalRefuses(t *testing.T) {
	t.Parallel()
	good := sample(crdt.Put, "value").AppendCanonical(nil)
	change := func(old, with string) []byte {
		if bytes.Count(good, []byte(old)) != 1 {
			t.Fatalf("%q does not occur once in %x", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	huge, _ := mh.Sum(bytes.Repeat([]byte{1}, 200), mh.IDENTITY, -1)
	link := sample(crdt.Put, "")
	link.Value, link.Blob = nil, cid.NewCidV1(cid.Raw, huge)
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, crdt.ErrInvalid},
		{"cut short", good[:len(good)-1], crdt.ErrInvalid},
		{"a byte too many", append(slices.Clone(good), 0), crdt.ErrInvalid},
		{"another format", change("\x8b\x01", "\x8b\x02"), crdt.ErrInvalid},
		{"number not in its shortest form", change("\x41k\x02", "\x41k\x18\x02"), crdt.ErrInvalid},
		{"indefinite array", append(change("\x8b\x01", "\x9f\x01"), 0xff), crdt.ErrInvalid},
		{"indefinite value", change("\x45value", "\x5f\x45value\xff"), crdt.ErrInvalid},
		{"text for bytes", change("\x45value", "\x65value"), crdt.ErrInvalid},
		{"null for the context", change("\x80\x45", "\xf6\x45"), crdt.ErrInvalid},
		{"null for the attributes", change("value\xa0", "value\xf6"), crdt.ErrInvalid},
		{"undefined for the value", change("\x45value", "\xf7"), crdt.ErrInvalid},
		{"tag that is no link", change("\x45value", "\xd8\x2b\x45value"), crdt.ErrInvalid},
		{"attribute twice", change("value\xa0", "value\xa2\x61a\x40\x61a\x40"), crdt.ErrInvalid},
		{"attributes out of order", change("value\xa0", "value\xa2\x62aa\x40\x61b\x40"), crdt.ErrInvalid},
		{"put without a value", change("\x45value", "\xf6"), crdt.ErrInvalid},
		{"kind above 255", change("\x41k\x02", "\x41k\x19\x01\x02"), crdt.ErrInvalid},
		{"link of 200 bytes", link.AppendCanonical(nil), crdt.ErrTooLarge},
	}
	for _, tt := range tests {
		if v, err := crdt.DecodeCanonical(tt.in); !errors.Is(err, tt.want) || v != nil {
			t.Errorf("%s: %v, %v, want %v", tt.name, v, err, tt.want)
		}
	}
}

func FuzzDecodeCanonical(f *testing.F) {
	for name, v := range goldenVersions() {
		if name != "long" {
			f.Add(v.AppendCanonical(nil))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := crdt.DecodeCanonical(b)
		if err != nil {
			if v != nil {
				t.Fatal("a version besides an error")
			}
			return
		}
		if again := v.AppendCanonical(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to a version that encodes to %x", b, again)
		}
		if err := v.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// Different versions have different encodings: what a field says stays in it.
func TestCanonicalIsInjective(t *testing.T) {
	t.Parallel()
	small := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x40, 0x80, 0xff}), 0, 3)
	draw := func(t *rapid.T) *crdt.Version {
		v := sample(rapid.SampledFrom([]crdt.Kind{crdt.Put, crdt.Add}).Draw(t, "kind"), "")
		v.Key, v.Value = append([]byte{1}, small.Draw(t, "key")...), small.Draw(t, "value")
		for i := range rapid.IntRange(0, 2).Draw(t, "parents") {
			v.Context = append(v.Context, crdt.Parent{Replica: ids[i+1], Seq: rapid.Uint64Range(1, 30).Draw(t, "seq"), Direct: rapid.Bool().Draw(t, "direct")})
		}
		for _, name := range []string{"a", "b"}[:rapid.IntRange(0, 2).Draw(t, "attrs")] {
			v.Attrs = append(v.Attrs, crdt.Attr{Name: name, Value: small.Draw(t, "attr")})
		}
		return v
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		same := cmp.Equal(a, b, cmp.Comparer(func(a, b cid.Cid) bool { return a.Equals(b) }))
		if bytes.Equal(a.AppendCanonical(nil), b.AppendCanonical(nil)) != same || (a.Digest() == b.Digest()) != same {
			t.Fatalf("%+v and %+v: same is %v", a, b, same)
		}
		if got, err := crdt.DecodeCanonical(a.AppendCanonical(nil)); err != nil || got.Digest() != a.Digest() {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func TestParseCIDRefuses(t *testing.T) {
	t.Parallel()
	raw, _ := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}.Sum([]byte("x"))
	v0, _ := cid.Prefix{Version: 0, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: -1}.Sum([]byte("x"))
	sha512, _ := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_512, MhLength: -1}.Sum([]byte("x"))
	short, _ := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: 20}.Sum([]byte("x"))
	for _, s := range []string{"", "bafy", raw.String(), v0.String(), sha512.String(), short.String()} {
		if _, err := crdt.ParseCID(s); !errors.Is(err, crdt.ErrInvalid) {
			t.Errorf("ParseCID(%q) = %v, want ErrInvalid", s, err)
		}
	}
}

// AllocsPerRun counts those of the whole process, so no t.Parallel.
func TestAllocationBudgets(t *testing.T) {
	v := goldenVersions()["context"]
	other := crdt.Dot{Replica: ids[3], Seq: 9}
	clock := crdt.NewClock()
	clock.AddRange(ids[0], 1, 100)
	tests := []struct {
		name string
		want float64
		f    func()
	}{
		{"Digest", 0, func() { v.Digest() }},
		{"Covers", 0, func() { v.Covers(other) }},
		{"Before", 0, func() { v.Before(v) }},
		{"Clock.Has", 0, func() { clock.Has(other) }},
		{"Clock.Add, behind the last", 0, func() { clock.Add(crdt.Dot{Replica: ids[0], Seq: clock.Base(ids[0]) + 1}) }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.want {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.want)
		}
	}
}
