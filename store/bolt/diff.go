package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"bzzz/store"
)

// bbolt never writes to a page that a transaction can see: a commit writes the
// changed pages, and those above them, to free ones. So while both of two
// states are held, a page that is in the trees of both has not changed, and
// what differs lies in the leaves that only one of them has. That costs reading
// the branch pages, about one in a hundred, and the leaves that changed.

// applyChanges changes the copy to, which holds what old sees, so that it holds
// what now sees, and returns how many bytes of keys and values that took. Both
// are snapshots of one file, old the older.
func applyChanges(to *Store, old, now *tx) (written int64, err error) {
	defer now.containFault(&err)
	if old.ID() == now.ID() {
		return 0, nil
	}
	if err := dropMissing(to, old, now); err != nil {
		return 0, err
	}
	for _, name := range now.names() {
		if err := updateCopy(to, func(out store.Tx) error {
			if out.Bucket(name) != nil {
				return nil
			}
			_, err := out.CreateBucket(name, orderOf(now, name))
			return err
		}); err != nil {
			return written, err
		}
		next, stop := iter.Pull(changes(old, now, name))
		n, err := applyBucket(to, name, next)
		stop()
		written += n
		if err != nil {
			return written, fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	if now.err != nil {
		return written, now.err
	}
	return written, old.err
}

// dropMissing removes buckets of the copy that now does not have.
func dropMissing(to *Store, old, now *tx) error {
	have := map[string]bool{}
	for _, name := range now.names() {
		have[name] = true
	}
	var gone []string
	for _, name := range old.names() {
		if !have[name] {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return updateCopy(to, func(out store.Tx) error {
		for _, name := range gone {
			if err := out.DeleteBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// change is one difference of a bucket, its bytes valid until the next. A nil
// value is a removal.
type change struct {
	key, value []byte
	err        error // ends the walk
}

// applyBucket writes the changes of one bucket in transactions of bounded size.
func applyBucket(to *Store, name string, next func() (change, bool)) (written int64, err error) {
	for more := true; more && err == nil; {
		var batch []change
		size := 0
		for size < copyBatch/4 { // held here and in the transaction
			var c change
			if c, more = next(); !more {
				break
			}
			if c.err != nil {
				return written, c.err
			}
			batch = append(batch, change{key: bytes.Clone(c.key), value: bytes.Clone(c.value)})
			size += len(c.key) + len(c.value)
		}
		if len(batch) == 0 {
			break
		}
		written += int64(size)
		err = updateCopy(to, func(out store.Tx) error {
			b := out.Bucket(name)
			for _, c := range batch {
				var err error
				if c.value == nil {
					err = b.Delete(c.key)
				} else {
					err = b.Put(c.key, c.value)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return written, err
}

// changes yields what differs between two states of a bucket, in order of keys.
func changes(old, now *tx, name string) iter.Seq[change] {
	return func(yield func(change) bool) {
		before, after, err := bothTrees(old, now, name)
		if err != nil {
			yield(change{err: err})
			return
		}
		nextOld, stopOld := iter.Pull(before.entries(after))
		defer stopOld()
		nextNew, stopNew := iter.Pull(after.entries(before))
		defer stopNew()
		a, haveA := nextOld()
		b, haveB := nextNew()
		for haveA || haveB {
			if a.err != nil || b.err != nil {
				yield(change{err: firstOf(a.err, b.err)})
				return
			}
			order := 0
			switch {
			case !haveB:
				order = -1
			case !haveA:
				order = 1
			default:
				order = bytes.Compare(a.key, b.key)
			}
			more := true
			switch {
			case order < 0:
				more = yield(change{key: a.key})
			case order > 0 || !bytes.Equal(a.value, b.value):
				more = yield(b)
			}
			if !more {
				return
			}
			if order <= 0 {
				a, haveA = nextOld()
			}
			if order >= 0 {
				b, haveB = nextNew()
			}
		}
	}
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// tree is a bucket in one state: the page of its root, 0 if it is small and
// lies within its parent's page, or if there is none.
type tree struct {
	t     *tx
	name  string
	root  uint64
	pager *pager // has seen all pages of the tree
}

// bothTrees returns a bucket's trees in two states, with their pages marked.
func bothTrees(old, now *tx, name string) (a, b *tree, err error) {
	if a, err = newTree(old, name); err != nil {
		return nil, nil, err
	}
	b, err = newTree(now, name)
	return a, b, err
}

func newTree(t *tx, name string) (*tree, error) {
	out := &tree{t: t, name: name}
	if !t.serves() {
		return nil, t.err
	}
	b := t.bucket(name)
	if b == nil || b.b == nil {
		return out, t.err
	}
	if out.root = uint64(b.b.Root()); out.root == 0 {
		return out, nil
	}
	out.pager = newPager(t)
	leaf, err := out.pager.depth(out.root)
	if err != nil {
		return nil, err
	}
	return out, out.pager.walkBucket(out.root, 0, leaf, nil, nil)
}

// newPager returns a pager on the pages that a transaction sees.
func newPager(t *tx) *pager {
	pages := uint64(t.used()) / pageSize
	return &pager{f: t.s.file, size: t.used(), meta: meta{pages: pages}, seen: make([]uint64, pages/64+1)}
}

// has reports whether a page belongs to the tree.
func (r *tree) has(id uint64) bool {
	return r.pager != nil && id/64 < uint64(len(r.pager.seen)) && r.pager.seen[id/64]&(1<<(id%64)) != 0
}

// entries yields the entries of the leaves that the other tree does not have.
func (r *tree) entries(other *tree) iter.Seq[change] {
	return func(yield func(change) bool) {
		if r.pager == nil {
			r.small(yield)
			return
		}
		if !other.has(r.root) {
			r.walk(newPager(r.t), r.root, 0, other, yield)
		}
	}
}

// small yields the entries of a bucket without pages of its own, if there is
// one.
func (r *tree) small(yield func(change) bool) {
	b := r.t.Bucket(r.name)
	if b == nil {
		return
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if !yield(change{key: k, value: v}) {
			return
		}
	}
}

// walk yields the entries below a page. It reports whether to go on.
func (r *tree) walk(p *pager, id uint64, depth int, other *tree, yield func(change) bool) bool {
	buf, err := p.page(id, depth)
	goesOn := true
	if err == nil {
		err = elements(buf, nil, nil, func(e element, _ []byte) error {
			switch {
			case e.branch && !other.has(e.page):
				goesOn = r.walk(p, e.page, depth+1, other, yield)
			case !e.branch:
				goesOn = yield(change{key: e.key, value: e.value})
			}
			if !goesOn {
				return errStopped
			}
			return nil
		})
	}
	if err == errStopped {
		return false
	}
	if err != nil {
		yield(change{err: err})
		return false
	}
	return true
}

// errStopped ends a walk that nobody wants to go on.
var errStopped = errors.New("stopped")
