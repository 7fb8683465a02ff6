package replica

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/store"
)

// Reader reads a namespace within one transaction. It needs nothing but the
// transaction, so many Readers may work beside the one writer, each for one
// goroutine. What it returns points into the transaction's bytes.
type Reader struct {
	cfg     *Config
	tx      store.Tx
	ids     *idTable
	heads   store.Bucket
	journal store.Bucket
	names   *names
	head    head
	walk    *journalWalk // of a scan in a read transaction
}

// Reader returns a Reader on tx. ErrNotFound if the namespace was dropped.
func (r *Replica) Reader(tx store.Tx) (*Reader, error) {
	rd := &Reader{cfg: &r.cfg, tx: tx, ids: r.ids, names: &r.names}
	rd.heads, rd.journal = tx.Bucket(r.names.heads), tx.Bucket(r.names.journal)
	if rd.heads == nil || rd.journal == nil {
		return nil, fmt.Errorf("namespace %q: %w", r.cfg.Name, ErrNotFound)
	}
	return rd, nil
}

// Err returns why reads may have missed something: damage that the store met,
// poison, or the end of the transaction. View and Update return it by
// themselves; a snapshot's reader asks before it draws a conclusion from a miss.
func (rd *Reader) Err() error {
	if t, ok := rd.tx.(interface{ Err() error }); ok {
		return t.Err()
	}
	return nil
}

// Siblings returns the siblings of a stored key, none if it has no entry. Each
// is verified against its digest: damage is an error that matches ErrCorrupt
// and names the version. Two look-ups and a hash a sibling.
func (rd *Reader) Siblings(key []byte) (crdt.Siblings, error) {
	entry := rd.heads.Get(key)
	if entry == nil {
		return nil, nil
	}
	if err := decodeHead(entry, key, &rd.head); err != nil {
		return nil, &Damage{Key: bytes.Clone(key), Err: err}
	}
	return rd.loadAll(key, rd.head.siblings)
}

func (rd *Reader) loadAll(key []byte, siblings []sibling) (crdt.Siblings, error) {
	out := make(crdt.Siblings, len(siblings))
	for i, s := range siblings {
		v, err := rd.load(key, s)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// load reads the version a head names and checks that it is that version.
func (rd *Reader) load(key []byte, s sibling) (*crdt.Version, error) {
	rec, err := rd.record(s.arrival)
	if err != nil {
		return nil, &Damage{Dot: rd.dotOf(s), Key: bytes.Clone(key), Err: err}
	}
	v := &rec.version
	digest := v.Digest()
	if [digestLen]byte(digest[:digestLen]) != s.digest || !bytes.Equal(v.Key, key) || v.Dot != rd.dotOf(s) || v.Kind != s.kind {
		return nil, &Damage{Dot: rd.dotOf(s), Key: bytes.Clone(key), Err: &errs.Corruption{
			What: fmt.Sprintf("version %s", rd.dotOf(s)), Want: hex.EncodeToString(s.digest[:]) + "...",
			Got: hex.EncodeToString(digest[:]), Hint: hintVerify,
		}}
	}
	return v, nil
}

func (rd *Reader) dotOf(s sibling) crdt.Dot {
	ids := rd.ids.all()
	if int(s.id) >= len(ids) {
		return crdt.Dot{Seq: s.seq}
	}
	return crdt.Dot{Replica: ids[s.id], Seq: s.seq}
}

// record reads and decodes a version record of the journal.
func (rd *Reader) record(arrival uint64) (*record, error) {
	b := rd.recordBytes(arrival)
	if b == nil {
		return nil, damaged("journal record", arrival, "missing")
	}
	return decodeVersionRecord(b, arrival, rd.ids)
}

// recordBytes returns a record of the journal as it lies there, nil if there is
// none.
func (rd *Reader) recordBytes(arrival uint64) []byte {
	if rd.walk != nil {
		return rd.walk.at(arrival)
	}
	return rd.journal.Get(arrivalKey(arrival))
}

// Damage is a live version that cannot be read, or with a zero Dot a key whose
// head cannot. It matches ErrCorrupt.
type Damage struct {
	Dot crdt.Dot
	Key []byte // stored, if known
	Err error
}

// Error names the version and what is wrong with it.
func (d *Damage) Error() string {
	if d.Dot.Seq == 0 {
		return d.Err.Error()
	}
	return fmt.Sprintf("version %s: %v", d.Dot, d.Err)
}

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Err }

// Heads yields the stored keys from start on (before end, if that is not nil)
// in order, with their siblings.
func (rd *Reader) Heads(start, end []byte) iter.Seq2[[]byte, HeadEntry] {
	return func(yield func([]byte, HeadEntry) bool) {
		if rd.walk == nil && !rd.tx.Writable() { // a write would misplace its cursor
			rd.walk = &journalWalk{bucket: rd.journal, c: rd.journal.Cursor()}
		}
		c := rd.heads.Cursor()
		k, v := c.Seek(start)
		if len(start) == 0 {
			k, v = c.First()
		}
		for k != nil && (end == nil || bytes.Compare(k, end) < 0) {
			e := HeadEntry{rd: rd, key: k, raw: v}
			if !yield(k, e) {
				return
			}
			k, v = c.Next()
		}
	}
}

// Conflicts yields the stored keys from start on (before end, if that is not
// nil) that are registers with concurrent values, in order.
func (rd *Reader) Conflicts(start, end []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c := rd.tx.Bucket(rd.names.conflicts).Cursor()
		for k, _ := c.Seek(start); k != nil && (end == nil || bytes.Compare(k, end) < 0); k, _ = c.Next() {
			if !yield(k) {
				return
			}
		}
	}
}

// LastHead returns the last stored key from start on and before end, nil if
// there is none. O(log n).
func (rd *Reader) LastHead(start, end []byte) []byte {
	c := rd.heads.Cursor()
	k, _ := c.Seek(end)
	if k == nil {
		k, _ = c.Last()
	} else {
		k, _ = c.Prev()
	}
	if bytes.Compare(k, start) < 0 {
		return nil
	}
	return k
}

// HeadEntry is one key of a scan; its versions are read only when asked for.
type HeadEntry struct {
	rd  *Reader
	key []byte
	raw []byte
}

// Siblings returns the key's siblings, verified.
func (e HeadEntry) Siblings() (crdt.Siblings, error) {
	if err := decodeHead(e.raw, e.key, &e.rd.head); err != nil {
		return nil, &Damage{Key: bytes.Clone(e.key), Err: err}
	}
	return e.rd.loadAll(e.key, e.rd.head.siblings)
}

// Live reports whether a sibling is no tombstone, without reading versions.
func (e HeadEntry) Live() (bool, error) {
	if err := decodeHead(e.raw, e.key, &e.rd.head); err != nil {
		return false, err
	}
	return e.rd.head.tally().live > 0, nil
}

// Subtree computes the Merkle digest of the keys that begin with prefix from its
// definition, by a scan in key order that verifies every live version: what
// Verify holds the Tree against. O(keys).
func (rd *Reader) Subtree(prefix []byte) (merkle.Subtree, error) {
	var b merkle.Builder
	err := rd.leaves().Range(prefix, crdt.PrefixEnd(prefix), func(key []byte, leaf merkle.Digest) error {
		b.Add(key, leaf)
		return nil
	})
	return b.Sum(), err
}

// View is a namespace's whole state at one moment: a Reader and what the meta
// bucket said then.
type View struct {
	*Reader
	journalID [16]byte
	state     state
	clock     crdt.Clock
	gone      crdt.Clock
	unknown   crdt.Clock
	retired   map[crdt.ReplicaID]Retirement
	partial   partial
}

// View returns the state that tx sees. O(replicas).
func (r *Replica) View(tx store.Tx) (*View, error) {
	v, err := r.view(tx, false)
	if err != nil {
		return nil, fmt.Errorf("namespace %q: %w", r.cfg.Name, err)
	}
	return v.View, nil
}

// loaded is a View with the tables a writer starts from.
type loaded struct {
	*View
	journal [16]byte
	ids     *idTable
}

func (r *Replica) view(tx store.Tx, writer bool) (*loaded, error) {
	meta := tx.Bucket(r.names.meta)
	if meta == nil && writer {
		return nil, r.names.check(tx)
	}
	if meta == nil {
		return nil, ErrNotFound
	}
	l := &loaded{View: &View{}, ids: r.ids}
	if writer && l.ids == nil {
		l.ids = newIDTable()
	}
	j, err := unseal(meta.Get(metaJournal), metaJournal, "journal id", 0)
	if err != nil || len(j) != 16 {
		return nil, damaged("journal id", 0, "missing or malformed")
	}
	l.journal = [16]byte(j)
	l.journalID = l.journal
	if l.state, err = decodeState(meta.Get(metaState)); err != nil {
		return nil, err
	}
	if writer {
		if err := loadIDs(meta, l.ids); err != nil {
			return nil, err
		}
		if n := uint64(len(l.ids.all())); n != l.state.ids {
			return nil, damaged("replica table", n, fmt.Sprintf("%d entries are missing", int64(l.state.ids-n)))
		}
		if err := r.names.check(tx); err != nil {
			return nil, err
		}
	}
	for kind, dst := range map[byte]*crdt.Clock{metaClock: &l.clock, metaGone: &l.gone, metaUnknown: &l.unknown} {
		if *dst, err = loadClock(meta, kind, l.ids.all()); err != nil {
			return nil, err
		}
	}
	if l.retired, err = loadRetired(meta, l.ids.all()); err != nil {
		return nil, err
	}
	if l.partial, err = loadPartial(meta); err != nil {
		return nil, err
	}
	if n := uint64(l.clock.Len() + l.gone.Len() + l.unknown.Len() + len(l.retired) + l.partial.count()); n != l.state.sets {
		return nil, damaged("clock", n, fmt.Sprintf("%d entries are missing", int64(l.state.sets-n)))
	}
	l.Reader = &Reader{
		cfg: &r.cfg, tx: tx, ids: l.ids, names: &r.names,
		heads: tx.Bucket(r.names.heads), journal: tx.Bucket(r.names.journal),
	}
	return l, nil
}

// loadIDs fills the table from the meta bucket.
func loadIDs(meta store.Bucket, t *idTable) error {
	ids := []crdt.ReplicaID{}
	byID := map[crdt.ReplicaID]uint32{}
	c := meta.Cursor()
	for k, v := c.Seek([]byte{metaID}); len(k) == 5 && k[0] == metaID; k, v = c.Next() {
		n := binary.BigEndian.Uint32(k[1:])
		b, err := unseal(v, k, "replica table entry", uint64(n))
		if err != nil {
			return err
		}
		if int(n) != len(ids) || len(b) != crdt.ReplicaIDLen {
			return damaged("replica table entry", uint64(n), "out of order or malformed")
		}
		byID[crdt.ReplicaID(b)] = n
		ids = append(ids, crdt.ReplicaID(b))
	}
	t.byNumber.Store(&ids)
	t.byID = byID
	return nil
}

// loadClock reads one dot set of the meta bucket.
func loadClock(meta store.Bucket, kind byte, ids []crdt.ReplicaID) (crdt.Clock, error) {
	out := crdt.NewClock()
	c := meta.Cursor()
	for k, v := c.Seek([]byte{kind}); len(k) == 5 && k[0] == kind; k, v = c.Next() {
		n := binary.BigEndian.Uint32(k[1:])
		b, err := unseal(v, k, "clock entry", uint64(n))
		if err != nil {
			return out, err
		}
		if int(n) >= len(ids) {
			return out, damaged("clock entry", uint64(n), "names an unknown replica")
		}
		s, rest, err := crdt.DecodeSeqSet(b)
		if err != nil || len(rest) > 0 {
			return out, damaged("clock entry", uint64(n), "malformed")
		}
		out.Set(ids[n], s)
	}
	return out, nil
}

// Clock returns the advertised clock: the dots seen, less those that damage
// has taken, so that peers send them again (KERNEL K3).
func (v *View) Clock() crdt.Clock {
	if v.unknown.IsEmpty() {
		return v.clock
	}
	return v.clock.Minus(v.unknown)
}

// Unknown returns the dots that damage has taken: neither live nor dead.
func (v *View) Unknown() crdt.Clock { return v.unknown }

// Gone returns the gone marks (KERNEL K4), with those of the scope.
func (v *View) Gone() crdt.Clock {
	if v.partial.gone.IsEmpty() {
		return v.gone
	}
	gone := v.gone.Clone()
	gone.Merge(v.partial.gone)
	return gone
}

// Journal returns the journal's id.
func (v *View) Journal() [16]byte { return v.journalID }

// Arrival returns the number of the newest journal record.
func (v *View) Arrival() uint64 { return v.state.arrival }

// Collected returns the number of the newest journal record that was removed:
// a cursor before it cannot be resumed.
func (v *View) Collected() uint64 { return v.state.collected }

// HLC returns the namespace's high-water mark.
func (v *View) HLC() crdt.HLC { return v.state.hlc }

// Counts are a namespace's sizes, kept with each commit.
type Counts struct {
	Keys       uint64 `json:"keys"`       // with a live version that is no tombstone
	Versions   uint64 `json:"versions"`   // live ones that are no tombstones
	Tombstones uint64 `json:"tombstones"` // held
	Conflicts  uint64 `json:"conflicts"`  // registers with concurrent values
	Journal    uint64 `json:"journal"`    // records ever appended
}

// Counts returns the sizes. O(1).
func (v *View) Counts() Counts {
	s := v.state
	return Counts{s.keys, s.versions, s.tombs, s.conflicts, s.arrival}
}

// Root returns the 32 bytes that prove agreement with a peer that has them
// too: see Tree for its cost.
func (v *View) Root() (merkle.Digest, error) {
	t, err := v.Tree()
	if err != nil {
		return merkle.Digest{}, err
	}
	return t.Root(), nil
}
