package chunk_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"bzzz/store"
	"bzzz/store/chunk"
	"bzzz/store/fault"
	"bzzz/store/mem"
)

// The race between storing and collecting, at the granularity of transactions:
// in each history two uploads of one content, uploads of others that share
// chunks with it, records that are written, copied and deleted, transfers from
// a peer and collections take turns in an order that a seed draws, and the
// process dies now and then. After every transaction an oracle looks whether
// every blob that a record names and that was whole is whole still.

// Planted bugs: what the test must not let pass.
type bug byte

const (
	none           bug = iota
	dedupByLooking     // an ingest leaves out a chunk that a look found, instead of putting it
	noLease            // an upload takes no lease
	noTail             // a sweep does not look at what was linked since the marks
	markFirst          // records are marked before the epoch is raised
	noFresh            // a sweep does not look at the manifests stored since the marks
	leaseAnew          // an upload renews a lease that ran out by beginning it again
	bugs
)

var bugNames = [...]string{"none", "dedup by looking", "no lease", "no tail", "marks first", "no fresh manifests", "lease begun again"}

const (
	historySteps = 70
	leaseTime    = 9 // ticks; some uploads take longer
)

// history is one run.
type history struct {
	kv    *mem.Store
	rng   *rand.Rand
	bug   bug
	now   int64 // ticks
	blobs []blobSpec
	whole map[chunk.Digest]bool // was whole while a record named it
	tasks []*task

	crashes, swept, seals, refused int
}

// blobSpec is a content that takes part.
type blobSpec struct {
	chunks []chunk.Chunk
	m      *chunk.Manifest
}

// task is something that takes several transactions. step does the next one
// and tells whether it was the last.
type task struct {
	name string
	step func() (done bool, err error)
}

// records: key -> blob digest; log: number u64 -> blob digest.
const (
	bucketRecords = "records"
	bucketLog     = "log"
)

func newHistory(seed uint64, planted bug, blobs []blobSpec) *history {
	h := &history{kv: mem.New(), rng: rand.New(rand.NewPCG(seed, 77)), bug: planted, blobs: blobs, whole: map[chunk.Digest]bool{}}
	if err := h.kv.Update(func(tx store.Tx) error {
		for _, name := range []string{bucketRecords, bucketLog} {
			if _, err := tx.CreateBucket(name, store.Ordered); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		panic(err)
	}
	return h
}

// specs are five contents over eleven chunks: some share chunks, one repeats
// one.
func specs() []blobSpec {
	var pool []chunk.Chunk
	for i := range 11 {
		c, err := chunk.NewChunk([]byte(fmt.Sprint("chunk ", i)))
		if err != nil {
			panic(err)
		}
		pool = append(pool, c)
	}
	var out []blobSpec
	for _, pick := range [][]int{{0, 1, 2, 3}, {2, 3, 4}, {5, 0, 5}, {6, 7, 8, 9}, {10}} {
		var s blobSpec
		var refs []chunk.Ref
		for _, i := range pick {
			s.chunks = append(s.chunks, pool[i])
			refs = append(refs, pool[i].Ref())
		}
		m, err := chunk.NewManifest(refs)
		if err != nil {
			panic(err)
		}
		s.m = m
		out = append(out, s)
	}
	return out
}

var errDied = errors.New("the process died")

// write is one transaction; the process may die in it, before or after the
// commit.
func (h *history) write(fn func(tx store.Tx, w *chunk.Writer) error) error {
	var kv store.KV = h.kv
	dies := h.rng.IntN(120) == 0
	if dies {
		kind := fault.CrashBefore
		if h.rng.IntN(2) == 0 {
			kind = fault.CrashAfter
		}
		kv = fault.Wrap(h.kv, &fault.Plan{At: map[int]fault.Kind{1: kind}})
	}
	err := kv.Update(func(tx store.Tx) error {
		w, err := space.Writer(tx)
		if err != nil {
			return err
		}
		if err := fn(tx, w); err != nil {
			return err
		}
		return w.Finish()
	})
	if errors.Is(err, fault.ErrInjected) {
		h.crashes++
		h.kv, h.tasks = mem.FromImage(h.kv.Image()), nil
		return errDied
	}
	return err
}

// link writes a record.
func link(tx store.Tx, key string, d chunk.Digest) error {
	log := tx.Bucket(bucketLog)
	number := uint64(1)
	if k, _ := log.Cursor().Last(); k != nil {
		number = binary.BigEndian.Uint64(k) + 1
	}
	if err := log.Put(binary.BigEndian.AppendUint64(nil, number), d[:]); err != nil {
		return err
	}
	return tx.Bucket(bucketRecords).Put([]byte(key), d[:])
}

func (h *history) key() string { return fmt.Sprint("k", h.rng.IntN(4)) }

// upload cuts a content into several transactions and links it in the last.
func (h *history) upload(s blobSpec) *task {
	id, next, key := chunk.LeaseID{}, 0, h.key()
	binary.BigEndian.PutUint64(id[:], h.rng.Uint64())
	step := func() (bool, error) {
		if next < len(s.chunks) {
			n := min(1+h.rng.IntN(2), len(s.chunks)-next)
			err := h.write(func(tx store.Tx, w *chunk.Writer) error {
				if h.bug != noLease {
					if err := h.lease(w, id, next == 0); err != nil {
						return err
					}
				}
				for _, c := range s.chunks[next : next+n] {
					if h.bug == dedupByLooking && w.Has(c.Ref()) {
						continue
					}
					if _, err := w.Put(c); err != nil {
						return err
					}
				}
				return nil
			})
			next += n
			return false, err
		}
		err := h.write(func(tx store.Tx, w *chunk.Writer) error {
			var err error
			if h.bug == noLease {
				err = w.PutManifest(s.m)
			} else {
				err = w.Seal(id, s.m)
			}
			if err != nil {
				return err
			}
			return link(tx, key, s.m.Digest())
		})
		if errors.Is(err, chunk.ErrUnavailable) { // the lease ran out
			h.refused++
			next = 0
			return false, nil
		}
		if err == nil {
			h.seals++
			h.whole[s.m.Digest()] = true
		}
		return true, err
	}
	return &task{"upload", step}
}

// lease begins or renews an upload's lease.
func (h *history) lease(w *chunk.Writer, id chunk.LeaseID, first bool) error {
	expiry := time.UnixMilli(h.now + leaseTime)
	if first || h.bug == leaseAnew {
		return w.BeginLease(id, expiry)
	}
	_, err := w.RenewLease(id, expiry)
	return err
}

// transfer links a blob that a peer names, whatever is here of it, and then
// brings what is missing.
func (h *history) transfer(s blobSpec) *task {
	linked, stored, next := false, false, 0
	step := func() (bool, error) {
		switch {
		case !linked:
			linked = true
			return false, h.write(func(tx store.Tx, _ *chunk.Writer) error { return link(tx, h.key(), s.m.Digest()) })
		case !stored:
			stored = true
			return false, h.write(func(_ store.Tx, w *chunk.Writer) error { return w.PutManifest(s.m) })
		}
		var missing []int
		h.view(func(r *chunk.Reader) { missing, next = r.Missing(s.m, next, 1) })
		if len(missing) == 0 {
			return true, nil
		}
		return false, h.write(func(_ store.Tx, w *chunk.Writer) error {
			_, err := w.Put(s.chunks[missing[0]])
			return err
		})
	}
	return &task{"transfer", step}
}

// collect is a whole collection: epoch, marks a record a transaction, sweeps.
func (h *history) collect() *task {
	var c *chunk.Collection
	var seen uint64 // log records
	var at []byte   // record to mark next
	marked := false
	begin := func() error {
		return h.write(func(tx store.Tx, w *chunk.Writer) (err error) {
			c, err = w.BeginCollection(time.UnixMilli(h.now))
			if k, _ := tx.Bucket(bucketLog).Cursor().Last(); k != nil {
				seen = binary.BigEndian.Uint64(k)
			}
			return err
		})
	}
	step := func() (bool, error) {
		switch {
		case c == nil:
			return false, begin()
		case !marked:
			return false, h.viewTx(func(tx store.Tx, r *chunk.Reader) error {
				cur := tx.Bucket(bucketRecords).Cursor()
				k, v := cur.Seek(append(at, 0))
				if k == nil {
					marked = true
					return nil
				}
				at = append([]byte(nil), k...)
				return c.Mark(r, chunk.CID(chunk.Digest(v)))
			})
		}
		var out chunk.Swept
		err := h.write(func(tx store.Tx, w *chunk.Writer) (err error) {
			if h.bug != noTail {
				cur := tx.Bucket(bucketLog).Cursor()
				for k, v := cur.Seek(binary.BigEndian.AppendUint64(nil, seen+1)); k != nil; k, v = cur.Next() {
					if err := c.Mark(w.Reader, chunk.CID(chunk.Digest(v))); err != nil {
						return err
					}
					seen = binary.BigEndian.Uint64(k)
				}
			}
			if h.bug == noFresh {
				chunk.SkipFresh(c, w)
			}
			out, err = c.Sweep(w, 1+h.rng.IntN(4))
			return err
		})
		h.swept += out.Chunks
		return out.Done, err
	}
	if h.bug == markFirst {
		return h.collectMarksFirst(step, &c, &marked)
	}
	return &task{"collect", step}
}

// collectMarksFirst is the planted bug: what is linked between the marks and
// the epoch is not looked at.
func (h *history) collectMarksFirst(rest func() (bool, error), c **chunk.Collection, marked *bool) *task {
	var named []chunk.Digest
	looked := false
	return &task{"collect", func() (bool, error) {
		if !looked {
			looked = true
			return false, h.viewTx(func(tx store.Tx, _ *chunk.Reader) error {
				cur := tx.Bucket(bucketRecords).Cursor()
				for k, v := cur.First(); k != nil; k, v = cur.Next() {
					named = append(named, chunk.Digest(v))
				}
				return nil
			})
		}
		if *c == nil {
			if done, err := rest(); err != nil {
				return done, err
			}
			*marked = true
			return false, h.viewTx(func(_ store.Tx, r *chunk.Reader) error {
				for _, d := range named {
					if err := (*c).Mark(r, chunk.CID(d)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return rest()
	}}
}

func (h *history) viewTx(fn func(tx store.Tx, r *chunk.Reader) error) error {
	return h.kv.View(func(tx store.Tx) error { return fn(tx, space.Reader(tx)) })
}

func (h *history) view(fn func(r *chunk.Reader)) {
	if err := h.viewTx(func(_ store.Tx, r *chunk.Reader) error { fn(r); return nil }); err != nil {
		panic(err)
	}
}

// begin draws the next thing that happens.
func (h *history) begin() {
	running := map[string]int{}
	for _, t := range h.tasks {
		running[t.name]++
	}
	switch n := h.rng.IntN(10); {
	case n < 3 && running["upload"] < 3:
		h.tasks = append(h.tasks, h.upload(h.blobs[h.rng.IntN(2)]))
	case n == 3 && running["upload"] < 3:
		h.tasks = append(h.tasks, h.upload(h.blobs[h.rng.IntN(len(h.blobs))]))
	case n == 4 && running["transfer"] == 0:
		h.tasks = append(h.tasks, h.transfer(h.blobs[h.rng.IntN(len(h.blobs))]))
	case n < 7 && running["collect"] == 0:
		h.tasks = append(h.tasks, h.collect())
	case n < 9:
		key := h.key()
		h.tasks = append(h.tasks, &task{"delete", func() (bool, error) {
			return true, h.write(func(tx store.Tx, _ *chunk.Writer) error { return tx.Bucket(bucketRecords).Delete([]byte(key)) })
		}})
	default:
		from, to := h.key(), h.key()
		h.tasks = append(h.tasks, &task{"copy", func() (bool, error) {
			return true, h.write(func(tx store.Tx, _ *chunk.Writer) error {
				v := tx.Bucket(bucketRecords).Get([]byte(from))
				if v == nil {
					return nil
				}
				return link(tx, to, chunk.Digest(v))
			})
		}})
	}
}

// step lets one task do one transaction.
func (h *history) step() error {
	h.now += int64(h.rng.IntN(4))
	if len(h.tasks) == 0 || h.rng.IntN(3) == 0 {
		h.begin()
	}
	if len(h.tasks) == 0 {
		return nil
	}
	i := h.rng.IntN(len(h.tasks))
	t := h.tasks[i]
	done, err := t.step()
	if errors.Is(err, errDied) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	if done {
		h.tasks = append(h.tasks[:i], h.tasks[i+1:]...)
	}
	return nil
}

// check is the oracle.
func (h *history) check() error {
	return h.viewTx(func(tx store.Tx, r *chunk.Reader) error {
		named := map[chunk.Digest]bool{}
		cur := tx.Bucket(bucketRecords).Cursor()
		for k, v := cur.First(); k != nil; k, v = cur.Next() {
			d := chunk.Digest(v)
			if named[d] {
				continue
			}
			named[d] = true
			switch err := r.Check(d, true); {
			case err == nil:
				h.whole[d] = true
			case h.whole[d]:
				return fmt.Errorf("a blob that a record names was whole and is not: %w", err)
			}
		}
		for d := range h.whole {
			if !named[d] {
				delete(h.whole, d)
			}
		}
		return nil
	})
}

// quiet ends everything, lets the leases run out, collects once, and looks
// whether exactly what the records name is left.
func (h *history) quiet() error {
	h.tasks, h.bug = nil, none
	h.now += leaseTime + 1
	collect := h.collect()
	for {
		done, err := collect.step()
		if errors.Is(err, errDied) {
			collect = h.collect()
			continue
		}
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	if err := h.check(); err != nil {
		return err
	}
	want := map[chunk.Digest]bool{}
	blobs := map[chunk.Digest]bool{}
	return h.viewTx(func(tx store.Tx, r *chunk.Reader) error {
		cur := tx.Bucket(bucketRecords).Cursor()
		for k, v := cur.First(); k != nil; k, v = cur.Next() {
			m, err := r.Manifest(chunk.Digest(v))
			if errors.Is(err, chunk.ErrNotFound) {
				continue // a transfer that never got there
			}
			if err != nil {
				return err
			}
			blobs[m.Digest()] = true
			for i := range m.Len() {
				if r.Has(m.Ref(i)) {
					want[m.Ref(i).Digest] = true
				}
			}
		}
		st, err := r.Stats()
		if err != nil {
			return err
		}
		if int(st.Blobs) != len(blobs) || int(st.Chunks) != len(want) || st.Leases != 0 {
			return fmt.Errorf("left are %d blobs, %d chunks, %d leases; want %d, %d, 0", st.Blobs, st.Chunks, st.Leases, len(blobs), len(want))
		}
		var found error
		err = r.Verify(func(p chunk.Problem) { found = p.Err }, func(int, int64) error { return nil })
		return errors.Join(err, found)
	})
}

// run plays a history to its end.
func (h *history) run() error {
	for range historySteps {
		if err := h.step(); err != nil {
			return err
		}
		if err := h.check(); err != nil {
			return err
		}
	}
	return h.quiet()
}

func TestIngestAgainstCollection(t *testing.T) {
	t.Parallel()
	blobs := specs()
	histories := 10_000
	if testing.Short() || raceEnabled {
		histories = 1_000
	}
	var crashes, swept, seals, refused int
	for seed := range uint64(histories) {
		h := newHistory(seed, none, blobs)
		if err := h.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		crashes, swept, seals, refused = crashes+h.crashes, swept+h.swept, seals+h.seals, refused+h.refused
	}
	t.Logf("%d histories: %d uploads sealed, %d begun again after their lease, %d chunks collected, %d crashes", histories, seals, refused, swept, crashes)
	if crashes == 0 || swept == 0 || seals == 0 || refused == 0 {
		t.Error("something never happened: the histories tested nothing")
	}
}

// TestPlantedBugsAreCaught: the oracle sees each of the ways to get it wrong.
func TestPlantedBugsAreCaught(t *testing.T) {
	t.Parallel()
	blobs := specs()
	for planted := none + 1; planted < bugs; planted++ {
		t.Run(bugNames[planted], func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(5_000) {
				if err := newHistory(seed, planted, blobs).run(); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("never caught")
		})
	}
}
