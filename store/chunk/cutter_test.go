package chunk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"bzzz/store/chunk"
)

// TestGoldenCuts fixes where PRNG content is cut and what its CID is: any
// change of parameters, algorithm or encoding fails here.
func TestGoldenCuts(t *testing.T) {
	t.Parallel()
	_, m := cut(t, bytes.NewReader(content(1, 1<<20)))
	var got []int
	for i := range m.Len() {
		got = append(got, m.Ref(i).Size)
	}
	const want = "[67639 65643 70858 97300 39942 44567 123947 76225 90624 39491 88584 61871 36150 72299 67132 6304]"
	if fmt.Sprint(got) != want {
		t.Errorf("cuts %v, want %v", got, want)
	}
	if got, want := m.CID().String(), "bafkreibwy3lsjspbpl7siwjjdyyq4fthlq5koykt6pah3a55kajkkkflmi"; got != want {
		t.Errorf("CID %s, want %s", got, want)
	}
}

func TestCutsDoNotDependOnReads(t *testing.T) {
	t.Parallel()
	data := content(2, 6<<20)
	_, want := cut(t, bytes.NewReader(data))
	for name, r := range map[string]io.Reader{
		"half":        iotest.HalfReader(bytes.NewReader(data)),
		"with EOF":    iotest.DataErrReader(bytes.NewReader(data)),
		"in two":      io.MultiReader(bytes.NewReader(data[:777]), bytes.NewReader(data[777:])),
		"byte by 64K": iotest.OneByteReader(bytes.NewReader(data[:200_000])),
	} {
		_, got := cut(t, r)
		if name == "byte by 64K" {
			_, short := cut(t, bytes.NewReader(data[:200_000]))
			if got.CID() != short.CID() {
				t.Errorf("%s: %s, want %s", name, got.CID(), short.CID())
			}
			continue
		}
		if got.CID() != want.CID() {
			t.Errorf("%s: %s, want %s", name, got.CID(), want.CID())
		}
	}
}

func TestSizesOfChunks(t *testing.T) {
	t.Parallel()
	for _, n := range []int{
		0, 1, chunk.MinChunk - 1, chunk.MinChunk, chunk.MinChunk + 1, chunk.NormalChunk, chunk.MaxChunk - 1,
		chunk.MaxChunk, chunk.MaxChunk + 1, chunk.BatchBytes - 1, chunk.BatchBytes, chunk.BatchBytes + 1, 3 * chunk.BatchBytes,
	} {
		for name, data := range map[string][]byte{"random": content(3, n), "zeros": make([]byte, n)} {
			chunks, m := cut(t, bytes.NewReader(data))
			if _, whole, err := chunk.Cut(data); err != nil || whole.CID() != m.CID() {
				t.Errorf("%s %d: Cut gives another blob than a Cutter, %v", name, n, err)
			}
			var all []byte
			for i, c := range chunks {
				size := len(c.Data())
				if size < 1 || size > chunk.MaxChunk || size < chunk.MinChunk && i < len(chunks)-1 {
					t.Errorf("%s %d: chunk %d of %d has %d bytes", name, n, i, len(chunks), size)
				}
				if c.Ref() != m.Ref(i) || int64(len(all)) != m.Offset(i) {
					t.Errorf("%s %d: chunk %d is not where the manifest says", name, n, i)
				}
				all = append(all, c.Data()...)
			}
			if !bytes.Equal(all, data) || m.Size() != int64(n) || m.Len() != len(chunks) {
				t.Errorf("%s %d: the chunks are not the content: %d bytes, manifest %d in %d", name, n, len(all), m.Size(), m.Len())
			}
		}
	}
}

// TestShiftedCopy: a byte put before the content costs at most 3 % new chunks.
func TestShiftedCopy(t *testing.T) {
	t.Parallel()
	data := content(4, 32<<20)
	kv := backs["mem"](t)
	_, first := ingest(t, kv, bytes.NewReader(data))
	_, again := ingest(t, kv, bytes.NewReader(data))
	if again != 0 {
		t.Errorf("the same content again stored %d of %d chunks", again, first)
	}
	m, added := ingest(t, kv, io.MultiReader(bytes.NewReader([]byte{7}), bytes.NewReader(data)))
	t.Logf("%d chunks, mean %d bytes; a copy shifted by 1 byte stored %d new: %.2f %%", first, len(data)/first, added, 100*float64(added)/float64(m.Len()))
	if added == 0 || float64(added) > 0.03*float64(m.Len()) {
		t.Errorf("the shifted copy stored %d of %d chunks, want at most 3 %%", added, m.Len())
	}
	wantContent(t, kv, m, append([]byte{7}, data...))
}

func TestFailingSource(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tt := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"at once", iotest.ErrReader(boom), boom},
		{"midway", io.MultiReader(bytes.NewReader(content(5, 9<<20)), iotest.ErrReader(boom)), boom},
		{"cut short", io.MultiReader(bytes.NewReader(content(5, 1<<20)), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{"an end in disguise", io.MultiReader(bytes.NewReader(content(5, 1<<20)), iotest.ErrReader(fmt.Errorf("link: %w", io.EOF))), io.EOF},
		{"no progress", stuck{}, io.ErrNoProgress},
	} {
		c := chunk.NewCutter(tt.r)
		var b chunk.Batch
		var err error
		for err = c.Fill(&b); err == nil; err = c.Fill(&b) {
		}
		if !errors.Is(err, tt.want) || err == io.EOF {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if again := c.Fill(&b); again != err {
			t.Errorf("%s: then %v, want the same", tt.name, again)
		}
		_, err = c.Manifest()
		wantErr(t, tt.name, err, chunk.ErrInvalid)
	}
}

// stuck never gives anything.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestTooManyChunks(t *testing.T) {
	t.Parallel()
	c := chunk.NewCutter(bytes.NewReader(content(6, 2<<20)))
	chunk.Limit(c, 5)
	var b chunk.Batch
	wantErr(t, "6 chunks of 5", c.Fill(&b), chunk.ErrTooLarge)
	_, err := chunk.NewManifest(make([]chunk.Ref, chunk.MaxChunks+1))
	wantErr(t, "manifest", err, chunk.ErrTooLarge)
	_, err = chunk.NewManifest([]chunk.Ref{{Size: chunk.MaxChunk + 1}})
	wantErr(t, "long chunk", err, chunk.ErrInvalid)
	_, err = chunk.NewChunk(make([]byte, chunk.MaxChunk+1))
	wantErr(t, "long chunk", err, chunk.ErrTooLarge)
	_, err = chunk.NewChunk(nil)
	wantErr(t, "empty chunk", err, chunk.ErrInvalid)
}
