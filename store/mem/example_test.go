package mem_test

import (
	"fmt"

	"bzzz/store"
	"bzzz/store/mem"
)

// A store is rolled back to an image of its earlier self.
func Example() {
	s := mem.New()
	put := func(value string) {
		_ = s.Update(func(tx store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				b, _ = tx.CreateBucket("b", store.Ordered)
			}
			return b.Put([]byte("key"), []byte(value))
		})
	}
	put("old")
	img := s.Image()
	put("new")

	for _, kv := range []store.KV{s, mem.FromImage(img)} {
		_ = kv.View(func(tx store.Tx) error {
			fmt.Printf("%s\n", tx.Bucket("b").Get([]byte("key")))
			return nil
		})
	}
	// Output:
	// new
	// old
}
