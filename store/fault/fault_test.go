package fault_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/fault"
	"bzzz/store/mem"
	"bzzz/store/storetest"
)

// backs are the stores that are decorated.
var backs = map[string]func(testing.TB) store.KV{
	"mem": func(testing.TB) store.KV { return mem.New() },
	"bolt": func(t testing.TB) store.KV {
		s, err := bolt.Open(filepath.Join(t.TempDir(), "s.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	},
}

func TestSuiteWithoutFaults(t *testing.T) {
	t.Parallel()
	for name, open := range backs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t testing.TB) store.KV { return fault.Wrap(open(t), nil) })
		})
	}
}

func TestSuiteWithDelays(t *testing.T) {
	t.Parallel()
	plan := &fault.Plan{Seed: 1, Rate: 0.2, Kinds: []fault.Kind{fault.Delay, fault.Healthy}, MaxDelay: 10 * time.Microsecond}
	storetest.Run(t, func(t testing.TB) store.KV { return fault.Wrap(mem.New(), plan) })
}

func TestFailedCommitPoisons(t *testing.T) {
	t.Parallel()
	for name, open := range backs {
		for _, kind := range []fault.Kind{fault.FailBefore, fault.FailAfter} {
			t.Run(fmt.Sprint(name, kind), func(t *testing.T) {
				t.Parallel()
				storetest.Poison(t, func(t testing.TB) (store.KV, func()) {
					return fault.Wrap(open(t), &fault.Plan{At: map[int]fault.Kind{2: kind}}), func() {}
				})
			})
		}
	}
}

// put stores "v" under key and makes the bucket if need be.
func put(kv store.KV, key string) error {
	return kv.Update(func(tx store.Tx) error {
		b := tx.Bucket("b")
		if b == nil {
			var err error
			if b, err = tx.CreateBucket("b", store.Ordered); err != nil {
				return err
			}
		}
		return b.Put([]byte(key), []byte("v"))
	})
}

func has(t *testing.T, kv store.KV, key string) (found bool) {
	t.Helper()
	err := kv.View(func(tx store.Tx) error {
		b := tx.Bucket("b")
		found = b != nil && b.Get([]byte(key)) != nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFaultsAtACommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind  fault.Kind
		want  error // of the commit
		after error // of later calls
		kept  bool  // the change is in the store
	}{
		{fault.Healthy, nil, nil, true},
		{fault.FailBefore, store.ErrPoisoned, store.ErrPoisoned, false},
		{fault.FailAfter, store.ErrPoisoned, store.ErrPoisoned, true},
		{fault.CrashBefore, store.ErrClosed, store.ErrClosed, false},
		{fault.CrashAfter, store.ErrClosed, store.ErrClosed, true},
		{fault.Error, fault.ErrInjected, nil, false},
	} {
		t.Run(fmt.Sprint(tt.kind), func(t *testing.T) {
			t.Parallel()
			back := mem.New()
			kv := fault.Wrap(back, &fault.Plan{At: map[int]fault.Kind{2: tt.kind}})
			if err := put(kv, "one"); err != nil {
				t.Fatal(err)
			}
			if err := put(kv, "two"); !errors.Is(err, tt.want) {
				t.Fatalf("commit: got %v, want %v", err, tt.want)
			}
			if err := put(kv, "three"); !errors.Is(err, tt.after) {
				t.Fatalf("later: got %v, want %v", err, tt.after)
			}
			if n := kv.Counts().Faults[tt.kind]; n < 1 {
				t.Fatalf("counted %d faults", n)
			}
			restarted := mem.FromImage(back.Image())
			if got := has(t, restarted, "two"); got != tt.kept || !has(t, restarted, "one") {
				t.Fatalf("after a restart: got %v, want %v", got, tt.kept)
			}
			if err := errors.Join(kv.Close(), restarted.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDrawsDependOnTheSeedAlone(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (trace string) {
		kv := fault.Wrap(mem.New(), &fault.Plan{Seed: seed, Rate: 0.5, Kinds: []fault.Kind{fault.Error}, ReadRate: 0.3})
		for i := range 64 {
			trace += fmt.Sprint(put(kv, fmt.Sprint(i)) == nil, kv.Sync() == nil)
		}
		c := kv.Counts()
		if c.Updates != 64 || c.Faults[fault.Error] == 0 || c.ReadErrs == 0 || c.Faults[fault.Healthy]+c.Faults[fault.Error] != 64 {
			t.Errorf("seed %d: counts %+v", seed, c)
		}
		return trace
	}
	if run(7) != run(7) {
		t.Error("two runs of one seed differ")
	}
	if run(7) == run(8) {
		t.Error("two seeds agree")
	}
}

func TestDelayIsWithinItsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kv := fault.Wrap(mem.New(), &fault.Plan{At: map[int]fault.Kind{1: fault.Delay}, MaxDelay: time.Hour})
		start := time.Now()
		if err := put(kv, "k"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d <= 0 || d > time.Hour {
			t.Fatalf("took %v", d)
		}
	})
}
