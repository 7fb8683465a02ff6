package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newLogCmd(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "log KEY",
		Short: "List the versions of a key, newest first",
		Long: `List the versions of a key that are retained, newest first: when and by whom
each was written, what it replaced (parents, as author:number), and whether
nothing is known that replaced it (live). "bzzz at" prints the value of one; a
table shows the ends of CIDs, which it takes, -o json all of them.

Counters, sets, maps and lists have a history for each element, not one of
their own (exit 3).`,
		Example: `  bzzz log greeting
  bzzz at greeting --cid 4eyqwl2m
  bzzz log greeting --limit 5 -o jsonl`,
		Args: keyed(cobra.ExactArgs(1)),
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most so many versions (0 = all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 0 {
			return usage(cmd, "--limit %d is negative", limit)
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			history, err := ns.History(cmd.Context(), []byte(args[0]))
			if err != nil {
				return err
			}
			if len(history) == 0 {
				return missing(cmd.Context(), ns, args[0])
			}
			short := a.shortCIDs(history)
			if limit > 0 {
				history = history[:min(limit, len(history))]
			}
			rows := a.p.Rows("time", "author", "seq", "kind", "live", "size", "cid", "parents")
			for _, v := range history {
				err := rows.Add(a.when(v.Time), a.author(v.Author), v.Seq, v.Kind.String(), v.Live, sizeCell(v.Size), short(v.CID), a.dots(v.Parents))
				if err != nil {
					return err
				}
			}
			return rows.Close()
		})
	}
	return cmd
}

func newAtCmd(a *app) *cobra.Command {
	var steps int
	var at, cid, mark string
	cmd := &cobra.Command{
		Use:   "at KEY (--steps N | --time T | --cid CID | --mark MARK)",
		Short: "Print what a key held at a point in history",
		Long: `Print what a key held: so many versions ago, at a moment (a time, or how long
ago), in the version with a CID (or the beginning or the end of it, as "bzzz log" shows
it), or in the state that a mark names. It prints as "bzzz get" does.`,
		Example: `  bzzz at greeting --steps 1
  bzzz at greeting --time 2h
  bzzz at greeting --time 2026-01-31T12:00:00Z -o json
  bzzz at greeting --cid bafyrei...`,
		Args: keyed(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.IntVar(&steps, "steps", 0, "this many versions back")
	f.StringVar(&at, "time", "", "at this moment")
	f.StringVar(&cid, "cid", "", "the version whose CID this is, begins or ends with")
	f.StringVar(&mark, "mark", "", "in the state that this mark names")
	names := []string{"steps", "time", "cid", "mark"}
	cmd.MarkFlagsMutuallyExclusive(names...)
	cmd.MarkFlagsOneRequired(names...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p := point{at: engine.StepsBack(steps)}
		var err error
		switch f := cmd.Flags(); {
		case f.Changed("time"):
			var t time.Time
			t, err = parseTime(at, time.Now())
			p.at = engine.AtTime(t)
		case f.Changed("cid"):
			p, err = cidPoint(cid)
		case f.Changed("mark"):
			var m engine.Mark
			m, err = engine.ParseMark(mark)
			p.at = engine.AtMark(m)
		case steps < 0:
			err = fmt.Errorf("--steps %d is negative", steps)
		}
		if err != nil {
			return usage(cmd, "%w", err)
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			r, err := recordAt(cmd, ns, args[0], p)
			if err != nil {
				return err
			}
			return a.printValue(cmd.Context(), ns, r, span{}, "")
		})
	}
	return cmd
}

func newMarkCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "mark",
		Short: "Print a mark that names the current state",
		Long: `Print a mark: a short text that names the state of the namespace as it is now.
It can be given to get, at, diff and restore later, here and in every store that
knows the same versions, for as long as they are retained. With -o json the
cursor for "bzzz watch --since" is printed too.`,
		Example: `  before=$(bzzz mark)
  bzzz import stations.csv
  bzzz diff --from "$before"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
				snap, err := ns.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				defer snap.Close()
				if a.p.Format() == cliout.Table {
					return a.p.Data([]byte(snap.Mark().String() + "\n"))
				}
				events, err := ns.Watch(cmd.Context(), nil, "")
				if err != nil {
					return err
				}
				defer events.Close()
				return a.p.Object(cliout.Field{Name: "namespace", Value: ns.Name()},
					cliout.Field{Name: "mark", Value: snap.Mark().String()},
					cliout.Field{Name: "cursor", Value: events.Cursor()})
			})
		},
	}
}

func newDiffCmd(a *app) *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "diff [PREFIX] --from POINT [--to POINT]",
		Short: "List the keys that two points in history show differently",
		Long: `List the keys under PREFIX that were added, removed or changed between two points
in history, with the values before and after. Counters, sets, maps and lists are
not looked at.

` + pointHelp,
		Example: `  bzzz diff --from 2h
  bzzz diff reports/ --from 2026-01-31 --to now -o jsonl`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&from, "from", "", "the point before (required)")
	cmd.Flags().StringVar(&to, "to", "now", "the point after")
	if err := cmd.MarkFlagRequired("from"); err != nil {
		panic(err) // the flag is defined just above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		before, err := pointFlag(cmd, "from", from, false)
		if err != nil {
			return err
		}
		after, err := pointFlag(cmd, "to", to, false)
		if err != nil {
			return err
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			rows := a.p.Rows("change", "key", "before", "after")
			for d, err := range ns.Diff(cmd.Context(), optional(args), before.at, after.at) {
				if err != nil {
					return err
				}
				if err := a.addDifference(cmd.Context(), rows, ns, d); err != nil {
					return err
				}
			}
			return rows.Close()
		})
	}
	return cmd
}

// addDifference prints a difference.
func (a *app) addDifference(ctx context.Context, rows *cliout.Rows, ns *engine.Namespace, d engine.Difference) error {
	common := commonLen(d.Before, d.After)
	values := []any{change(d), cliout.Key(d.Key), a.preview(d.Before, common), a.preview(d.After, common)}
	for i, blob := range []string{d.BeforeBlob, d.AfterBlob} {
		if blob != "" {
			size, err := blobSize(ctx, ns, blob)
			if err != nil {
				return err
			}
			values[2+i] = a.large(blob, size)
		}
	}
	for i, b := range [][]byte{d.Before, d.After} {
		if len(b) != numberLen {
			continue
		}
		history, err := ns.History(ctx, d.Key)
		if err != nil {
			return err
		}
		for _, v := range history {
			if n, ok := numberOf(v); ok && bytes.Equal(v.Value, b) {
				values[2+i] = n
			}
		}
	}
	return rows.Add(values...)
}

// change names what happened to a key.
func change(d engine.Difference) string {
	switch {
	case d.Before == nil:
		return "added"
	case d.After == nil:
		return "removed"
	}
	return "changed"
}

func newRestoreCmd(a *app) *cobra.Command {
	var to string
	var prefix bool
	cmd := &cobra.Command{
		Use:   "restore (KEY | -r PREFIX) --to POINT",
		Short: "Write what a key or prefix held at a point in history again",
		Long: `Write the value that a key, or with -r every key under PREFIX, held at a point in
history again, and delete what was not there then. These are new versions: they
sync like any other, and what they replace stays in the history.

` + pointHelp + keyPointHelp,
		Example: `  bzzz restore greeting --to ~1
  bzzz restore -r reports/ --to 2h
  bzzz restore -r "" --to "$(cat before.mark)"`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&to, "to", "", "the point to go back to (required)")
	cmd.Flags().BoolVarP(&prefix, "recursive", "r", false, "restore every key that begins with PREFIX")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag is defined just above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := pointFlag(cmd, "to", to, !prefix)
		if err != nil {
			return err
		}
		if !prefix && args[0] == "" {
			return usage(cmd, "the key is empty")
		}
		return a.inNamespace(cmd, writing, func(ns *engine.Namespace) error {
			changed, err := restore(cmd, ns, args[0], prefix, p)
			if err != nil {
				return err
			}
			return a.p.Object(cliout.Field{Name: "changed", Value: cliout.Count(changed)})
		})
	}
	return cmd
}

// restore returns how many keys it wrote. A key that was never there is an error.
func restore(cmd *cobra.Command, ns *engine.Namespace, key string, prefix bool, to point) (int, error) {
	ctx := cmd.Context()
	if prefix {
		return ns.Restore(ctx, []byte(key), to.at)
	}
	history, err := ns.History(ctx, []byte(key))
	if err != nil {
		return 0, err
	}
	if len(history) == 0 {
		return 0, missing(ctx, ns, key)
	}
	at, err := to.in(cmd, ns, key)
	if err != nil {
		return 0, err
	}
	r, err := ns.GetAt(ctx, []byte(key), at)
	if err == nil && len(r.Shown) > 0 && registerType(r) == engine.TypeNumber {
		return 0, cliout.WithNext(fmt.Errorf("key %q is a number, which only rises or only falls: going back is %w", key, engine.ErrUnsupported),
			fmt.Sprintf("bzzz rm %s, then bzzz number sets it anew", cliout.Safe(key)))
	}
	if err := ns.RestoreKey(ctx, []byte(key), at); err != nil {
		return 0, fmt.Errorf("key %q: %w", key, err)
	}
	return 1, nil
}
