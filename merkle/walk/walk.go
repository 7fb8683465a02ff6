package walk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"bzzz/internal/errs"
	"bzzz/merkle"
)

// The sentinels of this package; match them with errors.Is.
var (
	// ErrInvalid: a message that breaks the format, or a call out of turn.
	ErrInvalid = errs.ErrInvalid
	// ErrTooLarge: the peer exceeds a bound.
	ErrTooLarge = errs.ErrTooLarge
	// ErrUnsupported: the peer's format is another.
	ErrUnsupported = errs.ErrUnsupported
	// ErrCorrupt: the own tree or leaves are damaged.
	ErrCorrupt = errs.ErrCorrupt
)

// MaxMessage is the longest message in bytes, the cap of a session's control
// frames.
const MaxMessage = 1 << 20

// DefaultCut is the length of a cut in bytes: 2^-32 for a pair compared.
const DefaultCut = 4

// DefaultSpread inlines children above an eighth of their region: the fewest
// messages that do not cost bytes (MERKLE.md section 5).
const DefaultSpread = 8

// NoInlining as Config.Spread sends no child with its parent.
const NoInlining = -1

// Config is what both sides of a walk agree on, but for Initiator and Spread.
type Config struct {
	Initiator bool     // calls Start
	Prefix    []byte   // only keys that begin with it; nil is all
	Salt      [16]byte // fresh for every walk, half from each side
	Cut       int      // bytes of a cut, 4 or 8; 0 is DefaultCut

	// Spread is W: a child of more than 1/W of its expansion's keys is inlined.
	// Less saves bytes on metered links, more saves messages on slow ones. 0 is
	// DefaultSpread.
	Spread int
}

// validate returns c with defaults, or what is wrong with it.
func (c Config) validate() (Config, error) {
	if c.Cut == 0 {
		c.Cut = DefaultCut
	}
	if c.Spread == 0 {
		c.Spread = DefaultSpread
	}
	switch {
	case c.Cut != 4 && c.Cut != 8:
		return c, fmt.Errorf("%w: a cut of %d bytes, want 4 or 8", ErrInvalid, c.Cut)
	case c.Spread < NoInlining:
		return c, fmt.Errorf("%w: spread %d", ErrInvalid, c.Spread)
	case len(c.Prefix) > merkle.MaxKey:
		return c, fmt.Errorf("%w: a prefix of %d bytes", ErrInvalid, len(c.Prefix))
	}
	return c, nil
}

// Bounds. Ours are kept by the window, the peer's are checked.
const (
	// softPending is the weight of entries and questions up to which a side
	// expands more than the newest entry.
	softPending = 24 << 10
	// maxPending is the weight that is never exceeded. Above softPending the
	// stacks grow by one path only: 4,094 nibbles of weight 8 at most.
	maxPending = 64 << 10
	// maxExpansions bounds the TILEs and LEAVES of one message.
	maxExpansions = 32 << 10
	// maxInlined bounds the TILEs inlined in one expansion.
	maxInlined = 32
	// maxExpansion bounds an expansion in bytes: 33 TILEs with the longest path.
	maxExpansion = (1 + maxInlined) * (1 + 2 + 3 + merkle.MaxKey + merkle.Fan*8 + 2)
	// maxHollow is how many expansions without a difference are taken for chance.
	maxHollow = 8
	// manyKeys is how many keys are at most read to compare them with LEAVES.
	manyKeys = 1024
	// readsPerKey and spareReads bound the keys and tiles read in a walk.
	readsPerKey, spareReads = 64, 1 << 20
)

// The first byte of a message.
const (
	msgOpen = 1 + iota
	msgSame
	msgStep
)

const format = 1

// Stats counts what a walk has moved so far.
type Stats struct {
	Sent, Received           int // messages
	BytesSent, BytesReceived int
	Expanded                 int // TILEs, LEAVES and SHORTs sent
	Wanted                   int // slots, leaves and regions the peer was told to offer
}

// Walk is one side of a walk. It serves one goroutine at a time, like the index
// it reads; the index's transaction must last until the last offer is taken.
// Memory: about 300 bytes and a path for each region that differs and is pending
// or asked, 24 Ki at a time and 64 Ki at worst, plus the offers that wait.
type Walk struct {
	index *merkle.Index
	cfg   Config
	top   merkle.Node
	phase phase
	err   error

	asked  []question // our expansions that the peer answers next, depth first
	mine   stack      // what we expand
	theirs stack      // what the peer expands
	pushes uint64     // number of entries ever pushed on either stack
	offers queue
	hollow int
	reads  uint64
	stats  Stats
	window int // softPending; less in tests
	length int // of a message that may take one more expansion; likewise

	branches []*merkle.Branch // scratch by depth of inlining
}

type phase int

const (
	fresh phase = iota
	opened
	stepping
	over
)

// New returns one side of a walk over x, which must be up to date with its
// leaves and not change. ErrInvalid for a bad configuration, ErrCorrupt for
// damage on the way to the prefix. O(log n).
func New(x *merkle.Index, c Config) (*Walk, error) {
	c, err := c.validate()
	if err != nil {
		return nil, err
	}
	top, err := x.Within(x.Top(), c.Prefix, 2*len(c.Prefix), nil)
	if err != nil {
		return nil, err
	}
	c.Prefix = bytes.Clone(c.Prefix)
	w := &Walk{index: x, cfg: c, top: top.Clone(), window: softPending, length: MaxMessage - maxExpansion}
	w.offers.index = x
	return w, nil
}

// Stats returns what the walk has moved so far.
func (w *Walk) Stats() Stats { return w.stats }

// Start returns the initiator's first message. ErrInvalid if this side is not
// the initiator or has started.
func (w *Walk) Start() ([]byte, error) {
	if !w.cfg.Initiator || w.phase != fresh {
		return nil, fmt.Errorf("%w: start out of turn", ErrInvalid)
	}
	w.phase = opened
	out := []byte{msgOpen, format, byte(w.cfg.Cut)}
	out = binary.AppendUvarint(out, uint64(len(w.cfg.Prefix)))
	out = append(out, w.cfg.Prefix...)
	tag := w.tag(w.top.Subtree)
	return w.sent(append(out, tag[:]...)), nil
}

// Receive takes the peer's next message and returns ours. done says that the
// walk is over: out, unless nil, is still to be sent, and the offers that wait
// are the last. The message is not kept. A message of 1 MiB takes some 0.1 s. It must not be called while more than
// MaxWaiting offers wait.
//
// ErrInvalid for a message that breaks the format and for a call out of turn,
// ErrTooLarge for a peer that exceeds a bound, ErrUnsupported for another format,
// ErrCorrupt for damage of our own. Every later call returns the same error, but
// for too many offers that wait, which changes nothing.
func (w *Walk) Receive(msg []byte) (out []byte, done bool, err error) {
	if w.err != nil {
		return nil, false, w.err
	}
	if w.offers.len() > MaxWaiting {
		return nil, false, fmt.Errorf("%w: %d offers wait", ErrInvalid, w.offers.len())
	}
	w.stats.Received++
	w.stats.BytesReceived += len(msg)
	from := w.offers.len()
	out, err = w.receive(msg)
	w.offers.sort(from)
	if err != nil {
		w.err = err
		return nil, false, err
	}
	if out != nil {
		w.sent(out)
	}
	return out, w.phase == over, nil
}

func (w *Walk) sent(out []byte) []byte {
	w.stats.Sent++
	w.stats.BytesSent += len(out)
	return out
}

func (w *Walk) receive(msg []byte) ([]byte, error) {
	if len(msg) > MaxMessage {
		return nil, fmt.Errorf("%w: a message of %d bytes", ErrTooLarge, len(msg))
	}
	r := &reader{rest: msg, cut: w.cfg.Cut}
	kind := r.byte()
	switch {
	case kind == msgOpen && w.phase == fresh && !w.cfg.Initiator:
		return w.open(r)
	case kind == msgSame && w.phase == opened && len(r.rest) == 0 && r.err == nil:
		w.phase = over
		return nil, nil
	case kind == msgStep && w.phase == opened:
		w.phase = stepping
		w.push(&w.theirs, entry{node: w.top, at: 2 * len(w.cfg.Prefix), form: anyForm})
		return w.step(r)
	case kind == msgStep && w.phase == stepping:
		return w.step(r)
	}
	return nil, fmt.Errorf("%w: message of %d bytes out of turn or of no kind", ErrInvalid, len(msg))
}

// open answers the initiator's first message.
func (w *Walk) open(r *reader) ([]byte, error) {
	f, cut := r.byte(), r.byte()
	prefix := r.bytes(r.uvarint(merkle.MaxKey))
	tag := r.bytes(16)
	switch {
	case r.err != nil:
		return nil, r.err
	case f != format:
		return nil, fmt.Errorf("%w: walk format %d", ErrUnsupported, f)
	case int(cut) != w.cfg.Cut || string(prefix) != string(w.cfg.Prefix) || len(r.rest) > 0:
		return nil, fmt.Errorf("%w: the peer's prefix or cut is another", ErrInvalid)
	}
	if [16]byte(tag) == w.tag(w.top.Subtree) {
		w.phase = over
		return []byte{msgSame}, nil
	}
	w.phase = stepping
	w.push(&w.mine, entry{node: w.top, at: 2 * len(w.cfg.Prefix), form: anyForm})
	return w.ask([]byte{msgStep})
}

// step settles the peer's answers, answers its expansions and adds ours.
func (w *Walk) step(r *reader) ([]byte, error) {
	answered := len(w.asked) > 0
	if err := w.settle(r); err != nil {
		return nil, err
	}
	if len(r.rest) == 0 && !answered && w.theirs.newest() > w.mine.newest() {
		return nil, fmt.Errorf("%w: a step that does nothing", ErrInvalid)
	}
	out, err := w.answer([]byte{msgStep}, r)
	if err != nil {
		return nil, err
	}
	return w.ask(out)
}

// ask appends expansions of our regions to a message: as many as fit in it and
// in the window. It ends the walk if nothing is left to do.
func (w *Walk) ask(out []byte) ([]byte, error) {
	answered := len(out) > 1
	asked := 0
	for !w.mine.empty() && len(out) <= w.length {
		pending := w.mine.weight + w.theirs.weight + asked
		forced := !answered && len(w.asked) == 0 && w.mine.newest() > w.theirs.newest()
		if pending >= w.window && !forced {
			break
		}
		e, err := w.pop(&w.mine)
		if err != nil {
			return nil, err
		}
		in := inlining{above: e.node.Count / uint64(max(w.cfg.Spread, 1))}
		if w.cfg.Spread != NoInlining && pending+maxInlined < w.window {
			in.room = maxInlined
		}
		from := len(w.asked)
		if out, err = w.expand(out, e, &in, 0); err != nil {
			return nil, err
		}
		for i := range w.asked[from:] {
			asked += weight(w.asked[from+i].node.Depth)
		}
	}
	if len(w.asked) == 0 && w.mine.empty() && w.theirs.empty() {
		w.phase = over
		if len(out) == 1 {
			return nil, nil
		}
	}
	return out, nil
}

// cut returns the salted hash of a digest that stands for it on the wire.
func (w *Walk) cut(d *merkle.Digest) uint64 {
	var b [48]byte
	copy(b[:], w.cfg.Salt[:])
	copy(b[16:], d[:])
	h := sha256.Sum256(b[:])
	if w.cfg.Cut == 4 {
		return uint64(binary.LittleEndian.Uint32(h[:]))
	}
	return binary.LittleEndian.Uint64(h[:])
}

// check returns a byte that tells most paths of a depth apart.
func (w *Walk) check(path []byte, depth int) byte {
	b := append(w.cfg.Salt[:], 1)
	b = append(b, path[:(depth+1)/2]...)
	if depth&1 != 0 {
		b[len(b)-1] &= 0xF0
	}
	h := sha256.Sum256(b)
	return h[0]
}

// tag returns what OPEN says about a subtree. The zero byte and the length keep
// it apart from cuts.
func (w *Walk) tag(s merkle.Subtree) [16]byte {
	b := append(w.cfg.Salt[:], 0)
	b = binary.AppendUvarint(b, s.Count)
	b = append(b, s.Digest[:]...)
	h := sha256.Sum256(b)
	return [16]byte(h[:16])
}

// read accounts for keys or tiles that are read.
func (w *Walk) read(n uint64) error {
	if w.reads += n; w.reads > readsPerKey*w.top.Count+spareReads {
		return fmt.Errorf("%w: the peer makes us read too much", ErrTooLarge)
	}
	return nil
}

// toBranch returns what is read to branch n: its tile, or its keys.
func toBranch(n merkle.Node) uint64 {
	if n.Count > merkle.GroupKeys {
		return 1
	}
	return n.Count
}

// branch fills scratch number i with what n holds at a depth.
func (w *Walk) branch(i int, n merkle.Node, depth int) (*merkle.Branch, error) {
	for len(w.branches) <= i {
		w.branches = append(w.branches, new(merkle.Branch))
	}
	b := w.branches[i]
	if err := w.read(toBranch(n)); err != nil {
		return nil, err
	}
	return b, w.index.Branch(n, depth, b)
}
