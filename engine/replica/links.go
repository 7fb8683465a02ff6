package replica

import (
	"encoding/binary"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/store"
)

// Tx returns the transaction that the Reader reads.
func (rd *Reader) Tx() store.Tx { return rd.tx }

// Links reads the journal after an arrival, up to limit records, and calls link
// for every large value that a version names, live or retained. Of a record
// that cannot be read it calls damaged with what is there of it. It returns the
// last arrival it read: the given one at the end. An error is one of link or
// damaged. One checksum a record.
func (rd *Reader) Links(after uint64, limit int, link func(cid.Cid) error, damaged func(record []byte) error) (uint64, error) {
	c := rd.journal.Cursor()
	for k, b := c.Seek(arrivalKey(after + 1)); k != nil && limit > 0; k, b = c.Next() {
		limit--
		if len(k) != 8 {
			continue // verify reports it
		}
		after = binary.BigEndian.Uint64(k)
		if _, err := unsealJournal(b, after); err != nil {
			if err := damaged(b); err != nil {
				return after, err
			}
			continue
		}
		if !namesBlob(b) {
			continue
		}
		rec, err := decodeVersionRecord(b, after, rd.ids)
		if err != nil {
			if err := damaged(b); err != nil {
				return after, err
			}
			continue
		}
		if err := link(rec.version.Blob); err != nil {
			return after, err
		}
	}
	return after, rd.Err()
}

// namesBlob reports whether a journal record is that of a version with a large
// value, without checking it.
func namesBlob(b []byte) bool {
	switch recordKind(b) {
	case RecordVersion, RecordBackfill:
		return len(b) > 1 && b[1]&flagBlob != 0
	}
	return false
}

// Link is a live version with a large value.
type Link struct {
	Key  []byte // as stored
	Dot  crdt.Dot
	Blob cid.Cid
}

// LiveLinks calls visit for the live versions with large values under the
// stored keys from start on, looking at up to limit keys, until it returns
// false. It returns the stored key to go on from, nil at the end. Versions that
// cannot be read are left out: verify reports them. Two look-ups a key; only
// records with large values are decoded.
func (rd *Reader) LiveLinks(start []byte, limit int, visit func(Link) bool) (next []byte, err error) {
	looked := 0
	for key, e := range rd.Heads(start, nil) {
		if looked++; looked > limit {
			return append([]byte(nil), key...), rd.Err()
		}
		if decodeHead(e.raw, key, &rd.head) != nil {
			continue
		}
		for _, s := range rd.head.siblings {
			if !namesBlob(rd.recordBytes(s.arrival)) {
				continue
			}
			v, err := rd.load(key, s)
			if err != nil || !v.Blob.Defined() {
				continue
			}
			if !visit(Link{key, v.Dot, v.Blob}) {
				return append([]byte(nil), key...), rd.Err()
			}
		}
	}
	return nil, rd.Err()
}
