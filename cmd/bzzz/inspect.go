package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/merkle/proof"
)

func newRootCmdOf(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "root [PREFIX]",
		Short: "Print the Merkle root of the namespace, or of the keys with a prefix",
		Long: `Print the 32 bytes that stand for everything the namespace holds now, or for
the keys that begin with PREFIX alone. Two stores that print the same hold the
same there. End prefixes with the separator of your keys: "a/b" takes in "a/bc".`,
		Example: `  bzzz root
  bzzz root photos/`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
				r, err := ns.PrefixRoot(cmd.Context(), []byte(prefix))
				if err != nil {
					return err
				}
				return a.p.Object(
					cliout.Field{Name: "namespace", Value: ns.Name()},
					cliout.Field{Name: "prefix", Value: cliout.Key([]byte(prefix))},
					cliout.Field{Name: "root", Value: fmt.Sprintf("%x", r.Root)},
					cliout.Field{Name: "keys", Value: cliout.Count(r.Keys)})
			})
		},
	}
}

func newProofCmd(a *app) *cobra.Command {
	var prefix bool
	var out string
	cmd := &cobra.Command{
		Use:   "proof KEY",
		Short: "Make a proof of what a key holds, checked without a store",
		Long: `Write a proof that the key holds these values, or that it holds none; with
--prefix, of how many keys begin with KEY. Whoever knows the namespace's root
("bzzz root") checks it with "bzzz verify-proof" and needs no store. Elements of
counters, sets, maps and lists are keys of their own and have no name here: prove
the prefix.`,
		Example: `  bzzz proof apple --out apple.json
  bzzz verify-proof apple.json --root "$(bzzz root -o json | jq -r .root)"
  bzzz proof photos/ --prefix`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "prove how many keys begin with KEY")
	cmd.Flags().StringVar(&out, "out", "", "write the proof to this file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key := []byte(args[0])
		if len(key) == 0 && !prefix {
			return usage(cmd, "the key is empty")
		}
		if err := checkKey(args[0]); err != nil {
			return err
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			make := ns.Prove
			if prefix {
				make = ns.ProvePrefix
			}
			e, err := make(cmd.Context(), key)
			if err != nil {
				return err
			}
			return a.writeProof(e, out)
		})
	}
	return cmd
}

// writeProof writes a proof to a file or to stdout.
func (a *app) writeProof(e *proof.Envelope, file string) error {
	b, err := e.Encode()
	if err != nil {
		return cliout.WithNext(err, "prove a prefix instead, or read the value from a peer you trust")
	}
	if file == "" {
		_, err := a.out.Write(b)
		return err
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return err
	}
	a.p.Note("wrote a proof of %d bytes about root %x", len(b), e.Root)
	return nil
}

// maxListed is how many differing keys compare lists unless asked for all.
const maxListed = 100

func newCompareCmd(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "compare DIR",
		Short: "Say whether another store holds the same, and if not, why",
		Long: `Compare the namespace with that of the store in another data directory, without
changing either. Both hold the same only if roots and clocks are equal. Each key
that differs is listed with the reason for each version that one side shows and
the other does not:

  missing     the other has not seen it: a sync brings it
  superseded  the other has a newer version
  deleted     the other holds a delete
  collected   the other knows it to be deleted; the delete itself was collected
  lost        the other has seen it and lost it to damage: a sync brings it back

The exit code is 0 only if both hold the same.`,
		Example: `  bzzz compare /media/stick/bzzz-data
  bzzz compare backup --all -o jsonl`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&all, "all", false, fmt.Sprintf("list all keys that differ, not only %d", maxListed))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		info, err := os.Stat(args[0])
		if err != nil {
			return inputError(err)
		}
		if own, err := os.Stat(a.data); err == nil && os.SameFile(own, info) {
			return usage(cmd, "%s is this store itself", args[0])
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			db, err := a.open(args[0], reading)
			if err != nil {
				return err
			}
			return closing(a.compare(cmd, ns, db, all), db)
		})
	}
	return cmd
}

// compare prints what differs and what that means.
func (a *app) compare(cmd *cobra.Command, ns *engine.Namespace, db *engine.DB, all bool) error {
	other, err := db.OpenNamespace(cmd.Context(), ns.Name())
	if err != nil {
		return err
	}
	rows := a.p.Rows("key", "other_lacks", "this_lacks", "conflict")
	listed := 0
	c, err := ns.Compare(cmd.Context(), other, func(d engine.KeyDifference) error {
		if listed++; listed > maxListed && !all {
			return nil
		}
		return rows.Add(cliout.Key(d.Key), whys(d.OnlyA), whys(d.OnlyB), d.Concurrent)
	})
	if err != nil {
		return err
	}
	if listed > 0 {
		if err := rows.Close(); err != nil {
			return err
		}
	}
	if listed > maxListed && !all {
		a.p.Note("%d more keys differ: --all lists them", listed-maxListed)
	}
	if listed > 0 && a.p.Format() == cliout.JSON {
		// One document: the list says it all but for the exit code.
		return differing(c)
	}
	err = a.p.Object(
		cliout.Field{Name: "agree", Value: c.Agree},
		cliout.Field{Name: "same_root", Value: c.SameRoot},
		cliout.Field{Name: "same_clock", Value: c.SameClock},
		cliout.Field{Name: "keys_that_differ", Value: cliout.Count(c.Keys)},
		cliout.Field{Name: "bytes_to_other", Value: cliout.Bytes(c.AtoB)},
		cliout.Field{Name: "bytes_from_other", Value: cliout.Bytes(c.BtoA)},
		cliout.Field{Name: "root", Value: fmt.Sprintf("%x", c.A.Root)},
		cliout.Field{Name: "other_root", Value: fmt.Sprintf("%x", c.B.Root)})
	if err != nil {
		return err
	}
	return differing(c)
}

// differing is the error of stores that do not hold the same.
func differing(c engine.Comparison) error {
	if c.Agree {
		return nil
	}
	if c.SameClock {
		return cliout.WithNext(fmt.Errorf("equal clocks with unequal roots: %w", engine.ErrCorrupt), "bzzz verify both; a sync compares them key by key")
	}
	return cliout.WithNext(errDiffer, "bzzz sync brings them together")
}

// whys joins reasons for a cell.
func whys(list []engine.Why) string {
	s := ""
	for i, w := range list {
		if i > 0 {
			s += ", "
		}
		s += string(w)
	}
	return s
}
