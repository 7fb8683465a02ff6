package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/mem"
)

// scrubStore returns a store in memory with n keys, and its tiles stored.
func scrubStore(t testing.TB, n int) *mem.Image {
	t.Helper()
	ctx := context.Background()
	kv := mem.New()
	db := openOn(t, kv)
	for i := range n {
		if err := db.Put(ctx, fmt.Appendf(nil, "k%04d", i), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.State(ctx); err != nil {
		t.Fatal(err)
	}
	// Collecting removes nothing so early, but brings the views up to date.
	if _, err := db.Collect(ctx, engine.Retention{}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return kv.Image()
}

// openSpoiled opens a store whose bucket was changed behind the engine's back.
func openSpoiled(t testing.TB, image *mem.Image, opts engine.Options, bucket string, spoil func(store.Bucket) error) *engine.DB {
	t.Helper()
	kv := mem.FromImage(image)
	if err := kv.Update(func(tx store.Tx) error { return spoil(tx.Bucket("n00000001/" + bucket)) }); err != nil {
		t.Fatal(err)
	}
	opts.Store, opts.SweepInterval, opts.RuntimeDir = kv, -1, "-"
	db, err := engine.Open("", &opts)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// wipe removes everything from a bucket.
func wipe(b store.Bucket) error {
	var keys [][]byte
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func scrubStats(t testing.TB, db *engine.DB) engine.ScrubStats {
	t.Helper()
	s, err := db.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s.Namespaces[0].Scrub
}

func wantClean(t testing.TB, db *engine.DB) {
	t.Helper()
	r, err := db.Verify(context.Background(), nil)
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("verify: %v, %v", r.Problems, err)
	}
}

// TestBackgroundScrub: a view that was lost is back within one interval, without
// anybody asking; the pass is remembered over a reopening.
func TestBackgroundScrub(t *testing.T) {
	t.Parallel()
	image := scrubStore(t, 1500)
	for _, bucket := range []string{"heads", "dots"} {
		synctest.Test(t, func(t *testing.T) {
			db := openSpoiled(t, image, engine.Options{ScrubInterval: 24 * time.Hour}, bucket, wipe)
			time.Sleep(25 * time.Hour)
			s := scrubStats(t, db)
			if s.Passes != 1 || s.Repaired < 1500 || s.Unrepaired+s.Asked+s.Forgotten > 0 || time.Since(s.LastPass) > 25*time.Hour {
				t.Errorf("%s: %+v", bucket, s)
			}
			if v, err := db.Get(context.Background(), []byte("k0007")); err != nil || string(v) != "7" {
				t.Errorf("%s: got %q, %v", bucket, v, err)
			}
			wantClean(t, db)
			time.Sleep(24 * time.Hour)
			if again := scrubStats(t, db); again.Passes != 2 || again.Found != s.Found {
				t.Errorf("%s: second pass: %+v", bucket, again)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScrubGoesOn: a pass goes on after a reopening where it was, and its figures
// with it.
func TestScrubGoesOn(t *testing.T) {
	t.Parallel()
	image := scrubStore(t, 5000)
	synctest.Test(t, func(t *testing.T) {
		kv := mem.FromImage(image)
		opts := engine.Options{Store: kv, RuntimeDir: "-", SweepInterval: -1, ScrubInterval: 100 * time.Hour}
		db, err := engine.Open("", &opts)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Minute)
		half := scrubStats(t, db)
		if half.Checked == 0 || half.Passes > 0 {
			t.Fatalf("%+v, want a pass under way", half)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		opts.Store = mem.FromImage(kv.Image())
		if db, err = engine.Open("", &opts); err != nil {
			t.Fatal(err)
		}
		if s := scrubStats(t, db); s.Checked < half.Checked/2 || s.Checked == 0 {
			t.Errorf("%+v after reopening, was %+v", s, half)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestReadMeetsDamage: what a read finds damaged is made anew at once.
func TestReadMeetsDamage(t *testing.T) {
	t.Parallel()
	image := scrubStore(t, 50)
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		key := []byte("k0007")
		db := openSpoiled(t, image, engine.Options{ScrubInterval: -1}, "heads", func(b store.Bucket) error {
			v := bytes.Clone(b.Get(key))
			v[3] ^= 1
			return b.Put(key, v)
		})
		if _, err := db.Get(ctx, key); !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("got %v, want corrupt", err)
		}
		synctest.Wait()
		if v, err := db.Get(ctx, key); err != nil || string(v) != "7" {
			t.Errorf("got %q, %v after the damage was met", v, err)
		}
		if s := scrubStats(t, db); s.Repaired == 0 || s.Passes > 0 {
			t.Errorf("%+v", s)
		}
		wantClean(t, db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLostRecordIsAskedFor: a version whose record cannot be read is noted when a
// read meets it, and a session brings it back.
func TestLostRecordIsAskedFor(t *testing.T) {
	t.Parallel()
	image := scrubStore(t, 50)
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		peer := openOn(t, mem.FromImage(image))
		db := openSpoiled(t, image, engine.Options{ScrubInterval: -1}, "journal", func(b store.Bucket) error {
			c := b.Cursor()
			k, v := c.First()
			bad := bytes.Clone(v)
			bad[len(bad)/2] ^= 1
			return b.Put(bytes.Clone(k), bad)
		})
		if _, err := db.Get(ctx, []byte("k0000")); !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("got %v, want corrupt", err)
		}
		synctest.Wait()
		if s := scrubStats(t, db); s.Asked != 1 {
			t.Errorf("%+v, want one version asked for", s)
		}
		syncBoth(t, db, peer)
		if v, err := db.Get(ctx, []byte("k0000")); err != nil || string(v) != "0" {
			t.Errorf("got %q, %v after a sync", v, err)
		}
		if err := errors.Join(db.Close(), peer.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestRepairReports: each problem says what became of it.
func TestRepairReports(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	image := scrubStore(t, 600)
	for _, bucket := range []string{"heads", "dots", "tree"} {
		db := openSpoiled(t, image, engine.Options{ScrubInterval: -1}, bucket, func(b store.Bucket) error {
			k, v := b.Cursor().First()
			bad := bytes.Clone(v)
			bad[len(bad)-1] ^= 1
			return b.Put(bytes.Clone(k), bad)
		})
		r, err := db.Repair(ctx, nil)
		if err != nil || len(r.Problems) == 0 || r.Checked == 0 {
			t.Fatalf("%s: %+v, %v", bucket, r, err)
		}
		for _, p := range r.Problems {
			if p.Outcome != engine.OutcomeRepaired || !errors.Is(p.Err, engine.ErrCorrupt) {
				t.Errorf("%s: %v", bucket, p)
			}
		}
		wantClean(t, db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestVerifyMisses: a key whose head vanished is not said to be absent, nor a
// scan without it to be whole, while the index is up to date.
func TestVerifyMisses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	image := scrubStore(t, 600)
	key := []byte("k0007")
	lose := func(b store.Bucket) error { return b.Delete(key) }
	scan := func(db *engine.DB, r engine.Range) (n int, err error) {
		for _, e := range db.Scan(ctx, r) {
			if err = e; e == nil {
				n++
			}
		}
		return n, err
	}
	for _, on := range []bool{true, false} {
		db := openSpoiled(t, image, engine.Options{ScrubInterval: -1, VerifyMisses: on}, "heads", lose)
		want := engine.ErrNotFound
		if on {
			want = engine.ErrCorrupt
		}
		if n, err := scan(db, engine.Range{Prefix: []byte("k00")}); n != 99 || errors.Is(err, engine.ErrCorrupt) != on {
			t.Errorf("on %v: scan of %d keys, %v", on, n, err)
		}
		if n, err := scan(db, engine.Range{Prefix: []byte("k01")}); n != 100 || err != nil {
			t.Errorf("on %v: scan of a sound range: %d keys, %v", on, n, err)
		}
		if _, err := db.Get(ctx, []byte("k0300x")); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("on %v: absent key far off: %v", on, err)
		}
		if _, err := db.Get(ctx, key); !errors.Is(err, want) {
			t.Errorf("on %v: got %v, want %v", on, err, want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
