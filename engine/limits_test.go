package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	longest := bytes.Repeat([]byte("k"), 1024)
	k, v := []byte("k"), []byte("v")
	for _, tt := range []struct {
		name       string
		key, value []byte
		want       error
	}{
		{"empty key", nil, v, engine.ErrInvalid},
		{"longest key", longest, v, nil},
		{"key too long", append(bytes.Clone(longest), 'k'), v, engine.ErrTooLarge},
		{"zero bytes count twice", make([]byte, 513), v, engine.ErrTooLarge},
		{"empty value", k, nil, nil},
		{"longest value", k, make([]byte, 64<<10), nil},
		{"longest inline value and a byte", k, make([]byte, 64<<10+1), nil},
		{"longest value with its key", k, make([]byte, 16<<20-1), nil},
		{"value too long", []byte("other"), make([]byte, 16<<20), engine.ErrTooLarge},
		{"value far too long", []byte("other"), make([]byte, 16<<20+1), engine.ErrTooLarge},
	} {
		checks := map[string]func() error{
			"put":    func() error { return db.Put(ctx, tt.key, tt.value) },
			"put if": func() error { return db.PutIf(ctx, tt.key, tt.value, token(db, tt.key)) },
			"update": func() error { return db.Update(ctx, func(tx *engine.Txn) error { return tx.Put(tt.key, tt.value) }) },
		}
		for name, put := range checks {
			if err := put(); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s, %s: got %v, want %v", tt.name, name, err, tt.want)
			}
		}
		got, err := db.Get(ctx, tt.key)
		if tt.want == nil && (err != nil || !bytes.Equal(got, tt.value)) || tt.want != nil && err == nil {
			t.Errorf("%s: get: %d bytes, %v", tt.name, len(got), err)
		}
	}
	for _, ttl := range []time.Duration{0, -time.Hour, time.Microsecond} {
		if err := db.Put(ctx, []byte("ttl"), v, engine.TTL(ttl)); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("time to live of %v: got %v, want invalid", ttl, err)
		}
	}
	for _, name := range []string{"", "a\nb", "\xff", strings.Repeat("n", engine.MaxNamespaceName+1)} {
		if _, err := db.CreateNamespace(ctx, name); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("namespace %.10q: got %v, want invalid", name, err)
		}
	}
	n := 0
	for range db.Scan(ctx, engine.Range{}) {
		n++
	}
	if n != 2 {
		t.Errorf("%d keys are stored, want 2", n)
	}
}

// token returns the token of a key as it is now.
func token(db *engine.DB, key []byte) engine.Token {
	r, err := db.GetAll(context.Background(), key)
	if err != nil {
		return engine.NoToken
	}
	return r.Token
}

func TestBatchAboveItsCapStoresNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", &engine.Options{Memory: true})
	fill := func(n int) error {
		return db.Update(ctx, func(tx *engine.Txn) error {
			for i := range n {
				if err := tx.Put(fmt.Append(nil, i), make([]byte, 64<<10)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := fill(257); !errors.Is(err, engine.ErrTooLarge) {
		t.Fatalf("got %v, want too large", err)
	}
	for e := range db.Scan(ctx, engine.Range{}) {
		t.Fatalf("stored %q", e.Key)
	}
	// Overwriting within the transaction counts once.
	err := db.Update(ctx, func(tx *engine.Txn) error {
		for range 1000 {
			if err := tx.Put([]byte("k"), make([]byte, 64<<10)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, fill(255)); err != nil {
		t.Fatal(err)
	}
}

// A key with too many concurrent values refuses a blind write, not one that
// names them; what peers send is always stored.
func TestTooManySiblings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	hub := open(t, "", &engine.Options{Memory: true})
	const n = 1026
	for i := range n {
		db, err := engine.Open("", &engine.Options{Memory: true, SweepInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		var bundle bytes.Buffer
		err = db.Put(ctx, []byte("k"), fmt.Append(nil, i))
		if err == nil {
			_, err = db.WriteBundle(ctx, &bundle, engine.Mark{})
		}
		if err == nil {
			_, err = hub.ReadBundle(ctx, &bundle)
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	r, err := hub.GetAll(ctx, []byte("k"))
	if err != nil || len(r.Siblings) != n || !r.Conflict() {
		t.Fatalf("%d siblings, %v", len(r.Siblings), err)
	}
	if err := hub.Put(ctx, []byte("k"), nil); !errors.Is(err, engine.ErrTooLarge) {
		t.Fatalf("blind write: got %v, want too large", err)
	}
	if again, err := hub.GetAll(ctx, []byte("k")); err != nil || again.Token != r.Token {
		t.Fatalf("the refused write changed something: %v", err)
	}
	if err := hub.PutIf(ctx, []byte("k"), []byte("resolved"), r.Token); err != nil {
		t.Fatal(err)
	}
	if v, err := hub.Get(ctx, []byte("k")); err != nil || string(v) != "resolved" {
		t.Fatalf("got %q, %v", v, err)
	}
}

// A counter whose own totals are lost must not count on from nothing: that
// would lose what it adds.
func TestCounterWithoutItsTotals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir, run := t.TempDir(), t.TempDir()
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: run})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Counter([]byte("c")).Add(ctx, 5), db.Close()); err != nil {
		t.Fatal(err)
	}
	kv, err := bolt.Open(filepath.Join(dir, engine.DataFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = kv.Update(func(tx store.Tx) error {
		b := tx.Bucket("n00000001/local")
		k, _ := b.Cursor().First()
		return b.Delete(bytes.Clone(k))
	})
	if err = errors.Join(err, kv.Close()); err != nil {
		t.Fatal(err)
	}
	db, err = engine.Open(dir, &engine.Options{RuntimeDir: run})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Counter([]byte("c")).Add(ctx, 1); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("got %v, want corrupt", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, &engine.Options{RuntimeDir: "-"}) // under a fresh id it counts on
	if err := db.Counter([]byte("c")).Add(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Counter([]byte("c")).Value(ctx); err != nil || n != 6 {
		t.Fatalf("got %d, %v, want 6", n, err)
	}
}

func TestOtherEngineFormatIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: "-"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put(ctx, []byte("k"), []byte("v")), db.Close()); err != nil {
		t.Fatal(err)
	}
	setFormat := func(n uint32) {
		t.Helper()
		kv, err := bolt.Open(filepath.Join(dir, engine.DataFile), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = kv.Update(func(tx store.Tx) error {
			return tx.Bucket("db").Put([]byte("format"), binary.BigEndian.AppendUint32(nil, n))
		})
		if err = errors.Join(err, kv.Close()); err != nil {
			t.Fatal(err)
		}
	}
	setFormat(2)
	for _, readOnly := range []bool{true, false} {
		_, err := engine.Open(dir, &engine.Options{ReadOnly: readOnly, RuntimeDir: "-"})
		if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want unsupported and the directory's name", err)
		}
	}
	setFormat(1) // nothing was changed meanwhile
	db = open(t, dir, nil)
	if v, err := db.Get(ctx, []byte("k")); err != nil || string(v) != "v" {
		t.Fatalf("got %q, %v", v, err)
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir, run := t.TempDir(), t.TempDir()
	cmd, stdin, lines := child(t, crashTask{Kind: "lock", Dir: dir, Run: run})
	for lines.Scan() && lines.Text() != "opened" {
	}
	for _, readOnly := range []bool{false, true} {
		_, err := engine.Open(dir, &engine.Options{ReadOnly: readOnly, RuntimeDir: run})
		if !errors.Is(err, engine.ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Errorf("read-only %v: got %v, want locked and the directory's name", readOnly, err)
		}
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	db := open(t, dir, &engine.Options{RuntimeDir: run})
	if err := db.Put(context.Background(), []byte("k"), nil); err != nil {
		t.Fatal(err)
	}
}
