package replica

import (
	"encoding/binary"

	"bzzz/crdt"
)

// ExpiryGrace is how long after a version's expiry a node that is not its
// author waits before it deletes it in the author's place: an hour, so that in
// the usual case one delete is written and not one per node.
const ExpiryGrace = 60 * 60 * 1000 // milliseconds

// putExpiry enters a live version that expires into the expiry index: moment
// (8 bytes big-endian milliseconds) and arrival -> stored key.
func (b *Batch) putExpiry(v *crdt.Version, dead bool) error {
	ms := v.Expiry()
	if ms == 0 || dead {
		return nil
	}
	return b.expiry.Put(expiryKey(ms, b.r.state.arrival), append([]byte(nil), v.Key...))
}

func expiryKey(ms int64, arrival uint64) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(ms))
	return binary.BigEndian.AppendUint64(k, arrival)
}

// Due reports whether the expiry index has an entry before now (milliseconds
// since 1970). O(log n).
func (v *View) Due(now int64) bool {
	k, _ := v.tx.Bucket(v.names.expiry).Cursor().First()
	return len(k) == 16 && int64(binary.BigEndian.Uint64(k)) <= now
}

// Expire deletes up to limit versions that expired before now (milliseconds
// since 1970): those of our own id at once, those of others after ExpiryGrace.
// It returns how many deletes it wrote and whether more may be due.
func (b *Batch) Expire(now int64, limit int) (deleted int, more bool, err error) {
	type due struct {
		index, key []byte
		arrival    uint64
	}
	var found []due
	c := b.expiry.Cursor()
	for k, key := c.First(); k != nil && len(found) < limit; k, key = c.Next() {
		if len(k) != 16 || int64(binary.BigEndian.Uint64(k)) > now {
			break
		}
		found = append(found, due{append([]byte(nil), k...), append([]byte(nil), key...), binary.BigEndian.Uint64(k[8:])})
	}
	for _, d := range found {
		v, err := b.liveAt(d.key, d.arrival)
		if err != nil {
			return deleted, false, err
		}
		if v != nil && (v.Expiry() == 0 || v.Expiry() > now) {
			v = nil // the entry is damaged: the version does not say so
		}
		if v != nil && v.Dot.Replica != b.r.self && v.Expiry()+ExpiryGrace > now {
			continue // its author deletes it
		}
		if err := b.expiry.Delete(d.index); err != nil {
			return deleted, false, err
		}
		if v == nil {
			continue // superseded meanwhile, or never due
		}
		if _, err := b.Commit([]Write{{Key: d.key, Kind: crdt.Delete, Siblings: crdt.Siblings{v}}}, b.now); err != nil {
			return deleted, false, err
		}
		deleted++
	}
	return deleted, len(found) == limit, nil
}

// liveAt returns the live version of key whose record is arrival, nil if it is
// not live any more.
func (b *Batch) liveAt(key []byte, arrival uint64) (*crdt.Version, error) {
	if err := decodeHead(b.heads.Get(key), key, &b.head); err != nil {
		return nil, err
	}
	for _, s := range b.head.siblings {
		if s.arrival == arrival {
			return b.load(key, s)
		}
	}
	return nil, nil
}
