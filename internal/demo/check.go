package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"bzzz/engine"
)

// check notes a claim and what was found.
func (p *run) check(claim string, ok bool, format string, args ...any) {
	p.r.Checks = append(p.r.Checks, Check{Claim: claim, OK: ok, Detail: fmt.Sprintf(format, args...)})
}

// checkEqualViews checks that nobody shows anything else than the others.
func (p *run) checkEqualViews() {
	differ := ""
	for _, v := range p.r.Together {
		for _, n := range p.c.nodes {
			if v.Values[n.name] != v.Values[p.c.ann.name] {
				differ += fmt.Sprintf("%s: %s shows %q, ann %q; ", v.What, n.name, v.Values[n.name], v.Values[p.c.ann.name])
			}
		}
	}
	if differ == "" {
		differ = fmt.Sprintf("%d things on %d nodes", len(p.r.Together), len(p.c.nodes))
		p.check("after healing every node shows the same", true, "%s", differ)
		return
	}
	p.check("after healing every node shows the same", false, "%s", differ)
}

// checkConflicts checks that every node lists exactly these conflicts, with all
// their versions.
func (p *run) checkConflicts(ctx context.Context, when string, want map[string][]string) error {
	for _, n := range p.c.nodes {
		got := map[string][]string{}
		for r, err := range n.db.Conflicts(ctx, nil) {
			if err != nil {
				return err
			}
			for _, v := range r.Siblings {
				got[string(r.Key)] = append(got[string(r.Key)], v.CID)
			}
			slices.Sort(got[string(r.Key)])
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			p.check("every concurrent value is listed as a conflict "+when, false, "%s lists %v, want %v", n.name, got, want)
			return nil
		}
	}
	values := 0
	for _, cids := range want {
		values += len(cids)
	}
	p.check("every concurrent value is listed as a conflict "+when, true, "keys: %d, values: %d, on each node", len(want), values)
	return nil
}

// finish checks what holds for the whole run, last of all after every store
// was closed and opened again.
func (p *run) finish(ctx context.Context) error {
	if err := p.checkWrites(ctx); err != nil {
		return err
	}
	var reported, counted int64
	for _, s := range p.r.Syncs {
		reported += s.BytesSent + s.BytesReceived
		counted += s.NetworkBytes
	}
	p.check("the bytes that both sides report to have sent are those that the network carried", reported == counted,
		"%d bytes in %d sessions, network %d", reported, len(p.r.Syncs), counted)
	before := p.r.Roots
	if err := p.c.reopen(); err != nil {
		return err
	}
	roots, equal, err := p.c.states(ctx)
	if err != nil {
		return err
	}
	p.r.Roots = roots
	p.check("roots and clocks are equal, also after closing and opening again", equal && slices.Equal(roots, before), "%s", roots[0].Root)
	return p.checkStores(ctx)
}

// checkWrites checks that nothing acknowledged is missing anywhere.
func (p *run) checkWrites(ctx context.Context) error {
	missing, writes := "", 0
	for _, w := range p.r.Writes {
		if w.CID == "" {
			continue // of a counter, set or list: checked by what these hold
		}
		writes++
		for _, n := range p.c.nodes {
			history, err := n.db.History(ctx, []byte(w.Key))
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(history, func(v engine.Version) bool { return v.CID == w.CID }) {
				missing += fmt.Sprintf("%s's %s of %q on %s; ", w.Node, w.Did, w.Key, n.name)
			}
		}
	}
	if missing == "" {
		missing = fmt.Sprintf("%d writes to records, in the history of each node", writes)
		p.check("no acknowledged write is lost", true, "%s", missing)
		return nil
	}
	p.check("no acknowledged write is lost", false, "missing: %s", missing)
	return nil
}

// checkStores counts the records of every store and verifies it.
func (p *run) checkStores(ctx context.Context) error {
	wrong, problems, checked := "", "", 0
	for i, n := range p.c.nodes {
		records := 0
		for e, err := range n.db.Scan(ctx, engine.Range{}) {
			if err != nil {
				return err
			}
			if e.Type == engine.TypeRegister {
				records++
			}
		}
		if records != p.c.imported {
			wrong += fmt.Sprintf("%s has %d; ", n.name, records)
		}
		report, err := n.db.Verify(ctx, nil)
		if err != nil {
			return err
		}
		checked += report.Checked
		for _, f := range report.Problems {
			problems += n.name + ": " + f.String() + "; "
		}
		stats, err := n.db.Stats(ctx)
		if err != nil {
			return err
		}
		p.r.Nodes[i].FileBytes, p.r.Nodes[i].VersionsLive = stats.FileBytes, stats.Namespaces[0].Versions
	}
	p.check("every imported record is on every node", wrong == "", "%d records%s", p.c.imported, prefixed("; ", wrong))
	p.check("every stored version has the digest it is named by", problems == "", "%d keys and journal records%s", checked, prefixed("; ", problems))
	return nil
}

// prefixed returns text behind a separator, nothing if there is no text.
func prefixed(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}
