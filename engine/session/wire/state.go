package wire

import (
	"encoding/binary"
	"fmt"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// Snapshot says where a replica of a namespace stands.
//
//	snapshot = node [16] | epoch u64 | journal [16] | root [32] | count
//	         | clock Clock | gone Clock
type Snapshot struct {
	Node    crdt.ReplicaID // the id it writes under
	Epoch   uint64         // changes when it restarts, restores or removes dots
	Journal [16]byte       // the journal that cursors are bound to
	Root    [32]byte       // of the Merkle tree
	Count   uint64         // keys under the root
	Clock   crdt.Clock     // the dots it knows, durably
	Gone    crdt.Clock     // its gone marks
}

func (s Snapshot) append(dst []byte) []byte {
	dst = append(dst, s.Node[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, s.Epoch)
	dst = append(dst, s.Journal[:]...)
	dst = append(dst, s.Root[:]...)
	dst = binary.AppendUvarint(dst, s.Count)
	return s.Gone.Append(s.Clock.Append(dst))
}

func (c *cursor) snapshot() Snapshot {
	var s Snapshot
	c.fill(s.Node[:])
	s.Epoch = c.u64()
	c.fill(s.Journal[:])
	c.fill(s.Root[:])
	s.Count = c.uvarint()
	s.Clock = c.clock("clock")
	s.Gone = c.clock("gone")
	return s
}

// unpacked returns a cursor over a packed body.
func (z *Zstd) unpacked(payload []byte) cursor {
	b, err := z.unpack(payload)
	return cursor{b: b, err: err}
}

// State tells the other side where this one stands in a namespace. Where both
// have agreed on a state before, only what came since: clock and gone marks are
// then to be joined with those of that state.
//
//	STATE = packed(namespace number << 1 | based | if based: base [16] | snapshot)
type State struct {
	NS    uint64
	Based bool
	Base  [16]byte // if Based: the digest of the clock and gone marks that these add to
	Snapshot
}

// Append appends the payload.
func (m State) Append(dst []byte, z *Zstd) []byte {
	body := binary.AppendUvarint(nil, m.NS<<1)
	if m.Based {
		body[0] |= 1
		body = append(body, m.Base[:]...)
	}
	return z.pack(dst, m.Snapshot.append(body))
}

// DecodeState reads what Append appended.
func DecodeState(payload []byte, z *Zstd) (State, error) {
	c := z.unpacked(payload)
	head := c.uvarint()
	m := State{NS: head >> 1, Based: head&1 != 0}
	if m.Based {
		c.fill(m.Base[:])
	}
	m.Snapshot = c.snapshot()
	return m, c.end("state")
}

// Done ends a stream of batches of one namespace. Numbers rise by one: 0 ends
// the first reconcile, n ends push n.
//
//	DONE = packed(namespace number | number | batches | adopt Clock | gone Clock)
type Done struct {
	NS, Number uint64
	Batches    uint64     // the sender's Encoder flushed so far: all of them must have arrived
	Adopt      crdt.Clock // what the receiver knows once it has applied all of it
	Gone       crdt.Clock // and the gone marks that go with that
}

// Append appends the payload.
func (m Done) Append(dst []byte, z *Zstd) []byte {
	body := binary.AppendUvarint(binary.AppendUvarint(nil, m.NS), m.Number)
	body = binary.AppendUvarint(body, m.Batches)
	return z.pack(dst, m.Gone.Append(m.Adopt.Append(body)))
}

// DecodeDone reads what Append appended.
func DecodeDone(payload []byte, z *Zstd) (Done, error) {
	c := z.unpacked(payload)
	m := Done{c.uvarint(), c.uvarint(), c.uvarint(), c.clock("adopt"), c.clock("gone")}
	return m, c.end("done")
}

// bundleMagic begins the payload of a bundle file's first frame.
const bundleMagic = "BZZZBNDL"

// BundleFormat is the format of bundle files that this build writes and reads.
const BundleFormat = 1

// Bundle is the header of a bundle file: one side of a session for a reader
// who cannot answer. BATCH and HISTORY frames and a DONE frame follow.
//
//	BUNDLE = "BZZZBNDL" | format
//	       | packed(name length | name | base Clock | snapshot)
type Bundle struct {
	Namespace string
	Base      crdt.Clock // what the author took the reader to have
	Snapshot             // the author's
}

// Append appends the payload.
func (m Bundle) Append(dst []byte, z *Zstd) []byte {
	dst = binary.AppendUvarint(append(dst, bundleMagic...), BundleFormat)
	return z.pack(dst, m.Snapshot.append(m.Base.Append(appendText(nil, m.Namespace))))
}

// DecodeBundle reads what Append appended; ErrUnsupported for another format.
func DecodeBundle(payload []byte, z *Zstd) (Bundle, error) {
	h := cursor{b: payload}
	if string(h.take(len(bundleMagic))) != bundleMagic {
		return Bundle{}, fmt.Errorf("bundle: not a bundle file: %w", errs.ErrInvalid)
	}
	if f := h.uvarint(); h.err == nil && f != BundleFormat {
		return Bundle{}, fmt.Errorf("bundle of format %d, this build reads %d: %w", f, BundleFormat, errs.ErrUnsupported)
	}
	c := z.unpacked(h.b)
	m := Bundle{c.namespace(c.count("bytes of a namespace", MaxNamespace)), c.clock("base"), c.snapshot()}
	return m, c.end("bundle")
}
