package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newConflictsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conflicts [PREFIX]",
		Short: "List the keys that hold several values side by side",
		Long: `List the values that were written to one key by stores that had not seen each
other, one line a value, the one that readers are shown first. No conflict is
ever resolved by losing a value: that takes a write, or "bzzz conflicts resolve".

A table shows the ends of the CIDs, and long values from where they begin to
differ; -o json shows all of them, and the token for "put --if".`,
		Example: `  bzzz conflicts
  bzzz conflicts stations/ -o jsonl
  bzzz conflicts resolve stations/7 --pick 4eyqwl2m`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
				rows, found := a.siblingRows(), false
				for r, err := range ns.Conflicts(cmd.Context(), optional(args)) {
					if err != nil {
						return err
					}
					if err := a.addSiblings(rows, r); err != nil {
						return err
					}
					found = true
				}
				if !found && a.p.Format() == cliout.Table {
					a.p.Note("no conflicts")
					return nil
				}
				return rows.Close()
			})
		},
	}
	addTo(cmd, a, "", newResolveCmd)
	return cmd
}

func newResolveCmd(a *app) *cobra.Command {
	var pick, value string
	cmd := &cobra.Command{
		Use:   "resolve KEY (--pick CID | --value VALUE)",
		Short: "Settle a conflict: pick one of its values, or write another",
		Long: `Write one of the values that stand side by side again, named by its CID or the
beginning or the end of it, or another value. It replaces all that this store holds under
the key, here and, by and by, everywhere. Picking a delete deletes the key.`,
		Example: `  bzzz conflicts resolve stations/7 --pick 4eyqwl2m
  bzzz conflicts resolve stations/7 --value '{"name":"Rainier"}'`,
		Args: keyed(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&pick, "pick", "", "the CID of the value to keep, or the beginning or the end of it")
	cmd.Flags().StringVar(&value, "value", "", "the value to write instead")
	cmd.MarkFlagsMutuallyExclusive("pick", "value")
	cmd.MarkFlagsOneRequired("pick", "value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("pick") && !cidPart(pick) {
			return usage(cmd, "--pick: %q is no CID, nor the beginning or the end of one", pick)
		}
		return a.inNamespace(cmd, writing, func(ns *engine.Namespace) error {
			r, err := ns.GetAll(cmd.Context(), []byte(args[0]))
			switch {
			case err != nil:
				return err
			case len(r.Siblings) == 0:
				return missing(cmd.Context(), ns, args[0])
			case len(r.Siblings) == 1:
				return fmt.Errorf("key %q: no conflict: %w", args[0], engine.ErrNotFound)
			}
			chosen := engine.Version{Kind: crdt.Put, Value: []byte(value)}
			if cmd.Flags().Changed("pick") {
				if chosen, err = byCID(cmd, args[0], r.Siblings, pick); err != nil {
					return err
				}
			}
			return conflictNext(r.Key, settle(cmd.Context(), ns, r, chosen))
		})
	}
	return cmd
}

// settle replaces the record with one version, if it still is as it was read.
func settle(ctx context.Context, ns *engine.Namespace, r engine.Record, v engine.Version) error {
	if v.Kind == crdt.Delete {
		return ns.DeleteIf(ctx, r.Key, r.Token)
	}
	return ns.PutVersionIf(ctx, r.Key, v, r.Token)
}
