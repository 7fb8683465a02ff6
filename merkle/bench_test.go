package merkle_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bzzz/merkle"
	"bzzz/store"
	"bzzz/store/bolt"
)

// benchKey is key i of n as a UCXL address, in order of i.
func benchKey(i int) []byte {
	return fmt.Appendf(nil, "ucxl://agent-%03d:role-%d@project-%02d:task-%04d/notes", i/10000, i/1000%10, i/100%10, i)
}

const benchKeys = 1_000_000

// BenchmarkIndex measures M1 on 1 M keys in bbolt. us/key is wall time with the
// commit but without flushes.
func BenchmarkIndex(b *testing.B) {
	kv, err := bolt.Open(filepath.Join(b.TempDir(), "db"), &bolt.Options{Durability: bolt.None})
	must(b, err)
	defer kv.Close()
	newStore(b, kv)
	must(b, kv.Update(func(tx store.Tx) error {
		h := tx.Bucket(live)
		for i := range benchKeys {
			k := benchKey(i)
			d := sha256.Sum256(k)
			must(b, h.Put(k, d[:]))
		}
		return nil
	}))
	start := time.Now()
	must(b, kv.Update(func(tx store.Tx) error {
		_, err := merkle.Rebuild(tx.Bucket(tree), headsOf(tx.Bucket(live)), 0)
		return err
	}))
	built := time.Since(start)
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(built.Microseconds())/benchKeys, "us/key")
	})
	rng := rand.New(rand.NewPCG(1, 1))
	for _, batch := range []int{1, 1000, 65536} {
		for _, clustered := range []bool{false, true} {
			b.Run(fmt.Sprintf("catchup/batch=%d/clustered=%v", batch, clustered), func(b *testing.B) {
				benchCatchUp(b, kv, rng, batch, clustered)
			})
		}
	}
	b.Run("proof", func(b *testing.B) { benchProof(b, kv, rng) })
}

func benchCatchUp(b *testing.B, kv store.KV, rng *rand.Rand, batch int, clustered bool) {
	var spent time.Duration
	keys := 0
	for b.Loop() {
		ids := map[int]bool{}
		from := rng.IntN(benchKeys - batch)
		for i := 0; len(ids) < batch; i++ {
			if ids[from+i] = true; !clustered {
				delete(ids, from+i)
				ids[rng.IntN(benchKeys)] = true
			}
		}
		var changed [][]byte
		for i := range ids {
			changed = append(changed, benchKey(i))
		}
		slices.SortFunc(changed, slices.Compare)
		must(b, kv.Update(func(tx store.Tx) error {
			for _, k := range changed {
				d := someLeaf(rng)
				must(b, tx.Bucket(live).Put(k, d[:]))
			}
			return nil
		}))
		start := time.Now()
		must(b, kv.Update(func(tx store.Tx) error {
			x, err := merkle.Open(tx.Bucket(tree), headsOf(tx.Bucket(live)))
			must(b, err)
			return x.CatchUp(changed, 0)
		}))
		spent += time.Since(start)
		keys += len(changed)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/1000/float64(keys), "us/key")
}

func benchProof(b *testing.B, kv store.KV, rng *rand.Rand) {
	must(b, kv.View(func(tx store.Tx) error {
		x, err := merkle.Open(tx.Bucket(tree), headsOf(tx.Bucket(live)))
		must(b, err)
		var made, checked time.Duration
		size, n := 0, 0
		for b.Loop() {
			k := benchKey(rng.IntN(benchKeys))
			t0 := time.Now()
			m, proof, err := x.ProveInclusion(k)
			t1 := time.Now()
			must(b, err)
			must(b, merkle.VerifyInclusion(x.Root("n"), "n", m, proof))
			made, checked = made+t1.Sub(t0), checked+time.Since(t1)
			size, n = size+len(proof), n+1
		}
		b.ReportMetric(float64(size)/float64(n), "bytes/proof")
		b.ReportMetric(float64(made.Nanoseconds())/1000/float64(n), "us/make")
		b.ReportMetric(float64(checked.Nanoseconds())/1000/float64(n), "us/check")
		return nil
	}))
}
