package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
)

func newBackupCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE|DIR",
		Short: "Write a verified copy of the whole store to a new file",
		Long: `Write all namespaces with their history, as they are at one moment, to a new
file; in DIR it is named by the time. The copy is dense, and it gets its name
only when it is complete, on disk and verified: every key, version and record
by digest or checksum, and each namespace's root against that of the store.

The file is no twin of the store: what is restored from it writes under an id of
its own. A damaged store is not backed up; the damage is listed (exit 1).`,
		Example: `  bzzz backup /media/stick/monday.backup
  bzzz backup /media/stick
  bzzz restore-backup /media/stick/monday.backup --data new`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := args[0]
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				path = filepath.Join(path, "bzzz-"+time.Now().UTC().Format("20060102T150405Z")+".backup")
			}
			return a.inDB(reading, func(db *engine.DB) error {
				started := time.Now()
				steps := a.steps("backup")
				r, err := db.Backup(cmd.Context(), path, steps.tell)
				steps.done()
				if err != nil {
					return a.backupError("cannot back up to", path, err, "bzzz verify --repair, then bzzz sync with a peer that holds what is damaged; then back up")
				}
				return a.printBackup(r, started, cliout.Field{Name: "file", Value: r.Path})
			})
		},
	}
}

func newRestoreBackupCmd(a *app) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "restore-backup FILE|DIR",
		Short: "Make a store of a backup",
		Long: `Verify a backup, or the store in another data directory, and make a store of it
in the data directory. The backup is not changed and may be restored any number
of times: each store has an id of its own and takes a fresh replica id before
its first write. A sync with the others brings what came after the backup.

A store that is there is not touched, and a damaged backup is refused with a
list, unless --force is given: then the store that was there is kept beside the
new one under another name, and what is damaged is restored as it is.`,
		Example: `  bzzz restore-backup /media/stick/monday.backup
  bzzz restore-backup monday.backup --data new
  bzzz restore-backup monday.backup --force`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a store that is there, restore what is damaged")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := storeAt(a.data); err != nil {
			return err
		}
		if _, err := os.Stat(args[0]); err != nil {
			return inputError(err)
		}
		started := time.Now()
		steps := a.steps("restore")
		r, err := engine.RestoreBackup(cmd.Context(), args[0], a.data, &engine.RestoreOptions{Force: force, Progress: steps.tell})
		steps.done()
		if err != nil {
			return a.restoreError(args[0], err)
		}
		if len(r.Problems) > 0 {
			a.p.Note("%d problem(s) were restored with the rest: bzzz verify --repair, then bzzz sync with a peer", len(r.Problems))
		}
		return a.printBackup(r, started, cliout.Field{Name: "data", Value: a.data},
			cliout.Field{Name: "kept", Value: textOrNil(r.Kept)}, cliout.Field{Name: "problems", Value: cliout.Count(len(r.Problems))})
	}
	return cmd
}

// restoreError says in the user's words why a backup was not restored.
func (a *app) restoreError(src string, err error) error {
	next := "take another backup, or restore what is whole with --force and sync with a peer"
	switch {
	case errors.Is(err, engine.ErrExists):
		err = cliout.WithNext(errs.Wrap("cannot restore to", a.data, innermost(err)),
			"name another directory with --data, or replace the store with --force (it is kept beside the new one)")
		return err
	case errors.Is(err, engine.ErrUnsupported):
		next = "take a file that bzzz backup of this or an older program wrote"
	case errors.Is(err, engine.ErrInvalid):
		next = "name another directory with --data"
	case errors.Is(err, engine.ErrLocked):
		next = "close what uses the store, then try again"
	}
	return a.backupError("cannot restore", src, err, next)
}

// backupError lists damage, and names the next step for it and for errors
// whose kind does not tell it.
func (a *app) backupError(op, path string, err error, next string) error {
	if d, ok := errors.AsType[*engine.Damaged](err); ok {
		var problems []problem
		for _, p := range d.Problems {
			problems = append(problems, *newProblem(p))
		}
		if a.p.Format() == cliout.Table {
			if e := a.listProblems(problems); e != nil {
				return e
			}
		} else if e := a.p.Object(cliout.Field{Name: "problems", Value: len(problems)}, cliout.Field{Name: "found", Value: problems}); e != nil {
			return e
		}
		err = fmt.Errorf("%d problem(s) found: %w", len(problems), engine.ErrCorrupt)
	}
	switch {
	case errors.Is(err, engine.ErrExists):
		next = "name a file that is not there yet"
	case errors.Is(err, os.ErrNotExist), isPathError(err):
		next = "check the path, and who may write there"
	}
	return cliout.WithNext(errs.Wrap(op, path, innermost(err)), next)
}

// printBackup prints what a backup holds.
func (a *app) printBackup(r engine.BackupReport, started time.Time, first ...cliout.Field) error {
	fields := append(first, cliout.Field{Name: "bytes", Value: cliout.Bytes(r.Bytes)},
		cliout.Field{Name: "checked", Value: cliout.Count(r.Checked)},
		cliout.Field{Name: "seconds", Value: time.Since(started)})
	if a.p.Format() != cliout.Table {
		return a.p.Object(append(fields, cliout.Field{Name: "namespaces", Value: r.Namespaces})...)
	}
	if err := errors.Join(a.p.Object(fields...), a.p.Data([]byte("\n"))); err != nil {
		return err
	}
	rows := a.p.Rows("namespace", "keys", "versions", "deletes", "conflicts", "root")
	for _, n := range r.Namespaces {
		err := rows.Add(n.Name, cliout.Count(n.Keys), cliout.Count(n.Versions), cliout.Count(n.Tombstones),
			cliout.Count(n.Conflicts), textOrNil(n.Root[:min(rootDigits, len(n.Root))]))
		if err != nil {
			return err
		}
	}
	return rows.Close()
}

func newCompactCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Give the free room of the store's file back to the system",
		Long: `Write a dense copy of the store's file beside it, compare the two, and put the
copy in the file's place. Nothing that the store holds changes, nor the id it
writes under; a crash at any moment leaves one whole store. There must be room
for the copy. Run bzzz gc before to remove old versions.`,
		Example: `  bzzz gc && bzzz compact
  bzzz compact -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inDB(writing, func(db *engine.DB) error {
				started := time.Now()
				steps := a.steps("compact")
				r, err := db.Compact(cmd.Context(), func(n int64) { steps.tell(engine.StepCopy, n) })
				steps.done()
				if err != nil {
					return cliout.WithNext(errs.Wrap("cannot compact the store", a.data, innermost(err)),
						"the store is as it was; see that there is room for a copy of what it holds")
				}
				return a.p.Object(cliout.Field{Name: "before_bytes", Value: cliout.Bytes(r.Before)},
					cliout.Field{Name: "after_bytes", Value: cliout.Bytes(r.After)},
					cliout.Field{Name: "seconds", Value: time.Since(started)})
			})
		},
	}
}

// steps shows the progress of work in several steps.
type steps struct {
	app  *app
	what string
	name string
	bar  *cliout.Progress
}

func (a *app) steps(what string) *steps { return &steps{app: a, what: what} }

// tell shows how far a step has come.
func (s *steps) tell(step string, done int64) {
	if step != s.name {
		s.done()
		unit := "records"
		if step == engine.StepCopy {
			unit = "bytes"
		}
		s.name, s.bar = step, s.app.p.Progress(s.what+": "+step, unit, 0)
	}
	s.bar.Set(done)
}

// done ends the step.
func (s *steps) done() {
	if s.bar != nil {
		s.bar.Done()
		s.bar = nil
	}
}
