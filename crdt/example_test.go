package crdt_test

import (
	"fmt"

	"bzzz/crdt"
)

// Two replicas write a register without seeing each other; a third sees both
// and writes again.
func Example() {
	ann, bob := crdt.ReplicaID{1}, crdt.ReplicaID{2}
	write := func(r crdt.ReplicaID, seq uint64, t crdt.HLC, value string, over crdt.Siblings) *crdt.Version {
		return &crdt.Version{
			Key: crdt.AppendName(nil, []byte("greeting")), Kind: crdt.Put, Value: []byte(value),
			Dot: crdt.Dot{Replica: r, Seq: seq}, First: seq, Last: seq, Time: t, Context: crdt.Join(over...),
		}
	}
	var siblings crdt.Siblings
	siblings, _ = siblings.Apply(write(ann, 1, 10, "hello", nil))
	siblings, _ = siblings.Apply(write(bob, 1, 20, "moin", nil))
	view := crdt.Fold(siblings, crdt.LWW, 0)
	value, _ := view.Value()
	fmt.Printf("%s, one of %d\n", value, len(view.Siblings))

	// Ann's clock is slow, but she has seen both.
	siblings, superseded := siblings.Apply(write(ann, 2, 21, "hello again", siblings))
	value, _ = crdt.Fold(siblings, crdt.LWW, 0).Value()
	fmt.Printf("%s, over %d\n", value, len(superseded))
	// Output:
	// moin, one of 2
	// hello again, over 2
}

func ExampleBetween() {
	first, _ := crdt.Between(nil, nil, []byte{0xAA, 0xAA}, 1)
	third, _ := crdt.Between(first, nil, []byte{0xAA, 0xAA}, 2)
	second, _ := crdt.Between(first, third, []byte{0xBB, 0xBB}, 1)
	fmt.Printf("%x\n%x\n%x\n", first, second, third)
	// Output:
	// 02aaaa1104
	// 02aaaa110702bbbb1104
	// 02aaaa1108
}
