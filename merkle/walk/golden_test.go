package walk_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bzzz/merkle/walk"
)

// TestGolden pins the bytes of a walk that uses most kinds of expansion and
// answer, SHORT too: a change of any is a change of format. A line for each
// message, the initiator's first.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/walk.txt")
	must(t, err)
	x, y := map[string]uint64{}, map[string]uint64{}
	for i := range 1500 {
		k := ucxl(i * 3)
		x[k], y[k] = 1, 1
		switch {
		case i < 300 || i == 700:
			y[k] = 2
		case i%400 == 0:
			delete(y, k)
		}
	}
	x["ucxl"] = 1
	y["ucxl"] = 2
	for i := range 60 { // few against some
		x[fmt.Sprintf("zz%02d", i)] = 1
	}
	y["zz07"] = 1
	sides := [2]*walk.Walk{}
	for i, s := range []set{setOf(x), setOf(y)} {
		sides[i], err = walk.New(indexOf(t, s), walk.Config{Initiator: i == 0, Salt: saltOf(7)})
		must(t, err)
	}
	var got strings.Builder
	msg, err := sides[0].Start()
	must(t, err)
	for turn := 1; msg != nil; turn = 1 - turn {
		fmt.Fprintf(&got, "%x\n", msg)
		msg, _, err = sides[turn].Receive(msg)
		must(t, err)
	}
	if got.String() != string(want) {
		t.Errorf("the bytes of a walk have changed:\n%s", got.String())
	}
}
