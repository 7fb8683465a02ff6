package chunk_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"

	"bzzz/store/chunk"
)

// TestAgainstLibrary: the cuts are those of another implementation of FastCDC,
// given the same table.
func TestAgainstLibrary(t *testing.T) {
	fastcdc.G = chunk.Gear // the library's table; no other test uses it
	rng := rand.New(rand.NewPCG(40, 1))
	cuts := 0
	for round := range uint64(40) {
		data := content(400+round, rng.IntN(5<<20))
		for range rng.IntN(4) { // runs and repetitions, where hashes behave otherwise
			if at := rng.IntN(len(data) + 1); at < len(data) {
				copy(data[at:], bytes.Repeat(data[at:at+1], rng.IntN(1<<20)))
			}
		}
		lib, err := chunkers.NewChunker("fastcdc-v1.0.0", bytes.NewReader(data),
			&chunkers.ChunkerOpts{MinSize: chunk.MinChunk, NormalSize: chunk.NormalChunk, MaxSize: chunk.MaxChunk})
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := chunk.Cut(data)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range got {
			want, err := lib.Next()
			if err != nil && err != io.EOF || !bytes.Equal(c.Data(), want) {
				t.Fatalf("round %d, chunk %d of %d: %d bytes, the library says %d, %v", round, i, len(got), len(c.Data()), len(want), err)
			}
		}
		if rest, err := lib.Next(); len(rest) != 0 || err != io.EOF {
			t.Fatalf("round %d: the library has %d bytes more, %v", round, len(rest), err)
		}
		cuts += len(got)
	}
	if cuts < 500 {
		t.Errorf("only %d cuts were compared", cuts)
	}
}
