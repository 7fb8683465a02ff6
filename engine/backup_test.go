package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/store"
)

// names returns what lies in a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// backedUp returns a directory with a store of all kinds of data, closed, and
// the file of its backup.
func backedUp(t testing.TB) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: "-", SweepInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	fillSample(t, db, open(t, "", &engine.Options{Memory: true}))
	file = filepath.Join(t.TempDir(), "backup")
	if _, err := db.Backup(context.Background(), file, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// TestBackupHoldsEverything: what a restored store answers is what the original
// answered, of every kind of data, and it is nobody's twin.
func TestBackupHoldsEverything(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprint("memory=", memory), func(t *testing.T) {
			t.Parallel()
			db := open(t, "", &engine.Options{Memory: memory, SweepInterval: -1})
			fillSample(t, db, open(t, "", &engine.Options{Memory: true}))
			file := filepath.Join(t.TempDir(), "backup")
			steps := map[string]int64{}
			r, err := db.Backup(ctx, file, func(step string, done int64) { steps[step] = done })
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(file)
			if err != nil || r.Path != file || r.Bytes != info.Size() || r.Checked == 0 || len(r.Problems) > 0 {
				t.Fatalf("got %+v, %v", r, err)
			}
			if _, told := steps[engine.StepCopy]; !told || len(r.Namespaces) != 2 {
				t.Fatalf("%d namespaces, steps %v", len(r.Namespaces), steps)
			}
			for _, n := range r.Namespaces {
				ns, err := db.OpenNamespace(ctx, n.Name)
				if err != nil {
					t.Fatal(err)
				}
				if s, err := ns.State(ctx); err != nil || fmt.Sprintf("%x", s.Root) != n.Root || n.Keys == 0 {
					t.Fatalf("%s: root %s, want %x; %v", n.Name, n.Root, s.Root, err)
				}
			}
			if got := names(t, filepath.Dir(file)); len(got) != 1 {
				t.Fatalf("left behind: %q", got)
			}
			want := answers(db)
			ids := map[[16]byte]bool{db.InstanceID(): true}
			replicas := map[crdt.ReplicaID]bool{db.ReplicaID(): true}
			for range 2 { // each time another store
				dir := filepath.Join(t.TempDir(), "new", "store")
				if r, err = engine.RestoreBackup(ctx, file, dir, nil); err != nil || r.Kept != "" || len(r.Namespaces) != 2 {
					t.Fatal(r, err)
				}
				back := open(t, dir, &engine.Options{SweepInterval: -1, RuntimeDir: t.TempDir()})
				if changed := compare(t, answers(back), want.lines); changed != "" || len(answers(back).errs) > 0 {
					t.Fatalf("restored, it answers otherwise: %s", changed)
				}
				if err := back.Put(ctx, []byte("after"), nil); err != nil {
					t.Fatal(err)
				}
				ids[back.InstanceID()], replicas[back.ReplicaID()] = true, true
			}
			if len(ids) != 3 || len(replicas) != 3 {
				t.Fatalf("3 stores have %d instance ids and %d replica ids", len(ids), len(replicas))
			}
		})
	}
}

// TestBackupBesideWriters: a backup is one moment of a store that is written
// to meanwhile, and a sync brings what came after.
func TestBackupBesideWriters(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, "", nil)
	stop, ended := make(chan struct{}), make(chan error)
	written := 0
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			// Two keys that are equal at every moment.
			err := db.Update(ctx, func(tx *engine.Txn) error {
				v := fmt.Append(nil, written)
				return errors.Join(tx.Put([]byte("left"), v), tx.Put([]byte("right"), v), tx.Put(fmt.Appendf(nil, "k%d", written), v))
			})
			if err != nil {
				ended <- err
				return
			}
			written++
		}
	}()
	files := make([]string, 5)
	for i := range files {
		files[i] = filepath.Join(t.TempDir(), "backup")
		if _, err := db.Backup(ctx, files[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dir := t.TempDir()
		if _, err := engine.RestoreBackup(ctx, file, dir, nil); err != nil {
			t.Fatal(err)
		}
		back := open(t, dir, nil)
		left, _ := back.Get(ctx, []byte("left"))
		right, _ := back.Get(ctx, []byte("right"))
		if !bytes.Equal(left, right) {
			t.Fatalf("a backup holds %s and %s, which were never there together", left, right)
		}
		syncBoth(t, back, db)
		if v, err := back.Get(ctx, fmt.Appendf(nil, "k%d", written-1)); err != nil || string(v) != fmt.Sprint(written-1) {
			t.Fatalf("the sync did not bring what came after the backup: %s %v", v, err)
		}
	}
	if written == 0 {
		t.Fatal("nothing was written")
	}
}

// A cursor into the journal of the original must not be taken for one into that
// of a restored store, which goes on from the same number with other records.
func TestRestoredStoreRestartsWatches(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // where an event is missed
	defer cancel()
	db := open(t, "", nil)
	put := func(db *engine.DB, key string) {
		t.Helper()
		if err := db.Put(ctx, []byte(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	w, err := db.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	put(db, "a")
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := db.Backup(ctx, file, nil); err != nil {
		t.Fatal(err)
	}
	put(db, "lost 1")
	put(db, "lost 2")
	for range 3 {
		if _, err := w.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cursor := w.Cursor()
	w.Close()
	dir := t.TempDir()
	if _, err := engine.RestoreBackup(ctx, file, dir, nil); err != nil {
		t.Fatal(err)
	}
	back := open(t, dir, nil)
	for _, k := range []string{"b", "c", "d"} {
		put(back, k)
	}
	w, err = back.Watch(ctx, nil, cursor)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var got []string
	for len(got) < 3 {
		e, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == engine.EventPut {
			got = append(got, string(e.Key))
		}
	}
	if want := []string{"b", "c", "d"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// A backup that cannot be made leaves nothing, and the store as it is.
func TestBackupThatFails(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	db := open(t, "", nil)
	for i := range 50 {
		if err := db.Put(ctx, fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{1}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	midway, stop := context.WithCancel(ctx)
	defer stop()
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		path     string
		progress func(string, int64)
		want     error
	}{
		{"something is there", ctx, taken, nil, engine.ErrExists},
		{"a directory", ctx, dir, nil, engine.ErrExists},
		{"no name", ctx, "", nil, engine.ErrInvalid},
		{"no directory", ctx, filepath.Join(dir, "none", "backup"), nil, os.ErrNotExist},
		{"below a file", ctx, filepath.Join(taken, "backup"), nil, errors.ErrUnsupported},
		{"cancelled", cancelled, filepath.Join(dir, "b1"), nil, context.Canceled},
		{"cancelled midway", midway, filepath.Join(dir, "b2"), func(step string, _ int64) {
			if step == engine.StepCopy {
				stop()
			}
		}, context.Canceled},
	} {
		_, err := db.Backup(tt.ctx, tt.path, tt.progress)
		if err == nil || tt.want != errors.ErrUnsupported && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"taken"}) {
		t.Errorf("left behind: %q", got)
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "something" {
		t.Errorf("what was there is %q, %v", b, err)
	}
	if err := db.Put(ctx, []byte("later"), nil); err != nil {
		t.Error(err)
	}
}

// damage returns the file with one value changed in place.
func damage(t testing.TB, path string, value string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(value)) {
		t.Fatalf("%q is not in the file", value)
	}
	b = bytes.ReplaceAll(b, []byte(value), bytes.ToUpper([]byte(value)))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Damage is neither backed up nor restored in silence.
func TestDamageIsNotBackedUp(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: "-"})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"bad", "good"} {
		if err := db.Put(ctx, []byte(k), []byte("the value of "+k)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := db.Backup(ctx, file, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	isDamaged := func(what string, err error) {
		t.Helper()
		d, ok := errors.AsType[*engine.Damaged](err)
		if !ok || !errors.Is(err, engine.ErrCorrupt) {
			t.Fatalf("%s: got %v, want Damaged", what, err)
		}
		if !slices.ContainsFunc(d.Problems, func(p engine.Problem) bool { return string(p.Key) == "bad" }) {
			t.Fatalf("%s: the damaged key is not in %v", what, d.Problems)
		}
	}
	// The store itself.
	damage(t, filepath.Join(dir, engine.DataFile), "the value of bad")
	db = open(t, dir, nil)
	second := filepath.Join(t.TempDir(), "backup")
	_, err = db.Backup(ctx, second, nil)
	isDamaged("backup", err)
	if got := names(t, filepath.Dir(second)); len(got) > 0 {
		t.Fatalf("left behind: %q", got)
	}
	// The backup.
	damage(t, file, "the value of bad")
	target := filepath.Join(t.TempDir(), "store")
	_, err = engine.RestoreBackup(ctx, file, target, nil)
	isDamaged("restore", err)
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a refused restore left a directory")
	}
	r, err := engine.RestoreBackup(ctx, file, target, &engine.RestoreOptions{Force: true})
	if err != nil || len(r.Problems) == 0 || r.Kept != "" {
		t.Fatalf("forced: got %v, %v", r, err)
	}
	back := open(t, target, nil)
	if v, err := back.Get(ctx, []byte("good")); err != nil || string(v) != "the value of good" {
		t.Fatalf("forced: got %q, %v", v, err)
	}
	if _, err := back.Get(ctx, []byte("bad")); !errors.Is(err, engine.ErrCorrupt) {
		t.Fatalf("forced: got %v, want ErrCorrupt", err)
	}
}

// Every kind of file that is no backup is refused with its own error, whatever
// the force, and nothing is written.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir, file := backedUp(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	newer := tamper(t, whole, func(tx store.Tx) error {
		return tx.Bucket("db").Put([]byte("format"), binary.BigEndian.AppendUint32(nil, 99))
	})
	write := func(b []byte) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy := open(t, "", nil)
	for _, tt := range []struct {
		name, src, dir string
		want           error
	}{
		{"missing", filepath.Join(dir, "none"), "", engine.ErrNotFound},
		{"directory without a store", t.TempDir(), "", engine.ErrNotFound},
		{"empty", write(nil), "", engine.ErrCorrupt},
		{"text", write([]byte(strings.Repeat("no store ", 2000))), "", engine.ErrUnsupported},
		{"newer format", write(newer), "", engine.ErrUnsupported},
		{"cut at 100", write(whole[:100]), "", engine.ErrCorrupt},
		{"cut at 5000", write(whole[:5000]), "", engine.ErrCorrupt},
		{"cut by half", write(whole[:len(whole)/2]), "", engine.ErrCorrupt},
		{"open for writing", busy.Path(), "", engine.ErrLocked},
		{"the store itself", dir, dir, engine.ErrInvalid},
		{"the file itself", filepath.Join(dir, engine.DataFile), dir, engine.ErrInvalid},
		{"a store in use", file, busy.Path(), engine.ErrLocked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := tt.dir
			if target == "" {
				target = filepath.Join(t.TempDir(), "store")
			}
			before, err := os.ReadDir(target)
			if err != nil && tt.dir != "" {
				t.Fatal(err)
			}
			_, err = engine.RestoreBackup(ctx, tt.src, target, &engine.RestoreOptions{Force: true})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			after, err := os.ReadDir(target)
			if tt.dir == "" && !errors.Is(err, os.ErrNotExist) || len(after) != len(before) {
				t.Errorf("left behind: %v, %v", after, err)
			}
		})
	}
}

// A store that is there is replaced only by force, and kept.
func TestRestoreKeepsTheStoreThatWasThere(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, file := backedUp(t)
	dir, run := t.TempDir(), t.TempDir()
	openHere := func() *engine.DB {
		t.Helper()
		db, err := engine.Open(dir, &engine.Options{RuntimeDir: run})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := openHere()
	if err := errors.Join(db.Put(ctx, []byte("mine"), []byte("v")), db.Close()); err != nil {
		t.Fatal(err)
	}
	id, instance := db.ReplicaID(), db.InstanceID()
	if _, err := engine.RestoreBackup(ctx, file, dir, nil); !errors.Is(err, engine.ErrExists) {
		t.Fatalf("got %v, want ErrExists", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{engine.DataFile}) {
		t.Fatalf("a refused restore left %q", got)
	}
	r, err := engine.RestoreBackup(ctx, file, dir, &engine.RestoreOptions{Force: true})
	if err != nil || filepath.Dir(r.Kept) != dir {
		t.Fatal(r, err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Fatalf("got %q, want the store and the one before", got)
	}
	db = openHere()
	if err := db.Put(ctx, []byte("new"), nil); err != nil {
		t.Fatal(err)
	}
	if db.InstanceID() == instance || db.ReplicaID() == id {
		t.Fatal("the restored store took over an id")
	}
	if _, err := db.Get(ctx, []byte("mine")); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("got %v from the restored store", err)
	}
	// Back to the first: its anchor still speaks for it.
	if err := errors.Join(db.Close(), os.Rename(r.Kept, filepath.Join(dir, engine.DataFile))); err != nil {
		t.Fatal(err)
	}
	db = openHere()
	defer db.Close()
	if v, err := db.Get(ctx, []byte("mine")); err != nil || string(v) != "v" {
		t.Fatalf("the store that was kept answers %q, %v", v, err)
	}
	if err := db.Put(ctx, []byte("new"), nil); err != nil || db.ReplicaID() != id {
		t.Fatalf("the store that was kept writes under another id: %v", err)
	}
}
