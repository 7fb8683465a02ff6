package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/internal/ingest"
)

const (
	// chunkRecords is how many records one transaction of an import takes.
	chunkRecords = 1000
	// chunkBytes ends a transaction earlier: half of what one may hold. A
	// record above it has a transaction of its own.
	chunkBytes = 8 << 20
	// maxImportFile is the largest file that an import of a directory takes:
	// with its path it fits a transaction.
	maxImportFile = 15 << 20
	// maxExportLine is the longest value that an export writes into a line, so
	// that an import reads it back: 16 MiB a line, of base64.
	maxExportLine = 11 << 20
)

func newImportCmd(a *app) *cobra.Command {
	var columns []string
	var prefix, archive string
	cmd := &cobra.Command{
		Use:   "import FILE|DIR | import --car FILE",
		Short: "Read CSV, JSON lines, a directory tree or a CAR file into the store",
		Long: `Read records into the store, in transactions of 1,000 (or 8 MiB):
  .csv .tsv            a row becomes a JSON object under the key that the columns
                       named by --key make, joined by "/" (default: the first)
  .jsonl .ndjson .json one {"key":...,"value":...} a line, as export writes it; with
                       --key any object, under the key that these members make
  a directory          a file's content under its path
Files may be packed (.gz). The store and the namespace are made if they are not
there. A record that is there already with that value is not written again, so an
import may be repeated.

Malformed input ends the import with exit 1: the file, line and column are named,
the transaction they are in is not written, and what went in before is printed.
Files above 15 MiB, links and special files are named and left out (exit 1), the
rest goes in; "bzzz put --file" takes a file of any size.

With --car the file is one that "bzzz export --car" wrote. It is verified as a
whole first, every block by its CID and all together by the Merkle root; then its
versions go in as a sync would bring them, under the CIDs they have, into the
namespace they are of: what is newer here stays, and a second time nothing
happens.`,
		Example: `  bzzz import --key location,date weather.csv
  bzzz import --prefix notes/ ~/notes
  bzzz import backup.jsonl.gz
  bzzz import --car state.car`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("car") {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
	}
	cmd.Flags().StringSliceVar(&columns, "key", nil, "columns or members whose values make the key")
	cmd.Flags().StringVar(&prefix, "prefix", "", "put this before every key")
	cmd.Flags().StringVar(&archive, "car", "", "read the versions of a CAR file")
	cmd.MarkFlagsMutuallyExclusive("car", "key")
	cmd.MarkFlagsMutuallyExclusive("car", "prefix")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("car") {
			return a.importCAR(cmd, archive)
		}
		var left ingest.Summary
		records, err := source(cmd, args[0], columns, &left)
		if err != nil {
			return err
		}
		return a.inNamespace(cmd, creating, func(ns *engine.Namespace) error {
			im := &importer{ns: ns, prefix: prefix, started: time.Now(), progress: a.p.Progress("import", "records", 0)}
			err := im.run(cmd, records)
			im.progress.Done()
			if e := im.print(a, left); err == nil {
				err = e
			}
			if len(columns) == 0 {
				im.noteKeys(a, args[0])
			}
			if err == nil && left.Skipped > 0 {
				err = cliout.WithNext(fmt.Errorf("left out %d of %d files", left.Skipped, left.Files+left.Skipped),
					"the rest went in; the files left out are named above")
			}
			return err
		})
	}
	return cmd
}

// source returns the records of a file or directory.
func source(cmd *cobra.Command, path string, columns []string, left *ingest.Summary) (iter.Seq2[ingest.Record, error], error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, inputError(err)
	}
	if info.IsDir() {
		if len(columns) > 0 {
			return nil, usage(cmd, "--key makes no sense for a directory: the paths are the keys")
		}
		return ingest.Tree(path, ingest.Options{MaxFile: maxImportFile}, left), nil
	}
	if _, _, err := ingest.Detect(path); err != nil {
		return nil, err
	}
	return ingest.File(path, ingest.Options{KeyColumns: columns}), nil
}

// importer writes records in transactions and counts them.
type importer struct {
	ns       *engine.Namespace
	prefix   string
	started  time.Time
	progress *cliout.Progress

	chunk []ingest.Record
	size  int

	total        tally
	transactions int
}

// tally counts what became of records.
type tally struct {
	records, added, replaced, unchanged int
	bytes                               int64
}

// run takes in all records. What a faulty chunk holds is not written.
func (im *importer) run(cmd *cobra.Command, records iter.Seq2[ingest.Record, error]) error {
	for rec, err := range records {
		if err != nil {
			return err
		}
		size := len(im.prefix) + len(rec.Key) + len(rec.Value)
		if len(im.chunk) == chunkRecords || im.size+size > chunkBytes {
			if err := im.flush(cmd); err != nil {
				return err
			}
		}
		im.chunk = append(im.chunk, rec)
		im.size += size
	}
	return im.flush(cmd)
}

// flush writes the chunk as one transaction.
func (im *importer) flush(cmd *cobra.Command) error {
	if len(im.chunk) == 0 {
		return nil
	}
	var done tally
	err := im.ns.Update(cmd.Context(), func(t *engine.Txn) error {
		done = im.total
		for i := range im.chunk {
			if err := im.write(t, &im.chunk[i], &done); err != nil {
				return &ingest.Fault{Pos: im.chunk[i].Pos, Err: err}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	im.progress.Add(int64(len(im.chunk)))
	im.total, im.chunk, im.size = done, im.chunk[:0], 0
	im.transactions++
	return nil
}

func (im *importer) write(t *engine.Txn, rec *ingest.Record, done *tally) error {
	key := append([]byte(im.prefix), rec.Key...)
	old, err := t.Get(key)
	if err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrTooLarge) {
		return err
	}
	done.records++
	done.bytes += int64(len(key) + len(rec.Value))
	switch {
	case errors.Is(err, engine.ErrTooLarge): // to be compared: no record is
		done.replaced++
	case err != nil:
		done.added++
	case bytes.Equal(old, rec.Value):
		done.unchanged++
		return nil
	default:
		done.replaced++
	}
	return t.Put(key, rec.Value)
}

// noteKeys hints at --key where the first column of a table was clearly no key.
func (im *importer) noteKeys(a *app, path string) {
	format, _, _ := ingest.Detect(path)
	if n := im.total; (format == ingest.FormatCSV || format == ingest.FormatTSV) && n.replaced > n.added+n.unchanged {
		a.p.Note("%s of %s rows replaced others: the key is the first column alone; --key names the columns that make it",
			cliout.Count(n.replaced), cliout.Count(n.records))
	}
}

// print tells what went in and what was left out.
func (im *importer) print(a *app, left ingest.Summary) error {
	fields := []cliout.Field{
		{Name: "records", Value: cliout.Count(im.total.records)},
		{Name: "added", Value: cliout.Count(im.total.added)},
		{Name: "replaced", Value: cliout.Count(im.total.replaced)},
		{Name: "unchanged", Value: cliout.Count(im.total.unchanged)},
		{Name: "bytes", Value: cliout.Bytes(im.total.bytes)},
		{Name: "transactions", Value: cliout.Count(im.transactions)},
	}
	var out []leftOut
	for _, s := range left.Skips {
		out = append(out, leftOut{s.Path, string(s.Reason)})
	}
	return a.summary(fields, im.started, left.Skipped, out)
}

// leftOut names something that was not taken along, and why.
type leftOut struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// summary prints the fields, the time it took and what was left out: as part
// of the result for programs, as lines on stderr for people.
func (a *app) summary(fields []cliout.Field, started time.Time, n int, list []leftOut) error {
	fields = append(fields, cliout.Field{Name: "seconds", Value: time.Since(started)},
		cliout.Field{Name: "left_out", Value: cliout.Count(n)})
	if a.p.Format() != cliout.Table {
		if list == nil {
			list = []leftOut{}
		}
		return a.p.Object(append(fields, cliout.Field{Name: "left_out_names", Value: list})...)
	}
	for _, l := range list {
		a.p.Note("left out: %s: %s", cliout.Safe(l.Name), l.Reason)
	}
	if n > len(list) {
		a.p.Note("left out: %d more", n-len(list))
	}
	return a.p.Object(fields...)
}

func newExportCmd(a *app) *cobra.Command {
	var dir, archive string
	cmd := &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Write values as JSON lines or files, or versions as a CAR file",
		Long: `Write the values of the keys that begin with PREFIX: as JSON lines to stdout, one
{"key":...,"value":...} a line, or with --dir as files whose paths are the keys.
"bzzz import" reads both back byte for byte. A value that is no JSON goes as
"value_base64".

Counters, numbers, sets, maps and lists are left out ("bzzz get NAME -o json"
prints them), values above 11 MiB, with --dir 15 MiB ("bzzz get KEY --out FILE"
writes them), and with --dir keys that cannot be file names; they are named and
the exit code is 1.

With --car the versions that hold now are written as a CAR file, deletes and all
types included: one block a version, under the CID that "bzzz log" shows, below a
manifest with the Merkle root. Other tools read and check each by itself, the same
state gives the same bytes, and "bzzz import --car" takes it in. A file is a CARv2
with an index; "-" writes a CARv1 to stdout. Values that are links to blobs are
counted; the blobs are not in the file.`,
		Example: `  bzzz export > backup.jsonl
  bzzz export reports/ --dir out
  bzzz export --car state.car`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write files below this directory")
	cmd.Flags().StringVar(&archive, "car", "", "write the versions to a CAR file (- for stdout)")
	cmd.MarkFlagsMutuallyExclusive("car", "dir")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("car") {
			return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
				return a.exportCAR(cmd, ns, optional(args), archive)
			})
		}
		if dir == "" && a.p.Format() == cliout.JSON {
			return usage(cmd, "export writes JSON lines: use -o jsonl, or --dir")
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			ex := &exporter{started: time.Now()}
			err := ex.run(a, cmd, ns, optional(args), dir)
			if err == nil && dir != "" {
				err = ex.print(a, dir)
			}
			if err == nil && ex.skipped > 0 {
				for _, l := range ex.left {
					if dir == "" {
						a.p.Note("left out: %s: %s", cliout.Safe(l.Name), l.Reason)
					}
				}
				err = cliout.WithNext(fmt.Errorf("left out %d of %d keys", ex.skipped, ex.skipped+ex.records),
					"the rest was written; the keys left out are named above")
			}
			return err
		})
	}
	return cmd
}

// exporter writes records and counts them.
type exporter struct {
	started time.Time
	records int
	bytes   int64
	skipped int
	left    []leftOut
}

// run writes every register under a prefix to stdout or below dir.
func (ex *exporter) run(a *app, cmd *cobra.Command, ns *engine.Namespace, prefix []byte, dir string) error {
	var progress *cliout.Progress
	if f, ok := a.out.(*os.File); dir != "" || !ok || !cliout.IsTerminal(f) {
		progress = a.p.Progress("export", "keys", 0)
		defer progress.Done()
	}
	write, finish, err := sink(a.out, dir)
	if err != nil {
		return err
	}
	for e, err := range ns.Scan(cmd.Context(), engine.Range{Prefix: prefix}) {
		if err != nil {
			return errors.Join(err, finish())
		}
		if err := ex.one(cmd.Context(), ns, e, dir, write); err != nil {
			return errors.Join(err, finish())
		}
		if progress != nil {
			progress.Add(1)
		}
	}
	return finish()
}

// one writes an entry. What cannot be written is left out and named.
func (ex *exporter) one(ctx context.Context, ns *engine.Namespace, e engine.Entry, dir string, write func(key, value []byte) error) error {
	if e.Type != engine.TypeRegister {
		ex.skip(e.Key, fmt.Sprintf("a %s (bzzz get %s -o json prints it)", e.Type, cliout.Safe(string(e.Key))))
		return nil
	}
	limit := int64(maxExportLine)
	if dir != "" {
		limit = maxImportFile
	}
	var err error
	switch {
	case e.Size < 0:
		ex.skip(e.Key, "a large value that is not here yet")
		return nil
	case e.Size > limit:
		ex.skip(e.Key, fmt.Sprintf("a value of %v (bzzz get %s --out FILE writes it)", cliout.Bytes(e.Size), cliout.Safe(string(e.Key))))
		return nil
	case e.Blob != "":
		if e.Value, err = ns.Get(ctx, e.Key); err != nil {
			return fmt.Errorf("key %q: %w", e.Key, err)
		}
	}
	err = write(e.Key, e.Value)
	switch {
	case errors.Is(err, engine.ErrInvalid), errors.Is(err, engine.ErrConflict):
		ex.skip(e.Key, strings.TrimPrefix(err.Error(), "invalid: "))
		return nil
	case err != nil:
		return err
	}
	ex.records++
	ex.bytes += int64(len(e.Value))
	return nil
}

func (ex *exporter) skip(key []byte, reason string) {
	if ex.skipped++; len(ex.left) < ingest.MaxNamed {
		ex.left = append(ex.left, leftOut{string(key), reason})
	}
}

func (ex *exporter) print(a *app, dir string) error {
	return a.summary([]cliout.Field{
		{Name: "dir", Value: dir},
		{Name: "records", Value: cliout.Count(ex.records)},
		{Name: "bytes", Value: cliout.Bytes(ex.bytes)},
	}, ex.started, ex.skipped, ex.left)
}

// sink returns where records go, and what ends it.
func sink(out io.Writer, dir string) (write func(key, value []byte) error, finish func() error, err error) {
	if dir == "" {
		w := ingest.NewWriter(out)
		return w.Write, w.Flush, nil
	}
	d, err := ingest.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	return d.Write, d.Close, nil
}
