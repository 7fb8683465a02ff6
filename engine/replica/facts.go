package replica

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"bzzz/crdt"
	"bzzz/store"
)

// facts answers what the views of one transaction say about dots. It keeps what
// it read last, and replays the journal behind the views' mark only when the
// views alone do not answer. It serves one goroutine.
type facts struct {
	rd      *Reader
	mark    uint64
	recent  *delta
	numbers map[crdt.ReplicaID]uint32

	chunk struct {
		read bool
		id   uint32
		n    uint64
		dead *roaring.Bitmap
		err  error
	}
	block struct {
		read bool
		id   uint32
		n    uint64
		live []dotEntry
		err  error
	}
}

func newFacts(v *View) *facts { return &facts{rd: v.Reader, mark: v.state.mark} }

// number returns the number of a replica that a record of the journal names.
func (f *facts) number(r crdt.ReplicaID) uint32 {
	if f.numbers == nil {
		f.numbers = map[crdt.ReplicaID]uint32{}
		for n, id := range f.rd.ids.all() {
			f.numbers[id] = uint32(n)
		}
	}
	return f.numbers[r]
}

// delta returns what the journal says since the views' mark. O(journal records
// since), once.
func (f *facts) delta() (*delta, error) {
	if f.recent == nil {
		d, err := replayDelta(f.rd.journal, f.mark, f.rd.ids)
		if err != nil {
			return nil, err
		}
		f.recent = &d
	}
	return f.recent, nil
}

// deadChunk returns the bitmap that a dot lies in, nil if there is none.
func (f *facts) deadChunk(id uint32, n uint64) (*roaring.Bitmap, error) {
	c := &f.chunk
	if !c.read || c.id != id || c.n != n {
		c.read, c.id, c.n = true, id, n
		c.dead, c.err = loadDeadChunk(f.rd.tx.Bucket(f.rd.names.dead), id, n)
	}
	return c.dead, c.err
}

// inBitmap reports whether the dead view, as of its mark, has a dot. An error is
// damage to its chunk.
func (f *facts) inBitmap(id uint32, seq uint64) (bool, error) {
	m, err := f.deadChunk(id, seq>>deadChunkBits)
	return err == nil && m != nil && m.Contains(uint32(seq&(1<<deadChunkBits-1))), err
}

// isDead reports whether a dot is known to be dead. readable is false if damage
// to its chunk keeps that from being known.
func (f *facts) isDead(dot crdt.Dot) (dead, readable bool, err error) {
	dead, damage := f.inBitmap(f.number(dot.Replica), dot.Seq)
	if dead {
		return true, true, nil
	}
	d, err := f.delta()
	if err != nil {
		return false, false, err
	}
	if d.died.Has(dot) {
		return true, true, nil
	}
	return false, damage == nil, nil
}

// dotBlock returns the entries of a block of the dots view.
func (f *facts) dotBlock(id uint32, n uint64) ([]dotEntry, error) {
	b := &f.block
	if !b.read || b.id != id || b.n != n {
		key := blockKey(id, n)
		b.read, b.id, b.n = true, id, n
		b.live, b.err = decodeDotBlock(f.rd.tx.Bucket(f.rd.names.dots).Get(key), key, n)
	}
	return b.live, b.err
}

// listed returns the arrival under which the dots view, as of its mark, has a
// dot; 0 if it has not, or if the block is damaged.
func (f *facts) listed(id uint32, seq uint64) uint64 {
	live, err := f.dotBlock(id, seq>>dotBlockBits)
	i, found := slices.BinarySearchFunc(live, seq, func(e dotEntry, seq uint64) int { return cmp.Compare(e.seq, seq) })
	if err != nil || !found {
		return 0
	}
	return live[i].arrival
}

// elsewhere reports whether a dot is live under another arrival than the given
// one: it was used for two versions, or sent again.
func (f *facts) elsewhere(dot crdt.Dot, arrival uint64) (bool, error) {
	id := f.number(dot.Replica)
	at := f.listed(id, dot.Seq)
	d, err := f.delta()
	if err != nil {
		return false, err
	}
	if n := d.lived[dot]; n != 0 {
		at = n
	}
	if at == 0 || at == arrival {
		return false, nil
	}
	return f.rd.holds(dot, id, at)
}

// reviveChunk makes a damaged chunk of the dead view anew from what the journal
// proves. What else of the clock it may have held and is not listed as live is
// neither live nor dead now: it leaves the advertised clock, so that a peer says
// which (KERNEL K3). O(journal).
func (r *Replica) reviveChunk(tx store.Tx, id uint32, n uint64) (*roaring.Bitmap, error) {
	rd, err := r.Reader(tx)
	if err != nil {
		return nil, err
	}
	chunks := []chunkPlan{{id: id, n: n}}
	if err := rd.recordsOf(nil, chunks, 0); err != nil {
		return nil, err
	}
	m := roaring.New()
	for _, run := range chunks[0].dead.Runs() {
		m.AddRange(run.Lo-n<<deadChunkBits, run.Hi-n<<deadChunkBits+1)
	}
	author := r.ids.at(id)
	run := crdt.Interval{Lo: max(1, n<<deadChunkBits), Hi: n<<deadChunkBits | (1<<deadChunkBits - 1)}
	var live crdt.SeqSet
	for e, err := range rd.liveDots(id, run, &dotBlocks{}) {
		if err != nil {
			return nil, err
		}
		live.Add(e.seq)
	}
	lost := r.clock.Of(author).Intersect(crdt.NewSeqSet(run)).Minus(live).Minus(chunks[0].dead).Minus(r.delta.died.Of(author))
	if !lost.IsEmpty() {
		r.unknown.Merge(crdt.ClockOf(author, lost))
		r.lapsed = append(r.lapsed, author)
	}
	return m, nil
}
