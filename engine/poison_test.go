package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/fault"
	"bzzz/store/mem"
)

// opening is how many commits the first open of a store makes: its layout and
// the default namespace.
const opening = 2

// restartable is a store that can be opened again after its end.
type restartable struct {
	name string
	open func() store.KV
}

// backs returns fresh stores to put faults on.
func backs(t testing.TB) []restartable {
	image := mem.New()
	path := filepath.Join(t.TempDir(), "s.db")
	return []restartable{
		{"mem", func() store.KV {
			image = mem.FromImage(image.Image())
			return image
		}},
		{"bolt", func() store.KV {
			s, err := bolt.Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}},
	}
}

func openOn(t testing.TB, kv store.KV) *engine.DB {
	t.Helper()
	db, err := engine.Open("", &engine.Options{Store: kv, RuntimeDir: "-", SweepInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// everyCall runs every kind of call and returns its error by name.
func everyCall(db *engine.DB) map[string]error {
	ctx := context.Background()
	k := []byte("k")
	out := map[string]error{
		"Put": db.Put(ctx, k, nil), "Delete": db.Delete(ctx, k), "Flush": db.Flush(ctx),
		"Update": db.Update(ctx, func(*engine.Txn) error { return nil }), "PutIf": db.PutIf(ctx, k, nil, engine.NoToken),
		"DeleteIf": db.DeleteIf(ctx, k, engine.NoToken), "DropNamespace": db.DropNamespace(ctx, "other"),
		"Counter.Add": db.Counter(k).Add(ctx, 1), "SetResolver": db.SetResolver(ctx, k, "mv"),
		"RestoreKey": db.RestoreKey(ctx, k, engine.StepsBack(1)),
	}
	_, out["Get"] = db.Get(ctx, k)
	_, out["GetAll"] = db.GetAll(ctx, k)
	_, out["GetAt"] = db.GetAt(ctx, k, engine.AtTime(time.Now()))
	_, out["History"] = db.History(ctx, k)
	_, out["State"] = db.State(ctx)
	_, out["Snapshot"] = db.Snapshot(ctx)
	_, out["Namespaces"] = db.Namespaces(ctx)
	_, out["OpenNamespace"] = db.OpenNamespace(ctx, "default")
	_, out["CreateNamespace"] = db.CreateNamespace(ctx, "new")
	_, out["Restore"] = db.Restore(ctx, k, engine.AtTime(time.Now()))
	_, out["Watch"] = db.Watch(ctx, nil, "")
	_, out["Stats"] = db.Stats(ctx)
	_, out["Verify"] = db.Verify(ctx, nil)
	_, out["Collect"] = db.Collect(ctx, engine.Retention{})
	_, out["DeletePrefix"] = db.DeletePrefix(ctx, k)
	_, out["Counter.Value"] = db.Counter(k).Value(ctx)
	_, out["WriteBundle"] = db.WriteBundle(ctx, io.Discard, engine.Mark{})
	_, out["ReadBundle"] = db.ReadBundle(ctx, strings.NewReader(""))
	for _, err := range db.Scan(ctx, engine.Range{}) {
		out["Scan"] = err
	}
	for _, err := range db.Diff(ctx, nil, engine.Point{}, engine.AtTime(time.Now())) {
		out["Diff"] = err
	}
	for _, err := range db.Conflicts(ctx, nil) {
		out["Conflicts"] = err
	}
	for name, call := range map[string]func(context.Context, io.ReadWriteCloser, engine.SyncOptions) (engine.SyncReport, error){
		"Sync": db.Sync, "ServeSync": db.ServeSync,
	} {
		a, b := net.Pipe()
		_, out[name] = call(ctx, a, engine.SyncOptions{})
		b.Close()
	}
	return out
}

func TestFailedCommitPoisons(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.FailBefore, fault.FailAfter} {
		for _, back := range backs(t) {
			t.Run(fmt.Sprint(back.name, "/", kind), func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				// Behind "acked" and the agreement with the peer.
				kv := fault.Wrap(back.open(), &fault.Plan{At: map[int]fault.Kind{opening + 3: kind}})
				db := openOn(t, kv)
				if err := db.Put(ctx, []byte("acked"), []byte("1")); err != nil {
					t.Fatal(err)
				}
				snap, err := db.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				ended := waiting(t, db)
				if err := db.Put(ctx, []byte("failed"), []byte("2")); !errors.Is(err, engine.ErrPoisoned) || !errors.Is(err, fault.ErrInjected) {
					t.Fatalf("got %v, want poisoned and its cause", err)
				}
				for name, err := range everyCall(db) {
					if !errors.Is(err, engine.ErrPoisoned) {
						t.Errorf("%s: got %v, want poisoned", name, err)
					}
				}
				if _, err := snap.Get([]byte("acked")); !errors.Is(err, engine.ErrPoisoned) {
					t.Errorf("held snapshot: got %v, want poisoned", err)
				}
				snap.Close()
				for range cap(ended) {
					if err := <-ended; !errors.Is(err, engine.ErrPoisoned) && !errors.Is(err, engine.ErrUnavailable) {
						t.Errorf("a call that waited: got %v, want poisoned", err)
					}
				}
				if err := errors.Join(db.Close(), db.Close()); err != nil {
					t.Fatal(err)
				}
				reopened(t, openOn(t, back.open()), kind == fault.FailAfter)
			})
		}
	}
}

// waiting starts calls that wait for something to happen, and returns how they
// end: a watch, and both ends of a live sync.
func waiting(t *testing.T, db *engine.DB) <-chan error {
	ctx := context.Background()
	ended := make(chan error, 2)
	w, err := db.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := w.Next(ctx)
		w.Close()
		ended <- err
	}()
	peer := open(t, "", &engine.Options{Memory: true})
	live := make(chan struct{}, 2)
	reconciled := func() { live <- struct{}{} } // both ends call it
	go func() {
		_, _, err := engine.SyncLocal(ctx, db, peer, engine.SyncOptions{
			Live: true, OnReconciled: func(engine.SyncReport) { reconciled() },
		})
		ended <- err
	}()
	<-live
	<-live
	return ended
}

// reopened checks a store that was poisoned after "acked".
func reopened(t *testing.T, db *engine.DB, kept bool) {
	t.Helper()
	ctx := context.Background()
	defer db.Close()
	if v, err := db.Get(ctx, []byte("acked")); err != nil || string(v) != "1" {
		t.Fatalf("acknowledged write: %q, %v", v, err)
	}
	if _, err := db.Get(ctx, []byte("failed")); (err == nil) != kept {
		t.Fatalf("failed write: %v, in the store: %v", err, kept)
	}
	if err := db.Put(ctx, []byte("failed"), []byte("3")); err != nil {
		t.Fatal(err)
	}
	if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) > 0 {
		t.Fatalf("verify: %v %v", err, r.Problems)
	}
}

// hold occupies the committer until release is called; what is called
// meanwhile waits and then shares one commit.
func hold(t *testing.T, db *engine.DB) (release func()) {
	t.Helper()
	wait, done := make(chan struct{}), make(chan error)
	go func() {
		done <- db.Update(context.Background(), func(*engine.Txn) error { <-wait; return nil })
	}()
	synctest.Wait()
	return func() {
		close(wait)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAllMembersOfAGroupHearOfItsFailure(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.FailBefore, fault.FailAfter, fault.Error, fault.CrashBefore, fault.CrashAfter} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				back := mem.New()
				kv := fault.Wrap(back, &fault.Plan{At: map[int]fault.Kind{opening + 2: kind}})
				db := openOn(t, kv)
				release := hold(t, db)
				var wg sync.WaitGroup
				errs := make([]error, 50)
				for i := range errs {
					wg.Go(func() { errs[i] = db.Put(context.Background(), fmt.Appendf(nil, "k%d", i), nil) })
				}
				synctest.Wait()
				release()
				wg.Wait()
				for i, err := range errs {
					if !errors.Is(err, fault.ErrInjected) {
						t.Errorf("writer %d: got %v", i, err)
					}
				}
				if n := kv.Counts().Updates; n != opening+2 {
					t.Fatalf("%d commits, want %d: the group was no group", n, opening+2)
				}
				poisoned := kind == fault.FailBefore || kind == fault.FailAfter
				err := db.Put(context.Background(), []byte("later"), nil)
				if errors.Is(err, engine.ErrPoisoned) != poisoned || kind == fault.Error && err != nil {
					t.Errorf("later: got %v", err)
				}
				if err := db.Close(); err != nil && kind == fault.Error {
					t.Fatal(err)
				}
				after := openOn(t, mem.FromImage(back.Image()))
				defer after.Close()
				n := 0
				for _, err := range after.Scan(context.Background(), engine.Range{Prefix: []byte("k")}) {
					if n++; err != nil {
						t.Fatal(err)
					}
				}
				if want := map[bool]int{true: 50}[kind == fault.FailAfter || kind == fault.CrashAfter]; n != want {
					t.Fatalf("%d of 50 writes are in the store, want %d", n, want)
				}
			})
		})
	}
}

func TestABadMemberDropsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, background := context.Background(), context.Background()
		kv := fault.Wrap(mem.New(), nil)
		db := openOn(t, kv)
		defer db.Close()
		release := hold(t, db)
		before := kv.Counts().Updates
		boom := errors.New("boom")
		canceled, cancel := context.WithCancel(ctx)
		within, cancelWithin := context.WithCancel(ctx)
		// Each member writes one key of its own and one that all write.
		member := func(ctx context.Context, name string, then func(*engine.Txn) error) error {
			return db.Update(ctx, func(tx *engine.Txn) error {
				if err := errors.Join(tx.Put([]byte(name), nil), tx.Put([]byte("shared"), []byte(name))); err != nil {
					return err
				}
				return then(tx)
			})
		}
		fine := func(*engine.Txn) error { return nil }
		members := []struct {
			name string
			run  func() error
			want error
		}{
			{"good 1", func() error { return member(ctx, "good 1", fine) }, nil},
			{"bad error", func() error { return member(ctx, "bad error", func(*engine.Txn) error { return boom }) }, boom},
			{"bad panic", func() (err error) {
				defer func() {
					if r := recover(); r != nil && strings.Contains(fmt.Sprint(r), "ouch") {
						err = boom
					}
				}()
				return member(ctx, "bad panic", func(*engine.Txn) error { panic("ouch") })
			}, boom},
			{"bad canceled", func() error { return member(canceled, "bad canceled", fine) }, context.Canceled},
			{"bad canceled within", func() error {
				return member(within, "bad canceled within", func(*engine.Txn) error { cancelWithin(); return nil })
			}, context.Canceled},
			{"bad too large", func() error {
				return member(ctx, "bad too large", func(tx *engine.Txn) error { return tx.Put([]byte("v"), make([]byte, 16<<20)) })
			}, engine.ErrTooLarge},
			{"bad call", func() error {
				return member(ctx, "bad call", func(tx *engine.Txn) error { return db.Put(tx.Context(), []byte("v"), nil) })
			}, engine.ErrInvalid},
			{"good 2", func() error { return member(ctx, "good 2", fine) }, nil},
		}
		var wg sync.WaitGroup
		for _, m := range members {
			wg.Go(func() {
				if err := m.run(); !errors.Is(err, m.want) || err == nil != (m.want == nil) {
					t.Errorf("%s: got %v, want %v", m.name, err, m.want)
				}
			})
			synctest.Wait() // in this order
		}
		cancel()
		release()
		wg.Wait()
		if n := kv.Counts().Updates - before; n != 1 {
			t.Fatalf("%d commits, want 1", n)
		}
		var got []string
		for e, err := range db.Scan(background, engine.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(e.Key))
		}
		if want := []string{"good 1", "good 2", "shared"}; !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if h, err := db.History(background, []byte("shared")); err != nil || len(h) != 2 || string(h[0].Value) != "good 2" {
			t.Fatalf("history %v, %v", h, err)
		}
		if r, err := db.Verify(background, nil); err != nil || len(r.Problems) > 0 {
			t.Fatalf("verify: %v %v", err, r.Problems)
		}
	})
}

func TestCloseAnswersEveryWaitingWriter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { closeUnderLoad(t, seed) })
		})
	}
}

func closeUnderLoad(t *testing.T, seed uint64) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(seed, 2))
	back := mem.New()
	db, err := engine.Open("", &engine.Options{Store: back, RuntimeDir: "-", SweepInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Put(ctx, []byte("soon gone"), nil, engine.TTL(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	release := hold(t, db)
	errs := make([]error, 200+rng.IntN(200)) // more than the queue takes
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			if i%3 == 0 {
				_, errs[i] = db.CreateNamespace(ctx, fmt.Sprint("ns", i))
				return
			}
			errs[i] = db.Put(ctx, fmt.Appendf(nil, "k%d", i), nil)
		})
	}
	time.Sleep(5 * time.Millisecond) // the sweeper waits in the queue too
	if seed%2 == 0 {
		wg.Go(func() { db.Close() })
		synctest.Wait()
		release()
	} else {
		release()
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	after := openOn(t, mem.FromImage(back.Image()))
	defer after.Close()
	for i, err := range errs {
		var found error
		if i%3 == 0 {
			_, found = after.OpenNamespace(ctx, fmt.Sprint("ns", i))
		} else {
			_, found = after.Get(ctx, fmt.Appendf(nil, "k%d", i))
		}
		switch {
		case err != nil && !errors.Is(err, engine.ErrClosed):
			t.Errorf("writer %d: got %v, want nil or closed", i, err)
		case (err == nil) != (found == nil):
			t.Errorf("writer %d was told %v, the store says %v", i, err, found)
		}
	}
	for name, err := range everyCall(db) {
		if !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s after Close: got %v, want closed", name, err)
		}
	}
}

// The outcome of a commit under way is awaited whatever the context does.
func TestStalledCommitIsAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kv := fault.Wrap(mem.New(), &fault.Plan{Seed: 1, Rate: 1, Kinds: []fault.Kind{fault.Delay}, MaxDelay: time.Minute})
		db := openOn(t, kv)
		defer db.Close()
		var wg sync.WaitGroup
		errs := make([]error, 300)
		for i := range errs {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Second)
				defer cancel()
				errs[i] = db.Put(ctx, fmt.Appendf(nil, "k%d", i), nil)
			})
			if i%20 == 0 {
				time.Sleep(time.Second)
			}
		}
		wg.Wait()
		written, refused := 0, 0
		for i, err := range errs {
			_, found := db.Get(context.Background(), fmt.Appendf(nil, "k%d", i))
			if (err == nil) != (found == nil) {
				t.Errorf("writer %d was told %v, the store says %v", i, err, found)
			}
			if err == nil {
				written++
			} else if refused++; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("writer %d: %v", i, err)
			}
		}
		if written == 0 || refused == 0 {
			t.Fatalf("%d written, %d refused: the delays did nothing", written, refused)
		}
	})
}

// Random faults, a restart after each that ends the service: what was
// acknowledged is there, what failed without poison is not, nothing is torn.
func TestRandomCommitFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomFaults(t, seed) })
		})
	}
}

func randomFaults(t *testing.T, seed uint64) {
	ctx := context.Background()
	const writers = 4
	back := mem.New()
	var acked, maybe [writers]int // numbers of each writer's last transactions
	faults := 0
	for round := range uint64(25) {
		kv := fault.Wrap(back, &fault.Plan{
			Seed: seed<<8 | round, Rate: 0.2, MaxDelay: time.Second,
			Kinds: []fault.Kind{fault.FailBefore, fault.FailAfter, fault.CrashBefore, fault.CrashAfter, fault.Error, fault.Delay},
		})
		db, err := engine.Open("", &engine.Options{Store: kv, RuntimeDir: "-", SweepInterval: -1})
		if err == nil {
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() { acked[w], maybe[w] = writeUntilItEnds(db, w, max(acked[w], maybe[w])) })
			}
			wg.Wait()
			err = db.Close()
		}
		counts := kv.Counts()
		faults += counts.Updates - counts.Faults[fault.Healthy]
		back = mem.FromImage(back.Image())
		db = openOn(t, back)
		for w := range writers {
			a, errA := readNumber(db.Get(ctx, fmt.Appendf(nil, "%d/a", w)))
			b, errB := readNumber(db.Get(ctx, fmt.Appendf(nil, "%d/b", w)))
			if errA != nil || errB != nil || a != b || int(a) != acked[w] && int(a) != maybe[w] {
				t.Fatalf("round %d, writer %d: got %d and %d (%v, %v), acknowledged %d, unknown %d", round, w, a, b, errA, errB, acked[w], maybe[w])
			}
			acked[w], maybe[w] = int(a), int(a)
		}
		if r, err := db.Verify(ctx, nil); err != nil || len(r.Problems) > 0 {
			t.Fatalf("verify: %v %v", err, r.Problems)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		back = mem.FromImage(back.Image())
	}
	if faults < 20 {
		t.Fatalf("%d faults: tested nothing", faults)
	}
}

// writeUntilItEnds counts up two keys together until the store ends the
// service. It returns the last acknowledged number and one that may be there.
func writeUntilItEnds(db *engine.DB, w, n int) (acked, maybe int) {
	acked = n
	for {
		n++
		err := db.Update(context.Background(), func(tx *engine.Txn) error {
			v := fmt.Append(nil, n)
			return errors.Join(tx.Put(fmt.Appendf(nil, "%d/a", w), v), tx.Put(fmt.Appendf(nil, "%d/b", w), v))
		})
		switch {
		case err == nil:
			acked = n
		case errors.Is(err, engine.ErrPoisoned), errors.Is(err, engine.ErrClosed):
			return acked, n
		}
	}
}

func TestReadFaultsAreErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var db *engine.DB
	for seed := uint64(0); db == nil; seed++ { // a store that could not be opened is closed
		kv := fault.Wrap(mem.New(), &fault.Plan{Seed: seed, ReadRate: 0.3})
		db, _ = engine.Open("", &engine.Options{Store: kv, RuntimeDir: "-"})
	}
	defer db.Close()
	if err := db.Put(ctx, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for range 100 {
		v, err := db.Get(ctx, []byte("k"))
		if err != nil && !errors.Is(err, fault.ErrInjected) || err == nil && string(v) != "v" {
			t.Fatalf("got %q, %v", v, err)
		}
		if err != nil {
			failed++
		}
		if _, err := db.State(ctx); err != nil && !errors.Is(err, fault.ErrInjected) {
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Fatal("no fault took place")
	}
}
