package chunk_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/chunk"
)

// benchSize is the blob that is stored and read.
const benchSize = 64 << 20

func openBolt(b *testing.B) store.KV {
	b.Helper()
	kv, err := bolt.Open(filepath.Join(b.TempDir(), "s.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	return kv
}

// BenchmarkIngest stores a blob in a fresh file, every batch durable, and
// beside it the same bytes as plain values of 64 KiB under rising keys in
// transactions of the same size: what the file and its disk give at most.
func BenchmarkIngest(b *testing.B) {
	data := content(20, benchSize)
	b.Run("blob", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			kv := openBolt(b)
			ingest(b, kv, bytes.NewReader(data))
			kv.Close()
		}
	})
	b.Run("raw", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			kv := openBolt(b)
			for at := 0; at < len(data); at += chunk.BatchBytes {
				if err := kv.Update(func(tx store.Tx) error { return rawBatch(tx, data, at) }); err != nil {
					b.Fatal(err)
				}
			}
			kv.Close()
		}
	})
}

func rawBatch(tx store.Tx, data []byte, at int) error {
	bucket := tx.Bucket("raw")
	if bucket == nil {
		var err error
		if bucket, err = tx.CreateBucket("raw", store.AppendOnly); err != nil {
			return err
		}
	}
	for end := at + chunk.BatchBytes; at < end; at += chunk.NormalChunk {
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, uint64(at)), data[at:at+chunk.NormalChunk]); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkCut is cutting and hashing alone.
func BenchmarkCut(b *testing.B) {
	data := content(21, benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		c := chunk.NewCutter(bytes.NewReader(data))
		var batch chunk.Batch
		var err error
		for err = c.Fill(&batch); err == nil; err = c.Fill(&batch) {
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}

// BenchmarkDuplicate stores a blob that is there already.
func BenchmarkDuplicate(b *testing.B) {
	data := content(22, benchSize)
	kv := openBolt(b)
	defer kv.Close()
	ingest(b, kv, bytes.NewReader(data))
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, added := ingest(b, kv, bytes.NewReader(data)); added != 0 {
			b.Fatalf("%d chunks stored again", added)
		}
	}
}

// BenchmarkRead reads and verifies a whole blob, and 4 KiB at a time at random.
func BenchmarkRead(b *testing.B) {
	data := content(23, benchSize)
	kv := openBolt(b)
	defer kv.Close()
	m, _ := ingest(b, kv, bytes.NewReader(data))
	open := func(b *testing.B, fn func(*chunk.Blob)) {
		read(b, kv, func(r *chunk.Reader) {
			blob, err := r.Open(m.Digest())
			if err != nil {
				b.Fatal(err)
			}
			fn(blob)
		})
	}
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			open(b, func(blob *chunk.Blob) {
				if n, err := io.Copy(io.Discard, blob); n != benchSize || err != nil {
					b.Fatal(n, err)
				}
			})
		}
	})
	b.Run("range4K", func(b *testing.B) {
		p := make([]byte, 4<<10)
		b.SetBytes(int64(len(p)))
		open(b, func(blob *chunk.Blob) {
			for at := int64(0); b.Loop(); at = (at + 7_654_321) % (benchSize - 4096) {
				if _, err := blob.ReadAt(p, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkProof proves and verifies one chunk of a blob of about 1 GiB.
func BenchmarkProof(b *testing.B) {
	c, err := chunk.NewChunk(content(24, chunk.NormalChunk))
	if err != nil {
		b.Fatal(err)
	}
	refs := make([]chunk.Ref, 16<<10)
	for i := range refs {
		refs[i] = c.Ref()
	}
	m, err := chunk.NewManifest(refs)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprint(len(refs)), func(b *testing.B) {
		for b.Loop() {
			p, err := m.Prove(777)
			if err != nil {
				b.Fatal(err)
			}
			enc, err := p.AppendBinary(nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := chunk.VerifyChunk(m.CID(), p, c.Data()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(enc)), "bytes/proof")
		}
	})
}
