package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/engine"
)

// put writes keys prefix0..prefix<n-1>.
func put(t testing.TB, db *engine.DB, prefix string, n int) {
	t.Helper()
	err := db.Update(context.Background(), func(tx *engine.Txn) error {
		for i := range n {
			if err := tx.Put(fmt.Appendf(nil, "%s%04d", prefix, i), fmt.Appendf(nil, "value %d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sync brings two stores together and checks that they say so.
func syncBoth(t testing.TB, a, b *engine.DB) engine.SyncReport {
	t.Helper()
	ctx := context.Background()
	ra, rb, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !ra.InSync || !rb.InSync {
		t.Fatalf("not in sync: %+v / %+v", ra.Namespaces, rb.Namespaces)
	}
	sa, err := a.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sb, err := b.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sa.Root != sb.Root || !sa.Clock.Equal(sb.Clock) {
		t.Fatal("reported in sync, but roots or clocks differ")
	}
	return ra
}

func TestSyncBothWays(t *testing.T) {
	t.Parallel()
	a, b := open(t, "", nil), open(t, "", &engine.Options{Memory: true})
	put(t, a, "a", 1000)
	put(t, b, "b", 500)
	put(t, b, "a", 10) // concurrent with a's
	r := syncBoth(t, a, b)
	if n := r.Namespaces[0]; n.Sent != 1000 || n.Received != 510 || n.Conflicts != 10 {
		t.Fatalf("report %+v", n)
	}
	if r.RoundTrips != 2 {
		t.Errorf("%d round trips, want 2", r.RoundTrips)
	}
	r = syncBoth(t, a, b)
	if r.RoundTrips != 1 || r.BytesSent+r.BytesReceived > 64 {
		t.Errorf("nothing differs: %d round trips, %d bytes, want 1 and at most 64", r.RoundTrips, r.BytesSent+r.BytesReceived)
	}
}

func TestSyncBringsNamespacesBothWays(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", nil), open(t, "", nil)
	for db, name := range map[*engine.DB]string{a: "only-a", b: "only-b"} {
		ns, err := db.CreateNamespace(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := ns.Put(ctx, []byte("k"), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	syncBoth(t, a, b)
	for _, db := range []*engine.DB{a, b} {
		for _, name := range []string{"only-a", "only-b"} {
			ns, err := db.OpenNamespace(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := ns.Get(ctx, []byte("k")); err != nil || string(v) != name {
				t.Fatalf("%s: %q %v", name, v, err)
			}
		}
	}
}

func TestRandomSyncs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			rng := rand.New(rand.NewPCG(seed, 3))
			var dbs []*engine.DB
			for range 4 {
				dbs = append(dbs, open(t, "", &engine.Options{Memory: true}))
			}
			for range 60 {
				db := dbs[rng.IntN(4)]
				key := fmt.Appendf(nil, "k%d", rng.IntN(10))
				switch rng.IntN(4) {
				case 0, 1:
					if err := db.Put(ctx, key, fmt.Appendf(nil, "%d", rng.Uint64())); err != nil {
						t.Fatal(err)
					}
				case 2:
					if err := db.Delete(ctx, key); err != nil {
						t.Fatal(err)
					}
				case 3:
					if o := dbs[rng.IntN(4)]; o != db {
						syncBoth(t, db, o)
					}
				}
			}
			for range 2 {
				for _, db := range dbs[1:] {
					syncBoth(t, dbs[0], db)
				}
			}
		})
	}
}
