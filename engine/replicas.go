package engine

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// ReplicaInfo is what this node knows of one replica: one incarnation of a
// store that wrote.
type ReplicaInfo struct {
	ID         string      `json:"id"`
	Node       string      `json:"node"` // the part of the id that its node's incarnations share
	Own        bool        `json:"own"`  // this store writes under it
	Retired    bool        `json:"retired"`
	RetiredAt  time.Time   `json:"retired_at,omitzero"`
	Versions   uint64      `json:"versions"` // seen, in all namespaces
	Live       int         `json:"live"`     // of them not superseded, deletes included
	Gaps       int         `json:"gaps"`     // stretches that are missing below what was seen
	Missing    uint64      `json:"missing"`  // versions in these gaps
	Namespaces []ReplicaIn `json:"namespaces"`
}

// ReplicaIn is what is known of a replica in one namespace.
type ReplicaIn struct {
	Name     string    `json:"name"`
	Versions uint64    `json:"versions"` // seen
	Last     uint64    `json:"last"`     // number of its newest version
	Live     int       `json:"live"`     // of them not superseded, deletes included
	Gaps     []Gap     `json:"gaps"`     // numbers not seen below Last
	Retired  time.Time `json:"retired_at,omitzero"`
}

// Gap is a stretch of a replica's versions that are missing here.
type Gap struct {
	First uint64 `json:"first"` // number of the first missing version
	Last  uint64 `json:"last"`  // and of the last one
}

// Replicas returns every replica that anything was seen of, by id. O(live
// versions).
func (db *DB) Replicas(ctx context.Context) ([]ReplicaInfo, error) {
	names, err := db.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	self := db.ReplicaID()
	found := map[crdt.ReplicaID]*ReplicaInfo{}
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue // dropped meanwhile
		}
		parts, err := ns.replicas(ctx)
		if err != nil {
			return nil, err
		}
		for id, part := range parts {
			info := found[id]
			if info == nil {
				tag := id.Tag()
				info = &ReplicaInfo{ID: id.String(), Node: hex.EncodeToString(tag[:]), Own: id == self}
				found[id] = info
			}
			info.add(part)
		}
	}
	out := make([]ReplicaInfo, 0, len(found))
	for _, info := range found {
		out = append(out, *info)
	}
	slices.SortFunc(out, func(a, b ReplicaInfo) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return out, nil
}

func (r *ReplicaInfo) add(part ReplicaIn) {
	r.Versions += part.Versions
	r.Live += part.Live
	r.Gaps += len(part.Gaps)
	for _, g := range part.Gaps {
		r.Missing += g.Last - g.First + 1
	}
	if !part.Retired.IsZero() {
		r.Retired = true
		if part.Retired.After(r.RetiredAt) {
			r.RetiredAt = part.Retired
		}
	}
	r.Namespaces = append(r.Namespaces, part)
}

// replicas returns what the namespace knows of each replica.
func (ns *Namespace) replicas(ctx context.Context) (map[crdt.ReplicaID]ReplicaIn, error) {
	out := map[crdt.ReplicaID]ReplicaIn{}
	err := ns.fullView(ctx, func(v *replica.View) error {
		live, err := v.LiveOf()
		if err != nil {
			return err
		}
		retired := map[crdt.ReplicaID]time.Time{}
		for _, d := range v.Retired() {
			retired[d.Replica] = d.Time.Time()
		}
		clock := v.Clock()
		for _, id := range clock.Replicas() {
			seen := clock.Of(id)
			gaps := crdt.NewSeqSet(crdt.Interval{Lo: 1, Hi: seen.Max()}).Minus(seen)
			part := ReplicaIn{
				Name: ns.name, Versions: seen.Count(), Last: seen.Max(), Live: live[id],
				Gaps: []Gap{}, Retired: retired[id],
			}
			for _, g := range gaps.Runs() {
				part.Gaps = append(part.Gaps, Gap{g.Lo, g.Hi})
			}
			out[id] = part
		}
		return nil
	})
	return out, err
}

// RetireReplica declares a replica lost for good, in every namespace that has
// seen it: versions of it that are missing here no longer keep deletes from
// being collected. It is a decision of this node alone, and final. Should a
// missing version arrive after all it is applied as usual and reported; it may
// show a value that a collected delete had hidden. It returns the namespaces.
// ErrNotFound if nothing was seen of the replica, ErrInvalid if this store
// writes under it.
func (db *DB) RetireReplica(ctx context.Context, id crdt.ReplicaID) ([]string, error) {
	if id == db.ReplicaID() {
		return nil, fmt.Errorf("replica %s writes here: %w", id, ErrInvalid)
	}
	names, err := db.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue
		}
		seen := false
		if err := ns.fullView(ctx, func(v *replica.View) error {
			seen = !v.Clock().Of(id).IsEmpty()
			return nil
		}); err != nil {
			return done, err
		}
		if !seen {
			continue
		}
		if err := ns.retire(ctx, id); err != nil {
			return done, err
		}
		done = append(done, name)
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("replica %s: %w", id, ErrNotFound)
	}
	return done, nil
}

func (ns *Namespace) retire(ctx context.Context, id crdt.ReplicaID) error {
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		err = b.Retire(id)
		return err, err
	}})
}
