package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newReplicaCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replica",
		Short: "List who wrote, and retire who is lost for good",
		Long: `A store writes under a replica id, and takes a new one whenever it cannot be sure
that the old one is its alone: after a reboot, a restored backup, a copy.`,
		Example: `  bzzz replica ls
  bzzz replica retire 4f6a1c0e9b2d7a35d1f2a8c3b4e59607 --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "which one: ls or retire?")
			}
			return unknownCommand(cmd, args[0])
		},
	}
	addTo(cmd, a, "", newReplicaLsCmd, newReplicaRetireCmd)
	return cmd
}

func newReplicaLsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the replicas that anything was seen of",
		Long: `List every replica id that something was seen of, by the node it belongs to: how
many of its versions were seen, how many of them stand, and how many are missing
below the newest one seen. -o json shows each namespace and each gap.`,
		Example: `  bzzz replica ls
  bzzz replica ls -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inDB(reading, func(db *engine.DB) error {
				replicas, err := db.Replicas(cmd.Context())
				if err != nil {
					return err
				}
				columns := []string{"id", "own", "retired", "versions", "live", "gaps", "missing"}
				if a.p.Format() != cliout.Table {
					columns = append(columns, "node", "namespaces")
				}
				rows := a.p.Rows(columns...)
				for _, r := range replicas {
					values := []any{
						r.ID, r.Own, r.Retired, cliout.Count(r.Versions), cliout.Count(r.Live),
						cliout.Count(r.Gaps), cliout.Count(r.Missing), r.Node, r.Namespaces,
					}
					if err := rows.Add(values[:len(columns)]...); err != nil {
						return err
					}
				}
				return rows.Close()
			})
		},
	}
}

func newReplicaRetireCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "retire ID",
		Short: "Declare a replica lost for good",
		Long: `Declare a replica lost for good, in this store: versions of it that are missing
here will not come any more, so deletes need not wait for them. This cannot be
taken back. If one arrives after all it is taken in as usual, and may show a value
that was deleted. Other stores decide for themselves.

Without --yes nothing is done.`,
		Example: `  bzzz gc explain
  bzzz replica retire 4f6a1c0e9b2d7a35d1f2a8c3b4e59607 --yes`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := crdt.ParseReplicaID(args[0])
		if err != nil {
			return usage(cmd, "%w", err)
		}
		if !yes {
			return usage(cmd, "retiring replica %s cannot be taken back: add --yes", id)
		}
		return a.inDB(writing, func(db *engine.DB) error {
			names, err := db.RetireReplica(cmd.Context(), id)
			if err != nil {
				return fmt.Errorf("retire: %w", err)
			}
			return a.p.Object(cliout.Field{Name: "replica", Value: id.String()},
				cliout.Field{Name: "namespaces", Value: names})
		})
	}
	return cmd
}
