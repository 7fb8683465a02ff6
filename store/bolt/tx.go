package bolt

import (
	"iter"
	"runtime"
	"runtime/debug"
	"unsafe"

	"go.etcd.io/bbolt"

	"bzzz/store"
)

const (
	// ownBucket holds what this package keeps for itself; users do not see it.
	ownBucket = "_bzzz"
	// formatKey in ownBucket holds format.
	formatKey = "format"
	format    = "bzzz-store/1"
	// orderPrefix and a bucket's name are the key of its order, if not Ordered.
	orderPrefix = "order/"
)

// tx is a transaction or a snapshot.
type tx struct {
	s           *mapped
	btx         *bbolt.Tx
	id          uint64
	base, limit uintptr // the mapping; the end of the pages in use
	writable    bool
	snapshot    bool
	done        bool
	committed   bool
	err         error  // why it stopped serving
	first       bucket // the first handle, to save an allocation
	more        []*bucket
	byName      map[string]*bucket // of more, once there are many
}

// manyBuckets is the number of handles from which a map finds one faster than
// a walk over them.
const manyBuckets = 8

// begin starts a transaction. Panic on fault must be set.
func (s *mapped) begin(writable bool) (t *tx, err error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			s.stuck.Store(true) // the panic left bbolt's locks taken
			err = s.poisonWith(damage(r))
		}
		if err != nil {
			t = nil
			s.users.leave()
		}
	}()
	if writable && s.opt.ReadOnly {
		return nil, store.ErrReadOnly
	}
	btx, err := s.db.Begin(writable)
	if err != nil {
		return nil, s.poisonWith(err)
	}
	if p := s.poison.Load(); p != nil { // an Update that ran before this one
		_ = btx.Rollback()
		return nil, *p
	}
	base := s.db.Info().Data
	return &tx{
		s: s, btx: btx, id: uint64(btx.ID()), writable: writable,
		base: base, limit: base + uintptr(btx.Size()),
	}, nil
}

// finish is deferred by View and Update: it ends the transaction whichever way
// fn ended, restores panic on fault, and passes on a panic of fn.
func (t *tx) finish(old bool, err *error) {
	r := recover()
	if r != nil && t.isFault(r) {
		t.fail(damage(r))
	}
	if p := t.s.poison.Load(); p != nil {
		t.fail(*p)
	}
	if _, ok := r.(runtime.Error); ok && t.err != nil {
		r = nil // fn tripped over an answer that it did not get
	}
	if t.err != nil {
		*err = t.err
	}
	t.end()
	debug.SetPanicOnFault(old)
	if r != nil {
		panic(r)
	}
}

// isFault reports whether a panic in fn is a fault on the mapping: fn touched
// bytes that it was given and that the medium does not have.
func (t *tx) isFault(r any) bool {
	f, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	})
	return ok && f.Addr() >= t.base && f.Addr()-t.base < uintptr(t.s.opt.InitialMmap)+(t.limit-t.base)
}

// end releases the transaction, undoing what was not committed.
func (t *tx) end() {
	if t.done {
		return
	}
	t.done = true
	defer t.s.users.leave()
	defer func() {
		if r := recover(); r != nil {
			t.s.stuck.Store(true)
			t.fail(t.s.poisonWith(damage(r)))
		}
	}()
	if !t.committed {
		_ = t.btx.Rollback() // fails only if a failed commit has rolled back
	}
}

func (t *tx) commit() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = t.s.poisonWith(damage(r))
		}
	}()
	t.s.db.AllocSize = int(max(minGrowth, min(t.btx.Size()/32, maxGrowth)))
	if err := t.btx.Commit(); err != nil {
		return t.s.poisonWith(err)
	}
	t.committed = true
	t.s.changed.Store(true)
	return nil
}

// Release implements store.Snapshot.
func (t *tx) Release() {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	t.end()
}

// Err returns why the transaction stopped serving before its end: damage that
// it met, or a failed commit. Nil while it serves.
func (t *tx) Err() error {
	if t.err == nil {
		if p := t.s.poison.Load(); p != nil {
			return *p
		}
	}
	return t.err
}

func (t *tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// serves reports whether reads are answered.
func (t *tx) serves() bool {
	if t.done || t.err != nil {
		return false
	}
	if p := t.s.poison.Load(); p != nil {
		t.err = *p
		return false
	}
	return true
}

// arm and contain enclose every call into bbolt. View and Update set panic on
// fault for their goroutine, a snapshot may be used from any.
func (t *tx) arm() bool { return t.snapshot && debug.SetPanicOnFault(true) }

func (t *tx) contain(old bool) {
	if t.snapshot {
		debug.SetPanicOnFault(old)
	}
	if r := recover(); r != nil {
		t.fail(damage(r))
	}
}

// used returns the bytes of the pages in use.
func (t *tx) used() int64 { return int64(t.limit - t.base) }

// size returns the length of the file and how much of it holds nothing.
func (t *tx) size() (total, free int64, err error) {
	info, err := t.s.file.Stat()
	if err != nil {
		return 0, 0, err
	}
	stats := t.s.db.Stats()
	return info.Size(), info.Size() - t.used() + int64(stats.FreePageN+stats.PendingPageN)*pageSize, nil
}

// inside reports whether b lies within the pages in use. Memory outside the
// mapping holds what this transaction wrote, or a small bucket's copy.
func (t *tx) inside(b []byte) bool {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return p-t.base >= uintptr(t.s.opt.InitialMmap) && p-t.base >= t.limit-t.base || p+uintptr(len(b)) <= t.limit
}

// ID implements store.Tx.
func (t *tx) ID() uint64 { return t.id }

// Writable implements store.Tx.
func (t *tx) Writable() bool { return t.writable }

// Bucket implements store.Tx.
func (t *tx) Bucket(name string) store.Bucket {
	if b := t.bucket(name); b != nil {
		return b
	}
	return nil
}

func (t *tx) bucket(name string) (b *bucket) {
	if t.done || name == ownBucket {
		return nil
	}
	if !t.serves() {
		return &bucket{t: t, name: name} // answers nothing, and does not trip up the caller
	}
	if t.first.b != nil && t.first.name == name {
		return &t.first
	}
	if t.byName != nil {
		b = t.byName[name]
	} else {
		for _, m := range t.more {
			if m.b != nil && m.name == name {
				b = m
			}
		}
	}
	if b != nil && b.b != nil {
		return b
	}
	defer t.contain(t.arm())
	defer func() {
		if t.err != nil {
			b = &bucket{t: t, name: name}
		}
	}()
	// bbolt neither keeps nor changes the name, so it need not be copied.
	if bb := t.btx.Bucket(unsafe.Slice(unsafe.StringData(name), len(name))); bb != nil {
		return t.handle(name, bb)
	}
	return nil
}

func (t *tx) handle(name string, bb *bbolt.Bucket) *bucket {
	b := &t.first
	if b.t != nil {
		b = new(bucket)
		t.more = append(t.more, b)
	}
	*b = bucket{t: t, b: bb, name: name}
	if len(t.more) == manyBuckets {
		t.byName = make(map[string]*bucket)
		for _, m := range t.more {
			t.byName[m.name] = m
		}
	} else if t.byName != nil {
		t.byName[name] = b
	}
	return b
}

// CreateBucket implements store.Tx. The order is kept in the file.
func (t *tx) CreateBucket(name string, order store.Order) (sb store.Bucket, err error) {
	if err := t.mayName(name); err != nil {
		return nil, err
	}
	old := t.bucket(name)
	if t.err != nil {
		return nil, t.err
	}
	if old != nil {
		return nil, store.ErrExists
	}
	defer t.failed(&err)
	defer t.contain(t.arm())
	bb, err := t.btx.CreateBucket([]byte(name))
	if err != nil {
		return nil, damage(err)
	}
	if order != store.Ordered {
		key := []byte(orderPrefix + name)
		if err := t.btx.Bucket([]byte(ownBucket)).Put(key, []byte{byte(order)}); err != nil {
			return nil, damage(err)
		}
	}
	return t.handle(name, bb), nil
}

// DeleteBucket implements store.Tx. Handles of the bucket are empty afterwards
// and refuse writes with ErrNotFound. O(number of its pages).
func (t *tx) DeleteBucket(name string) (err error) {
	if err := t.mayName(name); err != nil {
		return err
	}
	b := t.bucket(name)
	if t.err != nil {
		return t.err
	}
	if b == nil {
		return store.ErrNotFound
	}
	defer t.failed(&err)
	defer t.contain(t.arm())
	b.b = nil
	if err := t.btx.DeleteBucket([]byte(name)); err != nil {
		return damage(err)
	}
	return t.btx.Bucket([]byte(ownBucket)).Delete([]byte(orderPrefix + name))
}

// failed is deferred by writes: contained damage becomes their error.
func (t *tx) failed(err *error) {
	if t.err != nil {
		*err = t.err
	}
}

// Buckets implements store.Tx. The names are those at the start of the walk.
func (t *tx) Buckets() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range t.names() {
			if !yield(name) {
				return
			}
		}
	}
}

func (t *tx) names() (names []string) {
	if !t.serves() {
		return nil
	}
	defer t.contain(t.arm())
	c := t.btx.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if string(k) != ownBucket {
			names = append(names, string(k))
		}
	}
	return names
}

func (t *tx) mayWrite() error {
	switch {
	case t.done:
		return store.ErrClosed
	case !t.serves():
		return t.err
	case !t.writable:
		return store.ErrReadOnly
	}
	return nil
}

func (t *tx) mayName(name string) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	switch {
	case name == "" || name == ownBucket:
		return store.ErrInvalid
	case len(name) > store.MaxKey:
		return store.ErrTooLarge
	}
	return nil
}
