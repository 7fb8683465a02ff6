package storetest

import (
	"slices"

	"bzzz/store"
)

var cursorTests = []test{
	{"CursorBeginsBeforeTheFirstKey", func(s suite) {
		defer s.close()
		s.fill("b", "a", "b")
		s.view(func(tx store.Tx) {
			c := tx.Bucket("b").Cursor()
			s.stands(c.Prev, "")
			s.stands(c.Next, "a")
			s.stands(c.Next, "b")
		})
	}},
	{"CursorWalksInByteOrder", func(s suite) {
		defer s.close()
		ks := []string{"b", "a", "\x00", "\xff", "aa", "a\x00", "B", "ab", string(big(store.MaxKey))}
		s.fill("b", ks...)
		slices.Sort(ks)
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), ks...) })
	}},
	{"CursorWalksOverManyPages", func(s suite) {
		defer s.close()
		s.fill("b", keys(5000)...)
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), keys(5000)...) })
	}},
	{"CursorPastAnEndReturnsNilAndComesBack", func(s suite) {
		defer s.close()
		s.fill("b", "a", "b", "c")
		walk := func(tx store.Tx) {
			c := tx.Bucket("b").Cursor()
			s.stands(c.Last, "c")
			s.stands(c.Next, "")
			s.stands(c.Next, "")
			s.stands(c.Prev, "c")
			s.stands(c.First, "a")
			s.stands(c.Prev, "")
			s.stands(c.Prev, "")
			s.stands(c.Next, "a")
			k, _ := c.Seek([]byte("d"))
			if k != nil {
				s.Fatalf("Seek past the end: got %q", k)
			}
			s.stands(c.Next, "")
			s.stands(c.Prev, "c")
		}
		s.view(walk)
		s.update(walk)
	}},
	{"SeekStandsOnTheFirstKeyAtOrAfter", func(s suite) {
		defer s.close()
		s.fill("b", "b", "d", "f")
		s.view(func(tx store.Tx) {
			c := tx.Bucket("b").Cursor()
			for seek, want := range map[string]string{"": "b", "a": "b", "b": "b", "b\x00": "d", "c": "d", "d": "d", "f": "f", "f0": ""} {
				k, v := c.Seek([]byte(seek))
				if string(k) != want || (k == nil) != (want == "") || string(v) != want {
					s.Fatalf("Seek(%q): got %q, %q, want %q", seek, k, v, want)
				}
			}
			c.Seek([]byte("c"))
			s.stands(c.Prev, "b")
			s.stands(c.Next, "d")
			s.stands(c.Next, "f")
		})
	}},
	{"CursorOfAnEmptyBucketHasNoKey", func(s suite) {
		defer s.close()
		s.fill("b")
		walk := func(tx store.Tx) {
			c := tx.Bucket("b").Cursor()
			for _, step := range []func() ([]byte, []byte){c.First, c.Last, c.Next, c.Prev} {
				s.stands(step, "")
			}
			if k, _ := c.Seek([]byte("a")); k != nil {
				s.Fatalf("Seek: got %q", k)
			}
		}
		s.view(walk)
		s.update(walk)
	}},
	{"CursorIsGoodAgainAfterSeek", func(s suite) {
		defer s.close()
		ks := keys(300)
		s.fill("b", ks...)
		s.update(func(tx store.Tx) {
			b := tx.Bucket("b")
			c := b.Cursor()
			c.First()
			for i := 0; i < len(ks); i += 2 {
				must(s, b.Delete([]byte(ks[i])))
				k, _ := c.Seek([]byte(ks[i]))
				if string(k) != ks[i+1] {
					s.Fatalf("got %q, want %q", k, ks[i+1])
				}
				must(s, b.Put([]byte(ks[i+1]+"x"), nil))
				c.Seek([]byte(ks[i+1]))
				s.stands(c.Next, ks[i+1]+"x")
			}
		})
	}},
	{"CursorPassesWhatTheTransactionEmptied", func(s suite) {
		defer s.close()
		ks := keys(3000)
		s.fill("b", ks...)
		s.update(func(tx store.Tx) {
			b := tx.Bucket("b")
			for _, k := range ks[500:2500] {
				must(s, b.Delete([]byte(k)))
			}
			c := b.Cursor()
			c.Seek([]byte(ks[1000]))
			s.stands(c.Prev, ks[499])
			s.stands(c.Next, ks[2500])
			for _, k := range ks[2500:] {
				must(s, b.Delete([]byte(k)))
			}
			s.stands(c.Last, ks[499])
			for _, k := range ks[:400] {
				must(s, b.Delete([]byte(k)))
			}
			s.stands(c.First, ks[400])
			s.stands(c.Prev, "")
			for _, k := range ks[400:500] {
				must(s, b.Delete([]byte(k)))
			}
			for _, step := range []func() ([]byte, []byte){c.First, c.Last, c.Next, c.Prev} {
				s.stands(step, "")
			}
			must(s, b.Put([]byte("k"), nil))
			s.stands(c.Last, "k")
		})
		s.view(func(tx store.Tx) { s.wantKeys(tx.Bucket("b"), "k") })
	}},
	{"CursorsAreIndependent", func(s suite) {
		defer s.close()
		s.fill("b", "a", "b")
		s.view(func(tx store.Tx) {
			b := tx.Bucket("b")
			c, d := b.Cursor(), b.Cursor()
			s.stands(c.Last, "b")
			s.stands(d.First, "a")
			s.stands(c.Next, "")
			s.stands(d.Next, "b")
		})
	}},
}

// stands fails unless step leads to key, "" meaning past an end. In these
// buckets the value of a key is the key or empty.
func (s suite) stands(step func() (k, v []byte), key string) {
	s.Helper()
	k, v := step()
	if (k == nil) != (key == "") || string(k) != key || k == nil && v != nil || k != nil && v == nil {
		s.Fatalf("got key %q, value %q, want key %q", k, v, key)
	}
}
