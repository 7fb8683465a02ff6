package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/engine"
)

// The DB collects by itself what its retention does not keep.
func TestCollectsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := engine.Open("", &engine.Options{
			Memory: true, SweepInterval: -1, CollectInterval: time.Hour,
			Retention: engine.Retention{Versions: -1, Age: -1, TombstoneAge: 90 * time.Minute},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for range 5 {
			if err := db.Put(ctx, []byte("k"), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Delete(ctx, []byte("k")); err != nil {
			t.Fatal(err)
		}
		for i, want := range []uint64{1, 1, 0} { // after a half, one and a half, and two and a half hours
			time.Sleep(30 * time.Minute * time.Duration(1+min(i, 1)))
			synctest.Wait()
			s, err := db.Stats(ctx)
			if err != nil || s.Namespaces[0].Tombstones != want {
				t.Fatalf("step %d: %d deletes are held (%v), want %d", i, s.Namespaces[0].Tombstones, err, want)
			}
		}
	})
}
