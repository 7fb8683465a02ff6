package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"bzzz/engine"
	"bzzz/internal/errs"
	"bzzz/store"
	"bzzz/store/mem"
)

// recordSize is how long the engine's journal records and head entries are.
type recordSize struct{ journal, head int }

// measureRecords returns the mean lengths of what the engine writes for such
// keys, a transaction of batch keys at a time, from a store in memory.
// overwrite measures records that replace others.
func measureRecords(ctx context.Context, k keys, batch int, overwrite bool) (size recordSize, err error) {
	kv := mem.New()
	db, err := engine.Open("", &engine.Options{Store: kv, RuntimeDir: "-", SweepInterval: -1})
	if err != nil {
		return size, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const sample = 1000
	rounds := 1
	if overwrite {
		rounds = 3 // so that most records of the journal replace another
	}
	for salt := range rounds {
		if err := load(ctx, db, k, 0, max(sample, batch), batch, salt); err != nil {
			return size, err
		}
	}
	err = kv.View(func(tx store.Tx) error {
		for name := range tx.Buckets() {
			if strings.HasSuffix(name, "/journal") {
				size.journal = meanLast(tx.Bucket(name), sample)
			}
			if strings.HasSuffix(name, "/heads") {
				size.head = meanLast(tx.Bucket(name), sample)
			}
		}
		return nil
	})
	return size, err
}

// meanLast returns the mean length of the last n values of a bucket.
func meanLast(b store.Bucket, n int) int {
	sum, count := 0, 0
	c := b.Cursor()
	for k, v := c.Last(); k != nil && count < n; k, v = c.Prev() {
		sum += len(v)
		count++
	}
	return sum / max(count, 1)
}

// raw is bbolt doing the two mutations of a put.
type raw struct {
	db      *bbolt.DB
	size    recordSize
	fill    float64 // of the pages of heads
	arrival uint64
}

var (
	bucketJournal = []byte("journal")
	bucketHeads   = []byte("heads")
)

// openLoaded makes a store and, with records of the sizes that it has, a bbolt
// file, and loads the base into both.
func (e *env) openLoaded(k keys) (*engine.DB, *raw, error) {
	db, err := e.open()
	if err != nil {
		return nil, nil, err
	}
	if err := load(e.ctx, db, k, 0, e.size.base, loadBatch, 0); err != nil {
		return nil, nil, err
	}
	size, err := measureRecords(e.ctx, k, loadBatch, false)
	if err != nil {
		return nil, nil, err
	}
	bolt, err := e.openRaw(size, k)
	if err != nil {
		return nil, nil, err
	}
	return db, bolt, bolt.load(k, e.size.base, loadBatch)
}

// openBolt makes a file of bbolt's with the options that the engine's store uses.
func openBolt(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMmap, PageSize: 4096,
	})
}

// openRaw makes a bbolt file with the options that the engine's store uses.
func (e *env) openRaw(size recordSize, k keys) (*raw, error) {
	if size.head < 8 || size.journal < valueLen {
		return nil, errs.ErrInvalid // the engine's layout has changed
	}
	r := &raw{size: size, fill: bbolt.DefaultFillPercent}
	if k == sequential {
		r.fill = 0.95 // as the engine's store finds out by itself
	}
	var err error
	if r.db, err = openBolt(e.path("raw")); err != nil {
		return nil, err
	}
	e.later(r.db.Close)
	return r, r.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(bucketJournal); err != nil {
			return err
		}
		_, err := tx.CreateBucket(bucketHeads)
		return err
	})
}

// put writes pairs in one transaction, in the order of keys, which is how the
// engine does it and bbolt likes it.
func (r *raw) put(pairs []pair) error {
	sorted := slices.Clone(pairs)
	slices.SortFunc(sorted, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return r.db.Update(func(tx *bbolt.Tx) error {
		journal, heads := tx.Bucket(bucketJournal), tx.Bucket(bucketHeads)
		journal.FillPercent, heads.FillPercent = 1, r.fill
		for _, p := range sorted {
			r.arrival++
			record := make([]byte, r.size.journal) // bbolt keeps it until the commit
			copy(record[copy(record, p.value):], p.key)
			if err := journal.Put(binary.BigEndian.AppendUint64(nil, r.arrival), record); err != nil {
				return err
			}
			head := make([]byte, r.size.head)
			binary.BigEndian.PutUint64(head, r.arrival)
			if err := heads.Put(p.key, head); err != nil {
				return err
			}
		}
		return nil
	})
}

// load writes n keys in batches.
func (r *raw) load(k keys, n, batch int) error {
	for from := 0; from < n; from += batch {
		if err := r.put(k.pairs(from, min(batch, n-from), 0)); err != nil {
			return err
		}
	}
	return nil
}

// get reads a value by two look-ups.
func (r *raw) get(key []byte) (value []byte, err error) {
	err = r.db.View(func(tx *bbolt.Tx) error {
		head := tx.Bucket(bucketHeads).Get(key)
		if head == nil {
			return errs.ErrNotFound
		}
		value = append([]byte{}, tx.Bucket(bucketJournal).Get(head[:8])[:valueLen]...)
		return nil
	})
	return value, err
}

// scan reads n keys and values in the order of keys.
func (r *raw) scan(n int) (found int, err error) {
	err = r.db.View(func(tx *bbolt.Tx) error {
		journal, c := tx.Bucket(bucketJournal), tx.Bucket(bucketHeads).Cursor()
		for k, head := c.First(); k != nil && found < n; k, head = c.Next() {
			value := append([]byte{}, journal.Get(head[:8])[:valueLen]...)
			key := bytes.Clone(k)
			if len(key) == 0 || len(value) == 0 {
				return errs.ErrCorrupt
			}
			found++
		}
		return nil
	})
	return found, err
}

// rawFlush is the least that a durable put can cost: one page written in place
// into a file that has its blocks, and one flush.
type rawFlush struct {
	f    *os.File
	page []byte
	at   int64
}

const (
	flushPage = 4096
	flushFile = 16 << 20
)

func (e *env) openFlush() (*rawFlush, error) {
	f, err := os.OpenFile(e.path("flush"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	e.later(f.Close)
	chunk := bytes.Repeat([]byte{0xa5}, 1<<20)
	for range flushFile / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return nil, err
		}
	}
	return &rawFlush{f: f, page: make([]byte, flushPage)}, f.Sync()
}

func (r *rawFlush) put(p pair) error {
	copy(r.page[copy(r.page, p.key):], p.value)
	if _, err := r.f.WriteAt(r.page, r.at); err != nil {
		return err
	}
	r.at = (r.at + flushPage) % flushFile
	return flushData(r.f)
}
