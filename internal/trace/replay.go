package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Options say how to replay. The zero value replays as described above.
type Options struct {
	// EveryCommit compares the whole replica with the right state after every
	// commit, not only at merges and at the head. Costs one Tree a commit.
	EveryCommit bool
	// Laggards is how many replicas are kept when a merge would retire them, to
	// be brought up to date in the last step: the first of them, which are the
	// furthest behind. A trace that ends in one commit leaves one replica
	// otherwise, and the last step has nothing to do.
	Laggards int
	// Progress is called after every commit, if not nil.
	Progress func(done, total int)
}

// replica is a node with what it should hold.
type replica struct {
	node      Node
	tree      map[string]File
	conflicts map[string]bool // paths that held concurrent versions at its last merge
}

// player is a replay under way.
type player struct {
	trace   *Trace
	cluster Cluster
	options Options
	report  Report
	live    map[*replica]bool
	pending map[int][]*replica // replicas that hold exactly a commit's state, one a child to come
	rest    []*replica         // replicas that no child will take
}

// Replay drives the cluster through t, which must satisfy Verify, and reports
// what came out. A wrong outcome is not an error but in the Report (see
// Report.Err); an error means that the replay could not go on, and comes with
// the report up to there. Every node is retired in the end.
func Replay(ctx context.Context, t *Trace, cluster Cluster, o Options) (Report, error) {
	start := time.Now()
	p := &player{trace: t, cluster: cluster, options: o, live: map[*replica]bool{}, pending: map[int][]*replica{}}
	p.report.Diffs = []Diff{}
	meter, _ := cluster.(Meter)
	var before int64
	if meter != nil {
		before = meter.WireBytes()
	}
	err := p.run(ctx)
	for r := range maps.Clone(p.live) {
		err = errors.Join(err, p.retire(r))
	}
	if meter != nil {
		p.report.WireBytes = meter.WireBytes() - before
	}
	p.report.Duration = time.Since(start)
	return p.report, err
}

func (p *player) run(ctx context.Context) error {
	if err := p.trace.Verify(); err != nil {
		return err
	}
	children := p.trace.children()
	for i := range p.trace.Commits {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.commit(ctx, &p.trace.Commits[i], children[i]); err != nil {
			return fmt.Errorf("replay of commit %d: %w", i, err)
		}
		if p.options.Progress != nil {
			p.options.Progress(i+1, len(p.trace.Commits))
		}
	}
	return p.settle(ctx)
}

// commit makes the replica of c and the copies that its further children need.
func (p *player) commit(ctx context.Context, c *Commit, children int) error {
	r, err := p.base(ctx, c)
	if err != nil {
		return err
	}
	others := c.distinct()
	where := fmt.Sprintf("commit %d", c.ID)
	if len(others) > 1 {
		where = fmt.Sprintf("merge %d", c.ID)
		err = p.merge(ctx, c, r, others[1:])
	} else {
		c.apply(r.tree)
		err = p.write(ctx, c, r, puts(c.Set, slices.Sorted(maps.Keys(c.Set))), c.Del)
	}
	if err != nil {
		return err
	}
	p.report.Commits++
	if c.ID == p.trace.Head {
		p.report.HeadOK, err = p.check(ctx, "head", r, p.trace.Tree)
	} else if p.options.EveryCommit {
		_, err = p.check(ctx, where, r, r.tree)
	}
	if err != nil {
		return err
	}
	if children == 0 {
		p.rest = append(p.rest, r)
		return nil
	}
	p.pending[c.ID] = append(p.pending[c.ID], r)
	for range children - 1 {
		if err := p.copy(ctx, c.ID, r); err != nil {
			return err
		}
	}
	return nil
}

// base returns the replica to write c on: one of its first parent, a fresh one
// if it has none.
func (p *player) base(ctx context.Context, c *Commit) (*replica, error) {
	if len(c.Parents) > 0 {
		return p.take(c.Parents[0]), nil
	}
	return p.fresh(ctx)
}

func (p *player) fresh(ctx context.Context) (*replica, error) {
	node, err := p.cluster.NewNode(ctx)
	if err != nil {
		return nil, err
	}
	r := &replica{node: node, tree: map[string]File{}, conflicts: map[string]bool{}}
	p.live[r] = true
	p.report.Replicas++
	p.report.MaxLive = max(p.report.MaxLive, len(p.live))
	return r, nil
}

// take removes one of the replicas that stand for a commit. There is one for
// every child, which Verify has made sure of.
func (p *player) take(id int) *replica {
	waiting := p.pending[id]
	p.pending[id] = waiting[1:]
	if len(waiting) == 1 {
		delete(p.pending, id)
	}
	return waiting[0]
}

// copy syncs a fresh replica from r, to stand for the same commit.
func (p *player) copy(ctx context.Context, id int, r *replica) error {
	twin, err := p.fresh(ctx)
	if err != nil {
		return err
	}
	if err := p.sync(ctx, twin, r); err != nil {
		return err
	}
	twin.tree, twin.conflicts = maps.Clone(r.tree), maps.Clone(r.conflicts)
	p.pending[id] = append(p.pending[id], twin)
	return nil
}

func (p *player) sync(ctx context.Context, a, b *replica) error {
	p.report.Syncs++
	return a.node.Sync(ctx, b.node)
}

// merge syncs r with the replicas of the other parents and writes what differs
// from the final state of c.
func (p *player) merge(ctx context.Context, c *Commit, r *replica, others []int) error {
	p.report.Merges++
	known := r.conflicts
	for _, id := range others {
		other := p.take(id)
		if err := p.sync(ctx, r, other); err != nil {
			return err
		}
		maps.Copy(known, other.conflicts)
		if len(p.rest) < p.options.Laggards {
			p.rest = append(p.rest, other)
		} else if err := p.retire(other); err != nil {
			return err
		}
	}
	if err := p.conflicts(ctx, r, known); err != nil {
		return err
	}
	c.apply(r.tree)
	merged, err := r.node.Tree(ctx)
	if err != nil {
		return err
	}
	var set, del []string
	for _, d := range compare("", r.tree, merged, -1) {
		if _, ok := r.tree[d.Path]; ok {
			set = append(set, d.Path)
		} else {
			del = append(del, d.Path)
		}
		if _, listed := c.Set[d.Path]; !listed && !slices.Contains(c.Del, d.Path) {
			p.report.Unlisted++
		}
	}
	return p.write(ctx, c, r, puts(r.tree, set), del)
}

// conflicts counts the paths of r that came into conflict by a merge: known are
// those that were in conflict on one of the sides before.
func (p *player) conflicts(ctx context.Context, r *replica, known map[string]bool) error {
	node, ok := r.node.(Conflicter)
	if !ok {
		return nil
	}
	paths, err := node.Conflicts(ctx)
	if err != nil {
		return err
	}
	r.conflicts = make(map[string]bool, len(paths))
	for _, path := range paths {
		r.conflicts[path] = true
		if !known[path] {
			p.report.Conflicts++
		}
	}
	return nil
}

func puts(tree map[string]File, paths []string) []Put {
	out := make([]Put, len(paths))
	for i, path := range paths {
		out[i] = Put{path, tree[path]}
	}
	return out
}

// write commits, unless there is nothing to write.
func (p *player) write(ctx context.Context, c *Commit, r *replica, set []Put, del []string) error {
	if len(set)+len(del) == 0 {
		return nil
	}
	for _, put := range set {
		p.report.ContentBytes += put.File.Size
		delete(r.conflicts, put.Path)
	}
	for _, path := range del {
		delete(r.conflicts, path)
	}
	p.report.Puts += len(set)
	p.report.Deletes += len(del)
	return r.node.Commit(ctx, c.Author, c.Time, set, del)
}

func (p *player) retire(r *replica) error {
	delete(p.live, r)
	return r.node.Retire()
}

// check compares what r holds with what it should.
func (p *player) check(ctx context.Context, where string, r *replica, want map[string]File) (bool, error) {
	got, err := r.node.Tree(ctx)
	if err != nil {
		return false, err
	}
	diffs := compare(where, want, got, -1)
	p.report.add(diffs)
	return len(diffs) == 0, nil
}

// maxRounds bounds the last step: one round is enough for a correct Sync.
const maxRounds = 3

// settle syncs the replicas that remain until their roots are equal: all into
// the first, then the first into all. Retired replicas are not needed, for
// whoever they were merged into knows all they knew.
func (p *player) settle(ctx context.Context) error {
	for p.report.Rounds < maxRounds && !p.report.RootsEqual {
		for range 2 {
			for _, r := range p.rest[min(1, len(p.rest)):] {
				if err := p.sync(ctx, p.rest[0], r); err != nil {
					return fmt.Errorf("last sync: %w", err)
				}
			}
		}
		p.report.Rounds++
		var err error
		if p.report.RootsEqual, err = p.agree(ctx); err != nil {
			return fmt.Errorf("roots: %w", err)
		}
	}
	p.report.Remaining = len(p.rest)
	if p.report.RootsEqual || len(p.rest) == 0 {
		return nil
	}
	first, err := p.rest[0].node.Tree(ctx)
	for i, r := range p.rest {
		if err == nil && i > 0 {
			_, err = p.check(ctx, fmt.Sprintf("replica %d", i), r, first)
		}
	}
	return err
}

func (p *player) agree(ctx context.Context) (bool, error) {
	var first []byte
	for i, r := range p.rest {
		root, err := r.node.Root(ctx)
		if err != nil {
			return false, err
		}
		if i == 0 {
			first = root
		} else if !bytes.Equal(root, first) {
			return false, nil
		}
	}
	return true, nil
}
