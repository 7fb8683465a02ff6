package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/internal/errs"
	"bzzz/store"
	"bzzz/store/bolt"
)

// Steps of a backup and of restoring one, as progress is told of them.
const (
	StepRead   = "read"   // roots of the original; versions are not counted
	StepCopy   = "copy"   // bytes of keys and values
	StepVerify = "verify" // keys and journal records
)

// BackupReport is what a backup, or a store restored from one, holds.
type BackupReport struct {
	Path       string           // of the file
	Bytes      int64            // of the file
	Checked    int              // keys and journal records verified in the copy
	Namespaces []NamespaceStats // as verified in the copy
	Kept       string           // the store that was there before, renamed; "" if none
	Problems   []Problem        // damage that was restored with the rest (RestoreOptions.Force)
}

// Damaged is the error of a store that was to be copied and is damaged. It
// matches ErrCorrupt.
type Damaged struct {
	Path     string
	Problems []Problem // at most 10,000
}

// Error counts the problems and shows the first.
func (d *Damaged) Error() string {
	return fmt.Sprintf("%d problem(s), the first: %v: %v", len(d.Problems), d.Problems[0], ErrCorrupt)
}

// Is makes errors.Is(d, ErrCorrupt) true.
func (d *Damaged) Is(target error) bool { return target == ErrCorrupt }

// Backup writes the state of this moment to a new file at path, dense, while
// reads and writes go on. The file is a store of its own: with another instance
// id, other journal ids and no replica id to go on with. It is complete,
// verified and durable before it gets its name: every key, version and journal
// record in it by digest or checksum, and each namespace's root, clock and
// counts against those of the moment that was copied. Until then, and after an
// error, nothing is at path.
//
// ErrExists if something is at path, *Damaged if something in this store is,
// ctx's error, those of the file system. progress may be nil. O(everything);
// memory about 50 MB; the room of what is deleted meanwhile is kept until the
// end.
func (db *DB) Backup(ctx context.Context, path string, progress func(step string, done int64)) (BackupReport, error) {
	if err := db.usable(ctx); err != nil {
		return BackupReport{}, err
	}
	r, err := db.backup(ctx, path, progress)
	return r, errs.Wrap("engine.Backup", path, err)
}

func (db *DB) backup(ctx context.Context, path string, progress func(string, int64)) (BackupReport, error) {
	if path == "" {
		return BackupReport{}, fmt.Errorf("no file name: %w", ErrInvalid)
	}
	if _, err := os.Lstat(path); err == nil {
		return BackupReport{}, ErrExists // before the work, not only after it
	}
	snap, err := db.kv.Snapshot()
	if err != nil {
		return BackupReport{}, err
	}
	defer snap.Release()
	if db.opts.Durability != DurableAlways && !db.opts.Memory && !db.opts.ReadOnly {
		if err := db.kv.Sync(); err != nil { // nothing leaves the node before it is durable
			return BackupReport{}, err
		}
	}
	return copyStore(ctx, path, snap, copyPlan{progress: progress})
}

// RestoreOptions changes how RestoreBackup works. The zero value is useful.
type RestoreOptions struct {
	// Force restores a damaged backup, and puts it in the place of a store that
	// is there: that one is kept beside it under another name.
	Force bool
	// Progress, if not nil, is told how far each step has come.
	Progress func(step string, done int64)
}

// RestoreBackup makes a store in dir of a backup file, or of the store in
// another directory. src is verified first and not changed. The new store has
// another instance id and takes a fresh replica id before its first write,
// however often the same backup is restored. It is verified and durable before
// it gets its name.
//
// ErrNotFound if src is missing, ErrUnsupported if it is another program's or
// of another format, ErrLocked if it, or the store to be replaced, is open for
// writing, *Damaged if it is damaged and not forced, ErrCorrupt if it cannot be
// read at all, ErrExists if dir holds a store and it is not forced, ErrInvalid
// if that is src itself.
func RestoreBackup(ctx context.Context, src, dir string, opts *RestoreOptions) (BackupReport, error) {
	var o RestoreOptions
	if opts != nil {
		o = *opts
	}
	r, err := restoreBackup(ctx, src, dir, o)
	return r, errs.Wrap("engine.RestoreBackup", src, err)
}

func restoreBackup(ctx context.Context, src, dir string, o RestoreOptions) (out BackupReport, err error) {
	if info, err := os.Stat(src); err == nil && info.IsDir() {
		src = filepath.Join(src, DataFile)
	}
	plan := copyPlan{progress: o.Progress, force: o.Force}
	target := filepath.Join(dir, DataFile)
	switch info, err := os.Stat(target); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return out, err
	case isSame(src, info):
		return out, fmt.Errorf("it is the store that would be replaced: %w", ErrInvalid)
	case !o.Force:
		return out, fmt.Errorf("%s: %w", target, ErrExists)
	default:
		plan.keep = target + ".replaced-" + time.Now().UTC().Format("20060102T150405.000")
	}
	from, err := bolt.Open(src, &bolt.Options{ReadOnly: true})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	snap, err := from.Snapshot()
	if err != nil {
		return out, err
	}
	defer snap.Release()
	// The copy is verified too, but the original comes first: nothing is
	// written for one that is refused.
	if plan.want, err = inspect(ctx, &moment{snap: snap}, true, o.Progress); err != nil {
		return out, err
	}
	if len(plan.want.problems) > 0 && !o.Force {
		return out, &Damaged{src, plan.want.problems}
	}
	_, dirErr := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return out, err
	}
	out, err = copyStore(ctx, target, snap, plan)
	if err != nil && errors.Is(dirErr, fs.ErrNotExist) {
		os.Remove(dir) // where it is not empty somebody else uses it by now
	}
	return out, err
}

func isSame(path string, info os.FileInfo) bool {
	other, err := os.Stat(path)
	return err == nil && os.SameFile(other, info)
}

// copyPlan says how copyStore works.
type copyPlan struct {
	progress func(step string, done int64)
	force    bool      // damage is no error
	keep     string    // see bolt.CopyOptions
	want     *contents // of the original, if it is known
}

// copyStore writes what a snapshot sees to a store of its own at path.
func copyStore(ctx context.Context, path string, snap store.Snapshot, plan copyPlan) (BackupReport, error) {
	if plan.progress == nil {
		plan.progress = func(string, int64) {}
	}
	if plan.want == nil {
		plan.progress(StepRead, 0)
		var err error
		if plan.want, err = inspect(ctx, &moment{snap: snap}, false, plan.progress); err != nil {
			return BackupReport{}, err
		}
	}
	var got *contents
	err := bolt.Copy(ctx, path, snap, &bolt.CopyOptions{
		Change:   disown,
		Progress: func(n int64) { plan.progress(StepCopy, n) },
		Keep:     plan.keep,
		Check: func(kv store.KV) (err error) {
			if got, err = inspect(ctx, borrowed{kv}, true, plan.progress); err != nil {
				return err
			}
			if len(got.problems) > 0 && !plan.force {
				return &Damaged{path, got.problems}
			}
			return got.compare(plan.want)
		},
	})
	if err != nil {
		return BackupReport{}, err
	}
	out := BackupReport{Path: path, Checked: got.checked, Namespaces: got.namespaces, Problems: got.problems}
	if _, err := os.Lstat(plan.keep); err == nil {
		out.Kept = plan.keep
	}
	info, err := os.Stat(path)
	if err == nil {
		out.Bytes = info.Size()
	}
	return out, err
}

// contents is what a store holds, as two copies are compared by.
type contents struct {
	namespaces []NamespaceStats
	clocks     []crdt.Clock
	checked    int
	problems   []Problem
}

// inspect reads what a store holds, and with verify checks all of it. It closes
// kv.
func inspect(ctx context.Context, kv store.KV, verify bool, progress func(string, int64)) (*contents, error) {
	db, err := Open("", &Options{Store: kv, ReadOnly: true, SweepInterval: -1})
	if err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	out := &contents{}
	err = func() error {
		if verify {
			report, err := db.Verify(ctx, func(done int) {
				if progress != nil {
					progress(StepVerify, int64(done))
				}
			})
			if err != nil {
				return err
			}
			out.checked, out.problems = report.Checked, report.Problems
		}
		stats, err := db.Stats(ctx)
		if err != nil {
			return err
		}
		out.namespaces = stats.Namespaces
		for _, ns := range stats.Namespaces {
			err := db.find(ns.Name).fullView(ctx, func(v *replica.View) error {
				out.clocks = append(out.clocks, v.Clock().Clone())
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}()
	return out, errors.Join(err, db.Close())
}

// compare returns ErrCorrupt if the copy does not hold what the original does.
func (c *contents) compare(want *contents) error {
	if len(c.namespaces) != len(want.namespaces) {
		return fmt.Errorf("the copy has %d namespaces, the original %d: %w", len(c.namespaces), len(want.namespaces), ErrCorrupt)
	}
	for i, w := range want.namespaces {
		got := c.namespaces[i]
		if got.Name != w.Name || got.Counts != w.Counts || got.Root != w.Root || !c.clocks[i].Equal(want.clocks[i]) {
			return fmt.Errorf("namespace %q of the copy is not that of the original: %w", w.Name, ErrCorrupt)
		}
	}
	return nil
}

// borrowed is a store that whoever opened it closes.
type borrowed struct{ store.KV }

func (borrowed) Close() error { return nil }

// moment is a snapshot as a store that nobody can write. Its Views wait for each
// other, since a snapshot serves one goroutine at a time.
type moment struct {
	snap store.Snapshot
	mu   sync.Mutex
}

// View implements store.KV.
func (m *moment) View(fn func(store.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := fn(m.snap); err != nil {
		return err
	}
	return m.snap.Err()
}

// Update implements store.KV.
func (m *moment) Update(func(store.Tx) error) error { return ErrReadOnly }

// Snapshot implements store.KV. Nobody who only inspects asks for one.
func (m *moment) Snapshot() (store.Snapshot, error) { return nil, ErrUnsupported }

// Sync implements store.KV.
func (m *moment) Sync() error { return nil }

// Close implements store.KV. The snapshot is released by who took it.
func (m *moment) Close() error { return nil }
