package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"bzzz/engine"
	"bzzz/store/fault"
	"bzzz/store/mem"
)

// TestUploadGoesOn: an upload whose source fails changes nothing but what is
// stored, and the next one writes the rest alone.
func TestUploadGoesOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	data := noise(6, 20<<20)
	boom := errors.New("boom")
	if err := db.Put(ctx, []byte("k"), []byte("old")); err != nil {
		t.Fatal(err)
	}
	err := db.PutReader(ctx, []byte("k"), io.MultiReader(bytes.NewReader(data[:13<<20]), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	wantValue(t, db, "k", []byte("old"))
	st := blobStats(t, db)
	if st.Leases != 1 || st.Bytes < 7<<20 || st.Blobs != 0 {
		t.Fatalf("the failed upload left %+v", st)
	}
	if c := forget(t, db); c.Chunks != 0 {
		t.Errorf("collected %+v while the lease lasts", c)
	}
	if err := db.PutReader(ctx, []byte("k"), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	wantValue(t, db, "k", data)
	if st := blobStats(t, db); st.Bytes != uint64(len(data)) || st.Leases != 0 {
		t.Errorf("stats %+v, want %d bytes and no lease", st, len(data))
	}
	canceled, cancel := context.WithCancel(ctx)
	err = db.PutReader(canceled, []byte("k"), io.MultiReader(bytes.NewReader(noise(7, 9<<20)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wantValue(t, db, "k", data)
	if c := forget(t, db); c.Leases != 1 {
		t.Errorf("collected %+v, want one lease left", c)
	}
	if err := db.PutReader(ctx, []byte("k"), bytes.NewReader(noise(7, 100_000))); err != nil {
		t.Fatal(err)
	}
	if c := forget(t, db); c.Leases != 0 || blobStats(t, db).Bytes != 100_000 {
		t.Errorf("collected %+v after the key was written in one commit, left %+v", c, blobStats(t, db))
	}
	wantNoProblem(t, db)
}

// TestTwoUploadsToOneKey: they do not share a lease, and one of them wins.
func TestTwoUploadsToOneKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	held, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		slow := readerFunc(func([]byte) (int, error) {
			close(held)
			<-free
			return 0, io.EOF
		})
		if err := db.PutReader(ctx, []byte("k"), io.MultiReader(bytes.NewReader(noise(50, 13<<20)), slow)); err != nil {
			t.Error(err)
		}
	})
	<-held
	if err := db.PutReader(ctx, []byte("k"), bytes.NewReader(noise(51, 13<<20))); err != nil {
		t.Error(err)
	}
	if c := forget(t, db); c.Leases != 1 || c.Chunks != 0 {
		t.Errorf("collected %+v while an upload runs", c)
	}
	close(free)
	wg.Wait()
	wantValue(t, db, "k", noise(50, 13<<20))
	if c := forget(t, db); c.Leases != 0 || blobStats(t, db).Bytes != 13<<20 {
		t.Errorf("collected %+v, left %+v", c, blobStats(t, db))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestLeaseRunsOut: what a cut upload left is garbage a day later; an upload
// that stood still that long is told to begin again; one that goes on renews.
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := open(t, "", &engine.Options{Memory: true, SweepInterval: -1})
		stall := func(d time.Duration, collect bool) io.Reader {
			return readerFunc(func([]byte) (int, error) {
				time.Sleep(d)
				if collect {
					forget(t, db)
				}
				return 0, io.EOF
			})
		}
		data := noise(8, 13<<20)
		if err := db.PutReader(ctx, []byte("slow"), io.MultiReader(bytes.NewReader(data), stall(23*time.Hour, true))); err != nil {
			t.Fatalf("an upload of 23 hours: %v", err)
		}
		err := db.PutReader(ctx, []byte("slower"), io.MultiReader(bytes.NewReader(noise(9, 13<<20)), stall(25*time.Hour, true)))
		if !errors.Is(err, engine.ErrUnavailable) {
			t.Fatalf("an upload of 25 hours, collected meanwhile: got %v, want unavailable", err)
		}
		if err := db.PutReader(ctx, []byte("slower"), io.MultiReader(bytes.NewReader(noise(9, 13<<20)), stall(25*time.Hour, false))); err != nil {
			t.Fatalf("an upload of 25 hours, not collected: %v", err)
		}
		err = db.PutReader(ctx, []byte("cut"), io.MultiReader(bytes.NewReader(noise(10, 13<<20)), iotest.ErrReader(io.ErrUnexpectedEOF)))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		if c := forget(t, db); c.Chunks == 0 {
			t.Errorf("collected %+v a day after the cut", c)
		}
		wantValue(t, db, "slow", data)
		wantValue(t, db, "slower", noise(9, 13<<20))
		if st := blobStats(t, db); st.Bytes != 26<<20 || st.Leases != 0 {
			t.Errorf("stats %+v", st)
		}
		wantNoProblem(t, db)
	})
}

func TestConditionalUpload(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	seen := token(db, []byte("k"))
	if err := db.PutReader(ctx, []byte("k"), bytes.NewReader(noise(11, 6<<20)), engine.IfSeen(seen)); err != nil {
		t.Fatal(err)
	}
	err := db.PutReader(ctx, []byte("k"), bytes.NewReader(noise(12, 6<<20)), engine.IfSeen(seen))
	conflict, ok := errors.AsType[*engine.Conflict](err)
	if !ok || conflict.Current.Shown[0].Size != 6<<20 || string(conflict.Current.Key) != "k" {
		t.Fatalf("got %v, want a conflict that shows the value", err)
	}
	wantValue(t, db, "k", noise(11, 6<<20))
	if st := blobStats(t, db); st.Leases != 0 {
		t.Errorf("the refused upload left %d leases", st.Leases)
	}
	forget(t, db)
	if st := blobStats(t, db); st.Bytes != 6<<20 {
		t.Errorf("stats %+v", st)
	}
	if err := db.Put(ctx, []byte("k"), nil, engine.IfSeen(seen)); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("put: %v, want conflict", err)
	}
}

// TestUploadsAgainstCollection runs writers of the same contents, deletes and
// collections at once: what a key shows is always wholly there.
func TestUploadsAgainstCollection(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	contents := [][]byte{noise(20, 100_000), noise(21, 5<<20), noise(22, 9<<20)}
	contents = append(contents, append(noise(23, 70_000), contents[1]...))
	var wg sync.WaitGroup
	done := make(chan struct{})
	var collected engine.CollectReport
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			c, err := db.Collect(ctx, engine.Retention{Versions: -1, Age: -1})
			if err != nil {
				t.Error(err)
				return
			}
			collected.Chunks += c.Chunks
		}
	})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 5))
			for range 15 {
				key := fmt.Sprintf("k%d", rng.IntN(3))
				data := contents[rng.IntN(len(contents))]
				if err := db.PutReader(ctx, []byte(key), bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
				if _, err := readAll(db, key); err != nil && !errors.Is(err, engine.ErrNotFound) {
					t.Error(err)
				}
				if rng.IntN(2) == 0 {
					if err := db.Delete(ctx, []byte(key)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	wg.Wait()
	if collected.Chunks == 0 {
		t.Error("nothing was ever collected")
	}
	wantNoProblem(t, db)
}

// TestUploadAcrossACrash lets the process die at every commit of an upload,
// before and after it: the old value or the new one is there, and the upload
// made again writes what is missing.
func TestUploadAcrossACrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	data := noise(30, 13<<20)
	died := 0
	for at := 1; ; at++ {
		ended := false
		for _, kind := range []fault.Kind{fault.CrashBefore, fault.CrashAfter} {
			first := mem.New()
			db := open(t, "", &engine.Options{Store: first})
			if err := errors.Join(db.Put(ctx, []byte("k"), noise(31, 100_000)), db.Close()); err != nil {
				t.Fatal(err)
			}
			back := mem.FromImage(first.Image())
			kv := fault.Wrap(back, &fault.Plan{At: map[int]fault.Kind{at: kind}})
			db, err := engine.Open(t.TempDir(), &engine.Options{Store: kv, RuntimeDir: "-"})
			if err != nil {
				t.Fatal(err)
			}
			err = db.PutReader(ctx, []byte("k"), bytes.NewReader(data))
			if err == nil {
				ended = true
			} else if died++; !errors.Is(err, fault.ErrInjected) {
				t.Fatal(err)
			}
			_ = db.Close() // dead already
			db = open(t, "", &engine.Options{Store: mem.FromImage(back.Image())})
			wantNoProblem(t, db)
			if got, err := db.Get(ctx, []byte("k")); err != nil || len(got) != 100_000 && len(got) != len(data) {
				t.Errorf("crash %v at %d: the key holds %d bytes, %v", kind, at, len(got), err)
			}
			if err := db.PutReader(ctx, []byte("k"), bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			wantValue(t, db, "k", data)
			if st := blobStats(t, db); st.Bytes != uint64(len(data)+100_000) {
				t.Errorf("crash %v at %d: %d bytes are stored, want each once", kind, at, st.Bytes)
			}
		}
		if ended {
			break
		}
	}
	if died < 8 {
		t.Errorf("only %d crashes", died)
	}
}
