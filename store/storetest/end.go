package storetest

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"bzzz/store"
)

// endTests are about Close and about use after the end.
var endTests = []test{
	{"CloseWaitsForTransactions", func(s suite) {
		in, leave := make(chan struct{}), make(chan struct{})
		closeWaits(s, in, leave, func() error {
			return s.kv.View(func(store.Tx) error { close(in); <-leave; return nil })
		})
	}},
	{"CloseWaitsForUpdates", func(s suite) {
		in, leave := make(chan struct{}), make(chan struct{})
		closeWaits(s, in, leave, func() error {
			return s.kv.Update(func(store.Tx) error { close(in); <-leave; return nil })
		})
	}},
	{"CloseWaitsForSnapshots", func(s suite) {
		in, leave := make(chan struct{}), make(chan struct{})
		closeWaits(s, in, leave, func() error {
			snap, err := s.kv.Snapshot()
			close(in)
			<-leave
			if err == nil {
				snap.Release()
			}
			return err
		})
	}},
	{"CloseIsIdempotent", func(s suite) {
		s.close()
		s.close()
	}},
	{"AfterCloseEveryCallReturnsErrClosed", func(s suite) {
		s.fill("b")
		s.close()
		none := func(store.Tx) error { s.Error("fn was called"); return nil }
		wantErr(s, "View", s.kv.View(none), store.ErrClosed)
		wantErr(s, "Update", s.kv.Update(none), store.ErrClosed)
		_, err := s.kv.Snapshot()
		wantErr(s, "Snapshot", err, store.ErrClosed)
		wantErr(s, "Sync", s.kv.Sync(), store.ErrClosed)
		if sizer, ok := s.kv.(store.Sizer); ok {
			_, _, err := sizer.Size()
			wantErr(s, "Size", err, store.ErrClosed)
		}
		s.close()
	}},
	{"TransactionUsedAfterItsEndIsClosed", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		var tx store.Tx
		var b store.Bucket
		var c store.Cursor
		hold := func(t store.Tx) {
			tx, b = t, t.Bucket("b")
			c = b.Cursor()
			c.First()
		}
		s.view(hold)
		wantEnded(s, tx, b, c)
		s.update(hold)
		wantEnded(s, tx, b, c)
		_ = s.kv.Update(func(t store.Tx) error { hold(t); return errStop })
		wantEnded(s, tx, b, c)
		snap := s.snapshot()
		hold(snap)
		snap.Release()
		wantEnded(s, tx, b, c)
	}},
}

// wantEnded fails unless nothing can be done with what a transaction left.
func wantEnded(s suite, tx store.Tx, b store.Bucket, c store.Cursor) {
	s.Helper()
	if tx.Bucket("b") != nil || b.Get([]byte("a")) != nil {
		s.Fatal("reads after the end are answered")
	}
	for range tx.Buckets() {
		s.Fatal("buckets after the end")
	}
	for _, step := range []func() ([]byte, []byte){c.First, c.Last, c.Next, c.Prev, b.Cursor().First} {
		if k, _ := step(); k != nil {
			s.Fatal("a cursor moves after the end")
		}
	}
	wantErr(s, "Put", b.Put([]byte("x"), nil), store.ErrClosed)
	wantErr(s, "Delete", b.Delete([]byte("a")), store.ErrClosed)
	_, err := tx.CreateBucket("n", store.Ordered)
	wantErr(s, "CreateBucket", err, store.ErrClosed)
	wantErr(s, "DeleteBucket", tx.DeleteBucket("b"), store.ErrClosed)
}

// closeWaits starts use, which closes in once it is inside and stays until
// leave; Close must begin to refuse others meanwhile and return afterwards.
func closeWaits(s suite, in, leave chan struct{}, use func() error) {
	var left, closed atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := use(); err != nil {
			s.Error(err)
		}
	})
	<-in
	wg.Go(func() {
		if err := s.kv.Close(); err != nil {
			s.Error(err)
		}
		if !left.Load() {
			s.Error("Close returned before the transaction ended")
		}
		closed.Store(true)
	})
	for !errors.Is(s.kv.View(func(store.Tx) error { return nil }), store.ErrClosed) {
		runtime.Gosched() // until Close has begun
	}
	if closed.Load() {
		s.Error("Close did not wait")
	}
	left.Store(true)
	close(leave)
	wg.Wait()
}
