package session

import (
	"bytes"
	"fmt"

	"bzzz/engine/session/wire"
)

// A session is driven by hand here: what one end puts out is fed to the other,
// frame by frame, until neither has anything to say.
func Example() {
	w := newWorld()
	a, b := newNode(w, 1, "default"), newNode(w, 2, "default") // test nodes: a kernel over a store in memory
	a.write("default", "k", "from a")
	b.write("default", "l", "from b")

	z := wire.NewZstd()
	ends := [2]*Session{New(Config{Initiator: true, Zstd: z}, a), New(Config{Zstd: z}, b)}
	must(ends[0].Start())
	for busy := true; busy; {
		busy = false
		for i, s := range ends {
			more, err := s.Pump()
			must(err)
			frames := wire.NewReader(bytes.NewReader(s.Output()))
			for f, err := frames.Next(); err == nil; f, err = frames.Next() {
				must(ends[1-i].Receive(f))
				busy = true
			}
			busy = busy || more
		}
	}
	report := ends[0].Report()
	fmt.Println("in sync:", report.Namespaces[0].InSync, "sent:", report.Namespaces[0].Sent, "received:", report.Namespaces[0].Received)
	fmt.Println("round trips:", report.Turns)
	// Output:
	// in sync: true sent: 1 received: 1
	// round trips: 2
}
