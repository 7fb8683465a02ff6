package car

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// section is one block of a CAR as it stands in the file.
func section(block []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(cidLen+len(block)))
	return append(appendCID(b, sha256.Sum256(block)), block...)
}

// split cuts a CARv1 with one root into its header and its sections.
func split(t testing.TB, b []byte) (header []byte, parts [][]byte) {
	t.Helper()
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			t.Fatal("not what was written")
		}
		end := k + int(n)
		if header == nil {
			header = b[:end:end]
		} else {
			parts = append(parts, b[:end:end])
		}
		b = b[end:]
	}
	return header, parts
}

// block returns the bytes of the block that a section holds.
func block(part []byte) []byte {
	_, k := binary.Uvarint(part)
	return part[k+cidLen:]
}

// refuses checks that a file does not open, with an error of a kind.
func refuses(t *testing.T, what string, b []byte) {
	t.Helper()
	_, err := open(b)
	if err == nil {
		t.Errorf("%s: opens", what)
	} else if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrUnsupported) && !errors.Is(err, errs.ErrTooLarge) {
		t.Errorf("%s: error without a kind: %v", what, err)
	}
}

// TestEveryBit: no bit of a CARv1 can change, nor of a CARv2 up to its index,
// and no bytes can be missing; what opens in spite of a change holds the same.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	for _, write := range []func() ([]byte, Summary){
		func() ([]byte, Summary) { return written(t, WriteV1, source(7)) },
		func() ([]byte, Summary) { return written(t, WriteV2, source(7)) },
	} {
		good, sum := write()
		same, opened := 0, 0
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				f, err := open(bad)
				if err != nil {
					if !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, errs.ErrCorrupt) {
						t.Fatalf("byte %d: error without a kind: %v", i, err)
					}
					continue
				}
				opened++
				if got, err := collect(f); err == nil && f.CID == sum.CID && len(got) == 7 {
					same++
				}
			}
		}
		if opened != same {
			t.Errorf("%d changed files open, %d of them hold the same", opened, same)
		}
		f, err := open(good)
		if err != nil {
			t.Fatal(err)
		}
		if f.Version == 1 && opened > 0 {
			t.Errorf("%d changed CARv1 files open", opened)
		}
		end := len(good)
		if f.Version == 2 { // the index is not looked at
			end = int(binary.LittleEndian.Uint64(good[43:51]))
		}
		for n := range end {
			refuses(t, "cut off", good[:n])
		}
	}
}

// TestWrongBlocks: every block has its place.
func TestWrongBlocks(t *testing.T) {
	t.Parallel()
	good, _ := written(t, WriteV1, source(1500))
	header, parts := split(t, good)
	join := func(parts ...[]byte) []byte { return append(bytes.Clone(header), bytes.Join(parts, nil)...) }
	if _, err := open(join(parts...)); err != nil {
		t.Fatal(err)
	}
	last := len(parts) - 1
	swapped := slices.Clone(parts)
	swapped[5], swapped[6] = swapped[6], swapped[5]
	for what, b := range map[string][]byte{
		"nothing":                 nil,
		"no CAR":                  []byte("this is a text of some length and not a CAR at all"),
		"header alone":            header,
		"manifest alone":          join(parts[0]),
		"last block missing":      join(parts[:last]...),
		"list missing":            join(slices.Delete(slices.Clone(parts), 1, 2)...),
		"version missing":         join(slices.Delete(slices.Clone(parts), 10, 11)...),
		"block twice":             join(append(slices.Clone(parts), parts[last])...),
		"unreachable block":       join(append(slices.Clone(parts), section([]byte{0xa0}))...),
		"unreachable in between":  join(slices.Insert(slices.Clone(parts), 3, section([]byte{0xa0}))...),
		"swapped":                 join(swapped...),
		"byte behind":             append(bytes.Clone(good), 0),
		"length behind":           append(bytes.Clone(good), 0x25),
		"huge length":             join(parts[0], binary.AppendUvarint(nil, 1<<62)),
		"length over the cap":     join(parts[0], binary.AppendUvarint(nil, maxBlock+cidLen+1), make([]byte, 100)),
		"length over the file":    join(parts[0], binary.AppendUvarint(nil, maxBlock), make([]byte, 100)),
		"length without end":      join(parts[0], bytes.Repeat([]byte{0xff}, 20)),
		"length in a longer form": join(append([]byte{parts[0][0], parts[0][1] | 0x80, 0}, parts[0][2:]...)),
		"length zero":             join(parts[0], []byte{0}),
		"other codec":             join(append(append(bytes.Clone(parts[0][:2]), 1, 0x55), parts[0][4:]...)),
		"huge header":             binary.AppendUvarint(nil, 1<<40),
		"two roots":               twoRoots(),
		"no root":                 append([]byte{0x11, 0xa2, 0x65}, "roots\x80\x67version\x01"...),
		"raw root":                bytes.Replace(header, []byte{0x00, 0x01, 0x71}, []byte{0x00, 0x01, 0x55}, 1),
		"version 3":               append(append(bytes.Clone(header[:len(header)-1]), 3), bytes.Join(parts, nil)...),
		"root is a version":       append(appendHeader(nil, sha256.Sum256(block(parts[5]))), parts[5]...),
		"root is a list":          append(appendHeader(nil, sha256.Sum256(block(parts[2]))), parts[2]...),
		"CARv2 of nothing":        append([]byte("\x0a\xa1\x67version\x02"), make([]byte, 40)...),
		"CARv2 beyond the file":   beyond(t),
	} {
		refuses(t, what, b)
	}
}

// twoRoots is the header of a CARv1 with two roots.
func twoRoots() []byte {
	h := append([]byte{0xa2, 0x65}, "roots\x82"...)
	for i := range 2 {
		h = append(append(append(h, linkHead[:]...), byte(i)), make([]byte, 31)...)
	}
	h = append(h, "\x67version\x01"...)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
}

// beyond is a CARv2 whose payload ends behind the file's end, so far that the
// sum of offset and size wraps around.
func beyond(t *testing.T) []byte {
	b, _ := written(t, WriteV2, source(3))
	binary.LittleEndian.PutUint64(b[11+16:], 1<<63-1)
	return b
}

// TestTwoRoots names the reason.
func TestTwoRoots(t *testing.T) {
	t.Parallel()
	if _, err := open(twoRoots()); err == nil || !bytes.Contains([]byte(err.Error()), []byte("2 roots")) {
		t.Errorf("got %v", err)
	}
}

// forged is a file whose blocks all have their CIDs, made from a manifest, a
// list and versions that need not fit each other.
func forged(t *testing.T, change func(m *manifestRecord, level *int, versions *[]*crdt.Version)) []byte {
	t.Helper()
	good, _ := written(t, WriteV1, source(7))
	_, parts := split(t, good)
	var m manifestRecord
	if err := decMode.Unmarshal(block(parts[0]), &m); err != nil {
		t.Fatal(err)
	}
	versions, _ := sample(7)
	level := 0
	change(&m, &level, &versions)
	var links []digest
	var tail []byte
	for _, v := range versions {
		links = append(links, v.Digest())
		tail = append(tail, section(v.AppendCanonical(nil))...)
	}
	l, err := encodeList(level, links)
	if err != nil {
		t.Fatal(err)
	}
	if top := link(sha256.Sum256(l)); m.Entries != nil {
		m.Entries = &top
	}
	b, err := encMode.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := append(appendHeader(nil, sha256.Sum256(b)), section(b)...)
	return append(append(out, section(l)...), tail...)
}

// TestLyingManifest: blocks that all have their CIDs and do not add up.
func TestLyingManifest(t *testing.T) {
	t.Parallel()
	if _, err := open(forged(t, func(*manifestRecord, *int, *[]*crdt.Version) {})); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(m *manifestRecord, level *int, versions *[]*crdt.Version){
		"type":           func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Type = "other" },
		"format":         func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Format = 2 },
		"namespace":      func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Namespace = "other" },
		"no namespace":   func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Namespace = "" },
		"root":           func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Root[0] ^= 1 },
		"short root":     func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Root = m.Root[1:] },
		"seal":           func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Seal[0] ^= 1 },
		"keys":           func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Keys-- },
		"more keys":      func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Keys = 8 },
		"fewer versions": func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Versions-- },
		"more versions":  func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Versions++ },
		"deep":           func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Versions = MaxVersions },
		"too many":       func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Versions = MaxVersions + 1 },
		"no list":        func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Entries = nil },
		"clock":          func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Clock = []byte{0xff} },
		"empty clock":    func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Clock = []byte{0} },
		"prefix":         func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Prefix = []byte("kez") },
		"longer prefix":  func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Prefix = []byte("key/") },
		"null prefix":    func(m *manifestRecord, _ *int, _ *[]*crdt.Version) { m.Prefix = nil },
		"level":          func(_ *manifestRecord, level *int, _ *[]*crdt.Version) { *level = 1 },
		"order": func(_ *manifestRecord, _ *int, v *[]*crdt.Version) {
			(*v)[0], (*v)[1] = (*v)[1], (*v)[0]
		},
		"one version less": func(_ *manifestRecord, _ *int, v *[]*crdt.Version) { *v = (*v)[1:] },
		"version twice":    func(_ *manifestRecord, _ *int, v *[]*crdt.Version) { (*v)[1] = (*v)[0] },
		"another version": func(_ *manifestRecord, _ *int, v *[]*crdt.Version) {
			other := *(*v)[0]
			other.Value = []byte("forged")
			(*v)[0] = &other
		},
		"invalid version": func(_ *manifestRecord, _ *int, v *[]*crdt.Version) {
			other := *(*v)[0]
			other.Time = crdt.MaxHLC
			(*v)[0] = &other
		},
	} {
		refuses(t, what, forged(t, change))
	}
}

// TestChangedBetween: a file that changes after it was verified is noticed.
func TestChangedBetween(t *testing.T) {
	t.Parallel()
	b, _ := written(t, WriteV1, source(40))
	f, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if _, err := collect(f); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// TestLargestVersion: a version at all its caps fits into a block.
func TestLargestVersion(t *testing.T) {
	t.Parallel()
	v := &crdt.Version{
		Key: bytes.Repeat([]byte{1}, crdt.MaxKey), Kind: crdt.Put, Dot: crdt.Dot{Replica: replicaID(1), Seq: crdt.MaxSeq},
		Time: crdt.MaxHLC - 1, First: crdt.MaxSeq, Last: crdt.MaxSeq, Value: make([]byte, crdt.MaxValue),
	}
	for i := range crdt.MaxContext {
		r := crdt.NewReplicaID([8]byte{2, byte(i >> 8), byte(i)}, [8]byte{1})
		v.Context = append(v.Context, crdt.Parent{Replica: r, Seq: crdt.MaxSeq - 1})
	}
	v.Attrs = []crdt.Attr{{Name: "a", Value: make([]byte, crdt.MaxAttrSize-1)}}
	if err := v.Validate(); err != nil {
		t.Fatal(err)
	}
	clock := crdt.NewClock()
	clock.Add(v.Dot)
	b, _ := written(t, WriteV1, Source{Namespace: "n", Clock: clock, Versions: sequence([]*crdt.Version{v})})
	f, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := collect(f); err != nil || len(got) != 1 || got[0].CID() != v.CID() {
		t.Errorf("%d versions, %v", len(got), err)
	}
}
