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
	if err := rows.Close(); err != nil {
		return err
	}
	for _, n := range s.Namespaces {
		for _, d := range n.DropPending {
			a.p.Note("namespace %q: a peer (journal %.8s) knows %d keys to be deleted since %s; held back until bzzz sync --confirm-drop", n.Name, d.Peer, d.Keys, a.when(d.Since).Format(time.DateTime))
		}
	}
	return nil
}
