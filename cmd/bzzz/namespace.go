package main

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newInitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make a store in the data directory",
		Long: `Make a store in the data directory, with the namespace that --namespace names.
It is no error if they are there already.`,
		Example: `  bzzz init
  bzzz --data /srv/bzzz init`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			there, err := storeAt(a.data)
			if err != nil {
				return err
			}
			return a.inNamespace(cmd, creating, func(ns *engine.Namespace) error {
				id := ns.DB().InstanceID()
				return a.p.Object(cliout.Field{Name: "data", Value: a.data},
					cliout.Field{Name: "namespace", Value: ns.Name()},
					cliout.Field{Name: "instance", Value: hex.EncodeToString(id[:])},
					cliout.Field{Name: "created", Value: !there})
			})
		},
	}
}

func newNsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ns",
		Short: "List, create and drop namespaces",
		Long: `A namespace is one replicated set of keys with a clock, a history and a root of
its own. Commands work on the one that --namespace names.`,
		Example: `  bzzz ns ls
  bzzz ns create stations
  bzzz --namespace stations import stations.csv`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "which one: ls, create or drop?")
			}
			return unknownCommand(cmd, args[0])
		},
	}
	addTo(cmd, a, "", newNsLsCmd, newNsCreateCmd, newNsDropCmd)
	return cmd
}

func newNsLsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the namespaces",
		Long:    "List the namespaces of the store by name.",
		Example: "  bzzz ns ls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inDB(reading, func(db *engine.DB) error {
				names, err := db.Namespaces(cmd.Context())
				if err != nil {
					return err
				}
				rows := a.p.Rows("name")
				for _, name := range names {
					if err := rows.Add(name); err != nil {
						return err
					}
				}
				return rows.Close()
			})
		},
	}
}

func newNsCreateCmd(a *app) *cobra.Command {
	var prefixes []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a namespace",
		Long: `Make an empty namespace. If there is one of that name the exit code is 4.

With --scope, which may be repeated, this store holds only the keys that begin
with it, for ever: it takes in no others, refuses to write them, and syncs just
this part with stores that hold more.`,
		Example: `  bzzz ns create stations
  bzzz ns create --scope photos/2024/ --scope notes/ media`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkNamespace(args[0]); err != nil {
				return usage(cmd, "%w", err)
			}
			scope := scopeOf(prefixes)
			if err := engine.CheckScope(scope); err != nil {
				return usage(cmd, "%w", err)
			}
			return a.inDB(writing, func(db *engine.DB) error {
				names, err := db.Namespaces(cmd.Context())
				if err != nil {
					return err
				}
				if slices.Contains(names, args[0]) {
					return fmt.Errorf("namespace %q: %w", args[0], engine.ErrExists)
				}
				if scope != nil {
					_, err = db.CreatePartial(cmd.Context(), args[0], scope)
				} else {
					_, err = space(cmd, db, args[0], creating)
				}
				return err
			})
		},
	}
	cmd.Flags().StringArrayVar(&prefixes, "scope", nil, "hold only keys that begin with this (may be repeated)")
	return cmd
}

// scopeOf returns the scope that prefixes given as flags name.
func scopeOf(prefixes []string) [][]byte {
	var scope [][]byte
	for _, p := range prefixes {
		scope = append(scope, []byte(p))
	}
	return scope
}

func newNsDropCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "drop NAME",
		Short: "Remove a namespace and all it holds from this store",
		Long: `Remove a namespace with its keys and its history from this store, for good. Other
stores keep theirs, and a later sync with one of them brings it back. The
namespace "default" cannot be dropped.`,
		Example: "  bzzz ns drop stations",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inDB(writing, func(db *engine.DB) error {
				if args[0] == engine.DefaultNamespace {
					return usage(cmd, "the namespace %q cannot be dropped", args[0])
				}
				if _, err := space(cmd, db, args[0], writing); err != nil {
					return err
				}
				return db.DropNamespace(cmd.Context(), args[0])
			})
		},
	}
}
