package fault_test

import (
	"errors"
	"fmt"

	"bzzz/store"
	"bzzz/store/fault"
	"bzzz/store/mem"
)

// The process dies in its second commit; a restart finds the first.
func Example() {
	back := mem.New()
	kv := fault.Wrap(back, &fault.Plan{At: map[int]fault.Kind{2: fault.CrashBefore}})
	for _, name := range []string{"first", "second"} {
		err := kv.Update(func(tx store.Tx) error {
			_, err := tx.CreateBucket(name, store.Ordered)
			return err
		})
		fmt.Println(name, errors.Is(err, store.ErrClosed))
	}
	restarted := mem.FromImage(back.Image())
	_ = restarted.View(func(tx store.Tx) error {
		for name := range tx.Buckets() {
			fmt.Println("found", name)
		}
		return nil
	})
	// Output:
	// first false
	// second true
	// found first
}
