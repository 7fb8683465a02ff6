package chunk_test

import (
	"fmt"
	"io"
	"strings"
	"time"

	"bzzz/store"
	"bzzz/store/chunk"
	"bzzz/store/mem"
)

// A content is cut, stored and read back; one chunk is proven to who knows
// nothing but the blob's CID.
func Example() {
	kv, blobs := mem.New(), chunk.New("blobs/")
	cutter := chunk.NewCutter(strings.NewReader(strings.Repeat("a large value ", 20_000)))
	update := func(fn func(*chunk.Writer) error) error {
		return kv.Update(func(tx store.Tx) error {
			w, err := blobs.Writer(tx)
			if err == nil {
				err = fn(w)
			}
			if err == nil {
				err = w.Finish()
			}
			return err
		})
	}
	upload := chunk.LeaseID{1} // random in earnest
	err := update(func(w *chunk.Writer) error { return w.BeginLease(upload, time.Now().Add(time.Hour)) })
	if err != nil {
		panic(err)
	}
	var batch chunk.Batch
	for err = cutter.Fill(&batch); err == nil; err = cutter.Fill(&batch) {
		err = update(func(w *chunk.Writer) error {
			for _, c := range batch.Chunks() {
				if _, err := w.Put(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != io.EOF {
		panic(err)
	}
	m, err := cutter.Manifest()
	if err != nil {
		panic(err)
	}
	if err := update(func(w *chunk.Writer) error { return w.Seal(upload, m) }); err != nil {
		panic(err)
	}
	err = kv.View(func(tx store.Tx) error {
		blob, err := blobs.Reader(tx).Open(m.Digest())
		if err != nil {
			return err
		}
		some := make([]byte, 13)
		if _, err := blob.ReadAt(some, 14*10_000); err != nil {
			return err
		}
		fmt.Printf("%d bytes in %d chunks: %q\n", blob.Size(), m.Len(), some)
		last, err := blobs.Reader(tx).Chunk(m.Ref(m.Len() - 1))
		if err != nil {
			return err
		}
		proof, err := m.Prove(m.Len() - 1)
		if err != nil {
			return err
		}
		fmt.Println("the last chunk:", chunk.VerifyChunk(m.CID(), proof, last.Data()))
		return nil
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// 280000 bytes in 2 chunks: "a large value"
	// the last chunk: <nil>
}
