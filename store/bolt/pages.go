package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/store"
)

// The layout of a bbolt file, version 2, in the byte order of the machine.
//
//	page     id 8, flags 2, count 2, overflow 4, elements, keys and values
//	branch   element: pos 4, ksize 4, page id 8
//	leaf     element: flags 4, pos 4, ksize 4, vsize 4
//	bucket   value of a leaf element: root page 8 (0: the page follows), sequence 8
//	freelist count page ids of 8; count 0xffff: the first of them is the count
//	meta     magic 4, version 4, page size 4, flags 4, root bucket 16,
//	         freelist 8, pages in use 8, txid 8, FNV-1a of the above 8
const (
	headerSize  = 16
	elementSize = 16
	metaSize    = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	leafIsBucket = 0x01

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)

	// maxDepth of a tree: with two keys a page, 2^40 pages.
	maxDepth = 40
)

var native = binary.NativeEndian

// meta is what a meta page says.
type meta struct{ root, freelist, pages, txid uint64 }

func metaSum(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	return h.Sum64()
}

// pager checks the pages of a file by reading it, so that bbolt, which trusts
// them, need not meet a page that would crash the process: a pointer past the
// end of the file, a circle, a list longer than memory.
type pager struct {
	f    io.ReaderAt
	size int64
	meta meta
	deep bool     // read leaf pages too, and check the order of keys
	seen []uint64 // bit set of the pages met
	free []byte   // ids on the free list
	bufs [maxDepth][]byte

	last    uint64 // page that was read
	ahead   []byte // pages from aheadID on
	aheadID uint64
}

// treeRoot is a bucket found in the tree of buckets.
type treeRoot struct {
	name string
	page uint64
}

// lockAndCheck opens and locks the file and checks its pages. The handle is
// nil where bbolt has to open and lock the file itself.
func lockAndCheck(path string, readOnly bool, timeout time.Duration, deep bool) (f *os.File, clean bool, err error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	held := false
	for deadline := time.Now().Add(timeout); ; {
		if f, err = os.OpenFile(path, flag, 0); err != nil {
			return nil, false, err
		}
		held, err = lock(f, readOnly, time.Until(deadline))
		if err != nil || !held || named(f, path) {
			break
		}
		// The one who had the lock has put another file in its place.
		if err := f.Close(); err != nil {
			return nil, false, err
		}
	}
	if err == nil {
		clean, err = checkPages(f, readOnly, deep)
	}
	if err == nil && held {
		return f, clean, nil
	}
	return nil, clean, errors.Join(err, f.Close())
}

// named reports whether path is still the name of f, or of nothing.
func named(f *os.File, path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		return true
	}
	info, err := f.Stat()
	return err != nil || os.SameFile(now, info)
}

func checkPages(f *os.File, readOnly, deep bool) (clean bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%w: not a regular file: %v", store.ErrUnsupported, info.Mode())
	}
	p := &pager{f: f, size: info.Size(), deep: deep}
	if err := p.readMeta(); err != nil {
		return false, err
	}
	clean = p.meta.freelist != noFreelist
	if !clean && !readOnly {
		p.deep = true // bbolt will scan all pages, in a goroutine of its own
	}
	return clean, p.check()
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{store.ErrCorrupt}, args...)...)
}

// readMeta reads the newer of the two meta pages. A damaged one is passed over
// only if it was the older one.
func (p *pager) readMeta() error {
	var found, ours bool
	var head []byte
	var valid [2]bool
	var claims [2]uint64 // txid that a page shows, whole or not; 0 without the magic number
	for i := range int64(2) {
		buf := make([]byte, headerSize+metaSize)
		if n, err := p.f.ReadAt(buf, i*pageSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if i == 0 {
			head = buf[:min(n, 16)]
		}
		b := buf[headerSize:]
		if native.Uint32(b) != magic {
			continue
		}
		ours, claims[i] = true, native.Uint64(b[48:])
		if native.Uint64(b[56:]) != metaSum(b) {
			continue
		}
		valid[i] = true
		if v, ps := native.Uint32(b[4:]), native.Uint32(b[8:]); v != version || ps != pageSize {
			return fmt.Errorf("%w: bbolt format %d with pages of %d bytes, want %d with %d", store.ErrUnsupported, v, ps, version, pageSize)
		}
		if m := (meta{native.Uint64(b[16:]), native.Uint64(b[32:]), native.Uint64(b[40:]), native.Uint64(b[48:])}); !found || m.txid > p.meta.txid {
			p.meta, found = m, true
		}
	}
	switch {
	case p.size == 0:
		return corrupt("the file is empty; a store never is: restore it, or remove it to begin anew")
	case !found && !ours:
		return fmt.Errorf("%w: a file of another program: it begins with %q", store.ErrUnsupported, head)
	case !found:
		return corrupt("both meta pages are damaged")
	case p.meta.pages < 4 || p.meta.pages > uint64(p.size)/pageSize:
		return corrupt("the file has %d bytes, its meta page counts %d pages of %d: it was cut off", p.size, p.meta.pages, pageSize)
	}
	for i := range valid {
		// A meta page lies in one sector, so that a crash leaves it old or new. One
		// that is damaged and does not say that it is the older one may have been the
		// last acknowledged commit.
		if !valid[i] && claims[i] != p.meta.txid-1 {
			return corrupt("meta page %d is damaged and may have held the newest commit: restore the store from a replica or a backup, "+
				"or go on with the commit before by copying page %d of %d bytes over it", i, 1-i, pageSize)
		}
	}
	return nil
}

// check walks the tree of buckets, then the tree of each bucket, then compares
// with the free list.
func (p *pager) check() error {
	p.seen = make([]uint64, p.meta.pages/64+1)
	p.visit(0)
	p.visit(1)
	if err := p.readFreelist(); err != nil {
		return err
	}
	var roots []treeRoot
	if err := p.walk(&roots, p.meta.root, 0, nil, nil); err != nil {
		return err
	}
	if len(roots) == 0 || !containsOwn(roots) {
		return errForeign
	}
	if err := p.walkBuckets(roots); err != nil {
		return err
	}
	for b := p.free; len(b) > 0; b = b[8:] {
		if id := native.Uint64(b); id >= p.meta.pages || !p.visit(id) {
			return corrupt("page %d is on the free list and in use, or there twice, or past the end", id)
		}
	}
	return nil
}

// walkBuckets checks the tree of each bucket.
func (p *pager) walkBuckets(roots []treeRoot) error {
	var parts []subtree
	for _, r := range roots {
		if r.page == 0 {
			continue // small, inside its element, and checked with it
		}
		var err error
		if p.deep {
			parts, err = p.split(parts, r)
		} else {
			var leaf int
			if leaf, err = p.depth(r.page); err == nil {
				err = p.walkBucket(r.page, 0, leaf, nil, nil)
			}
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", r.name, err)
		}
	}
	return p.walkParts(parts)
}

// subtree is the part of a bucket's tree below an entry of its root.
type subtree struct {
	bucket    string
	page      uint64
	low, high []byte
}

// split checks the root of a bucket's tree and appends what is below it.
func (p *pager) split(parts []subtree, r treeRoot) ([]subtree, error) {
	buf, err := p.page(r.page, 0)
	if err != nil {
		return parts, err
	}
	return parts, elements(buf, nil, nil, func(e element, next []byte) error {
		if !e.branch {
			return e.plain()
		}
		parts = append(parts, subtree{r.name, e.page, bytes.Clone(e.key), bytes.Clone(next)})
		return nil
	})
}

// walkParts checks subtrees, which share no page in a sound file, on all
// processors: after a crash every page is read, and the open waits for it.
func (p *pager) walkParts(parts []subtree) error {
	var next atomic.Int64
	var failed atomic.Bool
	faults := make([]error, min(runtime.GOMAXPROCS(0), len(parts)))
	var wg sync.WaitGroup
	for w := range faults {
		wg.Go(func() {
			q := &pager{f: p.f, size: p.size, meta: p.meta, deep: true, seen: p.seen}
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(parts) {
					return
				}
				if err := q.walkBucket(parts[i].page, 1, maxDepth, parts[i].low, parts[i].high); err != nil {
					faults[w] = fmt.Errorf("bucket %q: %w", parts[i].bucket, err)
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

func containsOwn(roots []treeRoot) bool {
	for _, r := range roots {
		if r.name == ownBucket {
			return true
		}
	}
	return false
}

// visit marks a page and reports whether it is the first visit.
func (p *pager) visit(id uint64) bool {
	bit := uint64(1) << (id % 64)
	return atomic.OrUint64(&p.seen[id/64], bit)&bit == 0
}

// page reads a page with its overflow and marks it.
func (p *pager) page(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= p.meta.pages {
		return nil, corrupt("page %d does not exist: there are %d", id, p.meta.pages)
	}
	if depth >= maxDepth {
		return nil, corrupt("page %d is %d levels deep", id, depth)
	}
	if p.bufs[depth] == nil {
		p.bufs[depth] = make([]byte, pageSize)
	}
	buf := p.bufs[depth][:pageSize]
	if err := p.read(buf, id); err != nil {
		return nil, err
	}
	if got := native.Uint64(buf); got != id {
		return nil, corrupt("page %d says it is page %d", id, got)
	}
	over := uint64(native.Uint32(buf[12:]))
	if over >= p.meta.pages-id {
		return nil, corrupt("page %d goes on for %d pages, past the last one", id, over)
	}
	for i := range over + 1 {
		if !p.visit(id + i) {
			return nil, corrupt("page %d is in use twice", id+i)
		}
	}
	if over > 0 {
		buf = append(buf, make([]byte, over*pageSize)...)
		if _, err := p.f.ReadAt(buf[pageSize:], int64(id+1)*pageSize); err != nil {
			return nil, err
		}
		p.bufs[depth] = buf
		p.last = id + over
	}
	return buf, nil
}

// aheadPages are read at once where pages follow each other in the file.
const aheadPages = 32

// read reads one page. Where it follows the one before, those behind it are
// read with it.
func (p *pager) read(buf []byte, id uint64) error {
	at := int64(id-p.aheadID) * pageSize
	if id >= p.aheadID && at+pageSize <= int64(len(p.ahead)) {
		copy(buf, p.ahead[at:])
		p.last = id
		return nil
	}
	follows := id == p.last+1
	p.last = id
	if !follows || !p.deep {
		_, err := p.f.ReadAt(buf, int64(id)*pageSize)
		return err
	}
	p.ahead = slices.Grow(p.ahead[:0], aheadPages*pageSize)[:aheadPages*pageSize]
	n, err := p.f.ReadAt(p.ahead, int64(id)*pageSize)
	if n < pageSize {
		p.ahead = p.ahead[:0]
		return err
	}
	p.ahead, p.aheadID = p.ahead[:n], id
	copy(buf, p.ahead)
	return nil
}

func (p *pager) readFreelist() error {
	id := p.meta.freelist
	if id == noFreelist {
		return nil
	}
	buf, err := p.page(id, 0)
	if err != nil {
		return err
	}
	n, at := uint64(native.Uint16(buf[10:])), uint64(headerSize)
	if n == 0xffff {
		n, at = native.Uint64(buf[at:]), at+8
	}
	if f := native.Uint16(buf[8:]); f != flagFreelist || n > (uint64(len(buf))-at)/8 {
		return corrupt("free list on page %d: flags %#x, %d entries", id, f, n)
	}
	p.free = bytes.Clone(buf[at : at+8*n])
	return nil
}

// walk checks the tree of buckets and collects them.
func (p *pager) walk(roots *[]treeRoot, id uint64, depth int, low, high []byte) error {
	buf, err := p.page(id, depth)
	if err != nil {
		return err
	}
	return elements(buf, low, high, func(e element, next []byte) error {
		if e.branch {
			return p.walk(roots, e.page, depth+1, e.key, next)
		}
		if e.flags != leafIsBucket || len(e.value) < 16 {
			return corrupt("page %d: what should be a bucket has flags %#x and %d bytes", id, e.flags, len(e.value))
		}
		root := treeRoot{string(e.key), native.Uint64(e.value)}
		*roots = append(*roots, root)
		if root.page == 0 {
			err := elements(e.value[16:], nil, nil, func(e element, _ []byte) error { return e.plain() })
			if err != nil {
				return fmt.Errorf("bucket %q: %w", root.name, err)
			}
		}
		return nil
	})
}

// depth returns the level of the leaves of the tree at id, which is the same
// for all of them.
func (p *pager) depth(id uint64) (int, error) {
	var head [headerSize + elementSize]byte
	for d := range maxDepth {
		if id < 2 || id >= p.meta.pages {
			return 0, corrupt("page %d does not exist: there are %d", id, p.meta.pages)
		}
		if _, err := p.f.ReadAt(head[:], int64(id)*pageSize); err != nil {
			return 0, err
		}
		if native.Uint16(head[8:]) != flagBranch {
			return d, nil
		}
		id = native.Uint64(head[headerSize+8:])
	}
	return 0, corrupt("page %d is %d levels deep", id, maxDepth)
}

// walkBucket checks the tree of one bucket down to level leaf, whose pages it
// only marks. Keys of the page must be in [low, high); nil is no bound.
func (p *pager) walkBucket(id uint64, depth, leaf int, low, high []byte) error {
	if depth == leaf && depth > 0 {
		if id < 2 || id >= p.meta.pages || !p.visit(id) {
			return corrupt("page %d is in use twice or does not exist", id)
		}
		return nil
	}
	buf, err := p.page(id, depth)
	if err != nil || plainLeaf(buf, low, high) {
		return err
	}
	return elements(buf, low, high, func(e element, next []byte) error {
		if !e.branch {
			return e.plain()
		}
		return p.walkBucket(e.page, depth+1, leaf, e.key, next)
	})
}

// element is one entry of a page.
type element struct {
	branch     bool
	flags      uint32
	page       uint64
	key, value []byte
}

func (e element) plain() error {
	if e.flags != 0 {
		return corrupt("a key of %d bytes has flags %#x", len(e.key), e.flags)
	}
	return nil
}

// plainLeaf reports whether a page is a leaf without fault in which elements
// would find plain entries only. It is the quick way through a large file, in
// which nearly all pages are that.
func plainLeaf(buf, low, high []byte) bool {
	if len(buf) < headerSize || native.Uint16(buf[8:]) != flagLeaf {
		return false
	}
	count := int(native.Uint16(buf[10:]))
	if headerSize+count*elementSize > len(buf) {
		return false
	}
	before := low
	for i := range count {
		off := headerSize + i*elementSize
		h := buf[off : off+elementSize]
		k, ksize := uint64(off)+uint64(native.Uint32(h[4:])), uint64(native.Uint32(h[8:]))
		if native.Uint32(h) != 0 || ksize == 0 || k+ksize+uint64(native.Uint32(h[12:])) > uint64(len(buf)) {
			return false
		}
		key := buf[k : k+ksize]
		if order := bytes.Compare(before, key); order > 0 || order == 0 && i > 0 {
			return false
		}
		before = key
	}
	return count == 0 || high == nil || bytes.Compare(before, high) < 0
}

// elements checks that the entries of a branch or leaf page lie inside it, in
// order and in [low, high), and calls fn for each with the bound of the next.
func elements(buf, low, high []byte, fn func(e element, next []byte) error) error {
	if len(buf) < headerSize {
		return corrupt("a page of %d bytes", len(buf))
	}
	id, flags, count := native.Uint64(buf), native.Uint16(buf[8:]), int(native.Uint16(buf[10:]))
	if flags != flagBranch && flags != flagLeaf || headerSize+count*elementSize > len(buf) || flags == flagBranch && count == 0 {
		return corrupt("page %d: flags %#x with %d entries in %d bytes", id, flags, count, len(buf))
	}
	at := func(i int) (e element, ok bool) {
		off := headerSize + i*elementSize
		h := buf[off : off+elementSize]
		e.branch = flags == flagBranch
		var pos, ksize, vsize uint64
		if e.branch {
			pos, ksize, e.page = uint64(native.Uint32(h)), uint64(native.Uint32(h[4:])), native.Uint64(h[8:])
		} else {
			e.flags = native.Uint32(h)
			pos, ksize, vsize = uint64(native.Uint32(h[4:])), uint64(native.Uint32(h[8:])), uint64(native.Uint32(h[12:]))
		}
		k := uint64(off) + pos
		if ksize == 0 || k+ksize+vsize > uint64(len(buf)) {
			return e, false
		}
		e.key, e.value = buf[k:k+ksize], buf[k+ksize:k+ksize+vsize]
		return e, true
	}
	outside := func(i int) error { return corrupt("page %d: entry %d lies outside the page", id, i) }
	if count == 0 {
		return nil
	}
	next, ok := at(0)
	if !ok {
		return outside(0)
	}
	for i := range count {
		e := next
		if i+1 < count {
			if next, ok = at(i + 1); !ok {
				return outside(i + 1)
			}
		}
		bound := high
		if i+1 < count {
			bound = next.key
		}
		// What follows the first entry is above it, or the order is wrong.
		if i == 0 && bytes.Compare(e.key, low) < 0 || bound != nil && bytes.Compare(e.key, bound) >= 0 {
			return corrupt("page %d: entry %d is out of order", id, i)
		}
		if err := fn(e, bound); err != nil {
			return err
		}
	}
	return nil
}
