package engine

import (
	"context"
	"errors"
	"time"

	"bzzz/engine/replica"
)

// sweepBatch is how many expired versions one transaction deletes at most.
const sweepBatch = 512

// sweep deletes what has expired, in bounded transactions.
func (db *DB) sweep() {
	for _, ns := range db.spaces() {
		if err := ns.sweep(); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
			db.opts.Logger.Warn("expired versions not deleted", "namespace", ns.name, "error", err)
		}
	}
}

// sweep deletes what has expired in one namespace.
func (ns *Namespace) sweep() error {
	ctx := context.Background()
	due := false
	now := time.Now().UnixMilli()
	if err := ns.fullView(ctx, func(v *replica.View) error {
		due = v.Due(now)
		return nil
	}); err != nil || !due {
		return err
	}
	for more := true; more; {
		err := ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
			if fatal = g.db.ensureSelf(g.tx); fatal != nil {
				return fatal, fatal
			}
			b, err := g.batch(ns)
			if err != nil {
				return err, nil
			}
			_, more, err = b.Expire(now, sweepBatch)
			return err, err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}
