package wire

import (
	"bytes"
	"encoding/binary"
)

// MaxItems bounds the blocks that one WANT names.
const MaxItems = 4096

// Item names a block of a large value by what it must hash to.
type Item struct {
	Manifest bool     // the list of its chunks; else a chunk
	Size     uint64   // in bytes; 0 for a manifest, whose size nobody knows before
	Digest   [32]byte // SHA-256
}

// Want asks for blocks. An empty one says that nothing more is wanted.
//
//	WANT = for each block: size << 1 | manifest, digest [32]
type Want struct{ Items []Item }

// Append appends the payload.
func (m Want) Append(dst []byte) []byte {
	for _, it := range m.Items {
		dst = it.append(dst)
	}
	return dst
}

func (it Item) append(dst []byte) []byte {
	head := it.Size << 1
	if it.Manifest {
		head |= 1
	}
	return append(binary.AppendUvarint(dst, head), it.Digest[:]...)
}

func (c *cursor) item() Item {
	head := c.uvarint()
	it := Item{Manifest: head&1 != 0, Size: head >> 1}
	if it.Manifest && it.Size != 0 {
		c.fail("manifest with a size")
	}
	c.fill(it.Digest[:])
	return it
}

// DecodeWant reads what Append appended.
func DecodeWant(payload []byte) (Want, error) {
	c := cursor{b: payload}
	var m Want
	for len(c.b) > 0 && c.err == nil {
		if len(m.Items) == MaxItems {
			c.fail("more than %d blocks", MaxItems)
			break
		}
		m.Items = append(m.Items, c.item())
	}
	return m, c.end("want")
}

// Block answers for one block that was asked for, in the order of the questions.
//
//	BLOCK = size << 1 | manifest, digest [32] | here u8 | bytes, up to the end
type Block struct {
	Item
	Here bool // false: the sender does not have it
	Data []byte
}

// Append appends the payload.
func (m Block) Append(dst []byte) []byte {
	dst = m.Item.append(dst)
	if !m.Here {
		return append(dst, 0)
	}
	return append(append(dst, 1), m.Data...)
}

// DecodeBlock reads what Append appended.
func DecodeBlock(payload []byte) (Block, error) {
	c := cursor{b: payload}
	m := Block{Item: c.item()}
	switch c.u8() {
	case 0:
	case 1:
		m.Here = true
		m.Data = bytes.Clone(c.b)
		c.take(len(c.b))
	default:
		c.fail("neither here nor missing")
	}
	return m, c.end("block")
}
