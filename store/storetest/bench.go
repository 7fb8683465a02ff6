package storetest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"bzzz/store"
)

// benchKeys is the size of the bucket that is read.
const benchKeys = 100_000

// Bench measures single puts, batches of 1,000, gets with and without their
// transaction, and scans.
func Bench(b *testing.B, open func(t testing.TB) store.KV) {
	value := make([]byte, 100)
	b.Run("PutSingle", func(b *testing.B) {
		kv := benchStore(b, open, 0)
		b.ReportAllocs()
		for n := uint64(0); b.Loop(); n++ {
			must(b, kv.Update(func(tx store.Tx) error { return tx.Bucket("b").Put(benchKey(n), value) }))
		}
	})
	b.Run("PutBatch1000Rising", func(b *testing.B) { putBatches(b, open, func(n uint64) uint64 { return n }) })
	b.Run("PutBatch1000Random", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 1))
		putBatches(b, open, func(uint64) uint64 { return rng.Uint64() })
	})
	b.Run("ViewGet", func(b *testing.B) {
		kv := benchStore(b, open, benchKeys)
		rng := rand.New(rand.NewPCG(1, 1))
		b.ReportAllocs()
		for b.Loop() {
			must(b, kv.View(func(tx store.Tx) error {
				if tx.Bucket("b").Get(benchKey(rng.Uint64N(benchKeys))) == nil {
					b.Error("missing")
				}
				return nil
			}))
		}
	})
	b.Run("Get", func(b *testing.B) {
		kv := benchStore(b, open, benchKeys)
		rng := rand.New(rand.NewPCG(1, 1))
		b.ReportAllocs()
		must(b, kv.View(func(tx store.Tx) error {
			for bucket := tx.Bucket("b"); b.Loop(); {
				if bucket.Get(benchKey(rng.Uint64N(benchKeys))) == nil {
					b.Error("missing")
				}
			}
			return nil
		}))
	})
	b.Run("Scan100000", func(b *testing.B) {
		kv := benchStore(b, open, benchKeys)
		b.ReportAllocs()
		b.SetBytes(benchKeys * (8 + 100))
		for b.Loop() {
			must(b, kv.View(func(tx store.Tx) error {
				n, c := 0, tx.Bucket("b").Cursor()
				for k, _ := c.First(); k != nil; k, _ = c.Next() {
					n++
				}
				if n != benchKeys {
					b.Errorf("got %d keys, want %d", n, benchKeys)
				}
				return nil
			}))
		}
	})
}

func putBatches(b *testing.B, open func(t testing.TB) store.KV, next func(uint64) uint64) {
	kv, value := benchStore(b, open, 0), make([]byte, 100)
	b.ReportAllocs()
	b.SetBytes(1000 * (8 + 100))
	for n := uint64(0); b.Loop(); {
		must(b, kv.Update(func(tx store.Tx) error {
			for range 1000 {
				if err := tx.Bucket("b").Put(benchKey(next(n)), value); err != nil {
					return err
				}
				n++
			}
			return nil
		}))
	}
}

func benchKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// benchStore returns a store with n keys that is closed after the benchmark.
func benchStore(b *testing.B, open func(t testing.TB) store.KV, n uint64) store.KV {
	kv := open(b)
	b.Cleanup(func() { must(b, kv.Close()) })
	must(b, kv.Update(func(tx store.Tx) error {
		bucket, err := tx.CreateBucket("b", store.Ordered)
		if err != nil {
			return err
		}
		for i := range n {
			if err := bucket.Put(benchKey(i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}))
	return kv
}
