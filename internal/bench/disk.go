package bench

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
)

// rawRecord is the length of a key and a value: what nobody can go below
// without compressing values that do not compress.
var rawRecord = Baseline{"raw-record", float64(len("key-000000000") + valueLen)}

// runP5 measures the file: after a load, after overwriting everything five
// times and collecting, after deleting everything and collecting that too.
func runP5(e *env) error {
	for _, k := range []keys{sequential, scattered} {
		dir := e.path("store")
		if err := e.fill(dir, k); err != nil {
			return err
		}
		if err := e.recordDisk(dir, "load", k); err != nil {
			return err
		}
		if k == scattered {
			continue
		}
		err := e.inStore(dir, func(db *engine.DB) error {
			if err := e.overwrite(db, k, 5); err != nil {
				return err
			}
			_, err := db.Collect(e.ctx, engine.Retention{Versions: -1, Age: -1})
			return err
		})
		if err != nil {
			return err
		}
		if err := e.recordDisk(dir, "5 overwrites and collection", k); err != nil {
			return err
		}
		if err := e.emptied(dir, k); err != nil {
			return err
		}
	}
	return nil
}

// emptied deletes and collects everything, and emits what is left: in which
// parts of the store, and in the file before and after it is compacted, beside
// the file as it was.
func (e *env) emptied(dir string, k keys) error {
	n := float64(e.size.disk)
	path := filepath.Join(dir, engine.DataFile)
	full, err := os.Stat(path)
	if err != nil {
		return err
	}
	base := Baseline{"before-deleting", float64(full.Size()) / n}
	params := Params{{"base", e.size.disk}, {"keys", k}, {"after", "deleting all and collection"}}
	err = e.inStore(dir, func(db *engine.DB) error {
		if _, err := db.State(e.ctx); err != nil { // makes and stores the tree
			return err
		}
		if err := e.deleteAll(db, k); err != nil {
			return err
		}
		_, err := db.Collect(e.ctx, keepNothing)
		return err
	})
	if err != nil {
		return err
	}
	if err := e.recordParts(path, params); err != nil {
		return err
	}
	var compacted engine.CompactReport
	err = e.inStore(dir, func(db *engine.DB) (err error) {
		compacted, err = db.Compact(e.ctx, nil)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(
		e.record("disk_bytes_per_key", float64(compacted.Before)/n, params.with(Param{"file", "as it is"}), base),
		e.record("disk_bytes_per_key", float64(compacted.After)/n, params.with(Param{"file", "compacted"}), base))
}

// recordParts emits the bytes of keys and values in each part of a closed
// store's namespace, by key.
func (e *env) recordParts(path string, params Params) error {
	kv, err := bolt.Open(path, nil)
	if err != nil {
		return err
	}
	sizes := map[string]int{"heads": 0, "dots": 0, "dead": 0, "journal": 0, "tree": 0, "meta": 0}
	err = kv.View(func(tx store.Tx) error {
		for name := range tx.Buckets() {
			_, part, ok := strings.Cut(name, "/")
			if !ok {
				continue // of the whole store
			}
			c := tx.Bucket(name).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				sizes[part] += len(k) + len(v)
			}
		}
		return nil
	})
	if err := errors.Join(err, kv.Close()); err != nil {
		return err
	}
	for _, part := range slices.Sorted(maps.Keys(sizes)) {
		value := float64(sizes[part]) / float64(e.size.disk)
		if err := e.record("part_bytes_per_key", value, params.with(Param{"part", part}), Baseline{}); err != nil {
			return err
		}
	}
	return nil
}

// fill makes a store with the scenario's keys, a thousand a transaction.
func (e *env) fill(dir string, k keys) error {
	return e.inStore(dir, func(db *engine.DB) error { return load(e.ctx, db, k, 0, e.size.disk, 1000, 0) })
}

// inStore opens a store, works on it and closes it.
func (e *env) inStore(dir string, fn func(*engine.DB) error) error {
	db, err := e.openAt(dir)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

func (e *env) overwrite(db *engine.DB, k keys, times int) error {
	for salt := range times {
		if err := load(e.ctx, db, k, 0, e.size.disk, 1000, salt+1); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) deleteAll(db *engine.DB, k keys) error {
	for from := 0; from < e.size.disk; from += 1000 {
		var numbers []int
		for i := from; i < min(from+1000, e.size.disk); i++ {
			numbers = append(numbers, i)
		}
		if err := e.deleteKeys(db, k, numbers); err != nil {
			return err
		}
	}
	return nil
}

// recordDisk emits the length of a closed store's file as it is, and what its
// length would be if it were compacted, by key.
func (e *env) recordDisk(dir, after string, k keys) error {
	path := filepath.Join(dir, engine.DataFile)
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	compacted := e.path("compact")
	if err := bolt.Compact(path, compacted); err != nil {
		return err
	}
	dense, err := os.Stat(compacted)
	if err != nil {
		return err
	}
	n := float64(e.size.disk)
	for _, f := range []struct {
		file string
		size int64
	}{{"as it is", st.Size()}, {"compacted", dense.Size()}} {
		params := Params{{"base", e.size.disk}, {"keys", k}, {"after", after}, {"file", f.file}}
		if err := e.record("disk_bytes_per_key", float64(f.size)/n, params, rawRecord); err != nil {
			return err
		}
	}
	return nil
}
