package engine

import (
	"bytes"
	"context"
	"errors"
	"time"

	"bzzz/engine/replica"
)

const (
	// metRoom is how many damaged keys that reads met may wait to be looked at.
	// What does not fit is met again, or found by the background check.
	metRoom = 64
	// metRest is the rest after such keys were looked at, so that reading damaged
	// keys all the time costs little more than the reads.
	metRest = time.Second
)

// metDamage is a stored key that a read found damaged.
type metDamage struct {
	ns  *Namespace
	key []byte
}

// meet has a key looked at that a read found damaged. It never waits.
func (ns *Namespace) meet(err error) {
	var d *replica.Damage
	if err == nil || !errors.As(err, &d) || d.Key == nil || ns.db.opts.ReadOnly {
		return
	}
	select {
	case ns.db.met <- metDamage{ns, d.Key}:
	default: // enough waits already
	}
}

// mendReads looks at the keys that reads met, each once: what is derived is made
// anew, and versions that cannot be read are asked for from peers.
func (db *DB) mendReads(first metDamage) {
	keys := map[*Namespace][][]byte{first.ns: {first.key}}
	for range metRoom {
		select {
		case m := <-db.met:
			keys[m.ns] = append(keys[m.ns], m.key)
			continue
		default:
		}
		break
	}
	for ns, list := range keys {
		err := ns.mendKeys(context.Background(), list)
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrPoisoned) {
			db.opts.Logger.Warn("damage that reads met not mended", "namespace", ns.name, "error", err)
		}
	}
}

// mendKeys checks stored keys and mends what is wrong with them.
func (ns *Namespace) mendKeys(ctx context.Context, keys [][]byte) error {
	var found []replica.Problem
	var plan *replica.Plan
	err := ns.fullView(ctx, func(v *replica.View) (err error) {
		for i, key := range keys {
			if containsKey(keys[:i], key) {
				continue
			}
			if err := v.ScrubKey(key, func(p replica.Problem) { found = append(found, p) }); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			plan, err = v.Plan(found)
		}
		return err
	})
	if err != nil || plan == nil {
		return err
	}
	problems := make([]Problem, len(found))
	for i := range found {
		problems[i] = ns.problem(&found[i], true)
	}
	ns.scrub.count(problems) // first: whoever finds it mended finds it counted
	return ns.mend(ctx, plan)
}

func containsKey(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}
