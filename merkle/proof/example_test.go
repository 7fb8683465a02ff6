package proof_test

import (
	"encoding/hex"
	"fmt"
	"os"

	"bzzz/merkle"
	"bzzz/merkle/proof"
)

// Somebody sends a file that says what a key holds. Who knows the 32 bytes of
// the root checks it without a store.
func Example() {
	known, err := hex.DecodeString("af545cfef762ab8040738a0868e0ce49c6002731812e641800850196890c6ed3")
	if err != nil {
		panic(err)
	}
	root := merkle.Digest(known)
	for _, name := range []string{"inclusion", "absence", "prefix"} {
		file, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			panic(err)
		}
		e, err := proof.Decode(file)
		if err != nil {
			panic(err)
		}
		s, err := proof.Verify(e, root)
		fmt.Println(s, err)
	}
	// Output:
	// key "apple" of namespace "fruit" holds this one value <nil>
	// key "fig" of namespace "fruit" holds no value, and neither does any that begins with it <nil>
	// 5 keys of namespace "fruit" begin with "more/" <nil>
}
