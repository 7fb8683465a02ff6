package engine

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session"
)

// Defaults of the brake on removals by a peer's claim (KERNEL K7).
const (
	// DefaultMaxAbsentDrop is how many keys a peer may make disappear in a day
	// that it does not show as deleted, or 5 % of the namespace if that is more:
	// above what a day of collected deletes looks like, below what hurts.
	DefaultMaxAbsentDrop = 1000
	absentDropPercent    = 5
	// DefaultBrakeQuorum is how many peers must know the same keys to be deleted
	// for the brake to let go by itself: a fault of one does not reach it.
	DefaultBrakeQuorum = 2
)

// brakePrefix begins the local records of the brake, one for each peer by its
// journal id. No user's key begins with 0.
const brakePrefix = "\x00brake/"

// brakeRecord is what the brake remembers of a peer:
//
//	day uv | keys uv | held keys uv | held versions uv | held bytes uv | since uv | claim Clock
type brakeRecord struct {
	day  uint64 // days since 1970 that keys are counted for
	keys uint64 // that it has made disappear on that day
	// What is held back.
	held  session.Held
	since uint64 // Unix seconds
	claim crdt.Clock
}

func (b *brakeRecord) append(dst []byte) []byte {
	for _, n := range [...]uint64{b.day, b.keys, uint64(b.held.Keys), uint64(b.held.Versions), uint64(b.held.Bytes), b.since} {
		dst = binary.AppendUvarint(dst, n)
	}
	return b.claim.Append(dst)
}

func decodeBrake(b []byte) (brakeRecord, error) {
	var n [6]uint64
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return brakeRecord{}, fmt.Errorf("brake record: %w", ErrCorrupt)
		}
		n[i], b = v, b[size:]
	}
	claim, rest, err := crdt.DecodeClock(b)
	if err != nil || len(rest) > 0 {
		return brakeRecord{}, fmt.Errorf("brake record: %w", ErrCorrupt)
	}
	return brakeRecord{
		day: n[0], keys: n[1], since: n[5], claim: claim,
		held: session.Held{Keys: int(n[2]), Versions: int(n[3]), Bytes: int64(n[4])},
	}, nil
}

// MayDrop decides on a peer's claim (KERNEL K7). What is allowed is counted
// before it is dropped, so that a cut session counts too.
func (h *host) MayDrop(name string, peer [16]byte, claim crdt.Clock, keys uint64) (*session.Held, error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return nil, err
	}
	size, limit, records, err := ns.weighClaim(h.ctx, claim, keys)
	if err != nil || size.Versions == 0 {
		return nil, err
	}
	now := time.Now()
	mine := records[peer]
	if day := uint64(now.Unix() / 86400); mine.day != day {
		mine.day, mine.keys = day, 0
	}
	if h.opts.ConfirmDrop || mine.keys+uint64(size.Keys) <= limit || h.db.seconded(peer, claim, records) {
		mine.keys += uint64(size.Keys)
		mine.held, mine.since, mine.claim = session.Held{}, 0, crdt.NewClock()
		return nil, ns.putLocal(h.ctx, brakePrefix+string(peer[:]), mine.append(nil))
	}
	if mine.since == 0 {
		mine.since = uint64(now.Unix())
	}
	mine.held, mine.claim = size, claim
	h.db.opts.Logger.Error("removals held back", "namespace", name, "peer", hex.EncodeToString(peer[:]),
		"keys", size.Keys, "versions", size.Versions, "bytes", size.Bytes)
	return &size, ns.putLocal(h.ctx, brakePrefix+string(peer[:]), mine.append(nil))
}

// weighClaim returns what a claim would drop, how many of keys a peer may drop in
// a day, and what the brake remembers.
func (ns *Namespace) weighClaim(ctx context.Context, claim crdt.Clock, keys uint64) (size session.Held, limit uint64, records map[[16]byte]brakeRecord, err error) {
	err = ns.fullView(ctx, func(v *replica.View) (err error) {
		if size.Keys, size.Versions, size.Bytes, err = v.ClaimSize(claim); err != nil {
			return err
		}
		if most := ns.db.opts.MaxAbsentDrop; most >= 0 {
			limit = max(uint64(most), keys*absentDropPercent/100)
		}
		records = brakeRecords(v)
		return nil
	})
	return size, limit, records, err
}

// brakeRecords reads what the brake remembers. A record that cannot be read
// counts as none: the brake then knows less in favour of a peer.
func brakeRecords(v *replica.View) map[[16]byte]brakeRecord {
	out := map[[16]byte]brakeRecord{}
	for k, b := range v.Locals([]byte(brakePrefix)) {
		id := k[len(brakePrefix):]
		if r, err := decodeBrake(b); err == nil && len(id) == 16 {
			out[[16]byte(id)] = r
		}
	}
	return out
}

// seconded reports whether enough other peers have claimed all of a claim.
func (db *DB) seconded(peer [16]byte, claim crdt.Clock, records map[[16]byte]brakeRecord) bool {
	with := 1
	for id, r := range records {
		if id != peer && r.claim.Contains(claim) {
			with++
		}
	}
	return db.opts.BrakeQuorum > 0 && with >= db.opts.BrakeQuorum
}

// putLocal writes a local record in a transaction of its own; nil removes it.
func (ns *Namespace) putLocal(ctx context.Context, key string, value []byte) error {
	return ns.db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		err = b.SetLocal([]byte(key), value)
		return err, err
	}})
}

// DropPending is what the brake holds back for a peer: keys that the peer knows
// to be deleted, too many of them to follow unasked.
type DropPending struct {
	Peer     string    `json:"peer"` // its journal's id
	Keys     int       `json:"keys"`
	Versions int       `json:"versions"`
	Bytes    int64     `json:"bytes"` // of their values
	Since    time.Time `json:"since"`
}

// dropsPending lists what the brake holds back.
func dropsPending(v *replica.View) []DropPending {
	var out []DropPending
	for id, r := range brakeRecords(v) {
		if r.held.Versions > 0 {
			out = append(out, DropPending{
				hex.EncodeToString(id[:]), r.held.Keys, r.held.Versions, r.held.Bytes, time.Unix(int64(r.since), 0).UTC(),
			})
		}
	}
	return out
}
