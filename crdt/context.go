package crdt

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// MaxContext is the most replicas a version's context may name. At 28 bytes
// each it keeps a version record below 2 MiB.
const MaxContext = 65536

// Parent is one entry of a Context: all writes of the same key by Replica up to
// Seq are in the version's causal past. Direct says that the write Seq itself
// was one of the siblings the version replaced.
type Parent struct {
	Replica ReplicaID
	Seq     uint64
	Direct  bool
}

// Context is a version's causal past within its key, one entry a replica, by
// rising replica. It covers tombstones too.
type Context []Parent

// Seq returns the highest sequence number of r in the context, 0 if r is not in it.
func (c Context) Seq(r ReplicaID) uint64 {
	i := sort.Search(len(c), func(i int) bool { return c[i].Replica.Compare(r) >= 0 })
	if i < len(c) && c[i].Replica == r {
		return c[i].Seq
	}
	return 0
}

// Direct returns the dots of the direct parents.
func (c Context) Direct() []Dot {
	var out []Dot
	for _, p := range c {
		if p.Direct {
			out = append(out, Dot{p.Replica, p.Seq})
		}
	}
	return out
}

// Join returns the context of a version that replaces the given siblings: for
// each of them its context and its dot (KERNEL rule K1).
func Join(siblings ...*Version) Context {
	if len(siblings) == 0 {
		return nil
	}
	n := len(siblings)
	for _, v := range siblings {
		n += len(v.Context)
	}
	all := make(Context, 0, n)
	for _, v := range siblings {
		for _, p := range v.Context {
			all = append(all, Parent{p.Replica, p.Seq, false})
		}
		all = append(all, Parent{v.Dot.Replica, v.Dot.Seq, true})
	}
	slices.SortFunc(all, func(a, b Parent) int {
		if c := a.Replica.Compare(b.Replica); c != 0 {
			return c
		}
		return cmp.Compare(a.Seq, b.Seq)
	})
	out := all[:0]
	for _, p := range all {
		if k := len(out) - 1; k >= 0 && out[k].Replica == p.Replica {
			if out[k].Seq == p.Seq {
				out[k].Direct = out[k].Direct || p.Direct
			} else {
				out[k] = p
			}
			continue
		}
		out = append(out, p)
	}
	return out
}

// validate checks what every replica must agree on.
func (c Context) validate(self Dot) error {
	if len(c) > MaxContext {
		return fmt.Errorf("context of %d replicas: %w", len(c), ErrTooLarge)
	}
	for i, p := range c {
		switch {
		case p.Replica.IsZero():
			return fmt.Errorf("context names the zero replica: %w", ErrInvalid)
		case p.Seq == 0 || p.Seq > MaxSeq:
			return fmt.Errorf("context sequence %d: %w", p.Seq, ErrInvalid)
		case p.Replica == self.Replica && p.Seq >= self.Seq:
			return fmt.Errorf("context of %s holds itself or its future: %w", self, ErrInvalid)
		case i > 0 && c[i-1].Replica.Compare(p.Replica) >= 0:
			return fmt.Errorf("context is not in rising order: %w", ErrInvalid)
		}
	}
	return nil
}
