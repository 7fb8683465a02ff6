package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// errDiffer is the error of a sync that ended without proof of equality.
var errDiffer = errors.New("the two do not hold the same yet")

func newSyncCmd(a *app) *cobra.Command {
	var opts engine.SyncOptions
	var prefixes []string
	cmd := &cobra.Command{
		Use:   "sync DIR|FILE",
		Short: "Bring two stores together, directly or through a bundle file",
		Long: `Bring this store and another to the union of what they know.

With DIR, the data directory of another store, both are opened and every
namespace of both is synced. The exit code is 0 only if clocks and roots are
equal in the end. With --prefix, which may be repeated, only the keys that begin
with it are compared and brought over, and the rest is left as it is.

Where one store knows keys to be deleted whose deletes it has collected, the
other drops them: at most 1,000 keys or 5 % of the namespace a day, unless a
second store says the same. More is held back, the sync ends with exit 4 and says
how many keys it is about; "bzzz compare" lists them, and --confirm-drop follows.

With FILE, what --namespace holds travels as a bundle, to be carried where no
network goes. If there is no such file, everything is written to it. If there is
one, it is taken in, and then it is replaced by what its author lacks: carry it
back and forth until both sides report nothing new.

This store is made if it is not there and the other side is.`,
		Example: `  bzzz sync /media/stick/bzzz-data
  bzzz sync --prefix photos/ --prefix notes/ /media/stick/bzzz-data
  bzzz sync changes.bundle
  bzzz --data copy sync bzzz-data`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			other := args[0]
			info, err := os.Stat(other)
			if len(prefixes) > 0 && (err != nil || !info.IsDir()) {
				return usage(cmd, "--prefix is for a sync with a data directory: %s is none", other)
			}
			switch {
			case errors.Is(err, os.ErrNotExist):
				if _, err := os.Stat(filepath.Dir(other)); err != nil {
					return inputError(err)
				}
				return a.inNamespace(cmd, writing, func(ns *engine.Namespace) error { return a.writeBundle(cmd, ns, other) })
			case err != nil:
				return err
			case info.IsDir():
				return a.syncDirs(cmd, other, info, opts, prefixes)
			}
			return a.inDB(creating, func(db *engine.DB) error { return a.answerBundle(cmd, db, other) })
		},
	}
	cmd.Flags().BoolVar(&opts.History, "history", false, "bring old versions too, on both sides: what is retained, each once")
	cmd.Flags().BoolVar(&opts.ConfirmDrop, "confirm-drop", false, "drop what the other store knows to be deleted, however much it is, on both sides")
	cmd.Flags().StringArrayVar(&prefixes, "prefix", nil, "sync only keys that begin with this (may be repeated)")
	return cmd
}

// syncDirs syncs with the store in another data directory.
func (a *app) syncDirs(cmd *cobra.Command, other string, info os.FileInfo, opts engine.SyncOptions, prefixes []string) error {
	opts.Scope = scopeOf(prefixes)
	if err := engine.CheckScope(opts.Scope); err != nil {
		return usage(cmd, "%w", err)
	}
	if there, err := storeAt(other); err != nil {
		return err
	} else if !there {
		return noStore(other)
	}
	if own, err := os.Stat(a.data); err == nil && os.SameFile(own, info) {
		return usage(cmd, "%s is this store itself", other)
	}
	if abs, err := filepath.Abs(other); err == nil {
		opts.Peer = abs
	}
	return a.inDB(creating, func(db *engine.DB) error {
		peer, err := a.open(other, writing)
		if err != nil {
			return err
		}
		report, _, err := engine.SyncLocal(cmd.Context(), db, peer, opts)
		return closing(a.syncDone(other, report, err), peer)
	})
}

// syncDone prints what a sync did.
func (a *app) syncDone(other string, r engine.SyncReport, err error) error {
	var sent, received, conflicts, dropped, old int
	for _, n := range r.Namespaces {
		sent, received, conflicts, dropped = sent+n.Sent, received+n.Received, conflicts+n.Conflicts, dropped+n.Dropped
		old += n.PastReceived
		if n.Tier == "sketch" || n.Tier == "tree" {
			a.p.Note("namespace %q: compared by %s", n.Name, n.Tier)
		}
		if err == nil && n.Err != nil {
			err = fmt.Errorf("namespace %q: %w", n.Name, n.Err)
		}
	}
	fields := []cliout.Field{
		{Name: "with", Value: other},
		{Name: "versions_sent", Value: cliout.Count(sent)},
		{Name: "versions_received", Value: cliout.Count(received)},
		{Name: "conflicts", Value: cliout.Count(conflicts)},
		{Name: "dropped", Value: cliout.Count(dropped)},
		{Name: "bytes_sent", Value: cliout.Bytes(r.BytesSent)},
		{Name: "bytes_received", Value: cliout.Bytes(r.BytesReceived)},
		{Name: "round_trips", Value: cliout.Count(r.RoundTrips)},
		{Name: "seconds", Value: r.Duration},
		{Name: "in_sync", Value: r.InSync},
	}
	if old > 0 {
		a.p.Note("%d old versions came, too", old)
	}
	if r.Lacking > 0 {
		a.p.Note("%d large values are not wholly here: the other store does not have them either", r.Lacking)
	}
	if a.p.Format() != cliout.Table {
		fields = append(fields, cliout.Field{Name: "namespaces", Value: r.Namespaces})
	}
	if e := a.p.Object(fields...); err == nil {
		err = e
	}
	if err == nil && !r.InSync {
		err = cliout.WithNext(errDiffer, "run the command again; if it stays so, bzzz verify")
	}
	return err
}

// bundleFields describe one direction of a bundle.
func bundleFields(file string, taken, written engine.BundleReport, started time.Time) []cliout.Field {
	return []cliout.Field{
		{Name: "file", Value: file},
		{Name: "namespace", Value: written.Namespace},
		{Name: "versions_sent", Value: cliout.Count(written.Versions)},
		{Name: "versions_received", Value: cliout.Count(taken.Versions)},
		{Name: "new", Value: cliout.Count(taken.New)},
		{Name: "bytes_sent", Value: cliout.Bytes(written.Bytes)},
		{Name: "bytes_received", Value: cliout.Bytes(taken.Bytes)},
		{Name: "seconds", Value: time.Since(started)},
	}
}

// writeBundle writes all of a namespace to a new file.
func (a *app) writeBundle(cmd *cobra.Command, ns *engine.Namespace, file string) error {
	started := time.Now()
	report, err := replaceBundle(cmd.Context(), ns, file, engine.Mark{})
	if err != nil {
		return err
	}
	a.p.Note("%s was not there: wrote a bundle to it", file)
	return a.p.Object(append(bundleFields(file, engine.BundleReport{}, report, started),
		cliout.Field{Name: "in_sync", Value: nil})...)
}

// answerBundle takes a bundle in and writes what its author lacks in its place.
func (a *app) answerBundle(cmd *cobra.Command, db *engine.DB, file string) error {
	started := time.Now()
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	taken, err := db.ReadBundle(cmd.Context(), f)
	if err = closing(err, f); err != nil {
		return cliout.WithNext(fmt.Errorf("bundle %s, %d versions taken in: %w", file, taken.New, err),
			"what came before the fault is here now; have the bundle written again")
	}
	ns, err := space(cmd, db, taken.Namespace, writing)
	if err != nil {
		return err
	}
	written, err := replaceBundle(cmd.Context(), ns, file, taken.Author)
	if err != nil {
		return err
	}
	equal := taken.Complete && written.Author.String() == taken.Author.String()
	err = a.p.Object(append(bundleFields(file, taken, written, started), cliout.Field{Name: "in_sync", Value: equal})...)
	if err == nil && !taken.Complete {
		err = cliout.WithNext(errors.New("the bundle was written for a store that knows more than this one"),
			"its versions are here now, its deletes are not: write a whole bundle to a new file there")
	}
	return err
}

// replaceBundle writes a bundle beside file and gives it that name once it is
// whole and on disk.
func replaceBundle(ctx context.Context, ns *engine.Namespace, file string, base engine.Mark) (engine.BundleReport, error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp")
	if err != nil {
		return engine.BundleReport{}, err
	}
	report, err := ns.WriteBundle(ctx, io.Writer(f), base)
	if err == nil {
		err = f.Sync()
	}
	if err = closing(err, f); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return report, err
}
