package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"bzzz/crdt"
	"bzzz/engine"
)

// views returns what every node shows of everything that the story changes.
func (p *run) views(ctx context.Context) ([]View, error) {
	var out []View
	add := func(what string, read func(n *node) (string, error)) error {
		v := View{What: what, Values: map[string]string{}}
		for _, n := range p.c.nodes {
			text, err := read(n)
			if err != nil {
				return fmt.Errorf("%s reads %q: %w", n.name, what, err)
			}
			v.Values[n.name] = text
		}
		out = append(out, v)
		return nil
	}
	for _, key := range storyKeys() {
		err := add(key, func(n *node) (string, error) {
			value, err := n.db.Get(ctx, []byte(key))
			if errors.Is(err, engine.ErrNotFound) {
				return "deleted", nil
			}
			return show(value), err
		})
		if err != nil {
			return nil, err
		}
	}
	err := errors.Join(
		add(keyCounter, func(n *node) (string, error) {
			v, err := n.db.Counter([]byte(keyCounter)).Value(ctx)
			return fmt.Sprint(v), err
		}),
		add(keySet, func(n *node) (string, error) {
			tags, err := texts(n.db.Set([]byte(keySet)).All(ctx))
			return strings.Join(tags, ", "), err
		}),
		add(keyList, func(n *node) (string, error) {
			items, err := texts(n.db.List([]byte(keyList)).All(ctx))
			return fmt.Sprintf("%d items", len(items)), err
		}),
		add("root", func(n *node) (string, error) {
			s, err := n.db.State(ctx)
			return hexRoot(s.Root)[:rootDigits], err
		}))
	if err != nil {
		return nil, err
	}
	return out, p.collect(ctx)
}

// rootDigits is how much of a root people are shown.
const rootDigits = 12

// collect keeps what each node holds of the counter, the set and the list while
// apart. Later calls leave that as it was.
func (p *run) collect(ctx context.Context) error {
	if p.r.Counter.Apart != nil {
		return nil
	}
	p.r.Counter = Counter{Key: keyCounter, Apart: map[string]int64{}}
	p.r.Set = Collection{Key: keySet, Apart: map[string][]string{}}
	p.r.List = Collection{Key: keyList, Apart: map[string][]string{}}
	for _, n := range p.c.nodes {
		var err, e1, e2 error
		p.r.Counter.Apart[n.name], err = n.db.Counter([]byte(keyCounter)).Value(ctx)
		p.r.Set.Apart[n.name], e1 = texts(n.db.Set([]byte(keySet)).All(ctx))
		p.r.List.Apart[n.name], e2 = texts(n.db.List([]byte(keyList)).All(ctx))
		if err = errors.Join(err, e1, e2); err != nil {
			return err
		}
	}
	return nil
}

// texts collects what an iterator of the engine yields.
func texts(all iter.Seq2[[]byte, error]) ([]string, error) {
	var out []string
	for v, err := range all {
		if err != nil {
			return nil, err
		}
		out = append(out, string(v))
	}
	return out, nil
}

// records tells what became of the corrected records, and checks it.
func (p *run) records(ctx context.Context) error {
	p.checkEqualViews()
	if err := p.checkConflicts(ctx, "after healing", p.model.conflicts()); err != nil {
		return err
	}
	for _, key := range storyKeys() {
		r, err := p.record(ctx, key)
		if err != nil {
			return err
		}
		p.r.Records = append(p.r.Records, r)
	}
	p.checkCausal()
	return nil
}

// checkCausal checks that what a writer had seen decides, not what clocks say.
func (p *run) checkCausal() {
	last := p.r.Records[2].Versions[0]
	p.check("a correction that had seen cho's beats it, although cho's clock is a day ahead",
		p.r.Records[2].Verdict == "causal" && last.Node == "ann" && last.Value == "-7.8 °C, snow", "shown: %s by %s", last.Value, last.Node)
	kept := p.r.Records[3].Versions[0]
	p.check("a correction outlives a delete that had not seen it",
		p.r.Records[3].Verdict == "delete_and_correction" && kept.Node == "ben" && kept.Fate == "shown", "shown: %s by %s", kept.Value, kept.Node)
	deleted := p.r.Records[3].Versions[1]
	p.check("cho's fast clock has moved nobody else's", deleted.Kind == "delete" && deleted.Time.Before(p.c.now),
		"ann's delete, after she had seen cho's stamp: %s", stamp(deleted.Time))
}

// record describes one corrected record as ann holds it; all hold the same.
func (p *run) record(ctx context.Context, key string) (Record, error) {
	db := p.c.ann.db
	now, err := db.GetAll(ctx, []byte(key))
	if err != nil {
		return Record{}, err
	}
	history, err := db.History(ctx, []byte(key))
	if err != nil {
		return Record{}, err
	}
	out := Record{Key: key, Conflict: now.Conflict(), Verdict: "causal"}
	shown := map[string]bool{}
	for _, v := range now.Shown {
		shown[v.CID] = true
	}
	deletes := 0
	for _, v := range now.Siblings {
		fate := "beside"
		if shown[v.CID] {
			fate = "shown"
		}
		if v.Kind == crdt.Delete {
			deletes++
		}
		out.Versions = append(out.Versions, p.version(v, fate))
	}
	switch {
	case out.Conflict:
		out.Verdict = "concurrent"
	case deletes > 0 && len(now.Shown) > 0:
		out.Verdict = "delete_and_correction"
	}
	slices.SortStableFunc(out.Versions, func(a, b Version) int { return strings.Compare(b.Fate, a.Fate) }) // "shown" first
	for _, v := range history {
		if !v.Live {
			out.Versions = append(out.Versions, p.version(v, "replaced"))
		}
	}
	return out, nil
}

func (p *run) version(v engine.Version, fate string) Version {
	out := Version{Node: p.c.authors[v.Author], Time: v.Time, Kind: v.Kind.String(), CID: v.CID, Fate: fate}
	if v.Kind != crdt.Delete {
		out.Value = show(v.Value)
	}
	return out
}

// types tells what became of the counter, the set and the list, and checks it.
func (p *run) types(ctx context.Context) (err error) {
	db := p.c.ann.db
	c := &p.r.Counter
	c.Want, c.Swallow = p.model.want(), p.model.swallowed
	if c.Value, err = db.Counter([]byte(keyCounter)).Value(ctx); err != nil {
		return err
	}
	p.check("the counter holds every count that the reset had not seen", c.Value == c.Want, "%d, want %d", c.Value, c.Want)
	if p.r.Set.Items, err = texts(db.Set([]byte(keySet)).All(ctx)); err != nil {
		return err
	}
	want := []string{tagStorm, tagVerified}
	p.check("in the set an add beats a removal that had not seen it", slices.Equal(p.r.Set.Items, want), "%v, want %v", p.r.Set.Items, want)
	if p.r.List.Items, err = texts(db.List([]byte(keyList)).All(ctx)); err != nil {
		return err
	}
	p.check("the list holds what both inserted, neither run broken", listAsWanted(p.r.List.Items),
		"%d items, ending in %q", len(p.r.List.Items), p.r.List.Items[max(0, len(p.r.List.Items)-2):])
	return nil
}

// listAsWanted reports whether the list is one of the two that the edits allow:
// which run of a concurrent pair comes first follows from the writers' ids.
func listAsWanted(items []string) bool {
	first, last := []string{"check gauge"}, []string{"publish January"}
	ann, ben := []string{"ann: buy battery", "ann: fix cho's clock"}, []string{"ben: take photo", "ben: mail photo"}
	last = append(last, "cho: archive 2012")
	return slices.Equal(items, slices.Concat(first, ann, ben, last)) || slices.Equal(items, slices.Concat(first, ben, ann, last))
}

// settle lets a node settle the conflict of all three: a write with what it saw
// while apart is refused, one with what is there now is taken.
func (p *run) settle(ctx context.Context) error {
	s := &p.r.Resolution
	n, key := p.c.ann, []byte(s.Key)
	stale, err := engine.ParseToken(s.StaleToken)
	if err != nil {
		return err
	}
	var value []byte
	put := func(seen engine.Token) error {
		return p.c.update(ctx, n, func(t *engine.Txn) error {
			return t.PutIf(key, value, seen, engine.ContentType("application/json"))
		})
	}
	old, err := n.db.Get(ctx, key)
	if err != nil {
		return err
	}
	value, err = edit(old, func(o *observation) { o.TempMax, o.Weather = "1.1", "snow" })
	if err != nil {
		return err
	}
	err = put(stale)
	refused, ok := errors.AsType[*engine.Conflict](err)
	if !ok {
		return fmt.Errorf("a write on what was seen while apart: got %v, want %w", err, engine.ErrConflict)
	}
	s.Refused, s.Found, s.Token, s.Value = err.Error(), len(refused.Current.Siblings), refused.Current.Token.String(), show(value)
	if err := put(refused.Current.Token); err != nil {
		return err
	}
	if err := p.written(ctx, n, "settled", "settle", s.Key, s.Value); err != nil {
		return err
	}
	if err := p.sync(ctx, "settled"); err != nil {
		return err
	}
	left := p.model.conflicts()
	delete(left, s.Key)
	s.Left = slices.Sorted(maps.Keys(left))
	return p.checkConflicts(ctx, "after one was settled", left)
}
