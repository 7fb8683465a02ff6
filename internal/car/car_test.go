package car

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/list"
)

var update = flag.Bool("update", false, "write the golden files and the seed corpora")

// blobLink is the CID of a blob: raw, sha2-256.
var blobLink = cid.MustParse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")

func replicaID(n byte) crdt.ReplicaID {
	return crdt.NewReplicaID([8]byte{n}, [8]byte{0xA0, n})
}

// sample returns n versions of a namespace: keys with one value, with
// concurrent ones, deleted ones, one with a blob; and the clock behind them.
// Sequence numbers do not follow the order of keys.
func sample(n int) ([]*crdt.Version, crdt.Clock) {
	clock := crdt.NewClock()
	var out []*crdt.Version
	for i := range n {
		seq := uint64(i*7%n) + 1
		v := &crdt.Version{
			Key: fmt.Appendf(nil, "key/%07d", i-i%5/4), Kind: crdt.Put, Dot: crdt.Dot{Replica: replicaID(byte(1 + i%2)), Seq: seq},
			Time: crdt.HLC(1<<30 + i), First: seq, Last: seq, Value: fmt.Appendf(nil, "value %d", i),
		}
		switch {
		case i%10 == 7:
			v.Kind, v.Value = crdt.Delete, nil
		case i == 3:
			v.Value, v.Blob = nil, blobLink
		case i == 5:
			v.Attrs = []crdt.Attr{{Name: crdt.AttrType, Value: []byte("text/plain")}}
			v.Context = crdt.Context{{Replica: replicaID(9), Seq: 4, Direct: true}}
		}
		out = append(out, v)
		clock.AddRange(v.Dot.Replica, 1, uint64(n)+1)
	}
	sortVersions(out)
	return out, clock
}

func sortVersions(versions []*crdt.Version) {
	slices.SortFunc(versions, func(a, b *crdt.Version) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		da, db := a.Digest(), b.Digest()
		return bytes.Compare(da[:], db[:])
	})
}

func sequence(versions []*crdt.Version) iter.Seq2[*crdt.Version, error] {
	return func(yield func(*crdt.Version, error) bool) {
		for _, v := range versions {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func source(n int) Source {
	versions, clock := sample(n)
	return Source{Namespace: "fruit", Clock: clock, Versions: sequence(versions)}
}

// written returns the bytes of a file.
func written(t testing.TB, write func(io.Writer, Source) (Summary, error), src Source) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	sum, err := write(&b, src)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Bytes != uint64(b.Len()) {
		t.Fatalf("%d bytes written, the summary says %d", b.Len(), sum.Bytes)
	}
	return b.Bytes(), sum
}

func open(b []byte) (*File, error) {
	return Open(context.Background(), bytes.NewReader(b), int64(len(b)))
}

// collect returns a file's versions.
func collect(f *File) ([]*crdt.Version, error) {
	var out []*crdt.Version
	for v, err := range f.ByDot() {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// TestRoundTrip: what is written is read, in both versions of CAR, with as many
// levels of lists as the number of versions needs.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 25, 999, 1000, 1001, 3500} {
		src := source(n)
		for version, write := range map[int]func(io.Writer, Source) (Summary, error){1: WriteV1, 2: WriteV2} {
			b, sum := written(t, write, src)
			f, err := open(b)
			if err != nil {
				t.Fatalf("%d versions, CARv%d: %v", n, version, err)
			}
			if f.Version != version || f.CID != sum.CID || f.Root != sum.Root || f.Versions != uint64(n) || f.Blobs != sum.Blobs || !f.Clock.Equal(src.Clock) {
				t.Errorf("%d versions: read %+v, written %+v", n, f.Summary, sum)
			}
			got, err := collect(f)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(got, func(a, b *crdt.Version) int { return a.Dot.Compare(b.Dot) }) {
				t.Error("the versions are not in the order of their dots")
			}
			sortVersions(got)
			want, _ := sample(n)
			if diff := cmp.Diff(cids(want), cids(got)); diff != "" {
				t.Errorf("%d versions, CARv%d: %s", n, version, diff)
			}
		}
	}
}

func cids(versions []*crdt.Version) []string {
	var out []string
	for _, v := range versions {
		out = append(out, v.CID().String())
	}
	return out
}

// TestManifest: root and seal are what the packages that define them give.
func TestManifest(t *testing.T) {
	t.Parallel()
	versions, clock := sample(60)
	prefix := []byte("key/0000")
	_, sum := written(t, WriteV1, Source{Namespace: "fruit", Prefix: prefix, Clock: clock, Versions: sequence(versions)})
	live, keys := map[string][]merkle.Digest{}, []string{}
	var leaves [][]byte
	for _, v := range versions {
		d := v.Digest()
		leaves = append(leaves, d[:])
		if v.Kind != crdt.Delete {
			if live[string(v.Key)] == nil {
				keys = append(keys, string(v.Key))
			}
			live[string(v.Key)] = append(live[string(v.Key)], d)
		}
	}
	var b merkle.Builder
	for _, k := range keys {
		b.Add([]byte(k), merkle.Leaf(live[k]))
	}
	if want := merkle.Root("fruit", prefix, b.Sum()); sum.Root != want || sum.Keys != uint64(len(keys)) {
		t.Errorf("root %x over %d keys, want %x over %d", sum.Root, sum.Keys, want, len(keys))
	}
	seal, err := list.Root(leaves)
	if err != nil || sum.Seal != seal {
		t.Errorf("seal %x, want %x (%v)", sum.Seal, seal, err)
	}
	if sum.Versions != 60 || sum.Blobs != 1 {
		t.Errorf("%d versions, %d blobs", sum.Versions, sum.Blobs)
	}
}

// TestOtherTools: the reference library reads every block by the CID that the
// store shows, finds it by the index, and finds nothing wrong with the file.
func TestOtherTools(t *testing.T) {
	t.Parallel()
	src := source(2100)
	versions, _ := sample(2100)
	for _, write := range []func(io.Writer, Source) (Summary, error){WriteV1, WriteV2} {
		b, sum := written(t, write, src)
		r, err := carv2.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		stats, err := r.Inspect(true)
		if err != nil {
			t.Fatal(err)
		}
		if stats.BlockCount != 2100+3+1+1 || len(stats.Roots) != 1 || stats.Roots[0] != sum.CID || !stats.RootsPresent {
			t.Errorf("inspect: %+v", stats)
		}
		car, err := storage.OpenReadable(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			got, err := car.Get(context.Background(), v.CID().KeyString())
			if err != nil || !bytes.Equal(got, v.AppendCanonical(nil)) {
				t.Fatalf("block %s: %x, %v", v.CID(), got, err)
			}
		}
	}
}

// TestSameBytes: equal states have equal bytes.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	a, _ := written(t, WriteV2, source(1200))
	b, _ := written(t, WriteV2, source(1200))
	if !bytes.Equal(a, b) {
		t.Error("written twice, and different")
	}
}

// TestGolden pins the format: a change of any byte is a change of format.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(io.Writer, Source) (Summary, error){"seven.v1.car": WriteV1, "seven.v2.car": WriteV2} {
		got, _ := written(t, write, source(7))
		path := "testdata/" + name
		if *update {
			if err := os.WriteFile(path, got, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written now (SHA-256 %x, was %x)", name, sha256.Sum256(got), sha256.Sum256(want))
		}
	}
}

// TestSourceErrors: what a source must not do ends the writing.
func TestSourceErrors(t *testing.T) {
	t.Parallel()
	versions, clock := sample(30)
	boom := errors.New("boom")
	swapped := slices.Clone(versions)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	walks := 0
	for name, src := range map[string]Source{
		"out of order":  {Clock: clock, Versions: sequence(swapped)},
		"twice":         {Clock: clock, Versions: sequence(append(slices.Clone(versions), versions[29]))},
		"not in prefix": {Clock: clock, Prefix: []byte("key/x"), Versions: sequence(versions)},
		"not in clock":  {Clock: crdt.NewClock(), Versions: sequence(versions)},
		"error":         {Clock: clock, Versions: func(yield func(*crdt.Version, error) bool) { yield(nil, boom) }},
		"changing": {Clock: clock, Versions: func(yield func(*crdt.Version, error) bool) {
			walks++
			for v, err := range sequence(versions[walks:]) {
				if !yield(v, err) {
					return
				}
			}
		}},
	} {
		src.Namespace = "fruit"
		if _, err := WriteV1(io.Discard, src); err == nil {
			t.Errorf("%s: written", name)
		} else if name == "error" && !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := WriteV1(failing{}, source(30)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestLevels(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]int{0: -1, 1: 0, 1000: 0, 1001: 1, 1000000: 1, 1000001: 2, MaxVersions: 2} {
		if got := shape(fanout).topLevel(n); got != want {
			t.Errorf("%d versions: level %d, want %d", n, got, want)
		}
	}
}

// TestNarrow: with three links a list, versions on up to six levels are read as
// they were written, and no block can be left out or come twice.
func TestNarrow(t *testing.T) {
	t.Parallel()
	const narrow = shape(3)
	for _, n := range []int{0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 26, 27, 28, 81, 82, 100, 243, 244} {
		src := source(n)
		var b bytes.Buffer
		sum, err := writeV1(&b, src, narrow)
		if err != nil {
			t.Fatal(err)
		}
		f, err := openShaped(context.Background(), bytes.NewReader(b.Bytes()), int64(b.Len()), narrow)
		if err != nil {
			t.Fatalf("%d versions: %v", n, err)
		}
		if got, err := collect(f); err != nil || len(got) != n || f.CID != sum.CID {
			t.Fatalf("%d of %d versions, %v", len(got), n, err)
		}
		header, parts := split(t, b.Bytes())
		blocks := n + 1
		for lists := n; n > 0; {
			lists = (lists + 2) / 3
			if blocks += lists; lists == 1 {
				break
			}
		}
		if len(parts) != blocks {
			t.Fatalf("%d versions: %d blocks, want %d", n, len(parts), blocks)
		}
		for i := 0; i < len(parts); i += 1 + n/20 {
			for _, bad := range [][][]byte{slices.Delete(slices.Clone(parts), i, i+1), slices.Insert(slices.Clone(parts), i, parts[i])} {
				b := append(bytes.Clone(header), bytes.Join(bad, nil)...)
				if _, err := openShaped(context.Background(), bytes.NewReader(b), int64(len(b)), narrow); !errors.Is(err, errs.ErrCorrupt) {
					t.Fatalf("%d versions, block %d: %v", n, i, err)
				}
			}
		}
	}
}

// TestCancel: a cancelled context ends the verification.
func TestCancel(t *testing.T) {
	t.Parallel()
	b, _ := written(t, WriteV1, source(5))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, bytes.NewReader(b), int64(len(b))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
