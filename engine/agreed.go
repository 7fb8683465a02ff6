package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session"
)

// maxAgreements bounds how many peers' agreements are kept; the oldest goes
// first. Each takes a clock: some 12 bytes a replica.
const maxAgreements = 64

// metPrefix begins the local records of agreements, one for each peer by its
// journal's id. No user's key begins with 0.
const metPrefix = "\x00met/"

// Agreement is a proof of agreement: at that time the peer held the same.
type Agreement struct {
	Peer string    `json:"peer"` // its journal's id
	Name string    `json:"name"` // what SyncOptions.Peer called it
	Root string    `json:"root"` // hexadecimal
	At   time.Time `json:"at"`
}

// agreement is the record of one:
//
//	digest [16] | root [32] | Unix seconds uv | name length uv | name | clock | gone
type agreement struct {
	journal [16]byte
	digest  [16]byte
	root    [32]byte
	at      uint64
	name    string
	clocks  []byte // clock and gone marks, not decoded
}

func (a *agreement) append(b []byte, clock, gone crdt.Clock) []byte {
	b = append(append(b, a.digest[:]...), a.root[:]...)
	b = binary.AppendUvarint(b, a.at)
	b = binary.AppendUvarint(b, uint64(len(a.name)))
	return gone.Append(clock.Append(append(b, a.name...)))
}

func decodeAgreement(journal, b []byte) (a agreement, err error) {
	bad := fmt.Errorf("agreement record: %w", ErrCorrupt)
	if len(journal) != 16 || len(b) < 48 {
		return a, bad
	}
	a.journal, a.digest, a.root = [16]byte(journal), [16]byte(b), [32]byte(b[16:])
	b = b[48:]
	var n int
	if a.at, n = binary.Uvarint(b); n <= 0 {
		return a, bad
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return a, bad
	}
	a.name = string(b[n : n+int(size)])
	a.clocks = bytes.Clone(b[n+int(size):])
	return a, nil
}

// base decodes the clocks.
func (a *agreement) base() (*session.Base, error) {
	clock, rest, err := crdt.DecodeClock(a.clocks)
	if err != nil {
		return nil, err
	}
	gone, _, err := crdt.DecodeClock(rest)
	return &session.Base{Digest: a.digest, Clock: clock, Gone: gone}, err
}

// agreements reads what is kept, the oldest first. A record that cannot be read
// is left out: it only saves bytes.
func agreements(v *replica.View) []agreement {
	var out []agreement
	for k, b := range v.Locals([]byte(metPrefix)) {
		if a, err := decodeAgreement(k[len(metPrefix):], b); err == nil {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b agreement) int { return cmp.Compare(a.at, b.at) })
	return out
}

// Agreements returns when peers were last proven to hold the same as this node,
// the oldest first. A check that finds nothing to do is not noted.
func (ns *Namespace) Agreements(ctx context.Context) (out []Agreement, err error) {
	err = ns.fullView(ctx, func(v *replica.View) error {
		out = agreed(v)
		return nil
	})
	return out, err
}

// agreed lists the agreements of a view.
func agreed(v *replica.View) []Agreement {
	var out []Agreement
	for _, a := range agreements(v) {
		out = append(out, Agreement{
			hex.EncodeToString(a.journal[:]), a.name, hex.EncodeToString(a.root[:]), time.Unix(int64(a.at), 0).UTC(),
		})
	}
	return out
}

// Base returns a state that was agreed on: the one whose digest begins with
// hint, or the last one with the peer of that name, or else the last of all.
func (h *host) Base(name string, hint []byte) (*session.Base, error) {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return nil, err
	}
	var found *agreement
	err = ns.fullView(h.ctx, func(v *replica.View) error {
		for _, a := range agreements(v) {
			switch {
			case hint != nil && !bytes.HasPrefix(a.digest[:], hint):
			case hint == nil && found != nil && found.name == h.opts.Peer && a.name != h.opts.Peer:
			default:
				found = &a
			}
		}
		return nil
	})
	if err != nil || found == nil {
		return nil, err
	}
	return found.base()
}

// Agreed keeps a proof, and that nothing is held back for the peer any more.
func (h *host) Agreed(name string, peer [16]byte, root [32]byte, clock, gone crdt.Clock) error {
	if h.db.opts.ReadOnly || peer == [16]byte{} {
		return nil
	}
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return err
	}
	a := agreement{journal: peer, digest: session.StateDigest(clock, gone), root: root, at: uint64(time.Now().Unix()), name: h.opts.Peer}
	var drop []string
	pending := false
	err = ns.fullView(h.ctx, func(v *replica.View) error {
		kept := agreements(v)
		kept = slices.DeleteFunc(kept, func(o agreement) bool { return o.journal == peer })
		for len(kept) >= maxAgreements {
			drop = append(drop, metPrefix+string(kept[0].journal[:]))
			kept = kept[1:]
		}
		r, known := brakeRecords(v)[peer]
		pending = known && r.held.Versions > 0
		return nil
	})
	if err != nil {
		return err
	}
	if pending {
		drop = append(drop, brakePrefix+string(peer[:]))
	}
	// Both sides are done by now: a session that ends here changes nothing.
	return ns.db.submit(context.WithoutCancel(h.ctx), &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		for _, key := range drop {
			if err := b.SetLocal([]byte(key), nil); err != nil {
				return err, err
			}
		}
		err = b.SetLocal([]byte(metPrefix+string(peer[:])), a.append(nil, clock, gone))
		return err, err
	}})
}
