package bolt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bzzz/store"
)

// TestPlainLeafAgrees: the quick check of a leaf passes exactly what the full
// one passes, whatever bits of the page are wrong.
func TestPlainLeafAgrees(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Open(path, &Options{Durability: None})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx store.Tx) error {
		b, err := tx.CreateBucket("b", store.Ordered)
		for i := 0; i < 500 && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "key %05d", i), bytes.Repeat([]byte{byte(i)}, i%60))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	passed, refused := 0, 0
	for at := 2 * pageSize; at+pageSize <= len(file); at += pageSize {
		page := file[at : at+pageSize]
		count := int(native.Uint16(page[10:]))
		if native.Uint16(page[8:]) != flagLeaf || count < 2 || native.Uint32(page[headerSize:]) != 0 {
			continue
		}
		for range 3000 {
			buf := bytes.Clone(page)
			for range rng.IntN(3) {
				buf[8+rng.IntN(8+count*elementSize+80)] ^= 1 << rng.IntN(8)
			}
			var low, high []byte
			if rng.IntN(3) == 0 {
				low = fmt.Appendf(nil, "key %05d", rng.IntN(500))
			}
			if rng.IntN(3) == 0 {
				high = fmt.Appendf(nil, "key %05d", rng.IntN(600))
			}
			err := elements(buf, low, high, func(e element, _ []byte) error {
				if e.branch {
					return errForeign
				}
				return e.plain()
			})
			if got := plainLeaf(buf, low, high); got != (err == nil) {
				t.Fatalf("plainLeaf says %v, elements %v", got, err)
			} else if got {
				passed++
			} else {
				refused++
			}
		}
	}
	if passed < 100 || refused < 100 {
		t.Errorf("%d pages passed and %d were refused: too few of one", passed, refused)
	}
}
