package session

import (
	"errors"
	"fmt"
	"io"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// BundleSummary is what a bundle held.
type BundleSummary struct {
	Namespace string
	Versions  int
	Bytes     int64
	Author    crdt.Clock
	Applied   replica.Applied
	Complete  bool // the author's clock was adopted, or was known already
}

// WriteBundle writes one side of a reconcile as a file: BUNDLE, the versions
// whose dots base lacks, DONE. It returns the dots that damage keeps out.
func WriteBundle(w io.Writer, namespace string, snap Snapshot, epoch uint64, base crdt.Clock, z *wire.Zstd) (sum BundleSummary, lost crdt.Clock, err error) {
	root, err := snap.Root()
	if err != nil && !errors.Is(err, errs.ErrCorrupt) {
		return sum, lost, err
	}
	sum.Namespace = namespace
	write := func(t wire.Type, payload []byte) error {
		b := wire.AppendFrame(nil, t, payload)
		sum.Bytes += int64(len(b))
		_, err := w.Write(b)
		return err
	}
	head := wire.Bundle{Namespace: namespace, Base: base, Snapshot: wire.Snapshot{
		Node: snap.Self(), Epoch: epoch, Journal: snap.Journal(), Root: root,
		Count: snap.Keys(), Clock: snap.Clock(), Gone: snap.Gone(),
	}}
	if err := write(wire.TypeBundle, head.Append(nil, z)); err != nil {
		return sum, lost, err
	}
	enc := wire.NewEncoder(z)
	flush := func() error {
		if enc.Count() == 0 {
			return nil
		}
		return write(wire.TypeBatch, enc.Flush(0, 0))
	}
	sent := base.Clone()
	for v, err := range snap.Missing(base, func(crdt.Dot) {}) {
		if err != nil {
			return sum, lost, err
		}
		for !enc.Add(v) {
			if err := flush(); err != nil {
				return sum, lost, err
			}
		}
		sum.Versions++
		sent.Add(v.Dot)
		if enc.Len() >= batchBytes {
			if err := flush(); err != nil {
				return sum, lost, err
			}
		}
	}
	if err := flush(); err != nil {
		return sum, lost, err
	}
	rest := snap.Clock().Minus(sent)
	adopt, err := snap.DeadWithin(rest)
	if err == nil {
		err = snap.Err()
	}
	if err != nil {
		return sum, lost, err
	}
	lost = rest.Minus(adopt)
	done := wire.Done{Batches: enc.Batches(), Adopt: snap.Clock().Minus(base).Minus(lost), Gone: snap.Gone()}
	return sum, lost, write(wire.TypeDone, done.Append(nil, z))
}

// ReadBundle applies a bundle. The author's clock is adopted only if this node
// knows the bundle's base: then everything live among the adopted dots was in
// the bundle or is known here (KERNEL K5).
func ReadBundle(r io.Reader, host Host, z *wire.Zstd) (BundleSummary, error) {
	var sum BundleSummary
	rd := wire.NewReader(r)
	f, err := rd.Next()
	if err != nil {
		return sum, fmt.Errorf("not a bundle: %w", err)
	}
	if f.Type != wire.TypeBundle {
		return sum, fmt.Errorf("not a bundle: it begins with a %s frame: %w", f.Type, errs.ErrInvalid)
	}
	head, err := wire.DecodeBundle(f.Payload, z)
	if err != nil {
		return sum, err
	}
	sum.Namespace, sum.Author = head.Namespace, head.Clock
	if err := host.Accept(head.Namespace); err != nil {
		return sum, err
	}
	dec := wire.NewDecoder(z)
	for {
		f, err := rd.Next()
		if err != nil {
			return sum, err
		}
		sum.Bytes = rd.Offset()
		switch f.Type {
		case wire.TypeBatch:
			if err := sum.batch(f.Payload, host, dec); err != nil {
				return sum, err
			}
		case wire.TypeDone:
			return sum, sum.done(f.Payload, head, host, dec.Batches(), z)
		default:
			if !f.Type.Optional() {
				return sum, fmt.Errorf("%s frame in a bundle: %w", f.Type, errs.ErrInvalid)
			}
		}
	}
}

// batch applies one batch of a bundle.
func (sum *BundleSummary) batch(payload []byte, host Host, dec *wire.Decoder) error {
	b, err := dec.Decode(payload)
	if err != nil {
		return err
	}
	versions := make([]*crdt.Version, len(b.Versions))
	for i := range b.Versions {
		versions[i] = &b.Versions[i]
	}
	applied, err := host.Apply(sum.Namespace, versions, nil)
	if err != nil {
		return err
	}
	sum.Versions += len(versions)
	sum.Applied.Add(applied)
	return nil
}

// done adopts the author's clock where that is sound.
func (sum *BundleSummary) done(payload []byte, head wire.Bundle, host Host, batches uint64, z *wire.Zstd) error {
	m, err := wire.DecodeDone(payload, z)
	if err != nil {
		return err
	}
	if m.Batches != batches {
		return fmt.Errorf("bundle of %d batches, %d were read: %w", m.Batches, batches, errs.ErrCorrupt)
	}
	snap, err := host.Snapshot(sum.Namespace)
	if err != nil {
		return err
	}
	knows := snap.Scope() == nil && snap.Clock().Contains(head.Base) && covers(snap.Clock(), m.Gone)
	snap.Release()
	if !knows {
		return nil
	}
	applied, err := host.Apply(sum.Namespace, nil, &Adoption{Dots: m.Adopt, Gone: m.Gone})
	sum.Applied.Add(applied)
	sum.Complete = err == nil
	return err
}
