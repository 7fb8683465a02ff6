package storetest

import (
	"testing"

	"bzzz/store"
)

// Poison checks what the contract promises after a failed commit. open makes
// an empty store and a function that makes the next commit fail.
func Poison(t *testing.T, open func(t testing.TB) (kv store.KV, failNext func())) {
	kv, failNext := open(t)
	s := suite{t, kv}
	s.fill("b", "a")
	snap := s.snapshot()
	failNext()
	err := kv.Update(func(tx store.Tx) error { return tx.Bucket("b").Put([]byte("a"), []byte("2")) })
	wantErr(t, "the Update whose commit failed", err, store.ErrPoisoned)

	none := func(store.Tx) error { t.Error("fn was called"); return nil }
	for range 2 {
		wantErr(t, "Update", kv.Update(none), store.ErrPoisoned)
		wantErr(t, "View", kv.View(none), store.ErrPoisoned)
		_, err := kv.Snapshot()
		wantErr(t, "Snapshot", err, store.ErrPoisoned)
		wantErr(t, "Sync", kv.Sync(), store.ErrPoisoned)
	}
	b := snap.Bucket("b") // not nil, so that the caller need not check what exists
	if k, _ := b.Cursor().First(); k != nil || b.Get([]byte("a")) != nil {
		t.Error("a snapshot from before goes on serving")
	}
	wantErr(t, "Err of the snapshot", snap.Err(), store.ErrPoisoned)
	snap.Release()
	s.close()
	s.close()
	wantErr(t, "View after Close", kv.View(none), store.ErrClosed)
}
