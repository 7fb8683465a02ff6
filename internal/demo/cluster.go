package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/ingest"
	"bzzz/testdata"
	"bzzz/transport"
	"bzzz/transport/mem"
)

// dialTimeout is how long a node tries to reach another: several round trips
// of the slowest link.
const dialTimeout = 300 * time.Millisecond

// node is one of the three stores with its place in the network.
type node struct {
	name    string
	imports string        // what part it takes in, for people
	parts   []string      // prefixes of the keys of that part
	ahead   time.Duration // how far its clock is wrong
	dir     string
	db      *engine.DB
	net     *mem.Node
}

func (n *node) addr() transport.Addr { return transport.Addr(n.name) }

// cluster is the three nodes and the network between them.
type cluster struct {
	net           *mem.Net
	ann, ben, cho *node
	nodes         []*node
	authors       map[crdt.ReplicaID]string
	now           time.Time // of the story
	rows          int       // to import a node, 0 = all
	imported      int       // in all
	runtimeDir    string    // for the anchors of the stores; "-" leaves none behind
}

// links are the three ways of the ring: within a building, across a continent,
// and by radio to somewhere remote.
func (c *cluster) links() []LinkInfo {
	return []LinkInfo{
		{Between: [2]string{"ann", "ben"}, LatencyMS: 2, JitterMS: 0.5, BytesPerSecond: 12_500_000},
		{Between: [2]string{"ben", "cho"}, LatencyMS: 35, JitterMS: 2, Loss: 0.001, BytesPerSecond: 6_250_000},
		{Between: [2]string{"cho", "ann"}, LatencyMS: 60, JitterMS: 8, Loss: 0.002, BytesPerSecond: 1_250_000},
	}
}

// newCluster makes the network. The stores are opened by open.
func newCluster(dir string, o Options) *cluster {
	c := &cluster{
		net:     mem.New(mem.Options{Seed: o.Seed, DialTimeout: dialTimeout}),
		ann:     &node{name: "ann", imports: "Seattle 2012-2015", parts: []string{"Seattle/"}},
		ben:     &node{name: "ben", imports: "New York 2012-2013", parts: []string{"New York/2012", "New York/2013"}},
		cho:     &node{name: "cho", imports: "New York 2014-2015", parts: []string{"New York/2014", "New York/2015"}, ahead: 24 * time.Hour},
		authors: map[crdt.ReplicaID]string{},
		now:     time.Now().UTC().Truncate(time.Hour).Add(-time.Hour),
		rows:    o.Rows,
	}
	if o.Dir == "" && !o.Keep {
		c.runtimeDir = "-" // the stores are never opened for writing again
	}
	c.nodes = []*node{c.ann, c.ben, c.cho}
	for _, n := range c.nodes {
		n.dir = filepath.Join(dir, n.name)
		n.net = c.net.Node(n.addr())
	}
	for _, l := range c.links() {
		a, b := transport.Addr(l.Between[0]), transport.Addr(l.Between[1])
		p := mem.LinkProfile{
			Latency: time.Duration(l.LatencyMS * float64(time.Millisecond)), Jitter: time.Duration(l.JitterMS * float64(time.Millisecond)),
			Loss: l.Loss, Bandwidth: l.BytesPerSecond,
		}
		c.net.SetLink(a, b, p)
		c.net.SetLink(b, a, p)
	}
	return c
}

// open makes the stores and lets each import its part.
func (c *cluster) open(ctx context.Context) ([]NodeInfo, error) {
	var infos []NodeInfo
	for _, n := range c.nodes {
		db, err := engine.Open(n.dir, &engine.Options{RuntimeDir: c.runtimeDir})
		if err != nil {
			return nil, err
		}
		n.db = db
		info := NodeInfo{Name: n.name, Dir: n.dir, Imports: n.imports, ClockAheadS: n.ahead.Seconds()}
		if info.Records, info.ImportBytes, err = c.importPart(ctx, n); err != nil {
			return nil, fmt.Errorf("%s imports: %w", n.name, err)
		}
		c.imported += info.Records
		info.ReplicaID, info.Author = db.ReplicaID().String(), db.ReplicaID().Short()
		c.authors[db.ReplicaID()] = n.name
		infos = append(infos, info)
	}
	return infos, nil
}

// importPart writes a node's part of the weather in one transaction.
func (c *cluster) importPart(ctx context.Context, n *node) (records int, size int64, err error) {
	err = c.update(ctx, n, func(t *engine.Txn) error {
		in := strings.NewReader(testdata.Weather())
		all := ingest.Records(in, testdata.WeatherName, ingest.FormatCSV, ingest.Options{KeyColumns: []string{"location", "date"}})
		for r, err := range all {
			if err != nil {
				return err
			}
			if !n.mine(string(r.Key)) || c.rows > 0 && records == c.rows {
				continue
			}
			if err := t.Put(r.Key, r.Value, engine.ContentType("application/json")); err != nil {
				return err
			}
			records++
			size += int64(len(r.Key) + len(r.Value))
		}
		return nil
	})
	return records, size, err
}

// mine reports whether a key belongs to the part that the node imports.
func (n *node) mine(key string) bool {
	for _, p := range n.parts {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// update changes a node's store in one transaction that bears the story's time
// as the node's clock shows it, a minute after the one before.
func (c *cluster) update(ctx context.Context, n *node, fn func(*engine.Txn) error) error {
	c.now = c.now.Add(time.Minute)
	return n.db.Update(ctx, func(t *engine.Txn) error {
		t.SetTime(c.clock(n))
		return fn(t)
	})
}

// clock is the story's time as a node's clock shows it.
func (c *cluster) clock(n *node) time.Time { return c.now.Add(n.ahead) }

// meet lets one node call another and sync with it over the network.
func (c *cluster) meet(ctx context.Context, phase string, from, to *node) (Sync, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before := c.net.Stats().PayloadBytes
	var served error
	var answer engine.SyncReport
	var server sync.WaitGroup
	server.Go(func() {
		stream, err := to.net.Accept(ctx)
		if err == nil {
			answer, err = to.db.ServeSync(ctx, stream, engine.SyncOptions{})
		}
		served = err
	})
	report, err := call(ctx, from, to)
	if err != nil {
		cancel()
	}
	server.Wait()
	if err == nil {
		err = served
	}
	for _, n := range report.Namespaces {
		err = errors.Join(err, n.Err)
	}
	if err != nil {
		err = fmt.Errorf("sync of %s with %s: %w", from.name, to.name, err)
	}
	return newSync(phase, from, to, report, answer, c.net.Stats().PayloadBytes-before), err
}

// call is the side of a sync that begins it.
func call(ctx context.Context, from, to *node) (engine.SyncReport, error) {
	stream, err := from.net.Dial(ctx, to.addr())
	if err != nil {
		return engine.SyncReport{}, err
	}
	return from.db.Sync(ctx, stream, engine.SyncOptions{})
}

// ring lets every pair sync once: after the third all three know everything. A
// fourth session shows what it costs to find out that nothing is left to do.
func (c *cluster) ring(ctx context.Context, phase string) ([]Sync, error) {
	var out []Sync
	for _, pair := range [][2]*node{{c.ann, c.ben}, {c.ben, c.cho}, {c.cho, c.ann}, {c.ann, c.ben}} {
		s, err := c.meet(ctx, phase, pair[0], pair[1])
		if err != nil {
			return out, err
		}
		out = append(out, s)
	}
	return out, nil
}

// cut parts every node from every other, and lets one find that out.
func (c *cluster) cut(ctx context.Context) (Partition, error) {
	c.net.Partition([]transport.Addr{c.ann.addr()}, []transport.Addr{c.ben.addr()}, []transport.Addr{c.cho.addr()})
	started := time.Now()
	_, err := c.meet(ctx, "apart", c.ann, c.ben)
	if !errors.Is(err, engine.ErrUnavailable) {
		return Partition{}, fmt.Errorf("a sync over a cut network: got %v, want %w", err, engine.ErrUnavailable)
	}
	return Partition{Tried: "ann calls ben", Error: err.Error(), Waits: time.Since(started).Seconds()}, nil
}

// states returns each node's root and whether roots and clocks are equal.
func (c *cluster) states(ctx context.Context) (roots []RootInfo, equal bool, err error) {
	equal = true
	var first engine.State
	for i, n := range c.nodes {
		s, err := n.db.State(ctx)
		if err != nil {
			return nil, false, err
		}
		if i == 0 {
			first = s
		}
		equal = equal && s.Root == first.Root && s.Clock.Equal(first.Clock)
		roots = append(roots, RootInfo{n.name, hexRoot(s.Root)})
	}
	return roots, equal, nil
}

// reopen closes every store and opens it again, to read only.
func (c *cluster) reopen() error {
	for _, n := range c.nodes {
		if err := n.db.Close(); err != nil {
			return err
		}
		var err error
		if n.db, err = engine.Open(n.dir, &engine.Options{ReadOnly: true}); err != nil {
			n.db = nil
			return err
		}
	}
	return nil
}

// close closes what is open.
func (c *cluster) close() error {
	var err error
	for _, n := range c.nodes {
		err = errors.Join(err, n.net.Close())
		if n.db != nil {
			err = errors.Join(err, n.db.Close())
		}
	}
	return err
}
