package engine

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// maxAgreements bounds how many peers' agreements are remembered; the oldest
// goes first.
const maxAgreements = 256

// Agreement is a proof of agreement: at that time the peer held the same.
type Agreement struct {
	Peer string    `json:"peer"` // its journal's id; "" if it was equal from the start and did not name itself
	Root string    `json:"root"` // hexadecimal
	At   time.Time `json:"at"`
}

// agreements are the last proofs of each peer, since the DB was opened.
type agreements struct {
	mu   sync.Mutex
	list []Agreement // oldest first
}

func (a *agreements) add(n Agreement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = slices.DeleteFunc(a.list, func(o Agreement) bool { return o.Peer == n.Peer })
	a.list = append(a.list, n)
	if len(a.list) > maxAgreements {
		a.list = slices.Delete(a.list, 0, 1)
	}
}

// Agreements returns when each peer was last proven to hold the same as this
// node, the oldest first; since the DB was opened.
func (ns *Namespace) Agreements() []Agreement {
	ns.agreed.mu.Lock()
	defer ns.agreed.mu.Unlock()
	return slices.Clone(ns.agreed.list)
}

// Agreed remembers a proof, and that nothing is held back for the peer any more.
func (h *host) Agreed(name string, peer [16]byte, root [32]byte) error {
	ns, err := h.db.OpenNamespace(h.ctx, name)
	if err != nil {
		return err
	}
	a := Agreement{Root: hex.EncodeToString(root[:]), At: time.Now().UTC()}
	if peer != [16]byte{} {
		a.Peer = hex.EncodeToString(peer[:])
	}
	ns.agreed.add(a)
	if h.db.opts.ReadOnly || peer == [16]byte{} {
		return nil
	}
	return ns.settleDrops(context.WithoutCancel(h.ctx), peer)
}
