package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// Mark names a state of a namespace by its clock. It stays readable for as
// long as the versions it saw are retained, on every node that has them.
type Mark struct{ clock crdt.Clock }

// String returns the mark as URL-safe text.
func (m Mark) String() string { return base64.RawURLEncoding.EncodeToString(m.clock.Append(nil)) }

// ParseMark reads what String printed.
func ParseMark(s string) (Mark, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return Mark{}, fmt.Errorf("mark: %w: %v", ErrInvalid, err)
	}
	c, rest, err := crdt.DecodeClock(b)
	if err != nil || len(rest) > 0 {
		return Mark{}, fmt.Errorf("mark: %w", ErrInvalid)
	}
	return Mark{c}, nil
}

// Point is a point in history. The zero Point is now.
type Point struct{ at replica.At }

// AtTime is the state as of a moment, as far as is known now: of each key the
// maximal versions with a stamp in its millisecond or before.
func AtTime(t time.Time) Point { return Point{replica.At{Time: crdt.HLCFromTime(t) | 0xFFFF}} }

// AtMark is the state that a mark names.
func AtMark(m Mark) Point { return Point{replica.At{Clock: &m.clock}} }

// StepsBack is n steps back from now along direct parents, of one key: the
// winner among the versions that the current winner replaced, n times.
func StepsBack(n int) Point { return Point{replica.At{Steps: n}} }

// AtCID is exactly one version of one key.
func AtCID(cid string) (Point, error) {
	d, err := crdt.ParseCID(cid)
	return Point{replica.At{CID: &d}}, err
}

// History returns the retained versions of a register, newest first, with
// those that are current marked Live. One look-up a version.
func (ns *Namespace) History(ctx context.Context, key []byte) ([]Version, error) {
	stored, err := storedName(key)
	if err != nil {
		return nil, err
	}
	var out []Version
	err = ns.fullView(ctx, func(v *replica.View) error {
		history, err := v.History(stored)
		src := &reading{rd: v.Reader, ns: ns}
		for _, h := range history {
			out = append(out, newVersion(src, h.Version, h.Live))
		}
		return err
	})
	return out, err
}

// GetAt returns what a register held at a point. ErrNotRetained if that is no
// longer known, ErrNotFound if there is no such version. Nothing shown means
// that the key was absent then.
func (ns *Namespace) GetAt(ctx context.Context, key []byte, at Point) (Record, error) {
	stored, err := storedName(key)
	if err != nil {
		return Record{}, err
	}
	if at.at.Steps < 0 {
		return Record{}, fmt.Errorf("%d steps back: %w", at.at.Steps, ErrInvalid)
	}
	var out Record
	err = ns.fullView(ctx, func(v *replica.View) error {
		s, err := v.SiblingsAt(stored, at.at)
		if err != nil {
			return err
		}
		out = newRecord(at.reading(ns, v.Reader), key, s)
		return nil
	})
	return out, err
}

// reading returns a source for folding at the point: what had not expired then
// is shown.
func (p Point) reading(ns *Namespace, rd *replica.Reader) *reading {
	now := time.Now().UnixMilli()
	switch {
	case p.at.Time > 0:
		now = p.at.Time.Time().UnixMilli()
	case p.at.CID != nil || p.at.Steps > 0:
		now = 0
	}
	return &reading{rd: rd, ns: ns, now: now}
}

// Difference is one key that two points show differently.
type Difference struct {
	Key           []byte
	Before, After []byte // main values; nil if absent, empty if large
	// BeforeBlob and AfterBlob are the CIDs of main values above 64 KiB, "" of
	// others; OpenBlob reads them.
	BeforeBlob, AfterBlob string

	kind  crdt.Kind // of the version after, and its attributes less the expiry
	attrs []crdt.Attr
	blob  cid.Cid // of the version after
}

// Diff yields the registers under a prefix whose main values differ between two
// points of one moment's knowledge, in order. It stops at the first error,
// ErrNotRetained where history has gone. O(keys x history).
func (ns *Namespace) Diff(ctx context.Context, prefix []byte, from, to Point) iter.Seq2[Difference, error] {
	return sequence(func(yield func(Difference) bool) error {
		return ns.fullView(ctx, func(v *replica.View) error { return ns.diff(ctx, v, prefix, from, to, yield) })
	})
}

func (ns *Namespace) diff(ctx context.Context, v *replica.View, prefix []byte, from, to Point, yield func(Difference) bool) error {
	if from.at.Steps != 0 || to.at.Steps != 0 || from.at.CID != nil || to.at.CID != nil {
		return fmt.Errorf("diff takes times and marks: %w", ErrInvalid)
	}
	a, b := from.reading(ns, v.Reader), to.reading(ns, v.Reader)
	n := 0
	for key := range v.Heads(rangeOf(prefix)) {
		if n++; n%scanStride == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		name, rest, err := crdt.SplitName(key)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			continue
		}
		before, err := v.SiblingsAt(key, from.at)
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		after, err := v.SiblingsAt(key, to.at)
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		was, is := mainVersion(fold(a, name, before)), mainVersion(fold(b, name, after))
		if sameValue(was, is) {
			continue
		}
		d := Difference{Key: bytes.Clone(name)}
		if was != nil {
			d.Before, d.BeforeBlob = append([]byte{}, was.Value...), blobName(was)
		}
		if is != nil {
			d.become(is)
		}
		if !yield(d) {
			return nil
		}
	}
	return nil
}

// mainVersion returns the version whose value is shown, nil if there is none.
func mainVersion(w crdt.View) *crdt.Version {
	if len(w.Shown) == 0 {
		return nil
	}
	return w.Shown[0]
}

// sameValue reports whether two versions hold the same value, or both are nil.
func sameValue(a, b *crdt.Version) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Blob == b.Blob && bytes.Equal(a.Value, b.Value)
}

// blobName returns the CID of a version's large value, "" if it has none.
func blobName(v *crdt.Version) string {
	if !v.Blob.Defined() {
		return ""
	}
	return v.Blob.String()
}

// restoreBatch is how many registers one transaction of Restore writes.
const restoreBatch = 1000

// Restore writes the values that the registers under a prefix had at a point
// again, as new versions that replicate like any, and deletes those that were
// absent then. It returns how many it changed. Transactions of 1,000 keys; what
// others write meanwhile is replaced only if it was seen.
func (ns *Namespace) Restore(ctx context.Context, prefix []byte, at Point) (int, error) {
	var todo []Difference
	for d, err := range ns.Diff(ctx, prefix, Point{}, at) {
		if err != nil {
			return 0, err
		}
		todo = append(todo, d)
	}
	changed := 0
	for len(todo) > 0 {
		n := min(len(todo), restoreBatch)
		err := ns.Update(ctx, func(t *Txn) error {
			for _, d := range todo[:n] {
				if err := t.restore(d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return changed, err
		}
		changed += n
		todo = todo[n:]
	}
	return changed, nil
}

// become notes what the key is to be after a restore: the version's kind, value
// and attributes, less its expiry, which has passed or was meant for then.
func (d *Difference) become(v *crdt.Version) {
	d.After, d.kind, d.blob, d.AfterBlob = append([]byte{}, v.Value...), v.Kind, v.Blob, blobName(v)
	for _, a := range v.Attrs {
		if a.Name != crdt.AttrExpiry {
			d.attrs = append(d.attrs, crdt.Attr{Name: a.Name, Value: bytes.Clone(a.Value)})
		}
	}
}

func (t *Txn) restore(d Difference) error {
	stored, err := storedName(d.Key)
	if err != nil {
		return err
	}
	if d.After == nil {
		_, err = t.unset(stored)
		return err
	}
	if d.blob.Defined() {
		return t.link(stored, d.kind, d.blob, d.attrs, false)
	}
	return t.set(stored, d.kind, d.After, d.attrs, false)
}

// RestoreKey writes the value that one register had at a point again, or
// deletes it if it was absent then.
func (ns *Namespace) RestoreKey(ctx context.Context, key []byte, at Point) error {
	stored, err := storedName(key)
	if err != nil {
		return err
	}
	d := Difference{Key: key}
	err = ns.fullView(ctx, func(v *replica.View) error {
		s, err := v.SiblingsAt(stored, at.at)
		if err != nil {
			return err
		}
		if shown := fold(at.reading(ns, v.Reader), key, s).Shown; len(shown) > 0 {
			d.become(shown[0])
		}
		return nil
	})
	if err != nil {
		return err
	}
	return ns.Update(ctx, func(t *Txn) error { return t.restore(d) })
}
