package main

import (
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// retentionFlags are what gc and gc explain are told to keep.
type retentionFlags struct {
	keep           int
	older, deletes duration
}

func (r *retentionFlags) add(cmd *cobra.Command) {
	r.keep, r.older, r.deletes = engine.DefaultKeepVersions, duration(engine.DefaultKeepFor), duration(engine.DefaultTombstoneAge)
	cmd.Flags().IntVar(&r.keep, "keep", r.keep, "keep so many versions of each key")
	cmd.Flags().Var(&r.older, "older", "remove only what was written longer ago than this")
	cmd.Flags().Var(&r.deletes, "deletes", "remove only deletes that are older than this")
}

// rule is what the engine calls it; there a zero stands for the default.
func (r *retentionFlags) rule(cmd *cobra.Command) (engine.Retention, error) {
	if r.keep < 0 {
		return engine.Retention{}, usage(cmd, "--keep %d is negative", r.keep)
	}
	rule := engine.Retention{Versions: r.keep, Age: time.Duration(r.older), TombstoneAge: time.Duration(r.deletes)}
	if rule.Versions == 0 {
		rule.Versions = -1
	}
	if rule.Age == 0 {
		rule.Age = -1
	}
	if rule.TombstoneAge == 0 {
		rule.TombstoneAge = -1
	}
	return rule, nil
}

func newGcCmd(a *app) *cobra.Command {
	var keep retentionFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove old versions that were replaced, and old deletes",
		Long: `Remove versions that were replaced, in every namespace, except the newest of each
key (--keep) and those written within a time (--older); a version stays if
either keeps it. Current values always stay.

Deletes go, with all that is known of their keys, once they are older than
--deletes and nothing they replaced is younger than --older. One that might still
have to hide a version that has not arrived yet stays: "gc explain" names what it
waits for. What was deleted never comes back by this.

Chunks of values above 64 KiB go with the last version that names them, those of
a put that was cut a day later. The room is used again by later writes; bzzz
compact gives it back to the system.`,
		Example: `  bzzz gc
  bzzz gc --keep 1 --older 7d
  bzzz gc --keep 0 --older 0s --deletes 0s`,
		Args: cobra.NoArgs,
	}
	keep.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rule, err := keep.rule(cmd)
		if err != nil {
			return err
		}
		return a.inDB(writing, func(db *engine.DB) error {
			started := time.Now()
			r, err := db.Collect(cmd.Context(), rule)
			if err != nil {
				return err
			}
			if r.Leases > 0 {
				a.p.Note("%d put(s) of large values were cut: chunks written since are kept for a day, so that they can go on", r.Leases)
			}
			return a.p.Object(cliout.Field{Name: "keys", Value: cliout.Count(r.Keys)},
				cliout.Field{Name: "tombstones", Value: cliout.Count(r.Tombstones)},
				cliout.Field{Name: "removed", Value: cliout.Count(r.Removed)},
				cliout.Field{Name: "records", Value: cliout.Count(r.Records)},
				cliout.Field{Name: "bytes", Value: cliout.Bytes(r.Bytes)},
				cliout.Field{Name: "large_values", Value: cliout.Count(r.Blobs)},
				cliout.Field{Name: "chunks", Value: cliout.Count(r.Chunks)},
				cliout.Field{Name: "chunk_bytes", Value: cliout.Bytes(r.ChunkBytes)},
				cliout.Field{Name: "seconds", Value: time.Since(started)})
		})
	}
	addTo(cmd, a, "", newGcExplainCmd)
	return cmd
}

func newGcExplainCmd(a *app) *cobra.Command {
	var keep retentionFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Show what is kept and why, and what gc would remove",
		Long: `Show, for every namespace, how many records of each class there are, what they
take (keys and values; what the file adds to them is not counted), and why they
are kept. "removable" is what gc with the same flags would remove now.

A delete that waits for a gap has to stay until the missing versions arrive,
because it hides them. Sync with a store that has them; if the one that wrote
them is lost for good: bzzz replica retire.`,
		Example: `  bzzz gc explain
  bzzz gc explain --keep 1 --older 7d -o json`,
		Args: cobra.NoArgs,
	}
	keep.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rule, err := keep.rule(cmd)
		if err != nil {
			return err
		}
		return a.inDB(reading, func(db *engine.DB) error {
			progress := a.p.Progress("explain", "records", 0)
			all, err := db.Explain(cmd.Context(), rule, func(done int) { progress.Set(int64(done)) })
			progress.Done()
			if err != nil {
				return err
			}
			return a.printExplained(all)
		})
	}
	return cmd
}

func (a *app) printExplained(all []engine.Explained) error {
	if a.p.Format() != cliout.Table {
		return a.p.Object(cliout.Field{Name: "namespaces", Value: all})
	}
	rows := a.p.Rows("namespace", "class", "count", "bytes", "why")
	for _, e := range all {
		for _, c := range []struct {
			name string
			size engine.Size
			why  string
		}{
			{"values", e.Values, "current values"},
			{"deletes, young", e.Young, "younger than --deletes"},
			{"deletes, waiting", e.Guards, "a version that they hide could still arrive"},
			{"deletes, with history", e.Witness, "what they replaced is younger than --older"},
			{"replaced, recent", e.Recent, "among the newest of their key (--keep)"},
			{"replaced, young", e.Aged, "younger than --older"},
			{"unread", e.Unread, "not read yet by all that is derived from the journal"},
			{"removable", e.Removable, "nothing: gc removes them"},
			{"journal records", e.Records, "younger than --deletes"},
			{"dropped", e.Unlinked, "deleted by a peer; they go with its record"},
			{"heads", e.Heads, "where each key's versions are"},
			{"dots", e.Dots, "where each live version is"},
			{"dead", e.Dead, "what is known to be replaced or deleted"},
			{"meta", e.Meta, "clock and replica ids"},
			{"local", e.Local, "this store's own counts"},
			{"indexes", e.Indexes, "conflicts, expiry"},
		} {
			if c.size.Count == 0 {
				continue
			}
			if err := rows.Add(e.Name, c.name, cliout.Count(c.size.Count), cliout.Bytes(c.size.Bytes), c.why); err != nil {
				return err
			}
		}
	}
	if err := rows.Close(); err != nil {
		return err
	}
	for _, e := range all {
		for _, b := range e.Blocking {
			a.p.Note("%s: %d deletes wait for the versions %d to %d of replica %s",
				cliout.Safe(e.Name), b.Tombstones, b.First, b.Last, b.Replica)
		}
		if e.Damaged > 0 {
			a.p.Note("%s: %d keys are damaged and not counted: bzzz verify", cliout.Safe(e.Name), e.Damaged)
		}
	}
	return nil
}
