package walk

import (
	"bytes"
	"errors"
	"iter"
	"slices"

	"bzzz/merkle"
)

// MaxWaiting is how many offers may wait when Receive is called. An offer is a
// key or a whole region, whose keys are read when it is their turn.
const MaxWaiting = 64 << 10

const (
	// fewKeys of a region are kept as keys, which spares a second reading.
	fewKeys = 4
	// keptBytes is how many bytes of keys are kept that way.
	keptBytes = 4 << 20
	// batchKeys is how many keys of a region are read at once.
	batchKeys = 256
)

// Offers yields and forgets the keys of ours that the peer lacks or has with
// another leaf, as far as the messages received so far say, in byte order for
// those of one message, and last the error that ended it early, if one did:
// ErrCorrupt, which ends the walk too. A key is valid until the next one. Who
// breaks off goes on with the next call. Each key comes once in a walk.
func (w *Walk) Offers() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			key, err := w.offers.next()
			if err != nil && w.err == nil {
				w.err = err
			}
			if key == nil && err == nil || !yield(key, err) || err != nil {
				return
			}
		}
	}
}

// Waiting returns the number of offers that wait, a region counting as one.
func (w *Walk) Waiting() int { return w.offers.len() }

// offer is a node all of whose keys are offered, but those with these numbers.
type offer struct {
	node merkle.Node
	omit []uint16 // rising
}

// queue is a list of offers, of which the first may be taken in part.
type queue struct {
	index *merkle.Index
	list  []offer
	kept  int // bytes of keys kept by addSome

	batch [][]byte // keys of list[0] that were read
	from  []byte   // where to read on, nil at its start
	seen  uint64   // keys of list[0] read
}

func (q *queue) len() int { return len(q.list) }

func (q *queue) add(n merkle.Node) { q.list = append(q.list, offer{node: n}) }

// some is a choice among the keys of a node, made key by key.
type some struct {
	seen int
	omit []uint16
	keys []merkle.Node // those chosen, as long as they are few
}

// next adds a key to the choice, or omits it.
func (s *some) next(key []byte, leaf merkle.Digest, omit bool) {
	switch {
	case omit:
		s.omit = append(s.omit, uint16(s.seen))
	case len(s.keys) < fewKeys:
		s.keys = append(s.keys, merkle.Node{
			Subtree: merkle.Subtree{Count: 1, Digest: leaf},
			Depth:   2 * len(key), Path: bytes.Clone(key), End: true,
		})
	}
	s.seen++
}

// addSome adds the chosen keys of a node.
func (q *queue) addSome(n merkle.Node, s *some) {
	chosen := s.seen - len(s.omit)
	if chosen == 0 {
		return
	}
	if chosen == len(s.keys) && q.kept < keptBytes {
		for _, k := range s.keys {
			q.kept += len(k.Path)
			q.add(k)
		}
		return
	}
	q.list = append(q.list, offer{n, s.omit})
}

// sort puts the offers behind the first from into byte order.
func (q *queue) sort(from int) {
	slices.SortFunc(q.list[from:], func(a, b offer) int { return bytes.Compare(a.node.Path, b.node.Path) })
}

// next returns the next key, nil if there is none.
func (q *queue) next() ([]byte, error) {
	for len(q.batch) == 0 {
		if len(q.list) == 0 {
			q.list, q.kept = nil, 0
			return nil, nil
		}
		if n := q.list[0].node; n.End {
			q.drop()
			return n.Path, nil
		}
		if err := q.read(); err != nil {
			return nil, err
		}
	}
	key := q.batch[0]
	q.batch = q.batch[1:]
	return key, nil
}

func (q *queue) drop() {
	q.list[0] = offer{}
	q.list = q.list[1:]
	q.from, q.seen = nil, 0
}

// errBatch ends a reading. It never leaves the package.
var errBatch = errors.New("walk: enough for now")

// read reads the next keys of list[0] into batch, and drops it at its end.
func (q *queue) read() error {
	o := &q.list[0]
	start, end := o.node.Bounds()
	if q.from != nil {
		start = bytes.Clone(q.from)
	}
	err := q.index.Range(start, end, func(key []byte, _ merkle.Digest) error {
		if len(q.batch) == batchKeys {
			return errBatch
		}
		if len(o.omit) > 0 && uint64(o.omit[0]) == q.seen {
			o.omit = o.omit[1:]
		} else {
			q.batch = append(q.batch, bytes.Clone(key))
		}
		q.from = append(append(q.from[:0], key...), 0)
		if q.seen++; q.seen > o.node.Count {
			return q.index.Miscounted(o.node)
		}
		return nil
	})
	switch {
	case err == errBatch:
		return nil
	case err == nil && q.seen != o.node.Count:
		return q.index.Miscounted(o.node)
	case err != nil:
		return err
	}
	q.drop()
	return nil
}
