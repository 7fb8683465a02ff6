package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"bzzz/engine"
	"bzzz/internal/errs"
	"bzzz/transport"
	"bzzz/transport/mem"
)

// synced is what one sync cost.
type synced struct {
	report engine.SyncReport
	took   time.Duration // until both sides have returned
	cpu    time.Duration // of both sides
}

func (s synced) bytes() float64 { return float64(s.report.BytesSent + s.report.BytesReceived) }

// messages returns the frames of both directions.
func (s synced) messages() float64 {
	n := 0
	for _, t := range s.report.Frames {
		n += t.FramesOut + t.FramesIn
	}
	return float64(n)
}

// sync brings two stores together over a link with that round trip time, and
// fails if they do not prove that they agree. rtt 0 is a pipe in memory.
func (e *env) sync(a, b *engine.DB, rtt int) (synced, error) {
	cpu, started := cpuTime(), time.Now()
	run := engine.SyncLocal
	if rtt > 0 {
		run = overLink(time.Duration(rtt) * time.Millisecond)
	}
	report, peer, err := run(e.ctx, a, b, engine.SyncOptions{})
	out := synced{report: report, took: time.Since(started), cpu: cpuTime() - cpu}
	if err == nil && (!report.InSync || !peer.InSync) {
		err = fmt.Errorf("not in sync after a sync: %w", errs.ErrCorrupt)
	}
	return out, err
}

// overLink returns SyncLocal through a simulated network.
func overLink(rtt time.Duration) func(context.Context, *engine.DB, *engine.DB, engine.SyncOptions) (engine.SyncReport, engine.SyncReport, error) {
	return func(ctx context.Context, a, b *engine.DB, opts engine.SyncOptions) (ra, rb engine.SyncReport, err error) {
		net := mem.New(mem.Options{Link: mem.LinkProfile{Latency: rtt / 2}})
		x, y := net.Node("a"), net.Node("b")
		defer func() { err = errors.Join(err, x.Close(), y.Close()) }()
		var accepted transport.Stream
		var errB error
		var peer sync.WaitGroup
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		peer.Go(func() {
			if accepted, errB = y.Accept(ctx); errB == nil {
				rb, errB = b.ServeSync(ctx, accepted, opts)
			}
		})
		stream, err := x.Dial(ctx, "b")
		if err == nil {
			ra, err = a.Sync(ctx, stream, opts)
		}
		if err != nil {
			cancel()
		}
		peer.Wait()
		if err == nil {
			err = errB
		}
		return ra, rb, err
	}
}

// recordSync emits what a sync cost.
func (e *env) recordSync(s synced, params Params, bytes Baseline, more ...value) error {
	values := append(more,
		value{"bytes", s.bytes(), bytes},
		value{"round_trips", float64(s.report.RoundTrips), Baseline{}},
		value{"messages", s.messages(), Baseline{}},
		value{"sync_ms", s.took.Seconds() * 1e3, Baseline{}})
	if s.cpu > 0 {
		values = append(values, value{"cpu_us", float64(s.cpu.Microseconds()), Baseline{}})
	}
	return e.recordAll(params, values...)
}

// runS1 fills a fresh replica.
func runS1(e *env) error {
	const k = sequential
	for _, n := range e.size.fresh {
		a, err := e.open()
		if err != nil {
			return err
		}
		if err := load(e.ctx, a, k, 0, n, 1000, 0); err != nil {
			return err
		}
		for _, rtt := range e.size.rtts {
			b, err := e.open()
			if err != nil {
				return err
			}
			s, err := e.sync(a, b, rtt)
			if err != nil {
				return err
			}
			keys := float64(n)
			err = e.recordSync(s, Params{{"base", n}, {"rtt_ms", rtt}, {"keys", k}}, Baseline{rawRecord.Name, rawRecord.Value * keys},
				value{"keys_per_s", keys / s.took.Seconds(), Baseline{}},
				value{"bytes_per_key", s.bytes() / keys, rawRecord},
				value{"cpu_us_per_key", float64(s.cpu.Microseconds()) / keys, Baseline{}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// inSyncPair returns two stores that hold the same base.
func (e *env) inSyncPair(k keys) (a, b *engine.DB, err error) {
	if a, err = e.open(); err != nil {
		return nil, nil, err
	}
	if b, err = e.open(); err != nil {
		return nil, nil, err
	}
	if err := load(e.ctx, a, k, 0, e.size.synced, 1000, 0); err != nil {
		return nil, nil, err
	}
	_, err = e.sync(a, b, 0)
	return a, b, err
}

// writeApart makes the writes of a partition on one side, a commit each: half
// of them replace random keys of the base, half are new, and none is the other
// side's.
func (e *env) writeApart(db *engine.DB, k keys, which int) error {
	half := e.size.apart / 2
	old := rand.New(rand.NewPCG(2, 2)).Perm(e.size.synced)
	for i := range half {
		replaced := old[(which*half+i)%len(old)]
		for _, n := range []int{replaced, e.size.synced + which*half + i} {
			if err := db.Put(e.ctx, k.key(n), valueOf(n, 1000+which)); err != nil {
				return err
			}
		}
	}
	return nil
}

// runS2 lets two stores write apart and brings them together.
func runS2(e *env) error {
	const k = sequential
	a, b, err := e.inSyncPair(k)
	if err != nil {
		return err
	}
	for which, db := range []*engine.DB{a, b} {
		if err := e.writeApart(db, k, which); err != nil {
			return err
		}
	}
	s, err := e.sync(a, b, 0)
	if err != nil {
		return err
	}
	params := Params{{"base", e.size.synced}, {"writes", e.size.apart}, {"rtt_ms", 0}, {"keys", k}}
	return e.recordSync(s, params, Baseline{rawRecord.Name, rawRecord.Value * float64(2*e.size.apart)})
}

// runS3 checks stores that hold the same: the pair of S2 once more, and two
// that never met and have the same through a third.
func runS3(e *env) error {
	const k = sequential
	a, b, err := e.inSyncPair(k)
	if err != nil {
		return err
	}
	for which, db := range []*engine.DB{a, b} {
		if err := e.writeApart(db, k, which); err != nil {
			return err
		}
	}
	if _, err := e.sync(a, b, 0); err != nil {
		return err
	}
	c, err := e.open()
	if err != nil {
		return err
	}
	if _, err := e.sync(b, c, 0); err != nil {
		return err
	}
	for _, pair := range []struct {
		name string
		a, b *engine.DB
	}{{"met", a, b}, {"never met", a, c}} {
		s, err := e.sync(pair.a, pair.b, 0)
		if err != nil {
			return err
		}
		params := Params{{"base", e.size.synced}, {"writers", 2}, {"pair", pair.name}, {"rtt_ms", 0}, {"keys", k}}
		if err := e.recordSync(s, params, Baseline{}); err != nil {
			return err
		}
	}
	return nil
}
