package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"bzzz/store"
)

var txTests = []test{
	{"IDOfAWriteIsOneAboveTheLastCommit", func(s suite) {
		defer s.close()
		s.fill("b")
		for range 5 {
			var read, write uint64
			s.view(func(tx store.Tx) { read = tx.ID() })
			s.update(func(tx store.Tx) { write = tx.ID() })
			if write != read+1 {
				s.Fatalf("got write ID %d after read ID %d", write, read)
			}
			s.view(func(tx store.Tx) {
				if tx.ID() != write {
					s.Fatalf("got read ID %d after commit %d", tx.ID(), write)
				}
			})
		}
	}},
	{"IDOfARollbackIsTakenByTheNextCommit", func(s suite) {
		defer s.close()
		var first, second uint64
		_ = s.kv.Update(func(tx store.Tx) error { first = tx.ID(); return errStop })
		s.update(func(tx store.Tx) { second = tx.ID() })
		if first != second {
			s.Fatalf("got %d, then %d", first, second)
		}
	}},
	{"IDOfASnapshotStays", func(s suite) {
		defer s.close()
		snap := s.snapshot()
		defer snap.Release()
		id := snap.ID()
		s.fill("b")
		if snap.ID() != id {
			s.Fatalf("got %d, want %d", snap.ID(), id)
		}
	}},
	{"WritableTellsWhetherItMayWrite", func(s suite) {
		defer s.close()
		snap := s.snapshot()
		defer snap.Release()
		s.view(func(tx store.Tx) {
			if tx.Writable() || snap.Writable() {
				s.Fatal("a reader is writable")
			}
		})
		s.update(func(tx store.Tx) {
			if !tx.Writable() {
				s.Fatal("a writer is not writable")
			}
		})
	}},
	{"BucketIsNilIfThereIsNone", func(s suite) {
		defer s.close()
		s.view(func(tx store.Tx) {
			if tx.Bucket("none") != nil || tx.Bucket("") != nil || tx.Bucket(strings.Repeat("x", store.MaxKey+1)) != nil {
				s.Fatal("a bucket that does not exist")
			}
		})
	}},
	{"CreateBucketMakesAnEmptyOne", func(s suite) {
		defer s.close()
		s.update(func(tx store.Tx) { s.wantKeys(s.create(tx, "b")) })
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b")) })
	}},
	{"CreateBucketRefusesOneThatExists", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		s.update(func(tx store.Tx) {
			_, err := tx.CreateBucket("b", store.Ordered)
			wantErr(s, "CreateBucket", err, store.ErrExists)
		})
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), "a") })
	}},
	{"BucketNamesAreAnyBytesUpToMaxKey", func(s suite) {
		defer s.close()
		long := strings.Repeat("n", store.MaxKey)
		s.update(func(tx store.Tx) {
			for _, name := range []string{long, "\x00", "\xff\xff", "a/b", "ä"} {
				s.create(tx, name)
			}
			_, err := tx.CreateBucket("", store.Ordered)
			wantErr(s, "empty name", err, store.ErrInvalid)
			_, err = tx.CreateBucket(long+"n", store.Ordered)
			wantErr(s, "long name", err, store.ErrTooLarge)
		})
		s.view(func(tx store.Tx) {
			want := []string{"\x00", "a/b", long, "ä", "\xff\xff"}
			if got := slices.Collect(tx.Buckets()); !slices.Equal(got, want) {
				s.Fatalf("got %q, want %q", got, want)
			}
		})
	}},
	{"DeleteBucketRemovesItWithAllItHolds", func(s suite) {
		defer s.close()
		s.fill("b", keys(1000)...)
		s.update(func(tx store.Tx) {
			b := tx.Bucket("b")
			must(s, tx.DeleteBucket("b"))
			if tx.Bucket("b") != nil || b.Get([]byte("key-000001")) != nil {
				s.Fatal("the bucket is still there")
			}
			wantErr(s, "Put to a deleted bucket", b.Put([]byte("k"), nil), store.ErrNotFound)
			wantErr(s, "DeleteBucket again", tx.DeleteBucket("b"), store.ErrNotFound)
			s.wantKeys(b)
			n := s.create(tx, "b")
			s.wantKeys(n)
			must(s, n.Put([]byte("k"), []byte("v")))
		})
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), "k") })
	}},
	{"BucketsYieldsAllNamesInByteOrder", func(s suite) {
		defer s.close()
		var want []string
		s.update(func(tx store.Tx) {
			for i := range 60 {
				name := fmt.Sprintf("bucket-%d", i*7919%60)
				want = append(want, name)
				must(s, s.create(tx, name).Put([]byte(name), []byte(name)))
			}
			slices.Sort(want)
			if got := slices.Collect(tx.Buckets()); !slices.Equal(got, want) {
				s.Fatalf("before the commit: got %q, want %q", got, want)
			}
		})
		s.view(func(tx store.Tx) {
			for name := range tx.Buckets() {
				if name != want[0] {
					s.Fatalf("got %q, want %q", name, want[0])
				}
				break
			}
			if got := slices.Collect(tx.Buckets()); !slices.Equal(got, want) {
				s.Fatalf("got %q, want %q", got, want)
			}
			for range 2 { // handles are kept
				for _, name := range want {
					s.wantGet(tx, name, name, name)
				}
			}
		})
	}},
	{"ReadersMayNotWrite", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		snap := s.snapshot()
		defer snap.Release()
		s.view(func(tx store.Tx) {
			for _, tx := range []store.Tx{tx, snap} {
				wantErr(s, "Put", tx.Bucket("b").Put([]byte("k"), nil), store.ErrReadOnly)
				wantErr(s, "Delete", tx.Bucket("b").Delete([]byte("a")), store.ErrReadOnly)
				_, err := tx.CreateBucket("n", store.Ordered)
				wantErr(s, "CreateBucket", err, store.ErrReadOnly)
				wantErr(s, "DeleteBucket", tx.DeleteBucket("b"), store.ErrReadOnly)
			}
		})
	}},
	{"OrderChangesNoSemantics", func(s suite) {
		defer s.close()
		s.update(func(tx store.Tx) {
			b, err := tx.CreateBucket("log", store.AppendOnly)
			must(s, err)
			for _, k := range keys(500) {
				must(s, b.Put([]byte(k), big(50)))
			}
		})
		s.update(func(tx store.Tx) {
			b := tx.Bucket("log")
			for i, k := range keys(500) {
				if i%3 == 0 {
					must(s, b.Put([]byte(k+"x"), []byte("between")))
				} else {
					must(s, b.Delete([]byte(k)))
				}
			}
		})
		var want []string
		for i, k := range keys(500) {
			if i%3 == 0 {
				want = append(want, k, k+"x")
			}
		}
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("log"), want...) })
	}},
}

var bucketTests = []test{
	{"GetIsNilIfThereIsNone", func(s suite) {
		defer s.close()
		s.fill("b", "a", "c")
		s.view(func(tx store.Tx) {
			for _, k := range []string{"", "0", "b", "d", "aa", string(big(store.MaxKey + 1))} {
				s.wantGet(tx, "b", k, "-")
			}
		})
	}},
	{"StoredEmptyValueIsNotNil", func(s suite) {
		defer s.close()
		s.fill("b")
		s.update(func(tx store.Tx) {
			must(s, tx.Bucket("b").Put([]byte("nil"), nil))
			must(s, tx.Bucket("b").Put([]byte("empty"), []byte{}))
			s.wantGet(tx, "b", "nil", "")
			s.wantGet(tx, "b", "empty", "")
		})
		s.view(func(tx store.Tx) {
			s.wantGet(tx, "b", "nil", "")
			s.wantGet(tx, "b", "empty", "")
			if _, v := tx.Bucket("b").Cursor().First(); v == nil {
				s.Fatal("a cursor shows an empty value as nil")
			}
		})
	}},
	{"PutReplaces", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		for _, v := range []string{"1", "", "a longer one", string(big(10000)), "2"} {
			s.put("b", "a", v)
			s.view(func(tx store.Tx) { s.wantGet(tx, "b", "a", v); s.wantKeys(tx.Bucket("b"), "a") })
		}
	}},
	{"PutRefusesAnEmptyKey", func(s suite) {
		defer s.close()
		s.update(func(tx store.Tx) {
			b := s.create(tx, "b")
			wantErr(s, "nil", b.Put(nil, []byte("v")), store.ErrInvalid)
			wantErr(s, "empty", b.Put([]byte{}, []byte("v")), store.ErrInvalid)
			s.wantKeys(b)
		})
	}},
	{"PutRefusesMoreThanMaxKeyAndMaxValue", func(s suite) {
		defer s.close()
		key, value := big(store.MaxKey), make([]byte, store.MaxValue+1)
		s.update(func(tx store.Tx) {
			b := s.create(tx, "b")
			wantErr(s, "key", b.Put(append(key, 'x'), nil), store.ErrTooLarge)
			wantErr(s, "value", b.Put(key, value), store.ErrTooLarge)
			must(s, b.Put(key, value[:store.MaxValue]))
		})
		s.view(func(tx store.Tx) {
			if got := tx.Bucket("b").Get(key); len(got) != store.MaxValue {
				s.Fatalf("got %d bytes, want %d", len(got), store.MaxValue)
			}
		})
	}},
	{"DeleteOfAMissingKeyIsNoError", func(s suite) {
		defer s.close()
		s.fill("b", "b")
		s.update(func(tx store.Tx) {
			for _, k := range []string{"", "a", "c", string(big(store.MaxKey + 1))} {
				must(s, tx.Bucket("b").Delete([]byte(k)))
			}
			s.wantKeys(tx.Bucket("b"), "b")
		})
	}},
	{"DeleteRemoves", func(s suite) {
		defer s.close()
		ks := keys(1000)
		s.fill("b", ks...)
		s.update(func(tx store.Tx) {
			for i, k := range ks {
				if i != 500 {
					must(s, tx.Bucket("b").Delete([]byte(k)))
				}
			}
			s.wantKeys(tx.Bucket("b"), ks[500])
		})
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), ks[500]); s.wantGet(tx, "b", ks[1], "-") })
	}},
	{"SlicesHandedOutStayUntilTheTransactionEnds", func(s suite) {
		defer s.close()
		ks := keys(200)
		s.fill("b", ks...)
		s.update(func(tx store.Tx) {
			b := tx.Bucket("b")
			got := make([][]byte, len(ks))
			for i, k := range ks {
				got[i] = b.Get([]byte(k))
			}
			k, v := b.Cursor().First()
			for i := range ks {
				must(s, b.Put(fmt.Appendf(nil, "other-%d", i), big(500)))
				if i > 100 {
					must(s, b.Delete([]byte(ks[i])))
				}
			}
			for i := range 100 {
				if string(got[i]) != ks[i] {
					s.Fatalf("value %d became %q", i, got[i])
				}
			}
			if string(k) != ks[0] || string(v) != ks[0] {
				s.Fatalf("the cursor's pair became %q, %q", k, v)
			}
		})
	}},
	{"SlicesHandedInMayBeChangedAfterTheEnd", func(s suite) {
		defer s.close()
		key, value := []byte("key"), []byte("value")
		s.update(func(tx store.Tx) { must(s, s.create(tx, "b").Put(key, value)) })
		copy(key, "xxx")
		copy(value, "xxxxx")
		s.view(func(tx store.Tx) { s.wantGet(tx, "b", "key", "value") })
	}},
	{"HandlesOfOneBucketAreOne", func(s suite) {
		defer s.close()
		s.fill("b", "a")
		s.update(func(tx store.Tx) {
			one, two := tx.Bucket("b"), tx.Bucket("b")
			must(s, one.Put([]byte("b"), []byte("v")))
			if !bytes.Equal(two.Get([]byte("b")), []byte("v")) {
				s.Fatal("a handle does not see what another put")
			}
			s.wantKeys(two, "a", "b")
		})
	}},
}
