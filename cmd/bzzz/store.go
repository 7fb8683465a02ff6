package main

import (
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newStatCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stat",
		Short: "Show what the store holds",
		Long: `Show the size of the store and, for every namespace, how many keys, versions,
deletes and conflicts it holds, who wrote to it, and its root: two stores with
equal roots hold the same (a table shows their first 16 digits).`,
		Example: `  bzzz stat
  bzzz stat -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inDB(reading, func(db *engine.DB) error {
				s, err := db.Stats(cmd.Context())
				if err != nil {
					return err
				}
				return a.printStats(s)
			})
		},
	}
}

// rootDigits is how much of a root people are shown: 64 bits.
const rootDigits = 16

func (a *app) printStats(s engine.Stats) error {
	fields := []cliout.Field{
		{Name: "path", Value: s.Path},
		{Name: "instance_id", Value: s.InstanceID},
		{Name: "replica_id", Value: textOrNil(s.ReplicaID)},
		{Name: "file_bytes", Value: cliout.Bytes(s.FileBytes)},
		{Name: "free_bytes", Value: cliout.Bytes(s.FreeBytes)},
	}
	if a.p.Format() != cliout.Table {
		return a.p.Object(append(fields, cliout.Field{Name: "namespaces", Value: s.Namespaces}, cliout.Field{Name: "blobs", Value: s.Blobs})...)
	}
	if s.Blobs.Blobs > 0 || s.Blobs.Chunks > 0 {
		fields = append(fields, cliout.Field{Name: "large_values", Value: cliout.Count(s.Blobs.Blobs)},
			cliout.Field{Name: "chunks", Value: cliout.Count(s.Blobs.Chunks)},
			cliout.Field{Name: "chunk_bytes", Value: cliout.Bytes(s.Blobs.Bytes)})
	}
	if err := a.p.Object(fields...); err != nil {
		return err
	}
	if err := a.p.Data([]byte("\n")); err != nil {
		return err
	}
	rows := a.p.Rows("namespace", "keys", "versions", "deletes", "conflicts", "damaged", "replicas", "root")
	for _, n := range s.Namespaces {
		err := rows.Add(n.Name, cliout.Count(n.Keys), cliout.Count(n.Versions), cliout.Count(n.Tombstones),
			cliout.Count(n.Conflicts), cliout.Count(n.Damaged), n.Replicas, textOrNil(n.Root[:min(rootDigits, len(n.Root))]))
		if err != nil {
			return err
		}
	}
	return rows.Close()
}

func newGcCmd(a *app) *cobra.Command {
	keep := engine.DefaultKeepVersions
	older := duration(engine.DefaultKeepFor)
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove old versions that were replaced",
		Long: `Remove versions that were replaced, in every namespace, except the newest of each
key (--keep) and those written within a time (--older); a version stays if
either keeps it. Current values and deletes always stay. Chunks of values above
64 KiB go with the last version that names them, those of a put that was cut a
day later. The room is used again by later writes; the file does not shrink.`,
		Example: `  bzzz gc
  bzzz gc --keep 1 --older 7d
  bzzz gc --keep 0 --older 0s`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().IntVar(&keep, "keep", keep, "keep so many versions of each key")
	cmd.Flags().Var(&older, "older", "remove only what was written longer ago than this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keep < 0 {
			return usage(cmd, "--keep %d is negative", keep)
		}
		rule := engine.Retention{Versions: keep, Age: time.Duration(older)}
		if keep == 0 { // the engine takes zero for its default
			rule.Versions = -1
		}
		if older == 0 {
			rule.Age = -1
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
				cliout.Field{Name: "removed", Value: cliout.Count(r.Removed)},
				cliout.Field{Name: "bytes", Value: cliout.Bytes(r.Bytes)},
				cliout.Field{Name: "large_values", Value: cliout.Count(r.Blobs)},
				cliout.Field{Name: "chunks", Value: cliout.Count(r.Chunks)},
				cliout.Field{Name: "chunk_bytes", Value: cliout.Bytes(r.ChunkBytes)},
				cliout.Field{Name: "seconds", Value: time.Since(started)})
		})
	}
	return cmd
}
