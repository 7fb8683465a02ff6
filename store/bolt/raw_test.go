package bolt

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"bzzz/store"
)

// BenchmarkGetBesideRaw compares a get through the contract, with its
// transaction, to the same get by bbolt alone. The bound is 1.15 times.
func BenchmarkGetBesideRaw(b *testing.B) {
	const n = 100_000
	s, err := Open(filepath.Join(b.TempDir(), "s.db"), &Options{Durability: None})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	err = s.Update(func(tx store.Tx) error {
		bucket, err := tx.CreateBucket("b", store.Ordered)
		for i := range uint64(n) {
			if err == nil {
				err = bucket.Put(binary.BigEndian.AppendUint64(nil, i), make([]byte, 100))
			}
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	key := func() []byte { return binary.BigEndian.AppendUint64(nil, rng.Uint64N(n)) }
	b.Run("raw", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = s.now.Load().db.View(func(tx *bbolt.Tx) error {
				if tx.Bucket([]byte("b")).Get(key()) == nil {
					b.Error("missing")
				}
				return nil
			})
		}
	})
	b.Run("contract", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = s.View(func(tx store.Tx) error {
				if tx.Bucket("b").Get(key()) == nil {
					b.Error("missing")
				}
				return nil
			})
		}
	})
}
