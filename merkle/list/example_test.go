package list_test

import (
	"fmt"

	"bzzz/merkle/list"
)

// A blob's manifest holds the root and the number of its chunks. Who holds the
// manifest checks one chunk without the others.
func Example() {
	chunks := [][]byte{[]byte("so"), []byte("long"), []byte("and"), []byte("thanks")}
	tree, err := list.Build(chunks)
	if err != nil {
		panic(err)
	}
	proof, err := tree.Prove(2)
	if err != nil {
		panic(err)
	}
	wire, err := proof.AppendBinary(nil)
	if err != nil {
		panic(err)
	}

	received, err := list.ParseProof(wire)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(wire), "bytes of proof")
	fmt.Println("chunk 2:", list.Verify(tree.Root(), 4, 2, []byte("and"), received))
	fmt.Println("forged:", list.Verify(tree.Root(), 4, 2, []byte("but"), received) != nil)
	// Output:
	// 65 bytes of proof
	// chunk 2: <nil>
	// forged: true
}
