package storetest

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"bzzz/store"
)

var kvTests = []test{
	{"ViewSeesEveryUpdateThatReturnedBefore", func(s suite) {
		defer s.close()
		s.fill("b")
		for _, k := range keys(20) {
			s.put("b", k, "v")
			s.view(func(tx store.Tx) { s.wantGet(tx, "b", k, "v") })
		}
	}},
	{"ViewSeesNoPartOfAnotherUpdate", func(s suite) {
		defer s.close()
		s.fill("b", "old")
		seen, put := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			err := s.kv.Update(func(tx store.Tx) error {
				err := tx.Bucket("b").Put([]byte("new"), []byte("v"))
				close(put)
				<-seen // the View below runs beside this Update
				return err
			})
			if err != nil {
				s.Error(err)
			}
		})
		<-put
		s.view(func(tx store.Tx) { s.wantGet(tx, "b", "new", "-") })
		close(seen)
		wg.Wait()
		s.view(func(tx store.Tx) { s.wantGet(tx, "b", "new", "v") })
	}},
	{"ViewStaysAtItsMomentWhileUpdatesCommit", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		s.view(func(tx store.Tx) {
			var wg sync.WaitGroup
			wg.Go(func() {
				err := s.kv.Update(func(tx store.Tx) error { return tx.Bucket("b").Put([]byte("a"), []byte("2")) })
				if err != nil {
					s.Error(err)
				}
			})
			wg.Wait() // an Update does not wait for the View
			s.wantGet(tx, "b", "a", "a")
		})
	}},
	{"ViewReturnsTheErrorOfFn", func(s suite) {
		defer s.close()
		wantErr(s, "View", s.kv.View(func(store.Tx) error { return errStop }), errStop)
	}},
	{"ViewsRunBesideEachOther", func(s suite) {
		defer s.close()
		var wg, all sync.WaitGroup
		all.Add(4)
		for range 4 {
			wg.Go(func() {
				err := s.kv.View(func(store.Tx) error {
					all.Done()
					all.Wait() // ends only if the four overlap
					return nil
				})
				if err != nil {
					s.Error(err)
				}
			})
		}
		wg.Wait()
	}},
	{"TransactionEndsWhenFnPanics", func(s suite) {
		defer s.close() // would wait for a transaction that has not ended
		s.fill("b", "a")
		var tx store.Tx
		if r := panics(func() { _ = s.kv.View(func(t store.Tx) error { tx = t; panic("view") }) }); r != "view" {
			s.Fatalf("View: got panic %v, want the one of fn", r)
		}
		if tx.Bucket("b") != nil {
			s.Error("a bucket of a transaction that has ended")
		}
		s.put("b", "a", "2")
	}},
	{"UpdatesRunOneAfterTheOther", func(s suite) {
		defer s.close()
		s.fill("b")
		const workers, each = 4, 10
		var running atomic.Int32
		add := func(tx store.Tx) error {
			if running.Add(1) != 1 {
				s.Error("two updates at once")
			}
			defer running.Add(-1)
			var n [8]byte
			copy(n[:], tx.Bucket("b").Get([]byte("n")))
			binary.BigEndian.PutUint64(n[:], binary.BigEndian.Uint64(n[:])+1)
			return tx.Bucket("b").Put([]byte("n"), n[:])
		}
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					if err := s.kv.Update(add); err != nil {
						s.Error(err)
					}
				}
			})
		}
		wg.Wait()
		s.view(func(tx store.Tx) {
			if n := binary.BigEndian.Uint64(tx.Bucket("b").Get([]byte("n"))); n != workers*each {
				s.Fatalf("got %d increments, want %d", n, workers*each)
			}
		})
	}},
	{"UpdateSeesItsOwnWrites", func(s suite) {
		defer s.close()
		s.fill("b", "a", "c")
		s.update(func(tx store.Tx) {
			b := tx.Bucket("b")
			must(s, b.Put([]byte("b"), []byte("new")))
			must(s, b.Delete([]byte("c")))
			s.wantGet(tx, "b", "b", "new")
			s.wantGet(tx, "b", "c", "-")
			s.wantKeys(b, "a", "b")
		})
	}},
	{"UpdateThatReturnsAnErrorChangesNothing", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		s.fill("gone")
		wantErr(s, "Update", s.kv.Update(func(tx store.Tx) error { wreck(s, tx); return errStop }), errStop)
		s.wantUnwrecked()
	}},
	{"UpdateThatPanicsChangesNothing", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		s.fill("gone")
		if r := panics(func() { _ = s.kv.Update(func(tx store.Tx) error { wreck(s, tx); panic("boom") }) }); r != "boom" {
			s.Fatalf("got panic %v, want the one of fn", r)
		}
		s.wantUnwrecked()
	}},
	{"SnapshotIsTheStateOfItsMomentUntilRelease", func(s suite) {
		defer s.close()
		s.fill("b", keys(500)...)
		snap := s.snapshot()
		defer snap.Release()
		for range 5 {
			s.update(func(tx store.Tx) {
				for _, k := range keys(500) {
					must(s, tx.Bucket("b").Put([]byte(k), big(40)))
				}
				must(s, tx.Bucket("b").Delete([]byte("key-000007")))
			})
		}
		s.update(func(tx store.Tx) { must(s, tx.DeleteBucket("b")) })
		s.wantKeys(snap.Bucket("b"), keys(500)...)
		s.wantGet(snap, "b", "key-000007", "key-000007")
	}},
	{"SnapshotMayBeUsedFromAnotherGoroutine", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		snap := s.snapshot()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := snap.Bucket("b").Get([]byte("a")); string(got) != "a" {
				s.Errorf("got %q", got)
			}
			snap.Release()
		})
		wg.Wait()
	}},
	{"ReleaseIsIdempotent", func(s suite) {
		snap, other := s.snapshot(), s.snapshot()
		snap.Release()
		snap.Release()
		other.Release()
		s.close()
	}},
	{"SyncOfAnOpenStoreSucceeds", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		must(s, s.kv.Sync())
		must(s, s.kv.Sync())
	}},
	{"ReadersBesideAWriterSeeWholeCommits", readersBesideAWriter},
	{"SizeIsThatOfTheStore", func(s suite) {
		defer s.close()
		sizer, ok := s.kv.(store.Sizer)
		if !ok {
			return // an optional power
		}
		s.fill("b")
		s.update(func(tx store.Tx) {
			for _, k := range keys(64) {
				must(s, tx.Bucket("b").Put([]byte(k), big(8<<10)))
			}
		})
		total, free, err := sizer.Size()
		must(s, err)
		if total-free < 64*(8<<10) {
			s.Fatalf("got %d bytes, %d free, with more than that stored", total, free)
		}
	}},
}

func wreck(s suite, tx store.Tx) {
	b := tx.Bucket("b")
	must(s, b.Put([]byte("a"), []byte("changed")))
	for _, k := range keys(300) {
		must(s, b.Put([]byte(k), big(100)))
	}
	must(s, tx.DeleteBucket("gone"))
	s.create(tx, "new")
}

func (s suite) wantUnwrecked() {
	s.Helper()
	for range 2 { // before and after another commit
		s.view(func(tx store.Tx) {
			s.wantKeys(tx.Bucket("b"), "a")
			s.wantGet(tx, "b", "a", "a")
			if tx.Bucket("gone") == nil || tx.Bucket("new") != nil {
				s.Fatal("buckets were changed")
			}
		})
		s.put("b", "a", "a")
	}
}

// readersBesideAWriter writes one value under many keys in each commit; every
// View and Snapshot must find them all equal.
func readersBesideAWriter(s suite) {
	defer s.close()
	const commits, width = 60, 40
	ks := keys(width)
	s.fill("b", ks...)
	s.update(func(tx store.Tx) { must(s, writeAll(tx, ks, 0)) })
	var done atomic.Bool
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for !done.Load() {
				if i == 2 {
					snap, err := s.kv.Snapshot()
					if err != nil {
						s.Error(err)
						return
					}
					checkAll(s, snap)
					snap.Release()
				} else if err := s.kv.View(func(tx store.Tx) error { checkAll(s, tx); return nil }); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	for n := range uint64(commits) {
		if err := s.kv.Update(func(tx store.Tx) error { return writeAll(tx, ks, n) }); err != nil {
			s.Error(err)
		}
	}
	done.Store(true)
	wg.Wait()
}

func writeAll(tx store.Tx, ks []string, n uint64) error {
	b := tx.Bucket("b")
	for _, k := range ks {
		v := bytes.Repeat(binary.BigEndian.AppendUint64(nil, n), 1+int(n%7))
		if err := b.Put([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

func checkAll(s suite, tx store.Tx) {
	var first []byte
	c := tx.Bucket("b").Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if first == nil {
			first = v
		}
		if !bytes.Equal(v, first) {
			s.Errorf("key %q: got %x beside %x in one transaction", k, v, first)
			return
		}
	}
}
