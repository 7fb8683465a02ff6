package car

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/index"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

// Source is what a file is written from.
type Source struct {
	Namespace string
	Prefix    []byte     // of the stored keys; empty for all
	Clock     crdt.Clock // what the source knows, live and dead
	// Versions yields the live versions whose keys begin with Prefix, by key and
	// then by digest. It is walked twice and must be the same both times.
	Versions iter.Seq2[*crdt.Version, error]
}

// Summary is what a file holds.
type Summary struct {
	Manifest
	CID   cid.Cid // of the manifest
	Blobs int     // versions that link to a blob, which is not in the file
	Bytes uint64  // of the whole file
}

// WriteV1 writes a CARv1. O(versions / 1,000) memory, and the records of 1,000
// versions.
func WriteV1(w io.Writer, src Source) (Summary, error) { return writeV1(w, src, fanout) }

func writeV1(w io.Writer, src Source, fan shape) (Summary, error) {
	p, err := measure(src, fan)
	if err != nil {
		return Summary{}, err
	}
	out := &sections{w: bufio.NewWriter(w)}
	if err := p.write(out, src); err != nil {
		return Summary{}, err
	}
	p.sum.Bytes = out.at
	return p.sum, out.w.Flush()
}

// WriteV2 writes a CARv2 with an index, in which tools find one block without
// reading the others. It needs no seeking: the size is known beforehand. About
// 300 bytes of memory a version, for the index.
func WriteV2(w io.Writer, src Source) (Summary, error) {
	p, err := measure(src, fanout)
	if err != nil {
		return Summary{}, err
	}
	buf := bufio.NewWriter(w)
	if _, err := buf.Write(carv2.Pragma); err != nil {
		return Summary{}, err
	}
	header := carv2.NewHeader(p.size)
	if _, err := header.WriteTo(buf); err != nil {
		return Summary{}, err
	}
	out := &sections{w: buf, index: []index.Record{}}
	if err := p.write(out, src); err != nil {
		return Summary{}, err
	}
	idx := index.NewMultihashSorted()
	if err := idx.Load(out.index); err != nil {
		return Summary{}, fmt.Errorf("index: %w", err)
	}
	n, err := index.WriteTo(idx, buf)
	if err != nil {
		return Summary{}, err
	}
	p.sum.Bytes = header.IndexOffset + n
	return p.sum, buf.Flush()
}

// plan is what has to be known of all blocks before the first is written.
type plan struct {
	fan    shape
	levels [][]digest // of the lists, by level
	block  []byte     // the manifest's
	root   digest     // its digest
	size   uint64     // of the CARv1
	sum    Summary
}

// measure walks the source once.
func measure(src Source, fan shape) (*plan, error) {
	p := &plan{fan: fan}
	f := folder{prefix: src.Prefix, clock: src.Clock}
	var page []digest
	var buf []byte
	for v, err := range src.Versions {
		if err != nil {
			return nil, err
		}
		if f.versions == MaxVersions {
			return nil, fmt.Errorf("more than %d versions: %w", uint64(MaxVersions), errs.ErrTooLarge)
		}
		buf = v.AppendCanonical(buf[:0])
		d := sha256.Sum256(buf)
		if err := f.add(v, d); err != nil {
			return nil, err
		}
		p.size += sectionSize(len(buf))
		if page = append(page, d); len(page) == int(fan) {
			if err := p.list(0, page); err != nil {
				return nil, err
			}
			page = page[:0]
		}
	}
	if len(page) > 0 {
		if err := p.list(0, page); err != nil {
			return nil, err
		}
	}
	return p, p.finish(src, &f)
}

// list adds a list to a level.
func (p *plan) list(level int, links []digest) error {
	b, err := encodeList(level, links)
	if err != nil {
		return err
	}
	if level == len(p.levels) {
		p.levels = append(p.levels, nil)
	}
	p.levels[level] = append(p.levels[level], sha256.Sum256(b))
	p.size += sectionSize(len(b))
	return nil
}

// finish adds the lists of lists and the manifest.
func (p *plan) finish(src Source, f *folder) error {
	m := f.manifest(src.Namespace)
	for level := 0; level < p.fan.topLevel(m.Versions); level++ {
		for lists := p.levels[level]; len(lists) > 0; {
			n := min(len(lists), int(p.fan))
			if err := p.list(level+1, lists[:n]); err != nil {
				return err
			}
			lists = lists[n:]
		}
	}
	if n := len(p.levels); n > 0 {
		top := link(p.levels[n-1][0])
		m.entries = &top
	}
	var err error
	if p.block, err = m.encode(); err != nil {
		return err
	}
	p.root = sha256.Sum256(p.block)
	p.size += uint64(len(appendHeader(nil, p.root))) + sectionSize(len(p.block))
	p.sum = Summary{Manifest: m, CID: cidOf(p.root), Blobs: f.blobs}
	return nil
}

// write walks the source again and writes the CARv1.
func (p *plan) write(out *sections, src Source) error {
	out.raw(appendHeader(nil, p.root))
	out.put(p.root, p.block)
	page := page{plan: p, out: out}
	for v, err := range src.Versions {
		if err != nil {
			return err
		}
		if err := page.add(v); err != nil {
			return err
		}
	}
	if err := page.flush(); err != nil {
		return err
	}
	if out.err == nil && out.at != p.size {
		return changed()
	}
	return out.err
}

// changed is the error of a source that is not the same twice.
func changed() error {
	return fmt.Errorf("the versions changed while they were written: %w", errs.ErrConflict)
}

// page is the versions of one list, which is written before them.
type page struct {
	plan    *plan
	out     *sections
	number  int // of the list, from 0
	digests []digest
	ends    []int // of the records in bytes
	bytes   []byte
}

func (p *page) add(v *crdt.Version) error {
	start := len(p.bytes)
	p.bytes = v.AppendCanonical(p.bytes)
	p.digests = append(p.digests, sha256.Sum256(p.bytes[start:]))
	p.ends = append(p.ends, len(p.bytes))
	if len(p.digests) < int(p.plan.fan) {
		return nil
	}
	return p.flush()
}

// flush writes the lists that begin here, from the top, and the versions.
func (p *page) flush() error {
	if len(p.digests) == 0 {
		return p.out.err
	}
	fan := int(p.plan.fan)
	for level := len(p.plan.levels) - 1; level > 0; level-- {
		if span := int(p.plan.fan.below(level)); p.number%span == 0 {
			lists := p.plan.levels[level-1][p.number/span*fan:]
			if err := p.list(level, p.number/span, lists[:min(len(lists), fan)]); err != nil {
				return err
			}
		}
	}
	if err := p.list(0, p.number, p.digests); err != nil {
		return err
	}
	start := 0
	for i, end := range p.ends {
		p.out.put(p.digests[i], p.bytes[start:end])
		start = end
	}
	p.number++
	p.digests, p.ends, p.bytes = p.digests[:0], p.ends[:0], p.bytes[:0]
	return p.out.err
}

// list writes a list, which must be the one that was planned.
func (p *page) list(level, number int, links []digest) error {
	b, err := encodeList(level, links)
	if err != nil {
		return err
	}
	d := digest(sha256.Sum256(b))
	if level >= len(p.plan.levels) || number >= len(p.plan.levels[level]) || p.plan.levels[level][number] != d {
		return changed()
	}
	p.out.put(d, b)
	return nil
}

// sections writes the parts of a CARv1. The first error stays.
type sections struct {
	w     *bufio.Writer
	at    uint64
	index []index.Record // nil if none is wanted
	err   error
	buf   []byte
}

// put writes a block: uvarint length of what follows, CID, bytes.
func (s *sections) put(d digest, block []byte) {
	if s.index != nil {
		s.index = append(s.index, index.Record{Cid: cidOf(d), Offset: s.at})
	}
	s.buf = appendCID(binary.AppendUvarint(s.buf[:0], uint64(cidLen+len(block))), d)
	s.raw(s.buf)
	s.raw(block)
}

func (s *sections) raw(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
		s.at += uint64(len(b))
	}
}

// sectionSize returns how many bytes put writes for a block.
func sectionSize(block int) uint64 {
	n := uint64(cidLen + block)
	return uint64(len(binary.AppendUvarint(nil, n))) + n
}

// appendHeader appends the header of a CARv1 with one root: uvarint length,
// then in DAG-CBOR {"roots": [link], "version": 1}.
func appendHeader(b []byte, root digest) []byte {
	var h []byte
	h = append(h, 0xa2, 0x65)
	h = append(h, "roots"...)
	h = append(h, 0x81)
	h = append(append(h, linkHead[:]...), root[:]...)
	h = append(h, 0x67)
	h = append(h, "version"...)
	h = append(h, 0x01)
	return append(binary.AppendUvarint(b, uint64(len(h))), h...)
}
