package session

import (
	"errors"
	"fmt"
	"slices"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// Protocol versions this build speaks.
const (
	MinProto = 1
	MaxProto = 1
)

// Flow control and batching, in bytes.
const (
	// window is how much batch payload may be under way to a receiver that has
	// not confirmed it: enough to hide a round trip of 40 ms at 100 MB/s.
	window = 4 << 20
	// batchBytes is where the sender cuts batches.
	batchBytes = 256 << 10
	// tailMemory is where a push ends, at the next border of a transaction.
	tailMemory = 1 << 20
)

// sizes are where pieces end. Tests make them small.
type sizes struct {
	// batch is how many bytes the sender gathers in a batch.
	batch int
	// apply is how much payload the receiver gathers before it applies, during
	// a reconcile: one durable commit each. A quarter of the window, so that
	// what is held back never keeps the sender from going on. applyMemory
	// bounds the same in memory, where compression was good.
	apply, applyMemory int64
	// records and memory are where a push ends, at the next border of a
	// transaction.
	records int
	memory  int64
	// push bounds the keys and values of a push, which is applied as a whole:
	// one transaction of the largest size on top of the others. pushMemory
	// bounds it with contexts and all: 200 bytes for each of a million versions,
	// and room. More is a fault of the peer; a reconcile brings the same in parts.
	push, pushMemory int64
	// cells bounds the sketch that is sent; 0 is all of it.
	cells int
}

func defaultSizes() sizes {
	return sizes{
		batch: batchBytes, apply: window / 4, applyMemory: 4 << 20,
		records: 4096, memory: tailMemory, push: crdt.MaxBatch + tailMemory, pushMemory: 256 << 20,
	}
}

// Config says how a session behaves.
type Config struct {
	Initiator  bool
	Namespaces []string      // of the initiator; nil = all, and those the peer has besides
	Scope      replica.Scope // of every namespace only this part; nil = all of it
	Live       bool          // go on pushing after the reconcile
	History    bool          // ask for retained history afterwards
	Salt       [8]byte       // random
	Zstd       *wire.Zstd
}

// Session is one end of an anti-entropy session. It serves one goroutine.
//
// Its driver calls Start once, then Receive for every frame that arrives and
// Pump whenever there is room to send, and writes what Output returns. After
// an error the session is over: Bye has the frame that tells the peer why.
type Session struct {
	cfg      Config
	sizes    sizes
	host     Host
	enc      *wire.Encoder
	dec      *wire.Decoder
	out      []byte
	spaces   []*space
	aside    []NamespaceReport // of namespaces of which both sides hold nothing in common
	proto    uint64
	welcomed bool  // initiator: WELCOME arrived; responder: HELLO did
	extra    bool  // responder: OPEN arrived
	credit   int64 // batch payload we may still send
	owed     int64 // batch payload applied and not yet credited
	err      error // why the session is over
	report   Report
	heard    bool // something arrived since we last sent: the next send is a turn
	own      [8]byte
	salts    uint64 // made of own
	after    extra  // what follows the reconcile
}

// New returns a session that has not started.
func New(cfg Config, host Host) *Session {
	return &Session{
		cfg: cfg, sizes: defaultSizes(), host: host, enc: wire.NewEncoder(cfg.Zstd), dec: wire.NewDecoder(cfg.Zstd),
		credit: window, report: Report{Frames: map[string]Traffic{}}, own: cfg.Salt,
		after: extra{absent: map[[32]byte]bool{}},
	}
}

// Start makes the initiator's HELLO. The responder waits.
func (s *Session) Start() error {
	if !s.cfg.Initiator {
		return nil
	}
	names := s.cfg.Namespaces
	if names == nil {
		var err error
		if names, err = s.host.Names(); err != nil {
			return err
		}
	}
	for _, name := range s.cfg.Namespaces {
		if err := s.host.Accept(name); err != nil { // may have to be made
			return err
		}
	}
	caps, err := s.caps()
	if err != nil {
		return err
	}
	hello := wire.Hello{MinProto: MinProto, MaxProto: MaxProto, Caps: caps, Salt: s.cfg.Salt}
	for _, name := range names {
		sp, err := s.addSpace(name)
		if err != nil {
			return err
		}
		if common, err := sp.choose(nil); err != nil {
			return err
		} else if !common {
			s.setAside()
			continue
		}
		digest, err := sp.helloDigest()
		if err != nil {
			return err
		}
		e := wire.Entry{Namespace: name, Prefixes: sp.scope, Digest: digest}
		if err := sp.propose(nil); err != nil {
			return err
		}
		if sp.base != nil {
			e.Met, e.Hint = true, [5]byte(sp.base.Digest[:5])
		}
		hello.Entries = append(hello.Entries, e)
	}
	s.send(wire.TypeHello, hello.Append(nil))
	return nil
}

// addSpace enters a namespace under the next index.
func (s *Session) addSpace(name string) (*space, error) {
	if slices.ContainsFunc(s.spaces, func(sp *space) bool { return sp.name == name }) {
		return nil, fmt.Errorf("namespace %q named twice: %w", name, errs.ErrInvalid)
	}
	sp := &space{s: s, name: name, index: uint64(len(s.spaces)), report: NamespaceReport{Name: name},
		asked: crdt.NewClock(), noted: crdt.NewClock(), sought: crdt.NewClock()}
	s.spaces = append(s.spaces, sp)
	return sp, nil
}

// send queues a frame.
func (s *Session) send(t wire.Type, payload []byte) {
	before := len(s.out)
	s.out = wire.AppendFrame(s.out, t, payload)
	s.report.count(t, true, len(s.out)-before)
	if t != wire.TypeCredit && t != wire.TypeCheck && t != wire.TypePing { // nothing waits for these
		s.heard = false
	}
}

// Output returns the bytes to be written next and forgets them. They are valid
// until the session is called again.
func (s *Session) Output() []byte {
	b := s.out
	s.out = s.out[len(s.out):]
	if cap(s.out) == 0 {
		s.out = nil
	}
	return b
}

// Receive takes in one frame. A nil error may leave output to be written. After
// an error it returns the same one for ever.
func (s *Session) Receive(f wire.Frame) error {
	if s.err != nil {
		return s.err
	}
	s.report.count(f.Type, false, f.Size())
	if !s.heard && f.Type != wire.TypeCredit && f.Type != wire.TypePing {
		s.heard = true
		s.report.Turns++
	}
	s.err = s.receive(f)
	return s.err
}

func (s *Session) receive(f wire.Frame) error {
	if f.Type.Optional() {
		return nil
	}
	if !s.welcomed && f.Type != wire.TypeHello && f.Type != wire.TypeWelcome && f.Type != wire.TypeBye {
		return fmt.Errorf("%s before the opening: %w", f.Type, errs.ErrInvalid)
	}
	switch f.Type {
	case wire.TypeHello:
		return s.onHello(f.Payload)
	case wire.TypeWelcome:
		return s.onWelcome(f.Payload)
	case wire.TypeOpen:
		return s.onOpen(f.Payload)
	case wire.TypeState:
		return s.onState(f.Payload)
	case wire.TypeBatch:
		return s.onBatch(f.Payload)
	case wire.TypeDone:
		return s.onDone(f.Payload)
	case wire.TypeCheck:
		return s.onCheck(f.Payload)
	case wire.TypeRepair:
		return s.onRepair(f.Payload)
	case wire.TypeCells:
		return s.onCells(f.Payload)
	case wire.TypeMore:
		return s.onMore(f.Payload)
	case wire.TypeWalk:
		return s.onWalk(f.Payload)
	case wire.TypeOffer:
		return s.onOffer(f.Payload)
	case wire.TypeFix:
		return s.onFix(f.Payload)
	case wire.TypeWant:
		return s.onWant(f.Payload)
	case wire.TypeBlock:
		return s.onBlock(f.Payload)
	case wire.TypePast:
		return s.onPast(f.Payload)
	case wire.TypeHistory:
		return s.onHistory(f.Payload)
	case wire.TypePastAt:
		return s.onPastAt(f.Payload)
	case wire.TypeCredit:
		return s.onCredit(f.Payload)
	case wire.TypeBye:
		m, err := wire.DecodeBye(f.Payload)
		if err != nil {
			return err
		}
		return &PeerError{Kind: m.Kind, Message: m.Message}
	}
	return fmt.Errorf("frame of type %s: %w", f.Type, errs.ErrUnsupported)
}

func (s *Session) onCredit(payload []byte) error {
	m, err := wire.DecodeCredit(payload)
	if err != nil {
		return err
	}
	if m.Bytes > uint64(window-s.credit) {
		return fmt.Errorf("CREDIT of %d bytes, %d were sent: %w", m.Bytes, window-s.credit, errs.ErrInvalid)
	}
	s.credit += int64(m.Bytes)
	return nil
}

// PeerError is the peer's reason for ending the session.
type PeerError struct {
	Kind    errs.Kind
	Message string
}

// Error quotes the peer.
func (e *PeerError) Error() string { return "peer ended the session: " + e.Message }

// Unwrap returns the sentinel of the peer's error kind.
func (e *PeerError) Unwrap() error {
	if err := errs.Sentinel(e.Kind); err != nil {
		return err
	}
	return errs.ErrUnavailable
}

// Bye returns the frame that tells the peer why the session failed, nil if it
// did not, or if the reason came from the peer.
func (s *Session) Bye() []byte {
	var peer *PeerError
	if s.err == nil || errors.As(s.err, &peer) {
		return nil
	}
	m := wire.Bye{Kind: errs.KindOf(s.err), Message: s.err.Error()}
	return wire.AppendFrame(nil, wire.TypeBye, m.Append(nil))
}

// onHello opens the responder's side.
func (s *Session) onHello(payload []byte) error {
	if s.cfg.Initiator || s.welcomed {
		return fmt.Errorf("HELLO out of turn: %w", errs.ErrInvalid)
	}
	m, err := wire.DecodeHello(payload)
	if err != nil {
		return err
	}
	if m.MinProto > MaxProto || m.MaxProto < MinProto {
		return fmt.Errorf("peer speaks protocol %d to %d, this node %d to %d: %w",
			m.MinProto, m.MaxProto, MinProto, MaxProto, errs.ErrUnsupported)
	}
	s.welcomed = true
	s.cfg.Salt = m.Salt
	s.setPeer(m.Caps)
	caps, err := s.caps()
	if err != nil {
		return err
	}
	w := wire.Welcome{Proto: min(m.MaxProto, MaxProto), Caps: caps}
	s.proto = w.Proto
	var open []*space
	for _, e := range m.Entries {
		sp, err := s.addSpace(e.Namespace)
		if err != nil {
			return err
		}
		v, err := sp.judge(e)
		if err != nil {
			return err
		}
		w.Verdicts = append(w.Verdicts, v)
		if sp.phase == awaitState {
			open = append(open, sp)
		}
	}
	names, err := s.host.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(m.Entries, func(e wire.Entry) bool { return e.Namespace == name }) {
			if err := s.offer(&w, name); err != nil {
				return err
			}
		}
	}
	s.send(wire.TypeWelcome, w.Append(nil))
	for _, sp := range open {
		if err := sp.sendState(); err != nil {
			return err
		}
	}
	return nil
}

// onWelcome gives the initiator the verdicts.
func (s *Session) onWelcome(payload []byte) error {
	if !s.cfg.Initiator || s.welcomed {
		return fmt.Errorf("WELCOME out of turn: %w", errs.ErrInvalid)
	}
	m, err := wire.DecodeWelcome(payload)
	if err != nil {
		return err
	}
	if m.Proto < MinProto || m.Proto > MaxProto {
		return fmt.Errorf("peer chose protocol %d, offered %d to %d: %w", m.Proto, MinProto, MaxProto, errs.ErrUnsupported)
	}
	if len(m.Verdicts) != len(s.spaces) {
		return fmt.Errorf("WELCOME with %d verdicts on %d namespaces: %w", len(m.Verdicts), len(s.spaces), errs.ErrInvalid)
	}
	s.welcomed, s.proto = true, m.Proto
	s.setPeer(m.Caps)
	for i, v := range m.Verdicts {
		if err := s.spaces[i].verdict(v); err != nil {
			return err
		}
	}
	if s.cfg.Namespaces != nil {
		return nil // the peer's others were not asked for
	}
	var open wire.Open
	for _, part := range offered(m) {
		name := part.Namespace
		if s.host.Accept(name) != nil {
			continue // not ours to take
		}
		sp, err := s.addSpace(name)
		if err != nil {
			return err
		}
		if common, err := sp.choose(part.Prefixes); err != nil {
			return err
		} else if !common {
			s.setAside()
			continue
		}
		sp.phase = awaitState
		digest, err := sp.helloDigest()
		if err != nil {
			return err
		}
		open.Entries = append(open.Entries, wire.Entry{Namespace: name, Prefixes: sp.scope, Digest: digest})
	}
	if len(open.Entries) > 0 {
		s.send(wire.TypeOpen, open.Append(nil))
	}
	return nil
}

// onOpen adds namespaces that the responder had offered.
func (s *Session) onOpen(payload []byte) error {
	if s.cfg.Initiator || s.extra {
		return fmt.Errorf("OPEN out of turn: %w", errs.ErrInvalid)
	}
	s.extra = true
	m, err := wire.DecodeOpen(payload)
	if err != nil {
		return err
	}
	for _, e := range m.Entries {
		sp, err := s.addSpace(e.Namespace)
		if err != nil {
			return err
		}
		if err := s.host.Accept(e.Namespace); err != nil {
			return err // we offered it ourselves
		}
		if whole, err := sp.limit(e.Prefixes); err != nil {
			return err
		} else if !whole {
			return fmt.Errorf("OPEN of more of %q than was offered: %w", sp.name, errs.ErrInvalid)
		}
		sp.phase = awaitState
		if err := sp.sendState(); err != nil {
			return err
		}
	}
	return nil
}

// space returns the namespace with that index.
func (s *Session) space(index uint64) (*space, error) {
	if index >= uint64(len(s.spaces)) {
		return nil, fmt.Errorf("namespace index %d of %d: %w", index, len(s.spaces), errs.ErrInvalid)
	}
	return s.spaces[index], nil
}

// Pump makes the next piece of output, at most about one batch, as far as
// credit allows. more says that calling again may make more at once. After an
// error it returns the same one for ever.
func (s *Session) Pump() (more bool, err error) {
	if s.err == nil {
		more, s.err = s.pump()
	}
	return more && s.err == nil, s.err
}

func (s *Session) pump() (more bool, err error) {
	if s.owed >= window/2 {
		s.send(wire.TypeCredit, wire.Credit{Bytes: uint64(s.owed)}.Append(nil))
		s.owed = 0
	}
	for _, sp := range s.spaces {
		if did, err := sp.pump(); did || err != nil {
			return did, err
		}
	}
	return s.pumpExtra()
}

// Ping queues a frame that means nothing but that this side is alive.
func (s *Session) Ping() { s.send(wire.TypePing, nil) }

// Reconciled reports whether every namespace has been brought together (or
// refused) and the peer's statement of its state has arrived.
func (s *Session) Reconciled() bool {
	if !s.welcomed {
		return false
	}
	for _, sp := range s.spaces {
		if sp.phase != live && sp.phase != refused {
			return false
		}
		if !sp.checked {
			return false
		}
	}
	return true
}

// Close releases what the session holds. It may be called at any time.
func (s *Session) Close() {
	for _, sp := range s.spaces {
		sp.stop()
		sp.stopPast()
	}
}
