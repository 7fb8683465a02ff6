package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// CollectReport is what Collect did.
type CollectReport struct {
	Keys       int   `json:"keys"`       // looked at
	Tombstones int   `json:"tombstones"` // deletes that are not kept any more
	Removed    int   `json:"removed"`    // versions, those deletes included
	Records    int   `json:"records"`    // of the journal's own: adoptions, drops, collections
	Bytes      int64 `json:"bytes"`      // of all these records

	Blobs      int   `json:"blobs"`       // large values that no record names any more
	Chunks     int   `json:"chunks"`      // of them, as far as no other shares them
	ChunkBytes int64 `json:"chunk_bytes"` // in these
	Leases     int   `json:"leases"`      // uploads that run or were cut: what was written since they began stays
}

// collectBatch is how many keys one transaction of Collect looks at, so that
// writers wait a few milliseconds at most.
const collectBatch = 1000

// Collect removes what keep (zero fields: the DB's own Retention) does not
// retain, in bounded transactions beside other work: superseded versions, and
// deletes that have nothing left to hide, with all that is known of their keys.
// A collected delete stays a fact: what it hid never comes back from a peer.
// Current values stay. Then it removes the chunks of large values that no live or
// retained version of any namespace names; those of uploads that run, or that
// were cut less than a day ago, stay. The room is reused by later writes. Watches and cursors
// that stand before a removed record begin again with EventReset.
func (db *DB) Collect(ctx context.Context, keep Retention) (CollectReport, error) {
	rule := db.retention(keep)
	names, err := db.Namespaces(ctx)
	if err != nil {
		return CollectReport{}, err
	}
	var out CollectReport
	for _, name := range names {
		if ns := db.find(name); ns != nil {
			if err := ns.collect(ctx, rule, &out); err != nil {
				return out, err
			}
		}
	}
	return out, db.collectBlobs(ctx, &out)
}

// collectByItself collects what the DB's own retention does not keep.
func (db *DB) collectByItself() {
	started := time.Now()
	r, err := db.Collect(context.Background(), Retention{}) // ends with ErrClosed
	switch {
	case err == nil:
		db.opts.Logger.Info("collected", "tombstones", r.Tombstones, "versions", r.Removed, "bytes", r.Bytes+r.ChunkBytes, "seconds", time.Since(started).Seconds())
	case !errors.Is(err, ErrClosed):
		db.opts.Logger.Warn("not collected", "error", err)
	}
}

// retention is the kernel's rule for keep, as of now.
func (db *DB) retention(keep Retention) replica.Retention {
	setDefault(&keep.Versions, db.opts.Retention.Versions)
	setDefault(&keep.Age, db.opts.Retention.Age)
	setDefault(&keep.TombstoneAge, db.opts.Retention.TombstoneAge)
	now := time.Now()
	since := func(age time.Duration) crdt.HLC {
		if age < 0 {
			return crdt.MaxHLC
		}
		return crdt.HLCFromTime(now.Add(-age))
	}
	return replica.Retention{
		Versions: max(keep.Versions, 0), Since: since(keep.Age), Tombstones: since(keep.TombstoneAge),
	}
}

func (ns *Namespace) collect(ctx context.Context, rule replica.Retention, out *CollectReport) error {
	until, err := ns.viewsReach(ctx)
	if err != nil {
		return err
	}
	var next []byte
	for first := true; first || next != nil; first = false {
		var part replica.Collected
		err := ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
			b, err := g.batch(ns)
			if err != nil {
				return err, nil
			}
			part, err = b.Collect(next, rule, until, collectBatch)
			if part.Next == nil {
				g.views = append(g.views, ns) // a pass leaves nothing to be replayed
			}
			return err, err
		}})
		if err != nil {
			return err
		}
		out.Keys += part.Keys
		out.Tombstones += part.Tombstones
		out.Removed += part.Removed
		out.Records += part.Records
		out.Bytes += part.Bytes
		next = part.Next
	}
	return nil
}

// Explained says what a namespace keeps and why.
type Explained struct {
	Name string `json:"name"`
	replica.Explained
	Blocking []Blocking `json:"blocking"`
}

// Blocking is a stretch of a replica's versions that are missing here and that
// keep deletes: one of them could still arrive and would have to be hidden. A
// sync with a peer that has them ends it, or RetireReplica if nobody has.
type Blocking struct {
	Replica string `json:"replica"`
	Gap
	Tombstones int `json:"tombstones"` // deletes that wait for it first
}

// Explain says what every namespace keeps and why, and what Collect with the
// same argument would remove. progress, if not nil, is called with the number
// of keys and records looked at, now and then. Reads and writes go on
// meanwhile. O(everything).
func (db *DB) Explain(ctx context.Context, keep Retention, progress func(done int)) ([]Explained, error) {
	rule := db.retention(keep)
	names, err := db.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var out []Explained
	done, next := 0, verifyStride
	step := func(n int) error {
		if done += n; done < next {
			return nil
		}
		next = done + verifyStride
		if progress != nil {
			progress(done)
		}
		return ctx.Err()
	}
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue
		}
		e := Explained{Name: name, Blocking: []Blocking{}}
		err := ns.fullView(ctx, func(v *replica.View) (err error) {
			e.Explained, err = v.Explain(rule, math.MaxUint64, step)
			return err
		})
		if err != nil {
			return out, err
		}
		for _, b := range e.Explained.Blocking {
			e.Blocking = append(e.Blocking, Blocking{b.Replica.String(), Gap{b.First, b.Last}, b.Tombstones})
		}
		out = append(out, e)
	}
	return out, nil
}

// Size is how many records there are of a class, and the bytes of their keys
// and values.
type Size = replica.Size
