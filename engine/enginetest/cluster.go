package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bzzz/engine"
	"bzzz/transport"
	"bzzz/transport/mem"
)

// Options of a Cluster. The zero value is no node on a perfect network.
type Options struct {
	Nodes  int
	Memory bool           // stores in memory, which no Restart or Kill survives
	Net    mem.Options    // of the network
	Engine engine.Options // of every node; Memory, Store and RuntimeDir are the cluster's
}

// Cluster is a number of engines on one simulated network. Its methods serve
// one goroutine; the engines may be used by any beside it, also while they
// sync. It fails its test where something goes wrong that no fault explains.
type Cluster struct {
	tb    testing.TB
	opts  Options
	net   *mem.Net
	nodes []*node
	group []int // of the running partition, by node
	stats sessionStats
	links int // dialed so far
}

// node is one engine and its place on the network.
type node struct {
	addr    transport.Addr
	dir     string // of the data
	runtime string // of the anchor
	lives   int
	db      *engine.DB // nil while it is down
	peers   *peers
	dials   []int // the nodes it keeps sessions with
	killed  bool  // cut off, so that nobody hears of its end
}

// New starts a cluster without sessions. It is closed with the test.
func New(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, opts: opts, net: mem.New(opts.Net), group: make([]int, opts.Nodes)}
	tb.Cleanup(c.Close)
	for i := range opts.Nodes {
		n := &node{addr: transport.Addr(fmt.Sprintf("node-%d", i))}
		if !opts.Memory {
			n.dir, n.runtime = tb.TempDir(), tb.TempDir()
		}
		c.nodes = append(c.nodes, n)
		c.Start(i)
	}
	return c
}

// must fails the test over an error that no fault explains.
func (c *Cluster) must(what string, err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatalf("%s: %v", what, err)
	}
}

// Len returns the number of nodes.
func (c *Cluster) Len() int { return len(c.nodes) }

// DB returns a node's engine, nil while it is down.
func (c *Cluster) DB(i int) *engine.DB { return c.nodes[i].db }

// Up reports whether a node runs.
func (c *Cluster) Up(i int) bool { return c.nodes[i].db != nil }

// Net returns the network, for faults of single links.
func (c *Cluster) Net() *mem.Net { return c.net }

// Addr returns a node's address on it.
func (c *Cluster) Addr(i int) transport.Addr { return c.nodes[i].addr }

// Sessions returns how many sessions were reconciled, how many ended with an
// error, and how many reports of damage or disagreement there were.
func (c *Cluster) Sessions() (reconciled, failed, damaged int64) {
	return c.stats.reconciled.Load(), c.stats.failed.Load(), c.stats.damaged.Load()
}

// Connect makes a node keep a live session with another, by dialing again
// whenever it ends.
func (c *Cluster) Connect(from, to int) {
	c.links++
	c.nodes[from].dials = append(c.nodes[from].dials, to)
	if p := c.nodes[from].peers; p != nil {
		p.keep(c.nodes[to].addr, c.opts.Net.Seed+uint64(c.links))
	}
}

// ConnectLine connects each node with the next.
func (c *Cluster) ConnectLine() {
	for i := range len(c.nodes) - 1 {
		c.Connect(i, i+1)
	}
}

// ConnectAll connects every two nodes, one of them dialing.
func (c *Cluster) ConnectAll() {
	for i := range c.nodes {
		for j := range i {
			c.Connect(i, j)
		}
	}
}

// Start opens a node that is down and lets it dial again.
func (c *Cluster) Start(i int) {
	c.tb.Helper()
	n := c.nodes[i]
	if n.db != nil {
		return
	}
	o := c.opts.Engine
	o.Memory, o.RuntimeDir = c.opts.Memory, n.runtime
	db, err := engine.Open(n.dir, &o)
	c.must(fmt.Sprintf("open of node %d, life %d", i, n.lives), err)
	n.db, n.lives = db, n.lives+1
	if n.killed {
		n.killed = false
		c.applyPartition()
	}
	n.peers = newPeers(db, c.net.Node(n.addr), &c.stats)
	for _, to := range n.dials {
		c.links++
		n.peers.keep(c.nodes[to].addr, c.opts.Net.Seed+uint64(c.links))
	}
}

// Stop closes a node in good order.
func (c *Cluster) Stop(i int) {
	c.tb.Helper()
	n := c.nodes[i]
	if n.db == nil {
		return
	}
	n.peers.stop()
	c.must("close of the network", c.net.Node(n.addr).Close())
	c.must(fmt.Sprintf("close of node %d", i), n.db.Close())
	n.db, n.peers = nil, nil
}

// Restart closes a node and opens it again.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.Stop(i)
	c.Start(i)
}

// Kill ends a node as kill -9 does, or with power as a power failure: its files
// stay as the last commit left them, nobody hears of it, and a power failure
// takes the anchor too. It is cut off until it starts again. Writes of others to
// the node must not run meanwhile.
func (c *Cluster) Kill(i int, power bool) {
	c.tb.Helper()
	n := c.nodes[i]
	if n.db == nil || c.opts.Memory {
		return
	}
	n.killed = true
	c.applyPartition()
	dir, runtime := c.tb.TempDir(), c.tb.TempDir()
	c.must("image of a node", n.image(dir, runtime, power))
	c.must("close of the network", c.net.Node(n.addr).Close())
	n.peers.stop()
	// Whatever this writes is gone: the node goes on from its image.
	c.must("close of a dead node", n.db.Close())
	n.db, n.peers, n.dir, n.runtime = nil, nil, dir, runtime
}

// Image copies a node's data as a crash at this moment would leave it, to be
// brought back by Rollback.
func (c *Cluster) Image(i int) string {
	c.tb.Helper()
	dir := c.tb.TempDir()
	c.must("image of a node", c.nodes[i].image(dir, "", true))
	return dir
}

// Rollback stops a node and puts an older image in the place of its data. Its
// anchor stays, as on a volume that was restored below a running system. The
// node stays down.
func (c *Cluster) Rollback(i int, image string) {
	c.tb.Helper()
	c.Stop(i)
	dir := c.tb.TempDir()
	c.must("copy of an image", os.CopyFS(dir, os.DirFS(image)))
	c.nodes[i].dir = dir
}

// errImage ends the transaction in whose place the image is taken.
var errImage = errors.New("image taken")

// image copies a node's files between two commits.
func (n *node) image(dir, runtime string, power bool) error {
	err := n.db.Update(context.Background(), func(*engine.Txn) error {
		if err := os.CopyFS(dir, os.DirFS(n.dir)); err != nil {
			return err
		}
		if !power {
			if err := os.CopyFS(runtime, os.DirFS(n.runtime)); err != nil {
				return err
			}
		}
		return errImage
	})
	if errors.Is(err, errImage) {
		return nil
	}
	return err
}

// Partition splits the network: nodes of different groups do not reach each
// other until Heal. Nodes in no group are together in one more.
func (c *Cluster) Partition(groups ...[]int) {
	clear(c.group)
	for g, nodes := range groups {
		for _, i := range nodes {
			c.group[i] = g + 1
		}
	}
	c.applyPartition()
}

func (c *Cluster) applyPartition() {
	groups := map[int][]transport.Addr{}
	for i, n := range c.nodes {
		g := c.group[i]
		if n.killed {
			g = -1 - i
		}
		groups[g] = append(groups[g], n.addr)
	}
	var list [][]transport.Addr
	for _, g := range groups {
		list = append(list, g)
	}
	c.net.Partition(list...)
}

// Heal lifts every partition and half-open link, and takes profile for all
// links.
func (c *Cluster) Heal(profile mem.LinkProfile) {
	clear(c.group)
	c.net.Heal()
	c.applyPartition()
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if a != b {
				c.net.Unclog(a.addr, b.addr)
				c.net.SetLink(a.addr, b.addr, profile)
			}
		}
	}
}

// Close stops everything. It is idempotent.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		if n.peers != nil {
			n.peers.cancel()
		}
	}
	for i := range c.nodes {
		c.Stop(i)
	}
}

// Converged returns nil if all nodes run and agree: equal clocks, equal roots,
// equal readable state, and nothing to be found by Verify.
func (c *Cluster) Converged(ctx context.Context) error {
	if err := c.Agree(ctx); err != nil {
		return err
	}
	var first []byte
	for i, n := range c.nodes {
		r, err := n.db.Verify(ctx, nil)
		if err != nil {
			return fmt.Errorf("node %d: verify: %w", i, err)
		}
		for _, p := range r.Problems {
			return fmt.Errorf("node %d: verify found %d problems, first %s", i, len(r.Problems), p)
		}
		state, err := readable(ctx, n.db)
		if err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if i == 0 {
			first = state
		} else if !bytes.Equal(state, first) {
			return fmt.Errorf("nodes 0 and %d show different things at equal roots", i)
		}
	}
	return nil
}

// Agree returns nil if all nodes run and have equal clocks and roots.
func (c *Cluster) Agree(ctx context.Context) error {
	var first engine.State
	for i, n := range c.nodes {
		if n.db == nil {
			return fmt.Errorf("node %d is down", i)
		}
		s, err := n.db.State(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("node %d: %w", i, err)
		case i == 0:
			first = s
		case !s.Clock.Equal(first.Clock):
			return fmt.Errorf("node %d knows %d versions, node 0 %d: clocks differ", i, s.Clock.Count(), first.Clock.Count())
		case s.Root != first.Root:
			return fmt.Errorf("nodes 0 and %d have equal clocks and unequal roots", i)
		}
	}
	return nil
}

// readable returns all that a reader of the default namespace sees.
func readable(ctx context.Context, db *engine.DB) ([]byte, error) {
	var b bytes.Buffer
	for e, err := range db.Scan(ctx, engine.Range{}) {
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q %s %q %v %v\n", e.Key, e.Type, e.Value, e.Time.UnixMilli(), e.Conflict)
	}
	return b.Bytes(), nil
}

// AwaitConvergence waits until the nodes have converged, for a timeout of
// (virtual) time, and fails the test if they do not. It returns how long it
// took.
func (c *Cluster) AwaitConvergence(timeout time.Duration) time.Duration {
	c.tb.Helper()
	ctx := context.Background()
	started := time.Now()
	var err error
	for pause := 10 * time.Millisecond; time.Since(started) < timeout; pause = min(2*pause, time.Second) {
		if err = c.Agree(ctx); err == nil {
			break
		}
		time.Sleep(pause)
	}
	if err == nil {
		err = c.Converged(ctx)
	}
	c.must(fmt.Sprintf("no convergence within %v", timeout), err)
	return time.Since(started)
}

// FileBytes returns the size of a node's data file.
func (c *Cluster) FileBytes(i int) int64 {
	info, err := os.Stat(filepath.Join(c.nodes[i].dir, engine.DataFile))
	c.must("data file", err)
	return info.Size()
}
