package engine

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"bzzz/crdt"
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
	s := NamespaceStats{Name: ns.name}
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

// Problem is one finding of Verify.
type Problem struct {
	Namespace string // "" for the chunks of large values, which all share
	What      string // what was looked at: "version", "head", "journal record", ...
	Key       []byte // the stored key's name, if it is known
	Version   string // "replica:seq", if it is known
	Err       error  // what is wrong; matches ErrCorrupt, or ErrUnavailable for a large value that is not wholly here
}

// String describes the problem in a line. The key is quoted.
func (p Problem) String() string {
	s := p.What
	if p.Namespace != "" {
		s = p.Namespace + ": " + s
	}
	if p.Key != nil {
		s += fmt.Sprintf(" %q", p.Key)
	}
	if p.Version != "" {
		s += " " + p.Version
	}
	return s + ": " + p.Err.Error()
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Checked  int // keys and journal records
	Problems []Problem
	Noted    int // damaged versions and chunks that the next sync asks peers for
}

// maxProblems bounds the findings of one Verify that are kept.
const maxProblems = 10_000

// Verify checks everything: each key and the version behind it by digest, each
// journal record by checksum, that what is known is either live or dead, each
// chunk of large values by digest, and that those of live versions are here.
// Damaged versions are noted, and damaged chunks removed, unless the DB is
// read-only, so that the next sync with a peer that has them repairs them. progress, if not nil, is called with
// the number of keys and records checked, now and then. An error is one of the
// store itself; damage is in the report. Reads and writes go on meanwhile.
// O(everything).
func (db *DB) Verify(ctx context.Context, progress func(done int)) (VerifyReport, error) {
	names, err := db.Namespaces(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	var out VerifyReport
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue
		}
		lost, err := ns.verify(ctx, &out, progress)
		if err != nil {
			return out, err
		}
		if !lost.IsEmpty() && !db.opts.ReadOnly {
			if err := ns.markUnknown(ctx, lost); err != nil {
				return out, err
			}
			out.Noted += int(lost.Count())
		}
	}
	return out, db.verifyBlobs(ctx, &out, progress)
}

// verifyStride is how many keys and records pass between calls of progress.
const verifyStride = 4096

func (ns *Namespace) verify(ctx context.Context, out *VerifyReport, progress func(int)) (lost crdt.Clock, err error) {
	lost = crdt.NewClock()
	err = ns.fullView(ctx, func(v *replica.View) error {
		return v.Verify(func(p replica.Problem) {
			if p.Lost {
				lost.Add(p.Dot)
			}
			if len(out.Problems) >= maxProblems {
				return
			}
			found := Problem{Namespace: ns.name, What: p.What, Err: p.Err}
			if p.Key != nil {
				found.Key = p.Key
				if name, _, err := crdt.SplitName(p.Key); err == nil {
					found.Key = name
				}
			}
			if p.Dot.Seq != 0 {
				found.Version = p.Dot.String()
			}
			out.Problems = append(out.Problems, found)
		}, func(n int) error {
			out.Checked += n
			if out.Checked%verifyStride == 0 {
				if progress != nil {
					progress(out.Checked)
				}
				return ctx.Err()
			}
			return nil
		})
	})
	return lost, err
}
