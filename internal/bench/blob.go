package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"go.etcd.io/bbolt"

	"bzzz/engine"
	"bzzz/internal/errs"
)

// runB1 stores a large value, reads it back, and stores it once more behind one
// byte, beside raw bbolt storing and reading the same bytes as values of the
// longest chunk's size in transactions of what the engine commits at once.
func runB1(e *env) error {
	data := noise(e.size.blob)
	if err := e.ingest(data); err != nil {
		return err
	}
	db, err := e.open()
	if err != nil {
		return err
	}
	bolt, err := e.openValues()
	if err != nil {
		return err
	}
	if err := db.PutReader(e.ctx, blobKey, bytes.NewReader(data)); err != nil {
		return err
	}
	if err := bolt.put(data); err != nil {
		return err
	}
	if err := e.readBack(db, bolt, data); err != nil {
		return err
	}
	return e.storeShifted(db, data)
}

const (
	rawValue = 256 << 10 // raw bbolt's values: the longest chunk
	rawBatch = 4 << 20   // its transactions: what the engine commits at once
	mega     = 1_000_000
)

var blobKey = []byte("blob")

// noise returns n bytes that neither compress nor repeat.
func noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{'B', '1'})
	b := make([]byte, n)
	if _, err := rng.Read(b); err != nil {
		panic(err) // ChaCha8.Read never fails
	}
	return b
}

// ingest stores the value in fresh stores, in turns with raw bbolt.
func (e *env) ingest(data []byte) error {
	var db *engine.DB
	var bolt *values
	ours, theirs := &side{name: "bzzz"}, &side{name: "raw-bbolt"}
	ours.work = func(int) (int, error) {
		return len(data), db.PutReader(e.ctx, blobKey, bytes.NewReader(data))
	}
	theirs.work = func(int) (int, error) { return len(data), bolt.put(data) }
	for range e.size.repeats {
		dir := e.path("store")
		err := e.inStore(dir, func(fresh *engine.DB) (err error) {
			db = fresh
			if bolt, err = e.openValues(); err != nil {
				return err
			}
			return e.takeTurns(1, nil, ours, theirs)
		})
		if err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return e.recordMegabytes("ingest", ours, theirs)
}

// readBack reads the whole value, in turns with raw bbolt.
func (e *env) readBack(db *engine.DB, bolt *values, data []byte) error {
	ours, theirs := &side{name: "bzzz"}, &side{name: "raw-bbolt"}
	ours.work = func(int) (int, error) {
		r, err := db.GetReader(e.ctx, blobKey)
		if err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, r)
		if err == nil && int(n) != len(data) {
			err = fmt.Errorf("%d of %d bytes read: %w", n, len(data), errs.ErrCorrupt)
		}
		return int(n), errors.Join(err, r.Close())
	}
	theirs.work = func(int) (int, error) { return bolt.read() }
	if err := e.takeTurns(e.size.repeats, nil, ours, theirs); err != nil {
		return err
	}
	return e.recordMegabytes("read", ours, theirs)
}

// storeShifted stores the value behind one more byte and emits how much of it
// is stored anew.
func (e *env) storeShifted(db *engine.DB, data []byte) error {
	before, err := db.Stats(e.ctx)
	if err != nil {
		return err
	}
	shifted := io.MultiReader(bytes.NewReader([]byte{'!'}), bytes.NewReader(data))
	if err := db.PutReader(e.ctx, []byte("shifted"), shifted); err != nil {
		return err
	}
	after, err := db.Stats(e.ctx)
	if err != nil {
		return err
	}
	part := float64(after.Blobs.Bytes-before.Blobs.Bytes) / float64(len(data))
	return e.record("new_percent", 100*part, Params{{"bytes", len(data)}, {"shifted", 1}}, Baseline{})
}

// recordMegabytes emits rates in millions of bytes.
func (e *env) recordMegabytes(op string, s, base *side) error {
	return e.record("mb_per_s", s.rate()/mega, Params{{"bytes", e.size.blob}, {"op", op}},
		Baseline{base.name, base.rate() / mega}, s.over(base)...)
}

// values is bbolt holding one value in pieces.
type values struct{ db *bbolt.DB }

// openValues makes a bbolt file with the options that the engine's store uses.
func (e *env) openValues() (*values, error) {
	db, err := openBolt(e.path("raw"))
	if err != nil {
		return nil, err
	}
	e.later(db.Close)
	return &values{db}, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucketJournal)
		return err
	})
}

// put writes all of data, a batch a transaction.
func (v *values) put(data []byte) error {
	for at := 0; at < len(data); at += rawBatch {
		err := v.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketJournal)
			b.FillPercent = 1
			for from, end := at, min(at+rawBatch, len(data)); from < end; from += rawValue {
				value := bytes.Clone(data[from:min(from+rawValue, end)])
				if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(from)), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read copies out all values and returns how many bytes they are.
func (v *values) read() (n int, err error) {
	err = v.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketJournal).ForEach(func(_, value []byte) error {
			piece := bytes.Clone(value)
			n += len(piece)
			return nil
		})
	})
	return n, err
}
