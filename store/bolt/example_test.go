package bolt_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"bzzz/store"
	"bzzz/store/bolt"
)

func Example() {
	dir, err := os.MkdirTemp("", "bolt")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	err = s.Update(func(tx store.Tx) error {
		b, err := tx.CreateBucket("greetings", store.Ordered)
		if err != nil {
			return err
		}
		return b.Put([]byte("en"), []byte("hello"))
	})
	if err != nil {
		log.Fatal(err)
	}
	err = s.View(func(tx store.Tx) error {
		fmt.Printf("%s\n", tx.Bucket("greetings").Get([]byte("en")))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: hello
}
