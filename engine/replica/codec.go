package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"bzzz/crdt"
	"bzzz/internal/errs"

	"github.com/ipfs/go-cid"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumLen is the length of a seal.
const sumLen = 4

// seal appends the CRC32C of what was appended since start and of the key it
// will lie under: a record that damage moved to another key does not pass.
func seal(b []byte, start int, key []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, sumOf(b[start:], key))
}

func sumOf(body, key []byte) uint32 {
	return crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, key)
}

// unseal checks and strips the CRC32C of what lay under key. what and n name
// the record in errors.
func unseal(b, key []byte, what string, n uint64) ([]byte, error) {
	if len(b) < 4 {
		return nil, damaged(what, n, "cut short")
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := sumOf(body, key); got != sum {
		return nil, &errs.Corruption{
			What: fmt.Sprintf("%s %d", what, n), Want: fmt.Sprintf("crc32c %08x", sum),
			Got: fmt.Sprintf("%08x", got), Hint: hintVerify,
		}
	}
	return body, nil
}

// hintVerify is the next step that damage reports name.
const hintVerify = "run verify; a sync with a peer that holds it repairs it"

// damaged returns a corruption error for a record that does not decode.
func damaged(what string, n uint64, how string) error {
	return &errs.Corruption{What: fmt.Sprintf("%s %d: %s", what, n, how), Hint: hintVerify}
}

// reader consumes a record's bytes; after the first fault every read gives
// zero values and ok is false.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) u64() uint64 {
	v := r.bytes(8)
	if v == nil {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// count reads a length that cannot exceed the bytes that are left.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// ok reports whether all reads succeeded and nothing is left.
func (r *reader) ok() bool { return !r.bad && len(r.b) == 0 }

// arrivalKey is the journal's key: 8 bytes big-endian.
func arrivalKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// unsealJournal is unseal for a journal record.
func unsealJournal(b []byte, arrival uint64) ([]byte, error) {
	return unseal(b, arrivalKey(arrival), "journal record", arrival)
}

// RecordKind says what a journal record is. The numbers are part of the file
// format and append-only.
type RecordKind byte

// The kinds of journal records.
const (
	RecordVersion    RecordKind = 1 // a version that was applied
	RecordBackfill   RecordKind = 2 // a retained old version, for history only
	RecordAdoption   RecordKind = 3 // dots taken over from a peer's clock as dead
	RecordDrop       RecordKind = 4 // siblings dropped on a peer's claim
	RecordCollection RecordKind = 5 // tombstones collected, gone marks raised
)

// Flags of a version record.
const (
	flagDeadOnArrival = 1 << 0 // a sibling covered it already
	flagConcurrent    = 1 << 1 // other siblings stood beside it after it joined
	flagPast          = 1 << 2 // context, superseded and orphans follow
	flagBatch         = 1 << 3 // first and last differ from seq
	flagAttrs         = 1 << 4
	flagBlob          = 1 << 5
	flagNoValue       = 1 << 6
	flagHealed        = 1 << 7 // something of its key was removed without a record, being damaged
)

// superseded names a sibling that a record's version removed, and where its
// record lies: the back-pointers that history follows.
type superseded struct {
	id      uint32 // interned replica
	seq     uint64
	arrival uint64
}

// record is a decoded version record. Slices point into the journal's bytes.
type record struct {
	kind     RecordKind
	flags    byte
	version  crdt.Version // Context is filled, ids resolved
	replaced []superseded
	orphans  []uint64 // arrivals of versions that arrived dead and hang on nobody else
}

// appendVersionRecord appends the journal form of v:
//
//	kind u8 | flags u8 | version kind u8 | replica uv | seq uv | time u64
//	[seq-first uv | last-seq uv]                                   flagBatch
//	[n uv, n x (replica uv, seq<<1|direct uv)                      flagPast
//	 n uv, n x (replica uv, seq uv, arrival distance uv)
//	 n uv, n x (arrival distance uv)]
//	key length uv | key | [value length uv | value or blob CID]
//	[n uv, n x (name length uv, name, value length uv, value)]     flagAttrs
//	crc32c u32
func appendVersionRecord(b []byte, kind RecordKind, flags byte, v *crdt.Version, arrival uint64,
	id func(crdt.ReplicaID) uint32, replaced []superseded, orphans []uint64) []byte {
	start := len(b)
	if len(v.Context)+len(replaced)+len(orphans) > 0 {
		flags |= flagPast
	}
	if v.First != v.Dot.Seq || v.Last != v.Dot.Seq {
		flags |= flagBatch
	}
	if len(v.Attrs) > 0 {
		flags |= flagAttrs
	}
	value := v.Value
	if v.Blob.Defined() {
		flags |= flagBlob
		value = v.Blob.Bytes()
	} else if value == nil {
		flags |= flagNoValue
	}
	b = append(b, byte(kind), flags, byte(v.Kind))
	b = binary.AppendUvarint(b, uint64(id(v.Dot.Replica)))
	b = binary.AppendUvarint(b, v.Dot.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(v.Time))
	if flags&flagBatch != 0 {
		b = binary.AppendUvarint(b, v.Dot.Seq-v.First)
		b = binary.AppendUvarint(b, v.Last-v.Dot.Seq)
	}
	if flags&flagPast != 0 {
		b = appendPast(b, v.Context, arrival, id, replaced, orphans)
	}
	b = binary.AppendUvarint(b, uint64(len(v.Key)))
	b = append(b, v.Key...)
	if flags&flagNoValue == 0 {
		b = binary.AppendUvarint(b, uint64(len(value)))
		b = append(b, value...)
	}
	if flags&flagAttrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(v.Attrs)))
		for _, a := range v.Attrs {
			b = binary.AppendUvarint(b, uint64(len(a.Name)))
			b = append(b, a.Name...)
			b = binary.AppendUvarint(b, uint64(len(a.Value)))
			b = append(b, a.Value...)
		}
	}
	return seal(b, start, arrivalKey(arrival))
}

func appendPast(b []byte, ctx crdt.Context, arrival uint64, id func(crdt.ReplicaID) uint32,
	replaced []superseded, orphans []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(ctx)))
	for _, p := range ctx {
		direct := uint64(0)
		if p.Direct {
			direct = 1
		}
		b = binary.AppendUvarint(b, uint64(id(p.Replica)))
		b = binary.AppendUvarint(b, p.Seq<<1|direct)
	}
	b = binary.AppendUvarint(b, uint64(len(replaced)))
	for _, s := range replaced {
		b = binary.AppendUvarint(b, uint64(s.id))
		b = binary.AppendUvarint(b, s.seq)
		b = binary.AppendUvarint(b, arrival-s.arrival)
	}
	b = binary.AppendUvarint(b, uint64(len(orphans)))
	for _, o := range orphans {
		b = binary.AppendUvarint(b, arrival-o)
	}
	return b
}

// recordKind returns the kind of a journal record without checking it.
func recordKind(b []byte) RecordKind {
	if len(b) == 0 {
		return 0
	}
	return RecordKind(b[0])
}

// decodeVersionRecord reads a version record and checks its sum. The slices of
// the result point into b, except the context.
func decodeVersionRecord(b []byte, arrival uint64, ids *idTable) (*record, error) {
	body, err := unsealJournal(b, arrival)
	if err != nil {
		return nil, err
	}
	rd := reader{b: body}
	rec := &record{kind: RecordKind(rd.byte()), flags: rd.byte()}
	if rec.kind != RecordVersion && rec.kind != RecordBackfill {
		return nil, damaged("journal record", arrival, "not a version")
	}
	v := &rec.version
	v.Kind = crdt.Kind(rd.byte())
	v.Dot.Replica = ids.get(rd.uvarint(), &rd)
	v.Dot.Seq = rd.uvarint()
	v.Time = crdt.HLC(rd.u64())
	v.First, v.Last = v.Dot.Seq, v.Dot.Seq
	if rec.flags&flagBatch != 0 {
		v.First -= rd.uvarint()
		v.Last += rd.uvarint()
	}
	if rec.flags&flagPast != 0 {
		rec.past(&rd, arrival, ids)
	}
	v.Key = rd.bytes(rd.uvarint())
	rec.value(&rd)
	if rec.flags&flagAttrs != 0 {
		v.Attrs = make([]crdt.Attr, rd.count())
		for i := range v.Attrs {
			v.Attrs[i].Name = string(rd.bytes(rd.uvarint()))
			v.Attrs[i].Value = rd.bytes(rd.uvarint())
		}
	}
	if !rd.ok() {
		return nil, damaged("journal record", arrival, "malformed")
	}
	return rec, nil
}

// past reads context, superseded siblings and orphans.
func (rec *record) past(rd *reader, arrival uint64, ids *idTable) {
	if n := rd.count(); n > 0 {
		rec.version.Context = make(crdt.Context, n)
		for i := range rec.version.Context {
			id, seq := ids.get(rd.uvarint(), rd), rd.uvarint()
			rec.version.Context[i] = crdt.Parent{Replica: id, Seq: seq >> 1, Direct: seq&1 != 0}
		}
	}
	if n := rd.count(); n > 0 {
		rec.replaced = make([]superseded, n)
		for i := range rec.replaced {
			rec.replaced[i] = superseded{uint32(rd.uvarint()), rd.uvarint(), arrival - rd.uvarint()}
		}
	}
	if n := rd.count(); n > 0 {
		rec.orphans = make([]uint64, n)
		for i := range rec.orphans {
			rec.orphans[i] = arrival - rd.uvarint()
		}
	}
}

// value reads the inline value or the blob's CID.
func (rec *record) value(rd *reader) {
	if rec.flags&flagNoValue != 0 {
		return
	}
	b := rd.bytes(rd.uvarint())
	if rec.flags&flagBlob == 0 {
		rec.version.Value = b
		return
	}
	id, err := cid.Cast(b)
	if err != nil {
		rd.bad = true
		return
	}
	rec.version.Blob = id
}
