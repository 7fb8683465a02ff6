package enginetest

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"bzzz/engine"
	"bzzz/transport"
)

// How long a node waits before it dials a peer again: doubled with every
// session that failed before its reconcile was done, plus up to half as much
// again, so that nodes do not keep in step.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 5 * time.Second
)

// peers keeps one node's sessions: it answers who dials it, and dials whom it
// is told to, again and again, until it is stopped.
type peers struct {
	db     *engine.DB
	net    transport.Network
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	stats  *sessionStats
}

// sessionStats counts what sessions of a cluster did.
type sessionStats struct {
	reconciled atomic.Int64 // sessions that got that far, as their dialers saw it
	failed     atomic.Int64 // sessions that ended with an error, on either side
	damaged    atomic.Int64 // reports of equal clocks with unequal roots, and the like
	sketches   atomic.Int64 // sessions of either side that compared by sketch at last
	trees      atomic.Int64 // and by tree
	dropped    atomic.Int64 // versions dropped on claims
	missing    atomic.Int64 // versions found to be lost by a comparison
	held       atomic.Int64 // claims that a brake held back
}

func newPeers(db *engine.DB, net transport.Network, stats *sessionStats) *peers {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peers{db: db, net: net, ctx: ctx, cancel: cancel, stats: stats}
	p.work.Go(p.serve)
	return p
}

// stop ends all sessions and waits for them.
func (p *peers) stop() {
	p.cancel()
	p.work.Wait()
}

// serve answers sessions.
func (p *peers) serve() {
	for {
		stream, err := p.net.Accept(p.ctx)
		if err != nil {
			return
		}
		p.work.Go(func() {
			_, err := p.db.ServeSync(p.ctx, stream, engine.SyncOptions{Live: true, OnReconciled: p.reconciled})
			p.ended(err)
		})
	}
}

// keep dials a peer for as long as the node lives.
func (p *peers) keep(to transport.Addr, seed uint64) {
	p.work.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 1))
		delay := firstDelay
		for p.ctx.Err() == nil {
			if p.session(to) {
				delay = firstDelay
			}
			t := time.NewTimer(delay + time.Duration(rng.Int64N(int64(delay/2))))
			select {
			case <-t.C:
			case <-p.ctx.Done():
				t.Stop()
			}
			delay = min(2*delay, lastDelay)
		}
	})
}

// session runs one session and reports whether it got through its reconcile.
func (p *peers) session(to transport.Addr) (good bool) {
	stream, err := p.net.Dial(p.ctx, to)
	if err != nil {
		return false
	}
	_, err = p.db.Sync(p.ctx, stream, engine.SyncOptions{Live: true, OnReconciled: func(r engine.SyncReport) {
		good = true
		p.stats.reconciled.Add(1)
		p.reconciled(r)
	}})
	p.ended(err)
	return good
}

func (p *peers) reconciled(r engine.SyncReport) {
	for _, n := range r.Namespaces {
		switch {
		case n.Held != nil:
			p.stats.held.Add(1)
		case n.Err != nil:
			p.stats.damaged.Add(1)
		}
		switch n.Tier {
		case "sketch":
			p.stats.sketches.Add(1)
		case "tree":
			p.stats.trees.Add(1)
		}
		p.stats.dropped.Add(int64(n.Dropped))
		p.stats.missing.Add(int64(n.Missing))
	}
}

func (p *peers) ended(err error) {
	if err != nil && p.ctx.Err() == nil {
		p.stats.failed.Add(1)
	}
}
