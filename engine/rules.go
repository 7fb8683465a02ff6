package engine

import (
	"bytes"
	"context"
	"slices"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
)

// ruleKey is the stored key of the resolver record of a prefix: it replicates
// like any register, so equal roots show equal values.
func ruleKey(prefix []byte) []byte {
	k := append(crdt.AppendMark(nil, crdt.MarkSystem), 'r')
	return crdt.AppendName(k, prefix)
}

// ruleTable is the namespace's resolvers by prefix, longest first.
type ruleTable struct{ rules []Rule }

// Rule names the resolver of all registers under a prefix; the longest prefix
// that fits a key decides.
type Rule struct {
	Prefix   []byte `json:"prefix"`
	Resolver string `json:"resolver"`
}

// resolver returns the resolver name for a register, "lww" where no rule fits.
func (t *ruleTable) resolver(name []byte) string {
	for _, r := range t.rules {
		if bytes.HasPrefix(name, r.Prefix) {
			return r.Resolver
		}
	}
	return "lww"
}

// loadRules reads the rules that rd sees.
func (ns *Namespace) loadRules(rd *replica.Reader) error {
	t := &ruleTable{}
	start := ruleKey(nil)
	for key, e := range rd.Heads(start, crdt.PrefixEnd(start)) {
		s, err := e.Siblings()
		if err != nil {
			return err
		}
		value, ok := crdt.Fold(s, crdt.LWW, 0).Value()
		if !ok {
			continue
		}
		prefix, _, err := crdt.SplitName(key[len(start):])
		if err != nil {
			return err
		}
		t.rules = append(t.rules, Rule{bytes.Clone(prefix), string(value)})
	}
	slices.SortFunc(t.rules, func(a, b Rule) int { return len(b.Prefix) - len(a.Prefix) })
	ns.rules.Store(t)
	return nil
}

// reloadRules makes the rules current once the group has committed.
func (g *group) reloadRules(ns *Namespace) {
	g.after = append(g.after, func() {
		err := ns.db.kv.View(func(tx store.Tx) error {
			rd, err := ns.replica.Reader(tx)
			if err != nil {
				return err
			}
			return ns.loadRules(rd)
		})
		if err != nil {
			ns.db.opts.Logger.Error("resolver rules not reloaded", "namespace", ns.name, "error", err)
		}
	})
}

// fold returns what a reader sees of a stored key's siblings.
func fold(src source, name []byte, s crdt.Siblings) crdt.View {
	ns := src.home()
	resolve := ns.db.opts.Resolvers.Get(ns.rules.Load().resolver(name))
	if mutant("tie by arrival") {
		resolve = func(crdt.Siblings) crdt.Siblings { return s[len(s)-1:] }
	}
	return crdt.Fold(s, resolve, src.millis())
}

// SetResolver makes registers whose keys begin with prefix fold by the named
// resolver, on every replica: "lww" (the default), "mv", or one that
// Options.Resolvers has. "" takes the rule away. A node that does not know the
// resolver shows all values. One durable commit.
func (ns *Namespace) SetResolver(ctx context.Context, prefix []byte, resolver string) error {
	return ns.Update(ctx, func(t *Txn) error {
		if resolver == "" {
			_, err := t.unset(ruleKey(prefix))
			return err
		}
		return t.set(ruleKey(prefix), crdt.Put, []byte(resolver), nil, false)
	})
}

// Resolvers returns the namespace's rules, the most specific first.
func (ns *Namespace) Resolvers() []Rule { return slices.Clone(ns.rules.Load().rules) }
