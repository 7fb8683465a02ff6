package session

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
	"bzzz/store"
	"bzzz/store/mem"
)

// world knows every version that anybody wrote: what any replica shows must be
// the fold of those of them that are in its clock.
type world struct {
	versions map[string]map[string][]*crdt.Version // namespace -> key
	zstd     *wire.Zstd
}

func newWorld() *world {
	return &world{map[string]map[string][]*crdt.Version{}, wire.NewZstd()}
}

// node is a store with namespaces and no engine: the Host of these tests.
type node struct {
	w      *world
	id     byte
	kv     *mem.Store
	spaces map[string]*replica.Replica
	now    crdt.HLC
	epoch  uint64

	scope   replica.Scope    // of namespaces that it makes
	refuse  map[string]error // of Accept
	lost    int              // dots that Lost was told of
	bases   []*Base          // of proofs of agreement
	lacks   []wire.Item
	blocks  map[[32]byte][]byte
	pasts   map[[16]byte]uint64 // by the peer's journal
	agreed  int                 // proofs of agreement that Agreed was told of
	brake   int                 // keys that a claim may drop
	applies int                 // transactions
	crashAt int                 // the transaction that fails, from 1; 0: none
	after   func()              // after every transaction
	adopt   func(name string, versions []*crdt.Version, a *Adoption) (*Adoption, error)
	listing func(name string) *replica.View // of a mutant: streams from here
}

var errCrash = errors.New("the node crashed")

func newNode(w *world, id byte, names ...string) *node {
	n := &node{w: w, id: id, kv: mem.New(), spaces: map[string]*replica.Replica{}, now: 1 << 30, epoch: 1, brake: 1000, blocks: map[[32]byte][]byte{}, pasts: map[[16]byte]uint64{}}
	for _, name := range names {
		must(n.create(name))
	}
	return n
}

// must ends the test over what only a broken test can bring about.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func config(name string) replica.Config {
	return replica.Config{Name: name, Prefix: "ns-" + name + "/"}
}

func (n *node) create(name string) error {
	cfg := config(name)
	cfg.Scope = n.scope
	err := n.kv.Update(func(tx store.Tx) error { return replica.Create(tx, cfg, [16]byte{n.id}) })
	if err != nil {
		return err
	}
	return n.open(name)
}

func (n *node) open(name string) error {
	return n.kv.View(func(tx store.Tx) error {
		r, err := replica.Open(tx, config(name))
		if err == nil {
			r.SetSelf(crdt.ReplicaID{n.id, 1})
			n.spaces[name] = r
		}
		return err
	})
}

// clone returns the node as it would be after a crash, or beside itself.
func (n *node) clone() *node {
	c := newNode(n.w, n.id)
	c.kv, c.now, c.epoch, c.refuse, c.scope = mem.FromImage(n.kv.Image()), n.now, n.epoch+1, n.refuse, n.scope
	for name := range n.spaces {
		must(c.open(name))
	}
	return c
}

// batch runs one transaction.
func (n *node) batch(name string, fn func(b *replica.Batch) error) error {
	r := n.spaces[name]
	if r == nil {
		return fmt.Errorf("namespace %q: %w", name, errs.ErrNotFound)
	}
	var b *replica.Batch
	n.now += 1 << 16
	err := n.kv.Update(func(tx store.Tx) (err error) {
		if b, err = r.Begin(tx, n.now); err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		return b.Finish(false)
	})
	if err == nil {
		b.Done()
	}
	return err
}

// catchUp brings the views to the journal's end.
func (n *node) catchUp(name string) {
	must(n.batch(name, func(b *replica.Batch) error { return b.Finish(true) }))
}

// put writes keys in one transaction; a nil value deletes.
func (n *node) put(name string, values map[string][]byte) []*crdt.Version {
	var out []*crdt.Version
	must(n.batch(name, func(b *replica.Batch) error {
		var writes []replica.Write
		for _, key := range slices.Sorted(maps.Keys(values)) {
			s, err := b.Siblings([]byte(key))
			if err != nil {
				return err
			}
			w := replica.Write{Key: []byte(key), Kind: crdt.Put, Value: values[key], Siblings: s}
			if w.Value == nil {
				w.Kind = crdt.Delete
			}
			writes = append(writes, w)
		}
		vs, err := b.Commit(writes, n.now)
		for _, v := range vs {
			c, err := crdt.DecodeCanonical(v.AppendCanonical(nil)) // a copy
			must(err)
			out = append(out, c)
		}
		return err
	}))
	keys := n.w.versions[name]
	if keys == nil {
		keys = map[string][]*crdt.Version{}
		n.w.versions[name] = keys
	}
	for _, v := range out {
		keys[string(v.Key)] = append(keys[string(v.Key)], v)
	}
	return out
}

func (n *node) write(name, key, value string) *crdt.Version {
	return n.put(name, map[string][]byte{key: []byte(value)})[0]
}

func (n *node) remove(name, key string) *crdt.Version {
	return n.put(name, map[string][]byte{key: nil})[0]
}

// view calls fn with a namespace's current state.
func (n *node) view(name string, fn func(v *replica.View)) {
	must(n.kv.View(func(tx store.Tx) error {
		v, err := n.spaces[name].View(tx)
		if err == nil {
			fn(v)
		}
		return err
	}))
}

func (n *node) clock(name string) (c crdt.Clock) {
	n.view(name, func(v *replica.View) { c = v.Clock().Clone() })
	return c
}

func (n *node) root(name string) (root [32]byte) {
	n.view(name, func(v *replica.View) {
		var err error
		root, err = v.Root()
		must(err)
	})
	return root
}

// get returns the values of a key's siblings.
func (n *node) get(name, key string) []string {
	var out []string
	n.view(name, func(v *replica.View) {
		s, err := v.Siblings([]byte(key))
		must(err)
		for _, x := range s.Live() {
			out = append(out, string(x.Value))
		}
	})
	slices.Sort(out)
	return out
}

// check returns what is wrong with a namespace: anything that Verify finds, or
// a state that is not the fold of the versions in the clock, which is what an
// adoption before its time makes.
func (n *node) check(name string) (err error) {
	n.view(name, func(v *replica.View) {
		e := v.Verify(func(p replica.Problem) {
			err = errors.Join(err, fmt.Errorf("node %d: verify: %s %q %s: %w", n.id, p.What, p.Key, p.Dot, p.Err))
		}, func(int) error { return nil })
		if err = errors.Join(err, e); err != nil {
			return
		}
		clock := v.Clock()
		for key, all := range n.w.versions[name] {
			known := slices.DeleteFunc(slices.Clone(all), func(v *crdt.Version) bool { return !clock.Has(v.Dot) })
			got, e := v.Siblings([]byte(key))
			want := slices.DeleteFunc(crdt.Maximal(known).Sorted(), func(w *crdt.Version) bool { // collected
				return w.Kind == crdt.Delete && v.Gone().Of(w.Dot.Replica).Max() >= w.Dot.Seq &&
					!slices.ContainsFunc(got, func(g *crdt.Version) bool { return g.Dot == w.Dot })
			})
			if e != nil || !slices.EqualFunc(got.Sorted(), want, func(a, b *crdt.Version) bool { return a.Digest() == b.Digest() }) {
				err = errors.Join(err, fmt.Errorf("node %d: key %q holds %d siblings, its clock stands for %d: %w", n.id, key, len(got), len(want), e))
			}
		}
	})
	return err
}

// inSync returns why two nodes do not hold the same.
func inSync(a, b *node, name string) error {
	err := errors.Join(a.check(name), b.check(name))
	if !a.clock(name).Equal(b.clock(name)) {
		err = errors.Join(err, errors.New("clocks differ"))
	}
	if err == nil && a.root(name) != b.root(name) {
		err = errors.New("roots differ")
	}
	return err
}

// damage changes a record of a namespace behind everybody's back.
func (n *node) damage(name, bucket string, change func(b store.Bucket) error) {
	must(n.kv.Update(func(tx store.Tx) error { return change(tx.Bucket(config(name).Prefix + bucket)) }))
}

// flip flips a bit of the record of a bucket that pick chooses.
func flip(pick func(key, value []byte) bool) func(b store.Bucket) error {
	return func(b store.Bucket) error {
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if pick(k, v) {
				bad := bytes.Clone(v)
				bad[len(bad)/2] ^= 4
				return b.Put(bytes.Clone(k), bad)
			}
		}
		return errors.New("no such record")
	}
}

// wipe removes a record.
func wipe(pick func(key, value []byte) bool) func(b store.Bucket) error {
	return func(b store.Bucket) error {
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if pick(k, v) {
				return b.Delete(bytes.Clone(k))
			}
		}
		return errors.New("no such record")
	}
}

// The node as a Host.

func (n *node) Epoch() uint64 { return n.epoch }

func (n *node) Names() ([]string, error) { return slices.Sorted(maps.Keys(n.spaces)), nil }

func (n *node) Accept(name string) error {
	if err := n.refuse[name]; err != nil {
		return err
	}
	if n.spaces[name] != nil {
		return nil
	}
	return n.create(name)
}

func (n *node) Snapshot(name string) (Snapshot, error) {
	r := n.spaces[name]
	if r == nil {
		return nil, fmt.Errorf("namespace %q: %w", name, errs.ErrNotFound)
	}
	snap, err := n.kv.Snapshot()
	if err != nil {
		return nil, err
	}
	v, err := r.View(snap)
	if err != nil {
		snap.Release()
		return nil, err
	}
	s := &snapshot{View: v, self: r.Self(), snap: snap, listing: v}
	if n.listing != nil {
		s.listing = n.listing(name)
	}
	return s, nil
}

func (n *node) Apply(name string, versions []*crdt.Version, a *Adoption) (replica.Applied, error) {
	n.applies++
	if n.adopt != nil {
		var err error
		if a, err = n.adopt(name, versions, a); err != nil {
			return replica.Applied{}, err
		}
	}
	sum, err := n.applyAll(name, versions, a)
	if errors.Is(err, replica.ErrForked) {
		self := n.spaces[name].Self()
		self[1]++
		n.spaces[name].SetSelf(self)
		sum, err = n.applyAll(name, versions, a)
	}
	if err == nil && n.after != nil {
		n.after()
	}
	return sum, err
}

func (n *node) applyAll(name string, versions []*crdt.Version, a *Adoption) (sum replica.Applied, err error) {
	err = n.batch(name, func(b *replica.Batch) (err error) {
		if sum, err = b.Apply(versions); err != nil {
			return err
		}
		if a != nil {
			adopted, err := a.Take(b)
			if err != nil {
				return err
			}
			sum.Add(adopted)
		}
		if a != nil && !a.Drop.IsEmpty() {
			dropped, err := b.Drop(a.Drop, a.From)
			if err != nil {
				return err
			}
			sum.Dropped += dropped.Versions
			sum.Kept += int(dropped.Held.Count())
		}
		if n.applies == n.crashAt {
			return errCrash
		}
		return nil
	})
	return sum, err
}

func (n *node) MayDrop(name string, _ [16]byte, claim crdt.Clock, _ uint64) (*Held, error) {
	var held Held
	err := n.kv.View(func(tx store.Tx) error {
		v, err := n.spaces[name].View(tx)
		if err == nil {
			held.Keys, held.Versions, held.Bytes, err = v.ClaimSize(claim)
		}
		return err
	})
	if err != nil || held.Keys <= n.brake {
		return nil, err
	}
	return &held, nil
}

func (n *node) Agreed(name string, peer [16]byte, _ [32]byte, clock, gone crdt.Clock) error {
	n.agreed++
	if peer != [16]byte{} {
		n.bases = append(n.bases, &Base{StateDigest(clock, gone), clock, gone})
	}
	return nil
}

func (n *node) Base(_ string, hint []byte) (*Base, error) {
	for _, b := range slices.Backward(n.bases) {
		if bytes.HasPrefix(b.Digest[:], hint) {
			return b, nil
		}
	}
	return nil, nil
}

func (n *node) Lacks() (bool, error) { return len(n.lacks) > 0, nil }

func (n *node) Wants(absent map[[32]byte]bool, items int, _ int64) (out []wire.Item, _ error) {
	for _, it := range n.lacks {
		if !absent[it.Digest] && len(out) < items {
			out = append(out, it)
		}
	}
	return out, nil
}

func (n *node) Block(it wire.Item) ([]byte, error) { return n.blocks[it.Digest], nil }

func (n *node) PutBlocks(items []wire.Item, data [][]byte) error {
	for i, it := range items {
		if sha256.Sum256(data[i]) != it.Digest {
			return errs.ErrCorrupt
		}
		n.blocks[it.Digest] = data[i]
		n.lacks = slices.DeleteFunc(n.lacks, func(o wire.Item) bool { return o == it })
	}
	return nil
}

func (n *node) PastCursor(_ string, peer [16]byte) (uint64, error) { return n.pasts[peer], nil }

func (n *node) Backfill(name string, versions []*crdt.Version, peer [16]byte, at uint64) (taken int, err error) {
	err = n.batch(name, func(b *replica.Batch) (err error) {
		taken, err = b.Backfill(versions)
		return err
	})
	n.pasts[peer] = at
	return taken, err
}

func (n *node) Lost(name string, dots crdt.Clock) {
	n.lost += int(dots.Count())
	must(n.batch(name, func(b *replica.Batch) error { return b.MarkUnknown(dots) }))
}

// snapshot is a namespace's state as a session reads it.
type snapshot struct {
	*replica.View
	self    crdt.ReplicaID
	snap    store.Snapshot
	listing *replica.View
}

func (s *snapshot) Self() crdt.ReplicaID    { return s.self }
func (s *snapshot) Keys() uint64            { return s.Counts().Keys }
func (s *snapshot) Root() ([32]byte, error) { return s.View.Root() }
func (s *snapshot) RootWithin(scope replica.Scope) ([32]byte, uint64, error) {
	return s.View.RootWithin(scope)
}
func (s *snapshot) Sketch() (*replica.Sketch, error) { return s.View.Sketch(nil) }
func (s *snapshot) Err() error                       { return s.snap.Err() }
func (s *snapshot) Release()                         { s.snap.Release() }

func (s *snapshot) Missing(have crdt.Clock, lost func(crdt.Dot)) versionSeq {
	return s.listing.Missing(have, lost)
}

// grow makes keys of some 200 bytes, which no compression makes shorter, under
// a prefix.
func (n *node) grow(name, prefix string, count int) {
	for i := range count {
		n.write(name, fmt.Sprintf("%s%03d", prefix, i), string(noise(200, n.id, byte(i))))
	}
}

func noise(size int, seed ...byte) []byte {
	var key [32]byte
	copy(key[:], seed)
	b := make([]byte, size)
	rand.NewChaCha8(key).Read(b)
	return b
}

// history makes two nodes that have met and then wrote apart: new keys, keys
// both wrote, keys one deleted and the other changed, overwritten and deleted
// ones that the other has never seen.
func history(t testing.TB) (a, b *node) {
	t.Helper()
	w := newWorld()
	a, b = newNode(w, 1, "ns"), newNode(w, 2, "ns")
	a.grow("ns", "old", 12)
	b.write("ns", "shared", "first")
	mustSync(t, a, b)
	for i := range 6 {
		a.write("ns", fmt.Sprintf("old%03d", i), "changed by a")
	}
	b.write("ns", "old000", "changed by b")
	a.remove("ns", "old007")
	b.remove("ns", "old008")
	b.write("ns", "old007", "changed while a deleted it")
	a.remove("ns", "shared")
	a.grow("ns", "only-a", 10)
	b.grow("ns", "only-b", 10)
	a.write("ns", "short", "lived")
	a.remove("ns", "short")
	b.write("ns", "only-b001", "second")
	b.write("ns", "only-b001", "third")
	b.remove("ns", "only-b002")
	a.put("ns", map[string][]byte{"tx1": []byte("one"), "tx2": []byte("two"), "only-a001": nil})
	return a, b
}
