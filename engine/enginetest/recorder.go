package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
	"bzzz/engine"
)

// Recorder writes registers through a cluster and knows what every read must
// show. It keeps its own account of what each write saw, by CID: it trusts
// neither the engine's clocks nor its contexts.
//
// Its oracles: an acknowledged write is there, or something that saw it; what
// was deleted or replaced does not come back; a causally later write wins; a
// node shows what it has shown or taken before, or something that saw it
// (monotonic reads, read your writes). One goroutine.
type Recorder struct {
	c       *Cluster
	writes  map[string]map[string]*write // key -> CID
	seen    []map[string][]string        // node -> key -> CIDs of the siblings last read there
	authors map[crdt.Dot]string          // dot -> CID
	count   Counts
	deletes bool // nodes collect deletes: see Collecting
}

// Collecting tells that nodes collect deletes from now on. One that is gone is
// not missed, nor is what a collected delete saw, which a node may come to know
// of by a claim alone.
func (r *Recorder) Collecting() { r.deletes = true }

// Counts tells how much a Recorder did.
type Counts struct{ Puts, Deletes, Reads, Concurrent int }

// write is one acknowledged write.
type write struct {
	cid    string
	past   map[string]bool // CIDs of what it saw, transitively
	delete bool
}

// NewRecorder returns a Recorder of a cluster.
func NewRecorder(c *Cluster) *Recorder {
	r := &Recorder{c: c, writes: map[string]map[string]*write{}, authors: map[crdt.Dot]string{}}
	for range c.Len() {
		r.seen = append(r.seen, map[string][]string{})
	}
	return r
}

// Counts returns how much was done.
func (r *Recorder) Counts() Counts { return r.count }

// Put writes a key on a node; Delete removes it. Both note what the write saw.
func (r *Recorder) Put(i int, key, value string) error {
	r.count.Puts++
	return r.write(i, key, func(t *engine.Txn) error { return t.Put([]byte(key), []byte(value)) })
}

// Delete removes a key on a node, if it is there.
func (r *Recorder) Delete(i int, key string) error {
	r.count.Deletes++
	return r.write(i, key, func(t *engine.Txn) error {
		_, err := t.Delete([]byte(key))
		return err
	})
}

func (r *Recorder) write(i int, key string, change func(*engine.Txn) error) error {
	ctx, db := context.Background(), r.c.DB(i)
	var before engine.Record
	err := db.Update(ctx, func(t *engine.Txn) (err error) {
		if before, err = t.GetAll([]byte(key)); err != nil {
			return err
		}
		return change(t)
	})
	if err != nil {
		return fmt.Errorf("write of %q on node %d: %w", key, i, err)
	}
	if err := r.look(i, key, before); err != nil {
		return err
	}
	after, err := db.GetAll(ctx, []byte(key))
	if err != nil {
		return fmt.Errorf("read of %q on node %d: %w", key, i, err)
	}
	w := &write{past: map[string]bool{}}
	for _, s := range before.Siblings {
		w.past[s.CID] = true
		for cid := range r.writes[key][s.CID].past {
			w.past[cid] = true
		}
	}
	for _, s := range after.Siblings {
		if s.Author == db.ReplicaID() && !w.past[s.CID] {
			w.cid, w.delete = s.CID, s.Kind == crdt.Delete
			if err := r.author(s); err != nil {
				return err
			}
		}
	}
	if w.cid == "" { // a delete of nothing, or our write is not there
		if len(before.Shown) == 0 && slices.EqualFunc(before.Siblings, after.Siblings, func(a, b engine.Version) bool { return a.CID == b.CID }) {
			return nil
		}
		return fmt.Errorf("node %d does not show its own write of %q", i, key)
	}
	if r.writes[key] == nil {
		r.writes[key] = map[string]*write{}
	}
	r.writes[key][w.cid] = w
	return r.look(i, key, after)
}

// author checks that no dot is used twice.
func (r *Recorder) author(v engine.Version) error {
	dot := crdt.Dot{Replica: v.Author, Seq: v.Seq}
	if old, used := r.authors[dot]; used && old != v.CID {
		return fmt.Errorf("dot %s was used for two versions", dot)
	}
	r.authors[dot] = v.CID
	return nil
}

// Read reads a key on a node and checks what it shows.
func (r *Recorder) Read(i int, key string) error {
	r.count.Reads++
	now, err := r.c.DB(i).GetAll(context.Background(), []byte(key))
	if err != nil {
		return fmt.Errorf("read of %q on node %d: %w", key, i, err)
	}
	return r.look(i, key, now)
}

// Forget drops what a node has shown: it was rolled back.
func (r *Recorder) Forget(i int) { r.seen[i] = map[string][]string{} }

// look compares what a node shows with what it showed before.
func (r *Recorder) look(i int, key string, now engine.Record) error {
	var cids []string
	for _, s := range now.Siblings {
		if r.writes[key][s.CID] == nil {
			return fmt.Errorf("node %d shows a version of %q that nobody wrote", i, key)
		}
		cids = append(cids, s.CID)
	}
	for _, a := range cids {
		if slices.ContainsFunc(cids, func(b string) bool { return r.writes[key][b].past[a] }) {
			return fmt.Errorf("node %d shows a version of %q beside one that saw it", i, key)
		}
	}
	for _, old := range r.seen[i][key] {
		if !slices.ContainsFunc(cids, func(c string) bool { return c == old || r.writes[key][c].past[old] }) && !r.deleted(key, old) {
			return fmt.Errorf("node %d lost a version of %q that it had", i, key)
		}
	}
	r.seen[i][key] = cids
	return nil
}

// deleted reports whether a version may be gone without a trace: it is a delete,
// or one saw it.
func (r *Recorder) deleted(key, cid string) bool {
	if !r.deletes {
		return false
	}
	for c, w := range r.writes[key] {
		if w.delete && (c == cid || w.past[cid]) {
			return true
		}
	}
	return false
}

// ForgetKey drops what a node has shown of a key: its index lost it.
func (r *Recorder) ForgetKey(i int, key string) { delete(r.seen[i], key) }

// Present returns what a node lacks that nobody has deleted or replaced, though
// every write has reached it. More than that may be there.
func (r *Recorder) Present(i int) error {
	var errs []error
	for key, writes := range r.writes {
		now, err := r.c.DB(i).GetAll(context.Background(), []byte(key))
		if err != nil {
			return fmt.Errorf("read of %q on node %d: %w", key, i, err)
		}
		for cid, w := range writes {
			covered := w.delete || slices.ContainsFunc(now.Siblings, func(s engine.Version) bool { return s.CID == cid })
			for _, o := range writes {
				covered = covered || o.past[cid]
			}
			if !covered {
				errs = append(errs, fmt.Errorf("node %d lost a version of %q", i, key))
			}
		}
	}
	return errors.Join(errs...)
}

// Check returns what is wrong with a node that has heard of every write: each
// key must hold exactly the writes that no other write saw.
func (r *Recorder) Check(i int) error {
	var errs []error
	for key, writes := range r.writes {
		var want []string
		alive := 0
		for cid, w := range writes {
			covered := false
			for _, o := range writes {
				covered = covered || o.past[cid]
			}
			if !covered && !(r.deletes && w.delete) {
				want = append(want, cid)
				if !w.delete {
					alive++
				}
			}
		}
		if len(want) > 1 {
			r.count.Concurrent++
		}
		now, err := r.c.DB(i).GetAll(context.Background(), []byte(key))
		if err != nil {
			return fmt.Errorf("read of %q on node %d: %w", key, i, err)
		}
		var got []string
		for _, s := range now.Siblings {
			if !r.deletes || s.Kind != crdt.Delete {
				got = append(got, s.CID)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || (len(now.Shown) > 0) != (alive > 0) {
			errs = append(errs, fmt.Errorf("node %d holds %d versions of %q and shows %d, want %d and %d alive: lost or back from the dead",
				i, len(got), key, len(now.Shown), len(want), alive))
		}
	}
	return errors.Join(errs...)
}
