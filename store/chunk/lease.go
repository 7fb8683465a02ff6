package chunk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// LeaseID names an upload: 16 bytes that no other running upload has.
type LeaseID [16]byte

// MaxLease is the furthest that a lease may end from now. One that ends later
// was given by a clock that was wrong, and ends with the next collection.
const MaxLease = 7 * 24 * time.Hour

// String returns the id as hexadecimal digits.
func (id LeaseID) String() string { return hex.EncodeToString(id[:]) }

// lease protects an upload that spans transactions. Its row:
//
//	epoch u64 | expiry u64, milliseconds since 1970 | crc32c u32
type lease struct {
	epoch  uint64    // of the store when it began
	expiry time.Time // the first collection that begins later ends it
}

func readLease(id, b []byte) (lease, bool) {
	body, ok := unseal(b, id)
	if !ok || len(id) != len(LeaseID{}) || len(body) != 16 {
		return lease{}, false
	}
	return lease{binary.BigEndian.Uint64(body), time.UnixMilli(int64(binary.BigEndian.Uint64(body[8:])))}, true
}

// BeginLease begins a lease, in the transaction that writes the upload's first
// chunks, for at most MaxLease from now: whatever is written or found to be
// there from then on stays until it ends, because nothing stamped since its
// epoch is removed.
func (w *Writer) BeginLease(id LeaseID, expiry time.Time) error {
	return w.putLease(id, w.state.epoch, expiry)
}

// RenewLease moves a lease's end and tells whether it was there still. One that
// ran out is not begun anew: what was written under it may be gone, which Seal
// has to look for.
func (w *Writer) RenewLease(id LeaseID, expiry time.Time) (held bool, err error) {
	l, held := readLease(id[:], w.leases.Get(id[:]))
	if !held {
		return false, nil
	}
	return true, w.putLease(id, l.epoch, expiry)
}

func (w *Writer) putLease(id LeaseID, epoch uint64, expiry time.Time) error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 20), epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(expiry.UnixMilli()))
	return w.leases.Put(id[:], seal(b, id[:]))
}

// EndLease ends a lease and tells whether it was there.
func (w *Writer) EndLease(id LeaseID) (held bool, err error) {
	_, held = readLease(id[:], w.leases.Get(id[:]))
	return held, w.leases.Delete(id[:])
}

// Seal ends an upload, in the transaction that writes the record which names
// the blob: it stores the manifest and ends the lease. If the lease had run
// out, it first looks whether a collection took any of the chunks (ErrUnavailable
// if so: upload again; the manifest is not stored then).
func (w *Writer) Seal(id LeaseID, m *Manifest) error {
	held, err := w.EndLease(id)
	if err != nil {
		return err
	}
	if !held {
		missing, _ := w.Missing(m, 0, 1)
		if len(missing) > 0 {
			return fmt.Errorf("upload %s took longer than its lease and chunk %d was collected, upload again: %w", id, missing[0], ErrUnavailable)
		}
	}
	return w.PutManifest(m)
}

// oldestLease returns the lowest epoch among the leases, or limit if that is
// lower. A damaged one says nothing: its upload finds out when it ends.
func (w *Writer) oldestLease(limit uint64) uint64 {
	c := w.leases.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if l, ok := readLease(k, v); ok {
			limit = min(limit, l.epoch)
		}
	}
	return limit
}

// expireLeases removes the leases that ran out before now, those that end too
// far away, and damaged ones.
func (w *Writer) expireLeases(now time.Time) error {
	var gone [][]byte
	c := w.leases.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if l, ok := readLease(k, v); !ok || l.expiry.Before(now) || l.expiry.After(now.Add(MaxLease)) {
			gone = append(gone, append([]byte(nil), k...))
		}
	}
	for _, k := range gone {
		if err := w.leases.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
