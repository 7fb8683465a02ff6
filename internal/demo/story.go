package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"bzzz/engine"
)

// What the set and the list hold and are given.
const (
	tagStorm    = "storm"
	tagDraft    = "draft"
	tagVerified = "verified"
)

// begin opens the stores, lets them import and write what everybody will share.
func (p *run) begin(ctx context.Context) (err error) {
	p.r.Links = p.c.links()
	if p.r.Nodes, err = p.c.open(ctx); err != nil {
		return err
	}
	return do(ctx,
		p.tag(p.c.ann, "before", "add", tagStorm, tagDraft),
		p.insert(p.c.ann, "before", 0, "check gauge", "call Seattle", "publish January"),
		p.correct(p.c.cho, "before", keyCausal, temp("-6.1")),
	)
}

// sync runs the ring and checks that everybody holds the same.
func (p *run) sync(ctx context.Context, phase string) error {
	done, err := p.c.ring(ctx, phase)
	p.r.Syncs = append(p.r.Syncs, done...)
	if err != nil {
		return err
	}
	var equal bool
	if p.r.Roots, equal, err = p.c.states(ctx); err != nil {
		return err
	}
	if !equal {
		p.check("after the "+phase+" round of syncs roots and clocks are equal", false, "%v", p.r.Roots)
	}
	return nil
}

// apart cuts the network; everybody goes on writing.
func (p *run) apart(ctx context.Context) (err error) {
	if p.r.Partition, err = p.c.cut(ctx); err != nil {
		return err
	}
	ann, ben, cho := p.c.ann, p.c.ben, p.c.cho
	const phase = "apart"
	return do(ctx,
		p.correct(ann, phase, keyAll, temp("1.1")),
		p.remember(ann, keyAll),
		p.correct(ben, phase, keyAll, temp("0.0")),
		p.correct(cho, phase, keyAll, func(o *observation) { o.Weather = "snow" }),
		p.correct(ann, phase, keyTwo, temp("12.8")),
		p.reset(ben),
		p.correct(ben, phase, keyTwo, temp("11.7")),
		p.correct(ann, phase, keyCausal, temp("-7.8")),
		p.remove(ann, keyGone),
		p.correct(ben, phase, keyGone, temp("10.0")),
		p.tag(ann, phase, "remove", tagStorm),
		p.tag(ben, phase, "add", tagStorm),
		p.tag(cho, phase, "remove", tagDraft),
		p.tag(ann, phase, "add", tagVerified),
		p.insert(ann, phase, 1, "ann: buy battery", "ann: fix cho's clock"),
		p.insert(ben, phase, 1, "ben: take photo", "ben: mail photo"),
		p.takeOut(cho, 1),
		p.insert(cho, phase, 2, "cho: archive 2012"),
	)
}

// heal lifts the cut and lets everybody sync.
func (p *run) heal(ctx context.Context) (err error) {
	p.c.net.Heal()
	if err := p.sync(ctx, "healed"); err != nil {
		return err
	}
	p.r.Together, err = p.views(ctx)
	return err
}

// act is one thing that a node does.
type act func(ctx context.Context) error

// do does one thing after the other, up to the first that fails.
func do(ctx context.Context, acts ...act) error {
	for _, a := range acts {
		if err := a(ctx); err != nil {
			return err
		}
	}
	return nil
}

// temp is a correction of the highest temperature.
func temp(v string) func(*observation) { return func(o *observation) { o.TempMax = json.Number(v) } }

// wrote notes an acknowledged write.
func (p *run) wrote(n *node, phase, did, key, value, cid string) {
	p.r.Writes = append(p.r.Writes, Write{Time: p.c.clock(n), Node: n.name, Phase: phase, Did: did, Key: key, Value: value, CID: cid})
}

// written notes an acknowledged write to a register: its version is the only
// one there, since it replaced all that the node held.
func (p *run) written(ctx context.Context, n *node, phase, did, key, value string) error {
	r, err := n.db.GetAll(ctx, []byte(key))
	if err != nil {
		return err
	}
	if len(r.Siblings) != 1 || r.Siblings[0].Author != n.db.ReplicaID() {
		return fmt.Errorf("%s wrote %q and reads %d versions", n.name, key, len(r.Siblings))
	}
	p.wrote(n, phase, did, key, value, r.Siblings[0].CID)
	if phase == "apart" && did == "correct" {
		p.model.concur[key] = append(p.model.concur[key], r.Siblings[0].CID)
	}
	return nil
}

// correct changes a record and counts the correction, both in one transaction.
func (p *run) correct(n *node, phase, key string, change func(*observation)) act {
	return func(ctx context.Context) error {
		var value []byte
		err := p.c.update(ctx, n, func(t *engine.Txn) error {
			old, err := t.Get([]byte(key))
			if err != nil {
				return err
			}
			if value, err = edit(old, change); err != nil {
				return err
			}
			if err := t.Put([]byte(key), value, engine.ContentType("application/json")); err != nil {
				return err
			}
			return t.Counter([]byte(keyCounter)).Add(ctx, 1)
		})
		if err != nil {
			return fmt.Errorf("%s corrects %q: %w", n.name, key, err)
		}
		if phase == "apart" {
			p.model.apart[n.name]++
		} else {
			p.model.counted++
		}
		return p.written(ctx, n, phase, "correct", key, show(value))
	}
}

// remember keeps the token of what a node sees now, as a program that shows a
// form to somebody would.
func (p *run) remember(n *node, key string) act {
	return func(ctx context.Context) error {
		r, err := n.db.GetAll(ctx, []byte(key))
		p.r.Resolution = Resolution{Key: key, Node: n.name, StaleToken: r.Token.String()}
		return err
	}
}

// remove deletes a record.
func (p *run) remove(n *node, key string) act {
	return func(ctx context.Context) error {
		err := p.c.update(ctx, n, func(t *engine.Txn) error {
			existed, err := t.Delete([]byte(key))
			if err == nil && !existed {
				err = engine.ErrNotFound
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s deletes %q: %w", n.name, key, err)
		}
		return p.written(ctx, n, "apart", "delete", key, "")
	}
}

// reset sets the counter to nothing.
func (p *run) reset(n *node) act {
	return func(ctx context.Context) error {
		err := p.c.update(ctx, n, func(t *engine.Txn) error { return t.Counter([]byte(keyCounter)).Reset(ctx) })
		if err != nil {
			return fmt.Errorf("%s resets the counter: %w", n.name, err)
		}
		p.model.reset(n.name)
		p.wrote(n, "apart", "reset", keyCounter, "0", "")
		return nil
	}
}

// tag adds elements to the set, or removes them.
func (p *run) tag(n *node, phase, did string, tags ...string) act {
	return func(ctx context.Context) error {
		err := p.c.update(ctx, n, func(t *engine.Txn) error {
			if did == "add" {
				return t.Set([]byte(keySet)).Add(ctx, values(tags)...)
			}
			return t.Set([]byte(keySet)).Remove(ctx, values(tags)...)
		})
		if err != nil {
			return fmt.Errorf("%s changes the tags: %w", n.name, err)
		}
		p.wrote(n, phase, did, keySet, strings.Join(tags, ", "), "")
		return nil
	}
}

// insert puts items into the list.
func (p *run) insert(n *node, phase string, index int, items ...string) act {
	return func(ctx context.Context) error {
		err := p.c.update(ctx, n, func(t *engine.Txn) error {
			return t.List([]byte(keyList)).Insert(ctx, index, values(items)...)
		})
		if err != nil {
			return fmt.Errorf("%s inserts into the list: %w", n.name, err)
		}
		p.wrote(n, phase, "insert", keyList, fmt.Sprintf("at %d: %s", index, strings.Join(items, " | ")), "")
		return nil
	}
}

// takeOut deletes an item of the list.
func (p *run) takeOut(n *node, index int) act {
	return func(ctx context.Context) error {
		var item []byte
		err := p.c.update(ctx, n, func(t *engine.Txn) (err error) {
			list := t.List([]byte(keyList))
			if item, err = list.Get(ctx, index); err != nil {
				return err
			}
			return list.Delete(ctx, index, 1)
		})
		if err != nil {
			return fmt.Errorf("%s deletes from the list: %w", n.name, err)
		}
		p.wrote(n, "apart", "take out", keyList, string(item), "")
		return nil
	}
}

// values turns texts into what the engine stores.
func values(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, t := range texts {
		out[i] = []byte(t)
	}
	return out
}
