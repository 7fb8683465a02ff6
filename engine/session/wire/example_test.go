package wire_test

import (
	"bytes"
	"fmt"
	"io"

	"bzzz/crdt"
	"bzzz/engine/session/wire"
)

// One side sends a version and says that this was all; the other reads it.
func Example() {
	z := wire.NewZstd() // one for the whole engine

	me := crdt.NewReplicaID([8]byte{1}, [8]byte{2})
	clock := crdt.NewClock()
	clock.Add(crdt.Dot{Replica: me, Seq: 1})
	enc := wire.NewEncoder(z)
	enc.Add(&crdt.Version{
		Key: []byte("greeting"), Kind: crdt.Put, Value: []byte("hello"),
		Dot: crdt.Dot{Replica: me, Seq: 1}, First: 1, Last: 1, Time: 7 << 16,
	})
	stream := wire.AppendFrame(nil, wire.TypeBatch, enc.Flush(0, 0))
	done := wire.Done{Adopt: clock, Gone: crdt.NewClock()}
	stream = wire.AppendFrame(stream, wire.TypeDone, done.Append(nil, z))

	r, dec := wire.NewReader(bytes.NewReader(stream)), wire.NewDecoder(z)
	for {
		f, err := r.Next()
		if err == io.EOF {
			return
		}
		switch f.Type {
		case wire.TypeBatch:
			b, err := dec.Decode(f.Payload)
			fmt.Printf("%s: %s = %q, %v\n", f.Type, b.Versions[0].Key, b.Versions[0].Value, err)
		case wire.TypeDone:
			m, err := wire.DecodeDone(f.Payload, z)
			fmt.Printf("%s: adopt %d dot, %v\n", f.Type, m.Adopt.Count(), err)
		}
	}
	// Output:
	// BATCH: greeting = "hello", <nil>
	// DONE: adopt 1 dot, <nil>
}
