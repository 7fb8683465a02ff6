package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

func newPutCmd(a *app) *cobra.Command {
	var file, contentType, seen string
	var ttl duration
	cmd := &cobra.Command{
		Use:   "put KEY [VALUE | -]",
		Short: "Write a value under a key",
		Long: `Write a value under a key: from the command line, from --file, or from stdin
(- or no VALUE). The store and the namespace are made if they are not there.

A value may have any size up to about 14 GiB. One above 64 KiB is cut into chunks
where its content says so, and each chunk is stored once, so that a changed copy
takes the room of the changes. The key changes once the whole value is there; a
put that was cut goes on where it was when it is made again within a day.

The value replaces everything this store holds under the key; what other stores
write without having seen it stands beside it after a sync.

--if writes only if the key still is as it was read: TOKEN is the token that
"get -o json" prints, "none" stands for a key that was never written. Otherwise
nothing is written and the exit code is 4.`,
		Example: `  bzzz put greeting hello
  bzzz put --file report.txt --type text/plain reports/today
  date | bzzz put --ttl 2h last-seen
  bzzz put --if none lock "$HOSTNAME"`,
		Args: keyed(cobra.RangeArgs(1, 2)),
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "read the value from this file")
	f.Var(&ttl, "ttl", "hide the value after this time (such as 90s, 2h, 30d)")
	f.StringVar(&contentType, "type", "", "media type to keep with the value")
	f.StringVar(&seen, "if", "", "write only if the key's token is this, or \"none\"")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opts := []engine.WriteOption{engine.ContentType(contentType)}
		if cmd.Flags().Changed("ttl") {
			opts = append(opts, engine.TTL(time.Duration(ttl)))
		}
		token, err := tokenFlag(cmd, "if")
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("ttl") && time.Duration(ttl) < time.Millisecond {
			return usage(cmd, "--ttl %v: at least 1ms", time.Duration(ttl))
		}
		if err := checkKey(args[0]); err != nil {
			return err
		}
		if token != nil {
			opts = append(opts, engine.IfSeen(*token))
		}
		in, err := a.input(cmd, args[1:], file)
		if err != nil {
			return err
		}
		err = a.inNamespace(cmd, creating, func(ns *engine.Namespace) error {
			return a.put(cmd, ns, []byte(args[0]), in, opts)
		})
		if e := in.done(); err == nil {
			err = e
		}
		return err
	}
	return cmd
}

// put writes a value and, but for people, prints what stands there now.
func (a *app) put(cmd *cobra.Command, ns *engine.Namespace, key []byte, value io.Reader, opts []engine.WriteOption) error {
	ctx := cmd.Context()
	err := ns.PutReader(ctx, key, value, opts...)
	if err != nil || a.p.Format() == cliout.Table {
		return conflictNext(key, err)
	}
	r, err := ns.GetAll(ctx, key)
	if err != nil {
		return err
	}
	return a.printRecord(r)
}

// tokenFlag returns the token that a flag gives, nil if it does not.
func tokenFlag(cmd *cobra.Command, name string) (*engine.Token, error) {
	text, err := cmd.Flags().GetString(name)
	if err != nil || !cmd.Flags().Changed(name) {
		return nil, err
	}
	token := engine.NoToken
	if text != "none" {
		if token, err = engine.ParseToken(text); err != nil {
			return nil, usage(cmd, "--%s: %w (\"none\" for a key that was never written)", name, err)
		}
	}
	return &token, nil
}

// conflictNext names the command that shows what a conditional write met.
func conflictNext(key []byte, err error) error {
	if !errors.Is(err, engine.ErrConflict) {
		return err
	}
	return cliout.WithNext(err, fmt.Sprintf("bzzz get %s -o json shows the value and the token it has now", cliout.Safe(string(key))))
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && cliout.IsTerminal(f)
}

func newGetCmd(a *app) *cobra.Command {
	var at, out, as, part string
	var all bool
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print what stands under a key",
		Long: `Print the value of a key as it is, or write it to a file. With -o json, print
the value with the CID, author and time of its version, whether other values
stand beside it, and the token for "put --if". A value above 64 KiB is
{"blob":CID,"size":N} there.

--range prints some bytes of it: FIRST-LAST (both included, from 0), FIRST- for
the rest, -COUNT for the last so many. Only the chunks that hold them are read.

A counter or number is printed as a number, a set or list an element a line (in
quotes if it is not a line of text), a map as a table of its fields. -o json
prints {"key","type","value"} with a number, an array or an object as value;
bytes that are not UTF-8 are {"base64":...}, a field of several types an object
of them by type. If there are a value and such things under one name the value
is printed; --as TYPE prints another.

--all lists every version of a value that nothing supersedes, the one that is
shown first.

` + pointHelp + keyPointHelp,
		Example: `  bzzz get greeting
  bzzz get greeting --at 2h
  bzzz get greeting -o json
  bzzz get visits --as counter
  bzzz get --out report.txt reports/today
  bzzz get --range 0-511 disk.img | xxd`,
		Args: keyed(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "now", "the value at this point in history")
	f.BoolVar(&all, "all", false, "list every current version")
	f.StringVar(&out, "out", "", "write the value to this file")
	f.StringVar(&as, "as", "", "print what of this type is there: "+typeList())
	f.StringVar(&part, "range", "", "these bytes of the value alone: FIRST-LAST, FIRST- or -COUNT")
	cmd.MarkFlagsMutuallyExclusive("all", "out")
	cmd.MarkFlagsMutuallyExclusive("all", "range")
	cmd.MarkFlagsMutuallyExclusive("as", "all")
	cmd.MarkFlagsMutuallyExclusive("as", "at")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := pointFlag(cmd, "at", at, true)
		if err != nil {
			return err
		}
		bytes, err := spanFlag(cmd, "range", part)
		if err != nil {
			return err
		}
		if bytes.set && out == "" && a.p.Format() != cliout.Table {
			return usage(cmd, "--range prints bytes: leave -o out, or name a file with --out")
		}
		if typ := engine.Type(as); cmd.Flags().Changed("as") && !slices.Contains(typeNames, typ) {
			return usage(cmd, "--as: unknown type %q (known: %s)", as, typeList())
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			if !all && p == (point{}) {
				return a.getTyped(cmd, ns, args[0], out, bytes, engine.Type(as))
			}
			r, err := recordAt(cmd, ns, args[0], p)
			switch {
			case err != nil:
				return err
			case all:
				rows := a.siblingRows()
				return errors.Join(a.addSiblings(rows, r), rows.Close())
			}
			return a.printValue(cmd.Context(), ns, r, bytes, out)
		})
	}
	return cmd
}

func newRmCmd(a *app) *cobra.Command {
	var prefix bool
	var seen string
	cmd := &cobra.Command{
		Use:   "rm (KEY | -r PREFIX)",
		Short: "Delete a key, or all keys under a prefix",
		Long: `Delete what stands under a key: a value, counter, set, map or list. It is gone
from every store this one syncs with, but stays in the history. What others
wrote without having been seen here stays. A key that is not there is an error
(exit 3).

-r deletes every key that begins with PREFIX and prints how many there were.`,
		Example: `  bzzz rm greeting
  bzzz rm -r reports/
  bzzz rm --if "$TOKEN" lock`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVarP(&prefix, "recursive", "r", false, "delete every key that begins with PREFIX")
	cmd.Flags().StringVar(&seen, "if", "", "delete only if the key's token is this")
	cmd.MarkFlagsMutuallyExclusive("recursive", "if")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := tokenFlag(cmd, "if")
		if err != nil {
			return err
		}
		key := []byte(args[0])
		return a.inNamespace(cmd, writing, func(ns *engine.Namespace) error {
			switch {
			case prefix:
				n, err := ns.DeletePrefix(cmd.Context(), key)
				if err != nil {
					return err
				}
				return a.p.Object(cliout.Field{Name: "deleted", Value: cliout.Count(n)})
			case token != nil:
				return conflictNext(key, ns.DeleteIf(cmd.Context(), key, *token))
			}
			n, err := ns.DeleteName(cmd.Context(), key)
			if err == nil && n == 0 {
				err = missing(cmd.Context(), ns, args[0])
			}
			return err
		})
	}
	return cmd
}

func newLsCmd(a *app) *cobra.Command {
	var long bool
	var limit int
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List keys",
		Long: `List the keys that begin with PREFIX in byte order, with what stands under them:
a register (a value that "put" wrote) with its size and value, a number or counter
with its value, or a set, map or list. "bzzz get" prints each of them. A table
shows the beginnings of long values, -o json all of them.

-l adds when and by whom the value was written, its CID, and whether other
values stand beside it.`,
		Example: `  bzzz ls
  bzzz ls -l reports/
  bzzz ls --limit 10 -o jsonl`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show time, author, CID and conflicts")
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most so many keys (0 = all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 0 {
			return usage(cmd, "--limit %d is negative", limit)
		}
		return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error {
			return a.list(cmd, ns, engine.Range{Prefix: optional(args), Limit: limit}, long)
		})
	}
	return cmd
}

// list prints the entries of a range.
func (a *app) list(cmd *cobra.Command, ns *engine.Namespace, r engine.Range, long bool) error {
	snap, err := ns.Snapshot(cmd.Context())
	if err != nil {
		return err
	}
	defer snap.Close()
	columns := []string{"key", "type", "size", "value"}
	if long {
		columns = append(columns, "time", "conflict", "author", "cid")
	}
	rows := a.p.Rows(columns...)
	var before *engine.Entry
	for e, err := range snap.Scan(cmd.Context(), r) {
		if err == nil {
			err = tellSet(cmd.Context(), ns, &e, before)
		}
		if err != nil {
			return err
		}
		before = &e
		values, err := a.entry(cmd.Context(), ns, e)
		if err != nil {
			return err
		}
		if long && (e.Type == engine.TypeRegister || e.Type == engine.TypeNumber) {
			record, err := snap.GetAll(e.Key)
			if err != nil {
				return err
			}
			main := record.Shown[0]
			values = append(values, a.when(main.Time), e.Conflict, a.author(main.Author), a.shortCIDs(record.Siblings)(main.CID))
		}
		if err := rows.Add(values...); err != nil {
			return err
		}
	}
	return rows.Close()
}

// entry is the beginning of a row of ls.
func (a *app) entry(ctx context.Context, ns *engine.Namespace, e engine.Entry) ([]any, error) {
	values := []any{cliout.Key(e.Key), string(e.Type), nil, nil}
	var err error
	switch e.Type {
	case engine.TypeRegister:
		values[2], values[3] = sizeCell(e.Size), a.preview(e.Value, 0)
		if e.Blob != "" {
			values[3] = a.large(e.Blob, e.Size)
		}
	case engine.TypeNumber, engine.TypeCounter:
		values[3], err = natural(ctx, ns, e, 0)
	}
	return values, err
}

// optional is an argument that may be missing.
func optional(args []string) []byte {
	if len(args) == 0 {
		return nil
	}
	return []byte(args[0])
}
