package wire

import (
	"encoding/binary"

	"bzzz/crdt"
)

// Bounds of a batch. The decoder refuses what is beyond them; the encoder stays
// within them.
const (
	MaxVersions = 1 << 17  // versions in a batch
	MaxDecoded  = 32 << 20 // bytes of its content, decoded
	MaxReplicas = 1 << 20  // interned at a time
	MaxLink     = 1 << 10  // bytes of a link to a blob

	// maxBody is how long the sections of a batch may get before they are
	// compressed: whatever compression does, the payload is below MaxData.
	maxBody = MaxData - 256
	// maxSpelled is what keys, context entries and attributes may take spelled
	// out; together with the sections they stay below MaxDecoded.
	maxSpelled = MaxDecoded - MaxData
	parentSize = 32 // bytes of a crdt.Parent
	attrSize   = 40 // and of a crdt.Attr

	// resetReplicas is when the interned ids start anew; a batch adds less than
	// the same again.
	resetReplicas = MaxReplicas / 2
)

// Flags of a batch.
const (
	flagMeta   = 1 << 0 // the metadata section is compressed
	flagValues = 1 << 1 // the value section is compressed
	flagReset  = 1 << 2 // all that was interned is forgotten before this batch
	flagsKnown = flagMeta | flagValues | flagReset
)

// The columns, in their order in the metadata section: runs as type column
// codes them, those marked plain as bare varints.
const (
	colKind      = iota // kind
	colReplica          // number of the interned id
	colSeq              // zigzag of the difference to the replica's last seq
	colMillis           // zigzag of the difference to the last version's milliseconds
	colCounter          // if those differ the counter, else zigzag of its difference
	colFirst            // 0: transaction of the version before; else seq - first + 1
	colLast             // where that is not 0: last - seq
	colShared           // bytes shared with the key before; plain
	colKeyLen           // length of the key; the bytes follow
	colParents          // entries of the context
	colParent           // for each: number of the interned id << 1 | direct
	colParentSeq        // for each: zigzag of the difference to the replica's last one; plain
	colValue            // 0: nil; else (length << 1 | link) + 1
	colAttrs            // attributes
	colAttrName         // for each: length of the name
	colAttrValue        // for each: length of the value; names, then values follow
	numColumns
)

// lane is what both sides remember of an interned replica.
type lane struct {
	id     crdt.ReplicaID
	seq    uint64 // of its last version
	parent uint64 // its last seq in a context
}

// Encoder turns versions into batches: the payloads of BATCH and HISTORY
// frames. One Encoder serves one direction of one session, for all namespaces;
// its batches must reach the peer's Decoder in the order in which they were
// flushed, each of them. It is not safe for concurrent use.
//
//	batch    = namespace number | number | index | flags u8 | versions
//	         | metadata length | metadata section | value section, up to the end
//	metadata = number of new ids | ids [16] ... | columns, see the col constants
//	values   = the bytes of values and links
//
// Both sections are zstd frames where their flag is set. Replica ids are
// announced by the batch that is the first to use them. Differences of seq and
// time go on from batch to batch, those of keys and transactions do not. The
// index counts an encoder's batches from 0: differences applied to the wrong
// batch would make versions that nobody wrote.
type Encoder struct {
	z     *Zstd
	index map[crdt.ReplicaID]uint32
	lanes []lane
	time  crdt.HLC

	batches     uint64 // flushed so far
	n           int    // versions in the batch
	flags       byte
	fresh       int // ids announced by the batch
	cols        [numColumns]column
	plain       [numColumns][]byte // colShared and colParentSeq
	keys, attrs []byte             // what follows colKeyLen; values of attributes
	names       []byte             // of attributes
	values      []byte
	key         []byte // the last one
	spelled     int    // see maxSpelled
	tx          transaction

	meta, out []byte // reused by Flush
}

// transaction is the range a version was written in.
type transaction struct {
	lane        uint32
	first, last uint64
}

// NewEncoder returns an Encoder that compresses with z.
func NewEncoder(z *Zstd) *Encoder {
	return &Encoder{z: z, index: map[crdt.ReplicaID]uint32{}}
}

// Count returns how many versions wait for Flush.
func (e *Encoder) Count() int { return e.n }

// Batches returns how many batches were flushed so far.
func (e *Encoder) Batches() uint64 { return e.batches }

// Len returns how many bytes wait for Flush, before compression: of
// incompressible values the frame will have a little less.
func (e *Encoder) Len() int {
	n := len(e.keys) + len(e.names) + len(e.attrs) + len(e.values) + e.fresh*crdt.ReplicaIDLen +
		len(e.plain[colShared]) + len(e.plain[colParentSeq])
	for i := range e.cols {
		n += len(e.cols[i].b)
	}
	return n
}

// Add puts a valid version (crdt.Version.Validate, a link of at most MaxLink
// bytes) into the batch; it keeps
// nothing of v. It reports false, having done nothing, where the batch would
// get too large: Flush, then Add again. An empty batch takes any version.
// Amortized it does not allocate. O(size).
func (e *Encoder) Add(v *crdt.Version) bool {
	if e.n == MaxVersions || e.spelled+spelled(v) > maxSpelled || e.Len()+e.worst(v) > maxBody {
		return false
	}
	e.n++
	e.spelled += spelled(v)
	lane := e.intern(v.Dot.Replica)
	e.cols[colKind].put(uint64(v.Kind))
	e.cols[colReplica].put(uint64(lane))
	e.cols[colSeq].put(zigzag(v.Dot.Seq - e.lanes[lane].seq))
	e.lanes[lane].seq = v.Dot.Seq
	e.addTime(v.Time)
	if tx := (transaction{lane, v.First, v.Last}); tx == e.tx {
		e.cols[colFirst].put(0)
	} else {
		e.cols[colFirst].put(v.Dot.Seq - v.First + 1)
		e.cols[colLast].put(v.Last - v.Dot.Seq)
		e.tx = tx
	}
	e.addKey(v.Key)
	e.addContext(v.Context)
	e.addValue(v)
	e.cols[colAttrs].put(uint64(len(v.Attrs)))
	for _, a := range v.Attrs {
		e.cols[colAttrName].put(uint64(len(a.Name)))
		e.cols[colAttrValue].put(uint64(len(a.Value)))
		e.names = append(e.names, a.Name...)
		e.attrs = append(e.attrs, a.Value...)
	}
	return true
}

// worst bounds what a version adds to Len, the ends of runs included.
func (e *Encoder) worst(v *crdt.Version) int {
	n := 200 + len(v.Key) + len(v.Value) + len(v.Context)*(crdt.ReplicaIDLen+20)
	if v.Blob.Defined() {
		n += v.Blob.ByteLen()
	}
	for _, a := range v.Attrs {
		n += 10 + len(a.Name) + len(a.Value)
	}
	return n
}

func spelled(v *crdt.Version) int {
	return len(v.Key) + len(v.Context)*parentSize + len(v.Attrs)*attrSize
}

// intern returns the number of an id and announces it if it is new.
func (e *Encoder) intern(id crdt.ReplicaID) uint32 {
	if e.tx.first != 0 && e.lanes[e.tx.lane].id == id { // the usual case: as the last one
		return e.tx.lane
	}
	i, ok := e.index[id]
	if !ok {
		i = uint32(len(e.lanes))
		e.index[id] = i
		e.lanes = append(e.lanes, lane{id: id})
		e.fresh++
	}
	return i
}

func (e *Encoder) addTime(t crdt.HLC) {
	millis := uint64(t>>16) - uint64(e.time>>16)
	e.cols[colMillis].put(zigzag(millis))
	if millis != 0 {
		e.cols[colCounter].put(uint64(t.Counter()))
	} else {
		e.cols[colCounter].put(zigzag(uint64(t) - uint64(e.time)))
	}
	e.time = t
}

func (e *Encoder) addKey(key []byte) {
	shared := commonPrefix(e.key, key)
	e.plain[colShared] = binary.AppendUvarint(e.plain[colShared], uint64(shared))
	e.cols[colKeyLen].put(uint64(len(key)))
	e.keys = append(e.keys, key[shared:]...)
	e.key = append(e.key[:shared], key[shared:]...)
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (e *Encoder) addContext(context crdt.Context) {
	e.cols[colParents].put(uint64(len(context)))
	for _, p := range context {
		i := e.intern(p.Replica)
		ref := uint64(i) << 1
		if p.Direct {
			ref |= 1
		}
		e.cols[colParent].put(ref)
		l := &e.lanes[i]
		e.plain[colParentSeq] = binary.AppendUvarint(e.plain[colParentSeq], zigzag(p.Seq-l.parent))
		l.parent = p.Seq
	}
}

func (e *Encoder) addValue(v *crdt.Version) {
	switch {
	case v.Blob.Defined():
		e.cols[colValue].put(uint64(v.Blob.ByteLen())<<1 + 2)
		e.values = append(e.values, v.Blob.KeyString()...)
	case v.Value == nil:
		e.cols[colValue].put(0)
	default:
		e.cols[colValue].put(uint64(len(v.Value))<<1 + 1)
		e.values = append(e.values, v.Value...)
	}
}

// Flush returns the batch as a payload, nil if it is empty, and begins the
// next. The payload is valid until the next Flush.
func (e *Encoder) Flush(ns, number uint64) []byte {
	if e.n == 0 {
		return nil
	}
	meta := e.section()
	flags, n := e.flags, e.n
	out := e.out[:0]
	// The sections are compressed behind room for the header, which is last to
	// be known.
	const room = 5*binary.MaxVarintLen64 + 1
	out = append(out, make([]byte, room)...)
	body, zipped := e.z.zip(out, meta)
	if zipped {
		flags |= flagMeta
	} else {
		body = append(body, meta...)
	}
	metaLen := len(body) - room
	if body, zipped = e.z.zip(body, e.values); zipped {
		flags |= flagValues
	} else {
		body = append(body, e.values...)
	}
	e.out = body
	var head [room]byte
	h := binary.AppendUvarint(binary.AppendUvarint(head[:0], ns), number)
	h = binary.AppendUvarint(h, e.batches)
	e.batches++
	h = binary.AppendUvarint(append(h, flags), uint64(n))
	h = binary.AppendUvarint(h, uint64(metaLen))
	at := room - len(h)
	copy(body[at:], h)
	e.begin()
	return body[at:]
}

// section returns the metadata section.
func (e *Encoder) section() []byte {
	m := binary.AppendUvarint(e.meta[:0], uint64(e.fresh))
	for _, l := range e.lanes[len(e.lanes)-e.fresh:] {
		m = append(m, l.id[:]...)
	}
	for i := range e.cols {
		e.cols[i].end()
		m = append(append(m, e.cols[i].b...), e.plain[i]...)
		if i == colKeyLen {
			m = append(m, e.keys...)
		}
	}
	e.meta = append(append(m, e.names...), e.attrs...)
	return e.meta
}

// begin empties the batch and starts the interned ids anew when there are many.
func (e *Encoder) begin() {
	for i := range e.cols {
		e.cols[i].reset()
		e.plain[i] = e.plain[i][:0]
	}
	e.keys, e.names, e.attrs, e.values, e.key = e.keys[:0], e.names[:0], e.attrs[:0], e.values[:0], e.key[:0]
	e.n, e.flags, e.fresh, e.spelled, e.tx = 0, 0, 0, 0, transaction{}
	if len(e.lanes) >= resetReplicas {
		clear(e.index)
		e.lanes, e.time, e.flags = e.lanes[:0], 0, flagReset
	}
}
