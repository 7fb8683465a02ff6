package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bzzz/crdt"
	"bzzz/engine/session"
	"bzzz/engine/session/wire"
)

// BundleReport is what a bundle holds, or what taking it in did.
type BundleReport struct {
	Namespace string `json:"namespace"`
	Versions  int    `json:"versions"`
	New       int    `json:"new"` // taken in that were not known
	Bytes     int64  `json:"bytes"`
	Author    Mark   `json:"-"` // the clock of who wrote it: the base of an answer
	// Complete: everything the author knew is known here now, its deletes too.
	Complete bool `json:"complete"`
}

// WriteBundle writes what a reader that knows base (the zero Mark: nothing)
// lacks of this namespace: its live versions and deletes, and the author's
// clock. It is one side of a sync as a file, to be carried where no network
// goes; ReadBundle takes it in. O(what is missing).
func (ns *Namespace) WriteBundle(ctx context.Context, w io.Writer, base Mark) (BundleReport, error) {
	h := &host{db: ns.db, ctx: ctx}
	if err := ns.db.usable(ctx); err != nil {
		return BundleReport{}, err
	}
	snap, err := h.Snapshot(ns.name)
	if err != nil {
		return BundleReport{}, err
	}
	defer snap.Release()
	if base.clock.Len() == 0 {
		base.clock = crdt.NewClock()
	}
	sum, lost, err := session.WriteBundle(w, ns.name, snap, ns.db.epoch, base.clock, wire.NewZstd())
	if err == nil && !lost.IsEmpty() {
		h.Lost(ns.name, lost)
		err = fmt.Errorf("%d damaged versions left out, run verify: %w", lost.Count(), ErrCorrupt)
	}
	return BundleReport{
		Namespace: ns.name, Versions: sum.Versions, Bytes: sum.Bytes, Author: Mark{snap.Clock()}, Complete: err == nil,
	}, err
}

// ReadBundle takes a bundle in, making its namespace if it is not here. Every
// part is durable before the next is read; a damaged or cut file leaves what
// came before it. Taking a bundle in again changes nothing. If this node knows
// the bundle's base, its author's clock is adopted at the end, deletes
// included; otherwise only its versions are taken in, and Complete is false.
func (db *DB) ReadBundle(ctx context.Context, r io.Reader) (BundleReport, error) {
	if err := db.usable(ctx); err != nil {
		return BundleReport{}, err
	}
	h := &host{db: db, ctx: ctx}
	sum, err := session.ReadBundle(r, h, wire.NewZstd())
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("bundle ends before its end: %w", ErrCorrupt)
	}
	return BundleReport{
		Namespace: sum.Namespace, Versions: sum.Versions, New: sum.Applied.New, Bytes: sum.Bytes,
		Author: Mark{sum.Author}, Complete: sum.Complete,
	}, err
}
