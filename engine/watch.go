package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// EventType says what a watch reports.
type EventType string

// The events.
const (
	// EventPut: a version with a value joined its key's siblings.
	EventPut EventType = "put"
	// EventDelete: a delete joined its key's siblings, or a peer proved that what
	// stood there is deleted (Version.CID is empty then: this node does not hold
	// the delete itself).
	EventDelete EventType = "delete"
	// EventReset: the cursor could not be resumed here (it belongs to another
	// journal, or records behind it were collected). What follows first is
	// every live version and delete that the cursor had not seen, then the
	// changes go on; intermediate values may be missing.
	EventReset EventType = "reset"
)

// Event is one change of the visible state.
type Event struct {
	Type EventType
	Key  []byte // the name; for an element of a composite, the composite's
	// Element tells that the change is inside a composite: Mark says of which
	// kind, Part is the stored form of what lies behind it.
	Element bool
	Mark    crdt.Mark
	Part    []byte
	Version Version
	// Concurrent: other versions stood beside it when it arrived; GetAll has
	// them all.
	Concurrent bool
}

// watchChunk is how many journal records a watch reads at a time: it bounds
// its memory and how long it holds a read transaction.
const watchChunk = 256

// Watcher reports changes in the order in which they became visible here, each
// exactly once. It reads the journal as it goes, so a slow reader costs no
// memory and misses nothing. It serves one goroutine.
type Watcher struct {
	ns      *Namespace
	prefix  []byte // stored form
	journal [16]byte
	after   uint64     // journal record that was read last
	clock   crdt.Clock // of the state after it
	queue   []queued
	closed  bool

	// While a foreign cursor catches up: the live versions it lacks.
	catchUp func() (*crdt.Version, error, bool)
	live    sizer
	stop    func()
	release func()
}

// queued is an event that was read but not returned, with the cursor behind it.
type queued struct {
	event   Event
	after   uint64
	dots    []crdt.Dot
	adopted []crdt.Clock
	silent  bool // nothing to report, only the cursor moves
}

// Watch reports changes of the registers and composites under a prefix (nil:
// everything but the namespace's own records). since is a cursor that an
// earlier watch returned, here or on another node; "" starts now. ErrInvalid
// for a malformed cursor.
//
// On the node the cursor came from, the watch goes on right behind it: no
// change is missed or repeated, whatever happened in between. Elsewhere, or
// once collection has removed journal records behind it, it begins with
// EventReset.
func (ns *Namespace) Watch(ctx context.Context, prefix []byte, since string) (*Watcher, error) {
	w := &Watcher{ns: ns, prefix: crdt.AppendName(nil, prefix)}
	foreign := false
	err := ns.fullView(ctx, func(v *replica.View) error {
		w.journal = v.Journal()
		if since == "" {
			w.after, w.clock = v.Arrival(), v.Clock().Clone()
			return nil
		}
		c, err := parseCursor(since)
		if err != nil {
			return err
		}
		w.after, w.clock = c.arrival, c.clock
		foreign = c.journal != w.journal || c.arrival < v.Collected() || c.arrival > v.Arrival()
		return nil
	})
	if err == nil && foreign {
		err = w.reset()
	}
	return w, err
}

// Next returns the next event. It blocks until there is one, ctx ends, or the
// watch or the DB is closed (ErrClosed).
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		changed := w.ns.db.changed.wait()
		if w.closed {
			return Event{}, ErrClosed
		}
		if err := w.ns.db.usable(ctx); err != nil {
			return Event{}, err
		}
		for len(w.queue) > 0 {
			q := w.queue[0]
			w.queue = w.queue[1:]
			w.pass(q)
			if !q.silent {
				return q.event, nil
			}
		}
		progress, err := w.fill(ctx)
		if err != nil {
			return Event{}, err
		}
		if progress {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-w.ns.db.ended:
			return Event{}, ErrClosed
		}
	}
}

// pass moves the cursor behind a queued entry.
func (w *Watcher) pass(q queued) {
	if q.after != 0 {
		w.after = q.after
	}
	for _, d := range q.dots {
		w.clock.Add(d)
	}
	for _, c := range q.adopted {
		w.clock.Merge(c)
	}
}

// Cursor returns where the watch stands: behind the last event that Next
// returned. It is URL-safe text; its size grows with the number of replicas.
func (w *Watcher) Cursor() string {
	return cursor{w.journal, w.after, w.clock}.String()
}

// Close ends the watch. It is idempotent.
func (w *Watcher) Close() {
	w.closed = true
	w.endCatchUp()
}

// fill reads on. progress is false at the end of the journal.
func (w *Watcher) fill(ctx context.Context) (progress bool, err error) {
	if w.catchUp != nil {
		return true, w.fillFromLive()
	}
	err = w.ns.fullView(ctx, func(v *replica.View) error {
		var part queued
		src := &reading{rd: v.Reader, ns: w.ns}
		end, err := v.Tail(w.after, watchChunk, func(c replica.Change) error {
			if c.Version == nil {
				e, ok := w.eventAfterDrop(src, v, c.Dropped)
				w.queue = append(w.queue, queued{event: e, silent: !ok, after: c.Arrival})
				return nil
			}
			if e, ok := w.event(src, c.Version, c.Concurrent); ok {
				part.event, part.silent = e, false
			} else {
				part.silent = true
			}
			part.after = c.Arrival
			return nil
		}, func(d crdt.Dot) {
			part.dots = append(part.dots, d)
			if part.after == 0 { // arrived dead: nothing to see
				part.silent = true
			}
			w.queue = append(w.queue, part)
			part = queued{}
		}, func(c crdt.Clock) {
			w.queue = append(w.queue, queued{silent: true, adopted: []crdt.Clock{c}})
		})
		if err != nil {
			return err
		}
		if progress = end > w.after; progress {
			w.queue = append(w.queue, queued{silent: true, after: end})
		}
		return nil
	})
	if errors.Is(err, ErrNotRetained) { // outside: transactions must not nest
		return true, w.reset()
	}
	return progress, err
}

// reset begins the catch-up of a cursor that cannot be resumed: the live
// versions that its clock lacks, from a snapshot of now.
func (w *Watcher) reset() error {
	snap, err := w.ns.db.kv.Snapshot()
	if err != nil {
		return err
	}
	v, err := w.ns.replica.View(snap)
	if err != nil {
		snap.Release()
		return err
	}
	next, stop := iter.Pull2(v.Missing(w.clock, func(crdt.Dot) {}))
	w.journal, w.after = v.Journal(), v.Arrival()
	w.queue = append(w.queue, queued{event: Event{Type: EventReset}})
	clock := v.Clock().Clone()
	w.catchUp, w.stop, w.live = next, stop, &reading{rd: v.Reader, ns: w.ns}
	w.release = func() {
		snap.Release()
		w.queue = append(w.queue, queued{silent: true, adopted: []crdt.Clock{clock}})
	}
	return nil
}

// fillFromLive queues the next versions of the catch-up.
func (w *Watcher) fillFromLive() error {
	for range watchChunk {
		v, err, ok := w.catchUp()
		if err != nil {
			return err
		}
		if !ok {
			w.endCatchUp()
			return nil
		}
		e, visible := w.event(w.live, v, false)
		w.queue = append(w.queue, queued{event: e, silent: !visible, dots: []crdt.Dot{v.Dot}})
	}
	return nil
}

func (w *Watcher) endCatchUp() {
	if w.catchUp != nil {
		w.stop()
		w.release()
		w.catchUp = nil
	}
}

// event describes a version, if it lies under the prefix.
func (w *Watcher) event(src sizer, v *crdt.Version, concurrent bool) (Event, bool) {
	e, ok := w.eventOf(v.Key)
	if !ok {
		return Event{}, false
	}
	e.Type, e.Version, e.Concurrent = EventPut, newVersion(src, v, true), concurrent
	if v.Kind == crdt.Delete {
		e.Type = EventDelete
	}
	return e, true
}

// eventAfterDrop describes what a key shows now that siblings of it were
// dropped on a peer's claim. A key that cannot be read shows nothing: whoever
// reads it is told of the damage.
func (w *Watcher) eventAfterDrop(src sizer, v *replica.View, key []byte) (Event, bool) {
	siblings, err := v.Siblings(key)
	if err != nil {
		return Event{}, false
	}
	if sorted := siblings.Sorted(); len(sorted) > 0 { // deletes come last
		return w.event(src, sorted[0], len(sorted.Live()) > 1)
	}
	e, ok := w.eventOf(key)
	e.Type, e.Version = EventDelete, Version{Kind: crdt.Delete}
	return e, ok
}

// eventOf describes the place that a stored key names, if it is to be reported.
func (w *Watcher) eventOf(key []byte) (Event, bool) {
	if !bytes.HasPrefix(key, w.prefix) || bytes.HasPrefix(key, systemPrefix) {
		return Event{}, false
	}
	name, rest, err := crdt.SplitName(key)
	if err != nil {
		return Event{}, false
	}
	e := Event{Key: bytes.Clone(name)}
	if mark, part, ok := crdt.SplitMark(rest); ok {
		if mark == crdt.MarkListBind {
			return Event{}, false // the list's own business
		}
		e.Element, e.Mark, e.Part = true, mark, bytes.Clone(part)
	}
	return e, true
}

// systemPrefix is what the namespace's own records begin with.
var systemPrefix = crdt.AppendMark(nil, crdt.MarkSystem)

// cursor is a position in a namespace's changes: exact in its own journal, by
// its clock elsewhere.
type cursor struct {
	journal [16]byte
	arrival uint64
	clock   crdt.Clock
}

// cursorFormat is the first byte of a cursor.
const cursorFormat = 1

func (c cursor) String() string {
	b := append([]byte{cursorFormat}, c.journal[:]...)
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(c.arrival>>shift))
	}
	return base64.RawURLEncoding.EncodeToString(c.clock.Append(b))
}

func parseCursor(s string) (cursor, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < 25 || b[0] != cursorFormat {
		return cursor{}, fmt.Errorf("cursor: %w", ErrInvalid)
	}
	c := cursor{journal: [16]byte(b[1:17])}
	for _, x := range b[17:25] {
		c.arrival = c.arrival<<8 | uint64(x)
	}
	var rest []byte
	if c.clock, rest, err = crdt.DecodeClock(b[25:]); err != nil || len(rest) > 0 {
		return cursor{}, fmt.Errorf("cursor: %w", ErrInvalid)
	}
	return c, nil
}
