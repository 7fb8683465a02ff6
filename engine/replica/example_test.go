package replica_test

import (
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
	"bzzz/store/mem"
)

// The kernel works inside transactions that its caller opens.
func Example() {
	kv := mem.New()
	defer kv.Close()
	cfg := replica.Config{Name: "default", Prefix: "n1/"}
	var r *replica.Replica
	kv.Update(func(tx store.Tx) error { return replica.Create(tx, cfg, [16]byte{1}) })
	kv.View(func(tx store.Tx) (err error) {
		r, err = replica.Open(tx, cfg)
		return err
	})
	r.SetSelf(crdt.ReplicaID{1})

	var batch *replica.Batch
	now := crdt.HLC(1) << 16
	kv.Update(func(tx store.Tx) error {
		batch, _ = r.Begin(tx, now)
		batch.Commit([]replica.Write{{Key: []byte("k"), Kind: crdt.Put, Value: []byte("v")}}, now)
		return batch.Finish(false)
	})
	batch.Done()

	kv.View(func(tx store.Tx) error {
		view, _ := r.View(tx)
		siblings, err := view.Siblings([]byte("k"))
		fmt.Printf("%s %v, seen: %d\n", siblings[0].Value, err, view.Clock().Count())
		return nil
	})
	// Output: v <nil>, seen: 1
}
