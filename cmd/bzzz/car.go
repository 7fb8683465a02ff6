package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/car"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
)

// toStdout is the file name that means stdout.
const toStdout = "-"

// exportCAR writes the live versions below a prefix as a CAR file.
func (a *app) exportCAR(cmd *cobra.Command, ns *engine.Namespace, prefix []byte, file string) error {
	started := time.Now()
	if out, ok := a.out.(*os.File); file == toStdout && ok && cliout.IsTerminal(out) {
		return usage(cmd, "a CAR is no text: name a file, or send stdout to one")
	}
	set, err := ns.VersionSet(cmd.Context(), prefix)
	if err != nil {
		return err
	}
	defer set.Release()
	progress := a.p.Progress("export", "versions", 0)
	src := car.Source{
		Namespace: ns.Name(), Prefix: set.Prefix(), Clock: set.Clock(),
		Versions: counting(set.All(cmd.Context()), progress),
	}
	var sum car.Summary
	if file == toStdout {
		sum, err = car.WriteV1(a.out, src)
	} else {
		sum, err = replaceCAR(src, file)
	}
	progress.Done()
	if err != nil {
		return err
	}
	a.noteBlobs(sum.Blobs)
	if file == toStdout {
		return nil
	}
	return a.p.Object(append(carFields(file, sum), cliout.Field{Name: "seconds", Value: time.Since(started)})...)
}

// counting tells progress of what is read: each version twice.
func counting(versions iter.Seq2[*crdt.Version, error], progress *cliout.Progress) iter.Seq2[*crdt.Version, error] {
	return func(yield func(*crdt.Version, error) bool) {
		for v, err := range versions {
			if !yield(v, err) {
				return
			}
			progress.Add(1)
		}
	}
}

// replaceCAR writes a CARv2 beside file and gives it that name once it is whole
// and on disk.
func replaceCAR(src car.Source, file string) (car.Summary, error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp")
	if err != nil {
		return car.Summary{}, inputError(err)
	}
	sum, err := car.WriteV2(f, src)
	if err == nil {
		err = f.Sync()
	}
	if err = closing(err, f); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return sum, err
}

// carFields describe a CAR file.
func carFields(file string, sum car.Summary) []cliout.Field {
	return []cliout.Field{
		{Name: "file", Value: file},
		{Name: "cid", Value: sum.CID.String()},
		{Name: "namespace", Value: sum.Namespace},
		{Name: "root", Value: fmt.Sprintf("%x", sum.Root)},
		{Name: "keys", Value: cliout.Count(sum.Keys)},
		{Name: "versions", Value: cliout.Count(sum.Versions)},
		{Name: "blobs", Value: cliout.Count(sum.Blobs)},
		{Name: "bytes", Value: cliout.Bytes(sum.Bytes)},
	}
}

// noteBlobs says that a CAR has links to what is not in it.
func (a *app) noteBlobs(n int) {
	if n > 0 {
		a.p.Note("%d values are links to blobs, whose content is not in the file", n)
	}
}

// importCAR verifies a whole CAR file and then takes its versions in.
func (a *app) importCAR(cmd *cobra.Command, file string) error {
	started := time.Now()
	in, err := os.Open(file)
	if err != nil {
		return inputError(err)
	}
	f, err := a.openCAR(cmd, in, file)
	if err != nil {
		return closing(err, in)
	}
	a.namespace = f.Namespace
	err = a.inNamespace(cmd, creating, func(ns *engine.Namespace) error {
		im := &carImporter{ns: ns, progress: a.p.Progress("import", "versions", int64(f.Versions))}
		err := im.run(cmd.Context(), f)
		im.progress.Done()
		a.noteBlobs(f.Blobs)
		if im.total.Forks > 0 {
			a.p.Note("%d versions have an author and number that another version here has: one of the two stores was copied while it ran", im.total.Forks)
		}
		e := a.p.Object(append(carFields(file, f.Summary),
			cliout.Field{Name: "new", Value: cliout.Count(im.total.New)},
			cliout.Field{Name: "known", Value: cliout.Count(im.total.Known)},
			cliout.Field{Name: "repaired", Value: cliout.Count(im.total.Repaired)},
			cliout.Field{Name: "conflicts", Value: cliout.Count(im.total.Conflicts)},
			cliout.Field{Name: "transactions", Value: cliout.Count(im.transactions)},
			cliout.Field{Name: "seconds", Value: time.Since(started)})...)
		if err == nil {
			err = e
		}
		return err
	})
	return closing(err, in)
}

// openCAR verifies a file and that it is of the namespace that the user named,
// if one was named.
func (a *app) openCAR(cmd *cobra.Command, in *os.File, file string) (*car.File, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, usage(cmd, "%s is no file: a CAR is read twice, first to verify it", file)
	}
	f, err := car.Open(cmd.Context(), in, info.Size())
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case err != nil:
		return nil, cliout.WithNext(errs.Wrap("cannot import", file, err), "nothing was taken in; have the file written again")
	}
	if flag := cmd.Flag("namespace"); flag.Changed && a.namespace != f.Namespace {
		return nil, usage(cmd, "the file is of namespace %q, and versions cannot change theirs", f.Namespace)
	}
	if err := checkNamespace(f.Namespace); err != nil {
		return nil, errs.Wrap("cannot import", file, fmt.Errorf("%w: %w", engine.ErrInvalid, err))
	}
	return f, nil
}

// carImporter takes versions in, in transactions.
type carImporter struct {
	ns           *engine.Namespace
	progress     *cliout.Progress
	chunk        []*crdt.Version
	size         int
	total        engine.ApplyReport
	transactions int
}

func (im *carImporter) run(ctx context.Context, f *car.File) error {
	for v, err := range f.ByDot() {
		if err != nil {
			return err
		}
		im.chunk = append(im.chunk, v)
		im.size += len(v.Key) + len(v.Value)
		if len(im.chunk) == chunkRecords || im.size >= chunkBytes {
			if err := im.flush(ctx); err != nil {
				return err
			}
		}
	}
	return im.flush(ctx)
}

func (im *carImporter) flush(ctx context.Context) error {
	if len(im.chunk) == 0 {
		return nil
	}
	done, err := im.ns.ApplyVersions(ctx, im.chunk)
	if err != nil {
		return err
	}
	im.progress.Add(int64(len(im.chunk)))
	im.total.New += done.New
	im.total.Known += done.Known
	im.total.Repaired += done.Repaired
	im.total.Conflicts += done.Conflicts
	im.total.Forks += done.Forks
	im.transactions++
	im.chunk, im.size = im.chunk[:0], 0
	return nil
}
