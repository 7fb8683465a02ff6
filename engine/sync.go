package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/crdt"
	"bzzz/engine/session"
	"bzzz/engine/session/wire"
)

// SyncOptions says what to sync. The zero value syncs every namespace of both
// sides once.
type SyncOptions struct {
	// Namespaces to sync; nil = all of both sides, making those that are not
	// here yet.
	Namespaces []string
	// Scope limits the sync to the names that begin with one of these prefixes:
	// at most MaxScope, none of them the beginning of another; nil = everything.
	// The namespaces' own records go along. Both sides then hold the same in this
	// part, which the report's root proves; their clocks say nothing about it. Both
	// sides may limit a sync: it is about what they have in common.
	Scope [][]byte
	// Live keeps the session open after the reconcile: both sides push what
	// they commit, until ctx ends or the stream breaks.
	Live bool
	// Peer is what the caller calls the other side, to tell it from others: where
	// both have agreed before, only what came since is compared.
	Peer string
	// History asks the peer for its retained old versions, besides what is live:
	// each once, from where the last such sync with it ended.
	History bool
	// ConfirmDrop lets this sync drop what the peer knows to be deleted however
	// much it is (KERNEL K7): an operator has said that it is right.
	ConfirmDrop bool
	// OnReconciled, if not nil, is called once when the reconcile is done, from
	// the session's goroutine.
	OnReconciled func(SyncReport)
}

// NamespaceSync is what a sync did for one namespace.
type NamespaceSync struct {
	Name         string         `json:"name"`
	Peer         crdt.ReplicaID `json:"-"`
	Tier         string         `json:"tier"`     // the last that was needed: "equal" (nothing to do), "clocks", "sketch" or "tree"; "none" if the two hold no part in common
	Sent         int            `json:"sent"`     // versions
	Received     int            `json:"received"` // versions
	New          int            `json:"new"`      // of them, not known before
	Conflicts    int            `json:"conflicts"`
	Repaired     int            `json:"repaired"`
	Adopted      int            `json:"adopted"`        // dots known to be dead since
	Dropped      int            `json:"dropped"`        // live versions that the peer knew to be dead
	Late         int            `json:"late"`           // versions out of gaps of retired replicas: see RetireReplica
	Lost         int            `json:"lost"`           // versions of ours that are damaged
	Missing      int            `json:"missing"`        // versions that had vanished here without a word, and are back
	Rounds       int            `json:"rounds"`         // comparisons by sketch or tree
	Diverged     int            `json:"diverged"`       // versions that these found on one side only
	PastSent     int            `json:"past_sent"`      // retained old versions sent
	PastReceived int            `json:"past_received"`  // and taken in
	Held         *session.Held  `json:"held,omitempty"` // removals that the brake holds back
	InSync       bool           `json:"in_sync"`        // equal clocks and roots, proven; of a Scope equal roots
	Root         [32]byte       `json:"-"`              // of a Scope the hash of its prefixes' roots
	Err          error          `json:"-"`
}

// SyncReport is what a sync did.
type SyncReport struct {
	Namespaces     []NamespaceSync            `json:"namespaces"`
	BytesSent      int64                      `json:"bytes_sent"`
	BytesReceived  int64                      `json:"bytes_received"`
	RoundTrips     int                        `json:"round_trips"`
	Duration       time.Duration              `json:"duration_ns"`
	BlocksSent     int                        `json:"blocks_sent"` // of large values
	BlocksReceived int                        `json:"blocks_received"`
	Lacking        int                        `json:"lacking"` // large values that are not wholly here
	InSync         bool                       `json:"in_sync"` // all namespaces are, and nothing is lacking
	Frames         map[string]session.Traffic `json:"frames"`
}

// MarshalJSON writes a namespace's error, peer and root as text.
func (n NamespaceSync) MarshalJSON() ([]byte, error) {
	type plain NamespaceSync
	out := struct {
		plain
		Peer  string `json:"peer,omitempty"`
		Root  string `json:"root"`
		Error string `json:"error,omitempty"`
	}{plain: plain(n), Root: fmt.Sprintf("%x", n.Root)}
	if !n.Peer.IsZero() {
		out.Peer = n.Peer.String()
	}
	if n.Err != nil {
		out.Error = n.Err.Error()
	}
	return json.Marshal(out)
}

func newSyncReport(r session.Report, took time.Duration) SyncReport {
	out := SyncReport{
		BytesSent: r.BytesOut, BytesReceived: r.BytesIn, RoundTrips: r.Turns, Duration: took, Frames: r.Frames,
		BlocksSent: r.BlocksOut, BlocksReceived: r.BlocksIn,
		InSync: len(r.Namespaces) > 0,
	}
	for _, n := range r.Namespaces {
		out.Namespaces = append(out.Namespaces, NamespaceSync{
			Name: n.Name, Peer: n.Peer, Tier: n.Tier, Sent: n.Sent, Received: n.Received,
			New: n.Applied.New, Conflicts: n.Applied.Conflicts, Repaired: n.Applied.Repaired,
			Adopted: n.Applied.Adopted, Dropped: n.Applied.Dropped, Late: n.Applied.Late, Missing: n.Missing, Rounds: n.Rounds, Diverged: n.Diverged, Held: n.Held, PastSent: n.PastSent, PastReceived: n.PastReceived, Lost: n.Lost, InSync: n.InSync, Root: n.Root, Err: n.Err,
		})
		out.InSync = out.InSync && n.InSync
	}
	return out
}

// Sync reconciles with the peer at the other end of a stream, which answers
// with ServeSync. It blocks until both hold the same (or, with Live, until ctx
// ends or the stream breaks) and closes the stream. Versions are durable here
// before the peer is told so. A cut at any moment loses nothing: what arrived
// stays, the rest comes with the next sync. The report is valid with an error
// too. Memory is bounded whatever the amount.
func (db *DB) Sync(ctx context.Context, stream io.ReadWriteCloser, opts SyncOptions) (SyncReport, error) {
	return db.runSession(ctx, stream, opts, true)
}

// ServeSync answers a peer that called Sync on the other end of the stream. It
// blocks until the peer is done, ctx ends or the stream breaks, and closes the
// stream.
func (db *DB) ServeSync(ctx context.Context, stream io.ReadWriteCloser, opts SyncOptions) (SyncReport, error) {
	return db.runSession(ctx, stream, opts, false)
}

func (db *DB) runSession(ctx context.Context, stream io.ReadWriteCloser, opts SyncOptions, initiator bool) (SyncReport, error) {
	started := time.Now()
	if err := db.usable(ctx); err != nil {
		stream.Close()
		return SyncReport{}, err
	}
	scope, err := newScope(opts.Scope)
	if err != nil {
		stream.Close()
		return SyncReport{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &host{db: db, ctx: ctx, opts: opts}
	s := session.New(session.Config{
		Initiator: initiator, Namespaces: opts.Namespaces, Scope: scope, Live: opts.Live, History: opts.History, Salt: random[[8]byte](), Zstd: wire.NewZstd(),
	}, h)
	d := &driver{
		db: db, s: s, stream: stream, opts: opts, initiator: initiator, inbox: newInbox(), started: started,
		ended: make(chan struct{}),
	}
	d.lastRead.Store(started.UnixNano())
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	var helpers sync.WaitGroup
	helpers.Go(d.read)
	helpers.Go(func() { d.watch(ctx, cancel) })
	err = d.run(ctx)
	took := time.Since(started) // what follows is a good-bye
	s.Close()                   // its snapshot is not to be held while the peer takes its time
	cause := context.Cause(ctx)
	d.finish(ctx)
	cancel(nil)
	d.inbox.close()
	helpers.Wait()
	if err != nil && cause != nil {
		err = cause
	}
	out := newSyncReport(s.Report(), took)
	h.ctx = context.WithoutCancel(ctx)
	if n, e := h.lacking(); e == nil {
		out.Lacking, out.InSync = n, out.InSync && n == 0
	} else if err == nil {
		err = e
	}
	return out, err
}

// Of a session's life signs.
const (
	// pingInterval is how long a side stays silent at most: a quarter of
	// maxSilence, so that a few may come late.
	pingInterval = 15 * time.Second
	// maxSilence is how long a peer may be silent before the session is given
	// up. A stream does not tell of a peer that vanished while nothing is sent
	// to it. Long enough for the root of a large namespace or a slow disk.
	maxSilence = 60 * time.Second
	// maxLinger is how long the end of a session waits for the peer's: it has
	// then read the last frames.
	maxLinger = 5 * time.Second
)

// driver moves a session's frames over a stream. One goroutine reads, one
// drives the session and writes; the inbox between them never makes the reader
// wait for the writer, so that two sides that both write cannot wedge.
type driver struct {
	db        *DB
	s         *session.Session
	stream    io.ReadWriteCloser
	opts      SyncOptions
	initiator bool
	inbox     *inbox
	started   time.Time
	lastRead  atomic.Int64  // when something arrived, Unix nanoseconds
	ended     chan struct{} // closed when nothing more will be read
}

// watch ends the session when the DB is closed or the peer has been silent for
// too long, also while the driver is stuck in a write.
func (d *driver) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	t := time.NewTicker(pingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.db.ended:
			cancel(ErrClosed)
			return
		case <-t.C:
			if silent := time.Since(time.Unix(0, d.lastRead.Load())); silent > maxSilence {
				cancel(fmt.Errorf("peer silent for %v: %w", silent.Round(time.Second), ErrUnavailable))
				return
			}
		}
	}
}

// finish ends the stream so that the peer gets what was written.
func (d *driver) finish(ctx context.Context) {
	if half, ok := d.stream.(interface{ CloseWrite() error }); ok && ctx.Err() == nil && half.CloseWrite() == nil {
		t := time.NewTimer(maxLinger)
		defer t.Stop()
		select {
		case <-d.ended:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	d.stream.Close()
}

// Read reads the stream and notes that it lives.
func (d *driver) Read(b []byte) (int, error) {
	n, err := d.stream.Read(b)
	if n > 0 {
		d.lastRead.Store(time.Now().UnixNano())
	}
	return n, err
}

// run drives the session until it is done.
func (d *driver) run(ctx context.Context) error {
	if err := d.s.Start(); err != nil {
		return err
	}
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	reported := false
	changed := d.db.changed.wait()
	for {
		select {
		case <-changed: // says so until it is replaced, whatever else woke us
			changed = d.db.changed.wait() // before looking, so that nothing is missed
			d.s.Notify("")
		default:
		}
		more, err := d.step()
		if err != nil {
			return d.fail(err)
		}
		if d.s.Reconciled() && !reported {
			reported = true
			if d.opts.OnReconciled != nil {
				d.opts.OnReconciled(newSyncReport(d.s.Report(), time.Since(d.started)))
			}
		}
		if d.initiator && !d.opts.Live && d.s.Finished() {
			return nil
		}
		if more {
			continue
		}
		if err := d.inbox.failed(); err != nil {
			return d.end(err)
		}
		select {
		case <-d.inbox.ready:
		case <-changed:
		case <-ping.C:
			d.s.Ping()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end returns what the end of the stream means.
func (d *driver) end(err error) error {
	switch {
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("stream: %w", err)
	case d.s.Reconciled():
		return nil // the peer is done
	}
	return fmt.Errorf("stream: ended before the reconcile did: %w", ErrUnavailable)
}

// step takes in what has arrived, makes some output and writes it. more says
// that there is more to do at once.
func (d *driver) step() (more bool, err error) {
	for _, f := range d.inbox.take() {
		if err := d.s.Receive(f); err != nil {
			return false, err
		}
	}
	if more, err = d.s.Pump(); err != nil {
		return false, err
	}
	if out := d.s.Output(); len(out) > 0 {
		if _, err := d.stream.Write(out); err != nil {
			return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return more, nil
}

// fail tells the peer why the session ends, if it can still be told.
func (d *driver) fail(err error) error {
	if bye := d.s.Bye(); bye != nil {
		d.stream.Write(append(d.s.Output(), bye...)) // the stream may be gone already
	}
	return err
}

// read feeds the inbox until the stream ends.
func (d *driver) read() {
	defer close(d.ended)
	r := wire.NewReader(d)
	for {
		f, err := r.Next()
		if err != nil {
			d.inbox.fail(err)
			return
		}
		f.Payload = append([]byte(nil), f.Payload...)
		if !d.inbox.put(f) {
			return
		}
	}
}

// maxInbox is how many bytes may wait to be taken in: the flow control window
// and some control frames; a peer that sends more breaks the protocol.
const maxInbox = 48 << 20

// inbox is a queue of frames that never blocks its writer.
type inbox struct {
	mu     sync.Mutex
	frames []wire.Frame
	bytes  int
	err    error
	closed bool
	ready  chan struct{} // holds a token while there is something to look at
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

func (b *inbox) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// put queues a frame; false once the session is over.
func (b *inbox) put(f wire.Frame) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return false
	}
	b.bytes += len(f.Payload)
	b.frames = append(b.frames, f)
	if b.bytes > maxInbox {
		b.err = fmt.Errorf("peer sent %d bytes beyond its credit: %w", b.bytes, ErrTooLarge)
	}
	b.signal()
	return b.err == nil
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.signal()
}

// take returns what has arrived.
func (b *inbox) take() []wire.Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.frames
	b.frames, b.bytes = nil, 0
	return f
}

// failed returns why nothing more will arrive, once all that did was taken.
func (b *inbox) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.frames) > 0 {
		return nil
	}
	return b.err
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// SyncLocal syncs two stores of one process through memory and returns both
// sides' reports.
func SyncLocal(ctx context.Context, a, b *DB, opts SyncOptions) (ra, rb SyncReport, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x, y := newPipe()
	var errB error
	var peer sync.WaitGroup
	peer.Go(func() { rb, errB = b.ServeSync(ctx, y, opts) })
	ra, err = a.Sync(ctx, x, opts)
	if opts.Live || err != nil {
		cancel()
	}
	peer.Wait()
	if err == nil && errB != nil {
		err = errB
	}
	return ra, rb, err
}
