package walk_test

import (
	"fmt"

	"bzzz/merkle"
	"bzzz/merkle/walk"
	"bzzz/store"
	"bzzz/store/mem"
)

// Two replicas find out in what they differ: each is offered its own side of it.
func Example() {
	open := func(values map[string]uint64) *merkle.Index {
		leaves, kv := setOf(values), mem.New()
		if err := kv.Update(func(tx store.Tx) error {
			b, err := tx.CreateBucket("tree", store.Ordered)
			if err == nil {
				_, err = merkle.Rebuild(b, leaves, 1)
			}
			return err
		}); err != nil {
			panic(err)
		}
		snap, err := kv.Snapshot() // lasts as long as the program
		if err != nil {
			panic(err)
		}
		x, err := merkle.Open(snap.Bucket("tree"), leaves)
		if err != nil {
			panic(err)
		}
		return x
	}
	here, err := walk.New(open(map[string]uint64{"apple": 1, "pear": 1, "plum": 1}), walk.Config{Initiator: true})
	if err != nil {
		panic(err)
	}
	there, err := walk.New(open(map[string]uint64{"apple": 1, "pear": 2, "quince": 1}), walk.Config{})
	if err != nil {
		panic(err)
	}
	sides := [2]*walk.Walk{here, there}
	msg, err := here.Start()
	for turn := 1; msg != nil && err == nil; turn = 1 - turn {
		msg, _, err = sides[turn].Receive(msg)
		for key, err := range sides[turn].Offers() {
			fmt.Println([]string{"here", "there"}[turn], string(key), err)
		}
	}
	fmt.Println(err, here.Stats().Sent+there.Stats().Sent, "messages")
	// Output:
	// here pear <nil>
	// here plum <nil>
	// there pear <nil>
	// there quince <nil>
	// <nil> 3 messages
}
