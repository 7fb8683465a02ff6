package enginetest

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
)

// Comparisons counts what sessions did beyond streaming, on either side.
type Comparisons struct {
	Sketches, Trees int64 // sessions that compared live versions
	Dropped         int64 // versions dropped because a peer knew them to be dead
	Missing         int64 // versions that a comparison found to be lost
	Held            int64 // claims that a brake held back
}

// Comparisons returns how often sessions compared, and what came of it.
func (c *Cluster) Comparisons() Comparisons {
	s := &c.stats
	return Comparisons{s.sketches.Load(), s.trees.Load(), s.dropped.Load(), s.missing.Load(), s.held.Load()}
}

// LoseHeads removes index entries of stored keys from the files of a node that
// is down, as damage would that no checksum shows, and the views that would
// show it by themselves. It returns the keys.
func (c *Cluster) LoseHeads(i int, pick func(key string) bool) (lost []string) {
	c.tb.Helper()
	kv, err := bolt.Open(filepath.Join(c.nodes[i].dir, engine.DataFile), nil)
	c.must("open of a store", err)
	err = kv.Update(func(tx store.Tx) error {
		var failed error
		for _, name := range slices.Collect(tx.Buckets()) {
			prefix, kind, _ := strings.Cut(name, "/")
			switch kind {
			case "heads":
				lost = append(lost, loseHeads(tx.Bucket(prefix+"/heads"), pick, &failed)...)
			case "tree", "sketch":
				failed = errors.Join(failed, tx.DeleteBucket(name))
			}
		}
		return failed
	})
	c.must("loss of heads", errors.Join(err, kv.Close()))
	return lost
}

func loseHeads(heads store.Bucket, pick func(key string) bool, failed *error) (lost []string) {
	c := heads.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if k[0] != 0 && pick(string(k)) {
			lost = append(lost, string(k))
		}
	}
	for _, k := range lost {
		*failed = errors.Join(*failed, heads.Delete([]byte(k)))
	}
	return lost
}
