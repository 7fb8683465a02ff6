package engine

import (
	"context"
	"encoding/hex"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
)

// Stats is what a store holds.
type Stats struct {
	Path       string           `json:"path"`
	InstanceID string           `json:"instance_id"`
	ReplicaID  string           `json:"replica_id"` // writes go under it; "" before the first
	FileBytes  int64            `json:"file_bytes"` // of the store on its medium
	FreeBytes  int64            `json:"free_bytes"` // of them, free for reuse
	Namespaces []NamespaceStats `json:"namespaces"`
}

// NamespaceStats is what a namespace holds.
type NamespaceStats struct {
	Name string `json:"name"`
	replica.Counts
	Replicas   int       `json:"replicas"`    // that ever wrote, as far as is known
	ClockBytes int       `json:"clock_bytes"` // of the clock as it is sent
	LastStamp  time.Time `json:"last_stamp"`  // high-water mark of the clock
	Root       string    `json:"root"`        // hexadecimal; empty if a version is damaged
	Damaged    uint64    `json:"damaged"`     // versions known to be damaged, to be had from a peer
	// Scrub is what the background check found since the namespace was made.
	Scrub ScrubStats `json:"scrub"`
}

// Stats returns what the store holds. O(keys) for roots that changed since
// they were last asked for.
func (db *DB) Stats(ctx context.Context) (Stats, error) {
	names, err := db.Namespaces(ctx)
	if err != nil {
		return Stats{}, err
	}
	id := db.InstanceID()
	out := Stats{Path: db.Path(), InstanceID: hex.EncodeToString(id[:])}
	if self := db.ReplicaID(); !self.IsZero() {
		out.ReplicaID = self.String()
	}
	if sizer, ok := db.kv.(store.Sizer); ok {
		if out.FileBytes, out.FreeBytes, err = sizer.Size(); err != nil {
			return out, err
		}
	}
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue // dropped meanwhile
		}
		s, err := ns.stats(ctx)
		if err != nil {
			return out, err
		}
		out.Namespaces = append(out.Namespaces, s)
	}
	return out, nil
}

func (ns *Namespace) stats(ctx context.Context) (NamespaceStats, error) {
	s := NamespaceStats{Name: ns.name, Scrub: ns.scrub.snapshot()}
	err := ns.fullView(ctx, func(v *replica.View) error {
		s.Counts = v.Counts()
		s.Replicas = v.Clock().Len()
		s.ClockBytes = len(v.Clock().Append(nil))
		s.LastStamp = v.HLC().Time()
		s.Damaged = v.Unknown().Count()
		if root, err := ns.rootOf(v); err == nil {
			s.Root = hex.EncodeToString(root[:])
		}
		return nil
	})
	return s, err
}

// CollectReport is what Collect did.
type CollectReport struct {
	Keys    int   `json:"keys"`    // looked at
	Removed int   `json:"removed"` // superseded versions
	Bytes   int64 `json:"bytes"`   // of their records
}

// collectBatch is how many keys one transaction of Collect looks at, so that
// writers wait a few milliseconds at most.
const collectBatch = 1000

// Collect removes superseded versions that neither rule of keep (zero fields:
// the DB's own Retention) retains, in bounded transactions beside other work.
// Live versions and tombstones stay. The room is reused by later writes.
func (db *DB) Collect(ctx context.Context, keep Retention) (CollectReport, error) {
	setDefault(&keep.Versions, db.opts.Retention.Versions)
	setDefault(&keep.Age, db.opts.Retention.Age)
	since := crdt.MaxHLC
	if keep.Age > 0 {
		since = crdt.HLCFromTime(time.Now().Add(-keep.Age))
	}
	rule := replica.Retention{Versions: max(keep.Versions, 0), Since: since}
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
	return out, nil
}

func (ns *Namespace) collect(ctx context.Context, rule replica.Retention, out *CollectReport) error {
	var next []byte
	for first := true; first || next != nil; first = false {
		var part replica.Collected
		err := ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
			b, err := g.batch(ns)
			if err != nil {
				return err, nil
			}
			part, err = b.Collect(next, rule, collectBatch)
			return err, err
		}})
		if err != nil {
			return err
		}
		out.Keys += part.Keys
		out.Removed += part.Removed
		out.Bytes += part.Bytes
		next = part.Next
	}
	return nil
}
