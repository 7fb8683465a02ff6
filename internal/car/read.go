package car

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"

	"bzzz/crdt"
	"bzzz/internal/errs"
)

const (
	// maxHeader bounds the header of a CARv1 in bytes: that of a file with one
	// root takes 59, one with a few more is still told apart from no CAR.
	maxHeader = 4 << 10
	// maxBlock bounds a block in bytes: a version at all its caps, with a context
	// of 65,536 entries of at most 28 bytes each.
	maxBlock = 2 << 20
	// stride is how many versions are read between looks at the context.
	stride = 1024
)

// File is a CAR file all of whose blocks have been verified.
type File struct {
	Summary
	Version int // of CAR: 1 or 2

	r        io.ReaderAt
	replicas []crdt.ReplicaID
	places   []place
}

// place says where a version's record is.
type place struct {
	at      int64
	seq     uint64
	check   uint64 // the first 8 bytes of the record's digest
	replica uint32
	size    uint32
}

// Open reads and verifies a whole file of size bytes: that each block has its
// CID and is the next one of the walk from the only root, that nothing is
// missing or left over, that every version is valid, in order and below the
// manifest's prefix, and that they come to the manifest's numbers, its Merkle
// root and its seal. The index of a CARv2 is not looked at. ErrInvalid: no CAR,
// or one of something else; ErrCorrupt: a damaged one; ErrUnsupported: a later
// format. One pass; 32 bytes of memory a version. r must not change while the
// File is in use.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*File, error) {
	return openShaped(ctx, r, size, fanout)
}

func openShaped(ctx context.Context, r io.ReaderAt, size int64, fan shape) (*File, error) {
	f := &File{r: r}
	w, err := f.begin(size)
	if err != nil {
		return nil, err
	}
	w.ctx, w.fan = ctx, fan
	if err := w.run(f); err != nil {
		return nil, err
	}
	return f, nil
}

// begin reads the headers.
func (f *File) begin(size int64) (*walk, error) {
	opts := []carv2.Option{carv2.MaxAllowedHeaderSize(maxHeader), carv2.MaxAllowedSectionSize(maxBlock)}
	// A section of the input, so that nobody reads what lies behind size.
	in, err := carv2.NewReader(io.NewSectionReader(f.r, 0, size), opts...)
	if err != nil {
		return nil, noCAR(err)
	}
	roots, err := in.Roots()
	if err != nil {
		return nil, noCAR(err)
	}
	if len(roots) != 1 {
		return nil, fmt.Errorf("CAR with %d roots, want 1: %w", len(roots), errs.ErrInvalid)
	}
	root, ok := parseCID(roots[0].Bytes())
	if !ok {
		return nil, fmt.Errorf("CAR with the root %s, want one in DAG-CBOR by SHA-256: %w", roots[0], errs.ErrInvalid)
	}
	start, end := int64(0), size
	if f.Version = int(in.Version); f.Version == 2 {
		h := in.Header
		if h.DataSize > uint64(size) || h.DataOffset > uint64(size)-h.DataSize {
			return nil, fmt.Errorf("CAR ends before its end: %w", errs.ErrCorrupt)
		}
		start, end = int64(h.DataOffset), int64(h.DataOffset+h.DataSize)
	}
	f.CID, f.Bytes = cidOf(root), uint64(size)
	return newWalk(f.r, start, end, root)
}

func noCAR(err error) error { return fmt.Errorf("not a CAR: %w: %v", errs.ErrInvalid, err) }

// walk reads the blocks of a CARv1 in the order in which they must come.
type walk struct {
	ctx  context.Context
	fan  shape
	in   *bufio.Reader
	at   int64 // of the next byte
	end  int64
	root digest

	buf  []byte
	fold folder
	ids  map[crdt.ReplicaID]uint32
}

// newWalk returns a walk that stands behind the header, which must be the one
// that is written for this root: so its version is 1.
func newWalk(r io.ReaderAt, start, end int64, root digest) (*walk, error) {
	w := &walk{in: bufio.NewReaderSize(io.NewSectionReader(r, start, end-start), 64<<10), at: start, end: end, root: root}
	want := appendHeader(nil, root)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(w.in, got); err != nil {
		return nil, cutOff(err)
	}
	if !bytes.Equal(got, want) {
		return nil, noCAR(errors.New("an odd header"))
	}
	w.at += int64(len(want))
	return w, nil
}

// cutOff makes an early end damage.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("CAR ends before its end: %w", errs.ErrCorrupt)
	}
	return err
}

// run walks the whole file and fills f.
func (w *walk) run(f *File) error {
	block, err := w.next(w.root)
	if err != nil {
		return err
	}
	m, err := decodeManifest(block)
	if err != nil {
		return err
	}
	w.fold = folder{prefix: m.Prefix, clock: m.Clock}
	w.ids = map[crdt.ReplicaID]uint32{}
	if m.entries != nil {
		if err := w.list(f, digest(*m.entries), w.fan.topLevel(m.Versions), m.Versions); err != nil {
			return err
		}
	}
	if w.at != w.end {
		return fmt.Errorf("%d bytes behind the last block that the root leads to: %w", w.end-w.at, errs.ErrCorrupt)
	}
	got := w.fold.manifest(m.Namespace)
	switch {
	case got.Keys != m.Keys:
		return &errs.Corruption{What: "the CAR's number of keys", Want: fmt.Sprint(m.Keys), Got: fmt.Sprint(got.Keys), Hint: hint}
	case got.Root != m.Root:
		return &errs.Corruption{What: "the CAR's Merkle root", Want: fmt.Sprintf("%x", m.Root), Got: fmt.Sprintf("%x", got.Root), Hint: hint}
	case got.Seal != m.Seal:
		return &errs.Corruption{What: "the CAR's seal", Want: fmt.Sprintf("%x", m.Seal), Got: fmt.Sprintf("%x", got.Seal), Hint: hint}
	}
	f.Manifest, f.Blobs = *m, w.fold.blobs
	return nil
}

// hint is what to do with a damaged file.
const hint = "have it written again"

// list reads a list of that level over n versions and what it links to.
func (w *walk) list(f *File, want digest, level int, n uint64) error {
	block, err := w.next(want)
	if err != nil {
		return err
	}
	span := w.fan.below(level)
	links, err := decodeList(block, level, int((n+span-1)/span))
	if err != nil {
		return err
	}
	for _, d := range links {
		if level == 0 {
			err = w.version(f, d)
		} else {
			err = w.list(f, d, level-1, min(n, span))
			n -= min(n, span)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// version reads one version and notes where it is.
func (w *walk) version(f *File, want digest) error {
	if w.fold.versions%stride == 0 && w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	block, err := w.next(want)
	if err != nil {
		return err
	}
	v, err := crdt.DecodeCanonical(block)
	if err != nil {
		return err
	}
	if err := w.fold.add(v, want); err != nil {
		return err
	}
	id, known := w.ids[v.Dot.Replica]
	if !known {
		id = uint32(len(f.replicas))
		w.ids[v.Dot.Replica] = id
		f.replicas = append(f.replicas, v.Dot.Replica)
	}
	f.places = append(f.places, place{
		at: w.at - int64(len(block)), seq: v.Dot.Seq, check: binary.BigEndian.Uint64(want[:]),
		replica: id, size: uint32(len(block)),
	})
	return nil
}

// next reads the next block, which must be this one. Its bytes hold until the
// next call.
func (w *walk) next(want digest) ([]byte, error) {
	start := w.at
	n, err := binary.ReadUvarint(counted{w})
	switch {
	case err != nil && w.at == w.end:
		return nil, fmt.Errorf("block %s is missing: %w", cidOf(want), errs.ErrCorrupt)
	case err != nil:
		return nil, fmt.Errorf("byte %d: malformed length: %w", start, errs.ErrCorrupt)
	case w.at-start > 1 && n < 1<<(7*(w.at-start-1)):
		return nil, fmt.Errorf("byte %d: length not in its shortest form: %w", start, errs.ErrCorrupt)
	case n < cidLen || n > cidLen+maxBlock:
		return nil, fmt.Errorf("byte %d: block of %d bytes: %w", start, n, errs.ErrCorrupt)
	case n > uint64(w.end-w.at):
		return nil, cutOff(io.ErrUnexpectedEOF)
	}
	w.buf = slices.Grow(w.buf[:0], int(n))[:n]
	if _, err := io.ReadFull(w.in, w.buf); err != nil {
		return nil, cutOff(err)
	}
	w.at += int64(n)
	d, ok := parseCID(w.buf[:cidLen])
	if !ok || d != want {
		return nil, fmt.Errorf("byte %d: block %s where %s has its place: %w", start, nameOf(w.buf[:cidLen]), cidOf(want), errs.ErrCorrupt)
	}
	block := w.buf[cidLen:]
	if got := digest(sha256.Sum256(block)); got != want {
		return nil, &errs.Corruption{What: fmt.Sprintf("block at byte %d", start), Want: cidOf(want).String(), Got: cidOf(got).String(), Hint: hint}
	}
	return block, nil
}

// nameOf shows the CID that a block begins with.
func nameOf(b []byte) string {
	if _, c, err := cid.CidFromBytes(b); err == nil {
		return c.String()
	}
	return "without a CID"
}

// counted reads bytes and moves the walk on.
type counted struct{ w *walk }

func (c counted) ReadByte() (byte, error) {
	b, err := c.w.in.ReadByte()
	if err == nil {
		c.w.at++
	}
	return b, err
}

// ByDot yields the versions by rising dot, so that the clock of who takes
// them in grows at its end and not in as many pieces as there are versions.
// Each is read again and must be what Open saw. Slices are the caller's.
func (f *File) ByDot() iter.Seq2[*crdt.Version, error] {
	return func(yield func(*crdt.Version, error) bool) {
		slices.SortFunc(f.places, func(a, b place) int { return f.dot(a).Compare(f.dot(b)) })
		for _, p := range f.places {
			v, err := f.read(p)
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func (f *File) dot(p place) crdt.Dot { return crdt.Dot{Replica: f.replicas[p.replica], Seq: p.seq} }

// read reads one version again.
func (f *File) read(p place) (*crdt.Version, error) {
	b := make([]byte, p.size)
	if _, err := f.r.ReadAt(b, p.at); err != nil {
		return nil, fmt.Errorf("version %s: %w", f.dot(p), cutOff(err))
	}
	if d := sha256.Sum256(b); binary.BigEndian.Uint64(d[:]) != p.check {
		return nil, fmt.Errorf("version %s: the file changed since it was verified: %w", f.dot(p), errs.ErrCorrupt)
	}
	return crdt.DecodeCanonical(b)
}
