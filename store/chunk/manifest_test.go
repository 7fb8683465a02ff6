package chunk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"bzzz/merkle/list"
	"bzzz/store/chunk"
)

// TestGoldenManifest fixes the bytes of a manifest, written out by hand.
func TestGoldenManifest(t *testing.T) {
	t.Parallel()
	a, b := sha256.Sum256([]byte("so long")), sha256.Sum256([]byte("thanks"))
	m, err := chunk.NewManifest([]chunk.Ref{{Digest: a, Size: 7}, {Digest: b, Size: 300}})
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(offset uint64, size uint32, d chunk.Digest) []byte {
		l := binary.BigEndian.AppendUint64([]byte{0}, offset)
		l = append(binary.BigEndian.AppendUint32(l, size), d[:]...)
		h := sha256.Sum256(l)
		return h[:]
	}
	root := sha256.Sum256(append(append([]byte{1}, leaf(0, 7, a)...), leaf(7, 300, b)...))
	descriptor := append([]byte{1, 0xb3, 0x02, 2}, root[:]...)
	want := append(bytes.Clone(descriptor), a[:]...)
	want = append(append(append(want, 7), b[:]...), 0xac, 0x02)
	if got := m.AppendBinary(nil); !bytes.Equal(got, want) {
		t.Errorf("manifest\n%x, want\n%x", got, want)
	}
	digest := sha256.Sum256(descriptor)
	if m.Digest() != digest || m.CID() != chunk.CID(digest) {
		t.Errorf("named %x, want %x", m.Digest(), digest)
	}
	sum, err := mh.Sum(descriptor, mh.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	if want := cid.NewCidV1(cid.Raw, sum); m.CID() != want {
		t.Errorf("CID %s, want %s", m.CID(), want)
	}
}

func TestEmptyManifest(t *testing.T) {
	t.Parallel()
	_, m := cut(t, bytes.NewReader(nil))
	want := append([]byte{1, 0, 0}, unhex(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")...)
	if got := m.AppendBinary(nil); !bytes.Equal(got, want) {
		t.Errorf("manifest of nothing: %x, want %x", got, want)
	}
	if _, err := m.Prove(0); !errors.Is(err, chunk.ErrInvalid) {
		t.Errorf("proof in an empty blob: %v", err)
	}
	if _, err := chunk.ParseManifest(want); err != nil {
		t.Error(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHostileManifests: every changed byte is refused, and so are lists that a
// liar would make.
func TestHostileManifests(t *testing.T) {
	t.Parallel()
	_, m := cut(t, bytes.NewReader(content(7, 300_000)))
	good := m.AppendBinary(nil)
	if got, err := chunk.ParseManifest(good); err != nil || got.CID() != m.CID() || !bytes.Equal(got.AppendBinary(nil), good) {
		t.Fatalf("good manifest: %v", err)
	}
	for at := range good {
		for _, x := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[at] ^= x
			if got, err := chunk.ParseManifest(bad); err == nil && got.CID() == m.CID() {
				t.Errorf("byte %d ^ %#x was accepted", at, x)
			}
		}
		if _, err := chunk.ParseManifest(good[:at]); err == nil {
			t.Errorf("cut at %d was accepted", at)
		}
	}
	digest := sha256.Sum256([]byte("x"))
	entry := append(digest[:], 1)
	root := func(n int) []byte {
		var refs []chunk.Ref
		for range n {
			refs = append(refs, chunk.Ref{Digest: digest, Size: 1})
		}
		m, err := chunk.NewManifest(refs)
		if err != nil {
			t.Fatal(err)
		}
		r := m.Descriptor().Root
		return r[:]
	}
	join := bytes.Join
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, chunk.ErrCorrupt},
		{"another format", join([][]byte{{2, 1, 1}, root(1), entry}, nil), chunk.ErrUnsupported},
		{"size without chunks", join([][]byte{{1, 1, 0}, root(0)}, nil), chunk.ErrCorrupt},
		{"chunks without size", join([][]byte{{1, 0, 1}, root(1), entry}, nil), chunk.ErrCorrupt},
		{"size that does not add up", join([][]byte{{1, 2, 1}, root(1), entry}, nil), chunk.ErrCorrupt},
		{"more chunks said than there are", join([][]byte{{1, 2, 2}, root(2), entry}, nil), chunk.ErrCorrupt},
		{"more chunks than said", join([][]byte{{1, 1, 1}, root(1), entry, entry}, nil), chunk.ErrCorrupt},
		{"root of another list", join([][]byte{{1, 1, 1}, root(2), entry}, nil), chunk.ErrCorrupt},
		{"long varint", join([][]byte{{1, 0x81, 0, 1}, root(1), entry}, nil), chunk.ErrCorrupt},
		{"empty chunk", join([][]byte{{1, 1, 1}, root(1), digest[:], {0}}, nil), chunk.ErrCorrupt},
		{"huge count", join([][]byte{{1}, binary.AppendUvarint(nil, 1<<40), binary.AppendUvarint(nil, 1<<40), root(1), entry}, nil), chunk.ErrTooLarge},
		{"count up to the cap, no list", join([][]byte{{1}, binary.AppendUvarint(nil, chunk.MaxChunks), binary.AppendUvarint(nil, chunk.MaxChunks), root(1)}, nil), chunk.ErrCorrupt},
		{"huge size", join([][]byte{{1}, binary.AppendUvarint(nil, 1<<60), {1}, root(1), entry}, nil), chunk.ErrTooLarge},
	} {
		_, err := chunk.ParseManifest(tt.b)
		wantErr(t, tt.name, err, tt.want)
	}
	twice := join([][]byte{{1, 2, 2}, root(2), entry, entry}, nil)
	if m, err := chunk.ParseManifest(twice); err != nil || m.Len() != 2 || m.Offset(1) != 1 {
		t.Errorf("one chunk twice: %v", err)
	}
}

// TestProofs: each chunk of blobs of many lengths is proven to who has the CID
// alone; nothing else passes.
func TestProofs(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 20_000, 300_000, 1 << 20} {
		chunks, m := cut(t, bytes.NewReader(content(8, n)))
		for i, c := range chunks {
			p, err := m.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			enc, err := p.AppendBinary(nil)
			if err != nil || len(enc) > chunk.MaxProofLen {
				t.Fatalf("proof of %d bytes: %v", len(enc), err)
			}
			got, err := chunk.ParseProof(enc)
			if err != nil {
				t.Fatal(err)
			}
			if err := chunk.VerifyChunk(m.CID(), got, c.Data()); err != nil {
				t.Fatalf("%d bytes, chunk %d: %v", n, i, err)
			}
			if got.Offset != uint64(m.Offset(i)) || got.Index != i {
				t.Fatalf("proof says chunk %d at %d", got.Index, got.Offset)
			}
			forge(t, m, got, enc, chunks, i)
		}
	}
}

// forge tries to pass off something else as chunk i.
func forge(t *testing.T, m *chunk.Manifest, p chunk.Proof, enc []byte, chunks []chunk.Chunk, i int) {
	t.Helper()
	data := chunks[i].Data()
	refuse := func(what string, p chunk.Proof, data []byte) {
		t.Helper()
		wantErr(t, what, chunk.VerifyChunk(m.CID(), p, data), chunk.ErrCorrupt)
	}
	refuse("cut short", p, data[:len(data)-1])
	refuse("empty", p, nil)
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	refuse("flipped", p, flipped)
	if len(chunks) > 1 {
		refuse("another chunk", p, chunks[(i+1)%len(chunks)].Data())
	}
	moved := p
	moved.Offset++
	refuse("moved", moved, data)
	moved = p
	moved.Index = (i + 1) % (len(chunks) + 1)
	refuse("another index", moved, data)
	moved = p
	moved.Index = -1
	refuse("negative index", moved, data)
	other := p
	other.Descriptor.Size++
	refuse("another size", other, data)
	for at := range enc {
		bad := bytes.Clone(enc)
		bad[at] ^= 1
		q, err := chunk.ParseProof(bad)
		if err == nil {
			err = chunk.VerifyChunk(m.CID(), q, data)
		}
		if err == nil {
			t.Errorf("byte %d of the proof may be anything", at)
		}
	}
	_, err := chunk.ParseProof(append(enc, 0))
	wantErr(t, "trailing byte", err, chunk.ErrCorrupt)
}

func TestCIDs(t *testing.T) {
	t.Parallel()
	_, m := cut(t, bytes.NewReader([]byte("x")))
	if d, err := chunk.DigestOf(m.CID()); err != nil || d != m.Digest() {
		t.Errorf("%x, %v", d, err)
	}
	long, err := mh.Encode(make([]byte, 20), mh.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	h := m.CID().Hash()
	for _, c := range []cid.Cid{cid.Undef, cid.NewCidV0(h), cid.NewCidV1(cid.DagCBOR, h), cid.NewCidV1(cid.Raw, long)} {
		_, err := chunk.DigestOf(c)
		wantErr(t, c.String(), err, chunk.ErrUnsupported)
		wantErr(t, c.String(), chunk.VerifyChunk(c, chunk.Proof{}, nil), chunk.ErrUnsupported)
	}
}

// FuzzParseManifest: decode-encode identity, bounds, no panic.
func FuzzParseManifest(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := chunk.ParseManifest(b)
		if err != nil {
			if !errors.Is(err, chunk.ErrCorrupt) && !errors.Is(err, chunk.ErrUnsupported) && !errors.Is(err, chunk.ErrTooLarge) {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		if again := m.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
		sum := int64(0)
		for i := range m.Len() {
			if m.Offset(i) != sum || m.At(sum) != i {
				t.Fatalf("chunk %d begins at %d, not at %d", i, m.Offset(i), sum)
			}
			sum += int64(m.Ref(i).Size)
		}
		if sum != m.Size() {
			t.Fatalf("%d bytes in all, the manifest says %d", sum, m.Size())
		}
	})
}

// FuzzVerifyChunk: layout data length u8 | data | proof. A proof that parses
// encodes to what it was, and passes only for its own descriptor.
func FuzzVerifyChunk(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return
		}
		n := 1 + int(b[0])
		data, enc := b[1:n], b[n:]
		p, err := chunk.ParseProof(enc)
		if err != nil {
			return
		}
		again, err := p.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, enc) {
			t.Fatalf("%x encodes to %x, %v", enc, again, err)
		}
		id := p.Descriptor.CID()
		if err := chunk.VerifyChunk(id, p, data); err == nil {
			leaf := binary.BigEndian.AppendUint64(nil, p.Offset)
			leaf = binary.BigEndian.AppendUint32(leaf, uint32(len(data)))
			d := sha256.Sum256(data)
			if err := list.Verify(p.Descriptor.Root, p.Descriptor.Count, p.Index, append(leaf, d[:]...), p.Path); err != nil {
				t.Fatalf("accepted, but %v", err)
			}
		} else if !errors.Is(err, chunk.ErrCorrupt) {
			t.Fatalf("error without a kind: %v", err)
		}
		p.Descriptor.Size ^= 1
		if err := chunk.VerifyChunk(id, p, data); !errors.Is(err, chunk.ErrCorrupt) {
			t.Fatalf("another descriptor: %v", err)
		}
	})
}
