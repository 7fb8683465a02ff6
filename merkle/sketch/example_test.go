package sketch_test

import (
	"crypto/sha256"
	"fmt"

	"bzzz/merkle/sketch"
)

// Two replicas hold 1,000 keys; each wrote one that the other lacks. One
// streams cells, the other subtracts its own until the difference is left.
func Example() {
	key := sketch.Key{'n', 's'} // the same on both sides
	alice, _ := sketch.New(key, 4096)
	bob, _ := sketch.New(key, 4096)
	for i := range 1000 {
		leaf := sha256.Sum256(fmt.Appendf(nil, "version %d", i))
		alice.Add(leaf)
		bob.Add(leaf)
	}
	alice.Add(sha256.Sum256([]byte("alice wrote")))
	bob.Add(sha256.Sum256([]byte("bob wrote")))

	const salt = 0x5eed // of the session, both sides contribute
	enc, _ := sketch.NewEncoder(alice, salt, 0)
	header, _ := sketch.ParseHeader(enc.Header().Append(nil))
	dec, _ := sketch.NewDecoder(bob, header, 0)
	for !dec.Done() {
		if err := dec.AddCells(enc.AppendCells(nil, 1)); err != nil {
			fmt.Println("walk the tree instead:", err)
			return
		}
	}
	name := func(what string) sketch.Item { return sketch.ItemOf(sha256.Sum256([]byte(what))) }
	fmt.Println("alice's:", len(dec.Theirs()), dec.Theirs()[0] == name("alice wrote"))
	fmt.Println("bob's:", len(dec.Ours()), dec.Ours()[0] == name("bob wrote"))
	// Output:
	// alice's: 1 true
	// bob's: 1 true
}
