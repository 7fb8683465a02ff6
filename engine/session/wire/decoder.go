package wire

import (
	"fmt"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// Batch is a decoded BATCH or HISTORY.
type Batch struct {
	NS       uint64
	Number   uint64         // 0 in the first reconcile, n in push n
	Versions []crdt.Version // valid each; they share a few large buffers
}

// Decoder reads what one Encoder flushed, in the same order. It is not safe for
// concurrent use.
type Decoder struct {
	z       *Zstd
	batches uint64 // decoded so far
	lanes   []lane
	time    crdt.HLC
	err     error

	meta    []byte // reused
	numbers [3][]uint64
}

// NewDecoder returns a Decoder that decompresses with z.
func NewDecoder(z *Zstd) *Decoder { return &Decoder{z: z} }

// Decode reads the payload of a BATCH or HISTORY frame. Each version is valid
// and the caller's; whoever keeps one of them keeps the memory of its batch.
//
// It allocates per batch, and for each link to a blob, but not per version:
// MaxDecoded bytes of content and 170 bytes a version at most, of which there
// are no more than bytes of decompressed metadata. After an error the state is
// lost: every later call returns the same error. A batch that is missing,
// repeated or out of its place is such an error (ErrInvalid).
func (d *Decoder) Decode(payload []byte) (Batch, error) {
	if d.err != nil {
		return Batch{}, d.err
	}
	b, err := d.decode(payload)
	if err != nil {
		d.err = fmt.Errorf("batch: %w", err)
		return Batch{}, d.err
	}
	d.batches++
	return b, nil
}

// Batches returns how many batches were decoded so far.
func (d *Decoder) Batches() uint64 { return d.batches }

func (d *Decoder) decode(payload []byte) (Batch, error) {
	c := cursor{b: payload}
	b := Batch{NS: c.uvarint(), Number: c.uvarint()}
	if index := c.uvarint(); c.err == nil && index != d.batches {
		c.fail("batch %d of the stream where %d is due", index, d.batches)
	}
	flags := c.u8()
	if flags&^flagsKnown != 0 {
		c.fail("unknown flags %#x", flags)
	}
	if flags&flagReset != 0 {
		if len(d.lanes) < resetReplicas {
			c.fail("reset after %d replicas", len(d.lanes))
		}
		d.lanes, d.time = d.lanes[:0], 0
	}
	n := c.count("versions", MaxVersions)
	meta := c.take(c.count("bytes of metadata", len(c.b)))
	if c.err != nil {
		return b, c.err
	}
	meta, values, err := d.sections(flags, meta, c.b)
	if err != nil {
		return b, err
	}
	if n == 0 || n > len(meta) {
		return b, fmt.Errorf("%d versions in %d bytes of metadata: %w", n, len(meta), errs.ErrInvalid)
	}
	r := batchReader{
		Decoder: d, c: cursor{b: meta}, values: cursor{b: values},
		vs: make([]crdt.Version, n), budget: MaxDecoded - len(meta) - len(values),
	}
	r.read()
	if err := r.c.end("metadata"); err != nil {
		return b, err
	}
	if err := r.values.end("values"); err != nil {
		return b, err
	}
	for i := range r.vs {
		if err := r.vs[i].Validate(); err != nil {
			return b, fmt.Errorf("version %d of %d: %w", i, n, err)
		}
	}
	b.Versions = r.vs
	return b, nil
}

// sections returns the metadata, in the decoder's buffer or the payload, and
// the values, in a buffer of their own.
func (d *Decoder) sections(flags byte, meta, values []byte) (m, v []byte, err error) {
	limit := MaxData
	if flags&flagMeta != 0 {
		if meta, err = d.z.unzip(d.meta[:0], meta, limit); err != nil {
			return nil, nil, fmt.Errorf("metadata: %w", err)
		}
		d.meta = meta
	}
	limit -= len(meta)
	if flags&flagValues == 0 {
		return meta, append(make([]byte, 0, len(values)), values...), nil
	}
	if values, err = d.z.unzip(nil, values, limit); err != nil {
		return nil, nil, fmt.Errorf("values: %w", err)
	}
	return meta, values, nil
}

// scratch returns one of the decoder's number buffers.
func (d *Decoder) scratch(i, n int) []uint64 {
	if cap(d.numbers[i]) < n {
		d.numbers[i] = make([]uint64, n)
	}
	return d.numbers[i][:n]
}

// batchReader fills the versions of one batch, column by column.
type batchReader struct {
	*Decoder
	c      cursor // metadata
	values cursor
	vs     []crdt.Version
	budget int // bytes that may still be decoded
}

func (r *batchReader) read() {
	r.ids()
	r.dots()
	r.times()
	r.transactions()
	r.keys()
	r.contexts()
	r.contents()
	r.attrs()
}

// column reads a number for each version into buffer i.
func (r *batchReader) column(i int) []uint64 {
	col := r.scratch(i, len(r.vs))
	r.c.column(col)
	return col
}

// sum adds up counts of things that take a byte of metadata or more each. It
// fails, and returns 0, if they cannot be there.
func (r *batchReader) sum(counts []uint64, what string) int {
	total := uint64(0)
	for _, n := range counts {
		total += min(n, MaxDecoded) // as many as there can be do not overflow
	}
	if total > uint64(len(r.c.b)) {
		r.c.fail("%d %s in %d bytes", total, what, len(r.c.b))
		return 0
	}
	return int(total)
}

// spend takes n bytes off the budget, and reports false after a failure.
func (r *batchReader) spend(n int) bool {
	if r.budget -= n; r.budget < 0 && r.c.err == nil {
		r.c.err = fmt.Errorf("more than %d bytes decoded: %w", MaxDecoded, errs.ErrTooLarge)
	}
	return r.c.err == nil
}

func (r *batchReader) ids() {
	n := r.c.count("new replicas", min(MaxReplicas-len(r.lanes), len(r.c.b)/crdt.ReplicaIDLen))
	for range n {
		var l lane
		r.c.fill(l.id[:])
		r.lanes = append(r.lanes, l)
	}
}

// lane returns an interned replica, nil after a failure.
func (r *batchReader) lane(i uint64) *lane {
	if i >= uint64(len(r.lanes)) {
		r.c.fail("replica %d of %d", i, len(r.lanes))
	}
	if r.c.err != nil {
		return nil
	}
	return &r.lanes[i]
}

func (r *batchReader) dots() {
	for i, kind := range r.column(0) {
		if kind > 255 {
			r.c.fail("kind %d", kind)
		}
		r.vs[i].Kind = crdt.Kind(kind)
	}
	replicas, seqs := r.column(0), r.column(1)
	for i := range r.vs {
		l := r.lane(replicas[i])
		if l == nil {
			return
		}
		l.seq += unzigzag(seqs[i])
		r.vs[i].Dot = crdt.Dot{Replica: l.id, Seq: l.seq}
	}
}

func (r *batchReader) times() {
	millis, counters := r.column(0), r.column(1)
	for i := range r.vs {
		ms, n := uint64(r.time>>16), counters[i]
		if millis[i] == 0 {
			n = uint64(r.time.Counter()) + unzigzag(n)
		}
		ms += unzigzag(millis[i])
		if ms >= 1<<48 || n >= 1<<16 {
			r.c.fail("time of version %d", i)
			return
		}
		r.time = crdt.HLC(ms<<16 | n)
		r.vs[i].Time = r.time
	}
}

func (r *batchReader) transactions() {
	firsts := r.column(0)
	begins := 0
	for _, f := range firsts {
		if f != 0 {
			begins++
		}
	}
	lasts := r.scratch(1, begins)
	r.c.column(lasts)
	for i, f := range firsts {
		v := &r.vs[i]
		if f != 0 {
			v.First, v.Last = v.Dot.Seq-(f-1), v.Dot.Seq+lasts[0]
			lasts = lasts[1:]
		}
		if i == 0 {
			continue
		}
		switch p := &r.vs[i-1]; {
		case f == 0:
			v.First, v.Last = p.First, p.Last
			if v.Dot.Replica != p.Dot.Replica {
				r.c.fail("version %d in a transaction of another replica", i)
			}
		case v.First == p.First && v.Last == p.Last && v.Dot.Replica == p.Dot.Replica:
			r.c.fail("transaction of version %d told twice", i)
		}
	}
}

func (r *batchReader) keys() {
	shared := r.scratch(0, len(r.vs))
	r.c.plain(shared)
	lengths := r.column(1)
	total := 0
	for i, n := range lengths {
		if n > crdt.MaxKey || shared[i] > n {
			r.c.fail("key %d of %d bytes, %d of them shared", i, n, shared[i])
			return
		}
		total += int(n)
	}
	if !r.spend(total) {
		return
	}
	slab := make([]byte, 0, total)
	var last []byte
	for i := range r.vs {
		k, start := int(shared[i]), len(slab)
		rest := r.c.take(int(lengths[i]) - k)
		if k > len(last) || (k < len(last) && len(rest) > 0 && rest[0] == last[k]) {
			r.c.fail("key %d does not share %d bytes with the one before", i, k)
			return
		}
		slab = append(append(slab, last[:k]...), rest...)
		last = slab[start:len(slab):len(slab)]
		r.vs[i].Key = last
	}
}

func (r *batchReader) contexts() {
	counts := r.column(0)
	total := r.sum(counts, "context entries")
	if !r.spend(total * parentSize) {
		return
	}
	refs, seqs := r.scratch(1, total), r.scratch(2, total)
	r.c.column(refs)
	r.c.plain(seqs)
	if total == 0 || r.c.err != nil {
		return
	}
	slab := make(crdt.Context, total)
	for i := range slab {
		l := r.lane(refs[i] >> 1)
		if l == nil {
			return
		}
		l.parent += unzigzag(seqs[i])
		slab[i] = crdt.Parent{Replica: l.id, Seq: l.parent, Direct: refs[i]&1 == 1}
	}
	for i, n := range counts {
		if n > 0 {
			r.vs[i].Context, slab = slab[:n:n], slab[n:]
		}
	}
}

// contents cuts the values and links out of the value section.
func (r *batchReader) contents() {
	for i, head := range r.column(0) {
		if head == 0 {
			continue
		}
		head--
		b := r.values.take(int(min(head>>1, MaxDecoded)))
		if head&1 == 0 {
			r.vs[i].Value = b
			continue
		}
		if len(b) > MaxLink {
			r.values.fail("link of %d bytes", len(b))
			return
		}
		link, err := cid.Cast(b)
		if err != nil {
			r.values.fail("link of version %d: %v", i, err)
			return
		}
		r.vs[i].Blob = link
	}
}

func (r *batchReader) attrs() {
	counts := r.column(0)
	total := r.sum(counts, "attributes")
	if !r.spend(total * attrSize) {
		return
	}
	names, values := r.scratch(1, total), r.scratch(2, total)
	r.c.column(names)
	r.c.column(values)
	nameBytes := r.sum(names, "bytes of attribute names")
	text := string(r.c.take(nameBytes))
	valueBytes := r.sum(values, "bytes of attributes")
	data := append(make([]byte, 0, valueBytes), r.c.take(valueBytes)...)
	if total == 0 || r.c.err != nil {
		return
	}
	slab := make([]crdt.Attr, total)
	for i := range slab {
		n, m := names[i], values[i]
		slab[i] = crdt.Attr{Name: text[:n], Value: data[:m:m]}
		text, data = text[n:], data[m:]
	}
	for i, n := range counts {
		if n > 0 {
			r.vs[i].Attrs, slab = slab[:n:n], slab[n:]
		}
	}
}
