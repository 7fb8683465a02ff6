package engine

import (
	"context"
	"encoding/hex"
	"time"

	"bzzz/engine/replica"
	"bzzz/store"
	"bzzz/store/chunk"
)

// Stats is what a store holds.
type Stats struct {
	Path       string           `json:"path"`
	InstanceID string           `json:"instance_id"`
	ReplicaID  string           `json:"replica_id"` // writes go under it; "" before the first
	FileBytes  int64            `json:"file_bytes"` // of the store on its medium
	FreeBytes  int64            `json:"free_bytes"` // of them, free for reuse
	Blobs      chunk.Stats      `json:"blobs"`      // values above 64 KiB, of all namespaces
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
	// DropPending is what the brake on removals holds back.
	DropPending []DropPending `json:"drop_pending,omitempty"`
	// Agreed is when which peer was last proven to hold the same.
	Agreed []Agreement `json:"agreed,omitempty"`
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
	if out.Blobs, err = db.blobStats(ctx); err != nil {
		return out, err
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
		s.DropPending, s.Agreed = dropsPending(v), agreed(v)
		if root, err := ns.rootOf(v); err == nil {
			s.Root = hex.EncodeToString(root[:])
		}
		return nil
	})
	if err == nil {
		err = ns.storeViews(ctx)
	}
	return s, err
}
