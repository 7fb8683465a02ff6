package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// readHead decodes the head entry of a key into b.head. A damaged one is
// derived again from the journal, so that what a peer sends of the key finds
// its siblings.
func (b *Batch) readHead(key []byte) error {
	err := decodeHead(b.heads.Get(key), key, &b.head)
	if errors.Is(err, ErrCorrupt) {
		return b.rebuildHead(key)
	}
	return err
}

// healHeads derives every damaged head again: one that names nothing live any
// more is touched by no later version. O(keys), and O(journal) a damaged one.
func (b *Batch) healHeads() error {
	var damaged [][]byte
	for key, e := range b.Heads(nil, nil) {
		if err := decodeHead(e.raw, key, &b.head); err != nil {
			damaged = append(damaged, bytes.Clone(key))
		}
	}
	for _, key := range damaged {
		if err := b.rebuildHead(key); err != nil {
			return err
		}
		if err := b.putHead(key, &b.head, b.head.tally()); err != nil {
			return err
		}
	}
	return b.healConflicts()
}

// healConflicts takes keys out of the conflict index that have no head: damage
// took it, and what it stood for is dead now. O(keys with conflicts).
func (b *Batch) healConflicts() error {
	var stale [][]byte
	c := b.conflicts.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if b.heads.Get(k) == nil {
			stale = append(stale, bytes.Clone(k))
		}
	}
	for _, k := range stale {
		b.r.state.conflicts--
		if err := b.conflicts.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// rebuildHead derives a key's head from the journal: whatever joined, less what
// is dead now, which hangs on the head for history's sake. Damaged records are
// passed over, their dots are neither live nor dead then. O(journal).
func (b *Batch) rebuildHead(key []byte) error {
	h := &b.head
	b.healing = true
	h.siblings, h.orphans = h.siblings[:0], nil
	c := b.journal.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if kind := recordKind(v); len(k) != 8 || kind != RecordVersion && kind != RecordBackfill {
			continue
		}
		arrival := binary.BigEndian.Uint64(k)
		rec, err := decodeVersionRecord(v, arrival, b.ids)
		if err != nil || !bytes.Equal(rec.version.Key, key) {
			continue
		}
		if rec.flags&flagDeadOnArrival != 0 || rec.kind == RecordBackfill {
			h.orphans = append(h.orphans, arrival)
			continue
		}
		id := b.r.ids.byID[rec.version.Dot.Replica]
		h.siblings = slices.DeleteFunc(h.siblings, func(s sibling) bool {
			return s.id == id && s.seq == rec.version.Dot.Seq ||
				slices.ContainsFunc(rec.replaced, func(r superseded) bool { return r.id == s.id && r.seq == s.seq })
		})
		digest := rec.version.Digest()
		h.orphans = nil // they hang on the record now
		h.siblings = append(h.siblings, sibling{
			arrival, id, rec.version.Dot.Seq, rec.version.Kind, [digestLen]byte(digest[:digestLen]),
		})
	}
	standing := h.siblings[:0]
	for _, s := range h.siblings {
		dead, err := b.r.isDead(b.tx, b.dotOf(s)) // collected, or dropped on a claim
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if dead {
			h.orphans = append(h.orphans, s.arrival)
		} else {
			standing = append(standing, s)
		}
	}
	h.siblings = standing
	return nil
}
