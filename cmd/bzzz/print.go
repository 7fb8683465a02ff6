package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
)

// keyed checks arguments of which the first is a key.
func keyed(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return err
		}
		if args[0] == "" {
			return errors.New("the key is empty")
		}
		return nil
	}
}

// recordAt returns what a key holds at a point. An absent key is ErrNotFound.
func recordAt(cmd *cobra.Command, ns *engine.Namespace, key string, at engine.Point) (engine.Record, error) {
	get := ns.GetAll
	if at != (engine.Point{}) {
		get = func(ctx context.Context, key []byte) (engine.Record, error) { return ns.GetAt(ctx, key, at) }
	}
	r, err := get(cmd.Context(), []byte(key))
	if err == nil && len(r.Shown) == 0 {
		err = engine.ErrNotFound
	}
	if errors.Is(err, engine.ErrNotFound) {
		return r, missing(key, err)
	}
	return r, err
}

// missing is the error of a key that is not there.
func missing(key string, err error) error {
	return cliout.WithNext(fmt.Errorf("key %q: %w", key, err),
		fmt.Sprintf("bzzz log %s shows what it held before; bzzz ls what is there", cliout.Safe(key)))
}

// printValue prints the main value of a record, as it is for people and
// programs that read a table, or writes it to a file.
func (a *app) printValue(r engine.Record, out string) error {
	value, err := r.Value()
	switch {
	case err != nil:
		return err
	case out != "":
		return os.WriteFile(out, value, 0o666)
	case a.p.Format() == cliout.Table:
		if r.Conflict() {
			a.p.Note("other values stand beside this one: bzzz conflicts %s", cliout.Safe(string(r.Key)))
		}
		return a.p.Data(value)
	}
	return a.printRecord(r)
}

// printRecord prints a record as one object.
func (a *app) printRecord(r engine.Record) error {
	var main engine.Version
	if len(r.Shown) > 0 {
		main = r.Shown[0]
	}
	return a.p.Object(
		cliout.Field{Name: "key", Value: cliout.Key(r.Key)},
		cliout.Field{Name: "value", Value: bytesOrNil(main.Value)},
		cliout.Field{Name: "content_type", Value: textOrNil(main.ContentType)},
		cliout.Field{Name: "cid", Value: textOrNil(main.CID)},
		cliout.Field{Name: "author", Value: a.author(main.Author)},
		cliout.Field{Name: "time", Value: a.when(main.Time)},
		cliout.Field{Name: "expires", Value: a.when(main.Expires)},
		cliout.Field{Name: "conflict", Value: r.Conflict()},
		cliout.Field{Name: "token", Value: r.Token.String()},
	)
}

// siblingColumns are what is printed of each version that nothing supersedes.
func siblingColumns() []string {
	return []string{"key", "shown", "kind", "value", "time", "author", "cid", "token"}
}

// addSiblings prints every current version of a record, the main one first.
func (a *app) addSiblings(rows *cliout.Rows, r engine.Record) error {
	shown := map[string]bool{}
	for _, v := range r.Shown {
		shown[v.CID] = true
	}
	for _, v := range r.Siblings {
		err := rows.Add(cliout.Key(r.Key), shown[v.CID], v.Kind.String(), a.preview(v.Value), a.when(v.Time), a.author(v.Author), v.CID, r.Token.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// author shows who wrote a version: short for people, whole for programs.
func (a *app) author(r crdt.ReplicaID) string {
	if a.p.Format() == cliout.Table {
		return r.Short()
	}
	return r.String()
}

// dots shows versions by author and number.
func (a *app) dots(list []crdt.Dot) any {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = fmt.Sprintf("%s:%d", a.author(d.Replica), d.Seq)
	}
	switch {
	case a.p.Format() != cliout.Table:
		return out
	case len(out) == 0:
		return nil
	}
	return strings.Join(out, " ")
}

// when shows a moment: in local time for people, in UTC for programs.
func (a *app) when(t time.Time) time.Time {
	if a.p.Format() == cliout.Table {
		return t.Local()
	}
	return t.UTC()
}

// previewLen is how much of a value a table shows.
const previewLen = 60

// preview shows a value, cut for people to what fits into a table.
func (a *app) preview(value []byte) any {
	if value == nil {
		return nil
	}
	if a.p.Format() != cliout.Table || len(value) <= previewLen {
		return cliout.Key(value)
	}
	cut := previewLen
	for cut > previewLen-utf8.UTFMax && !utf8.RuneStart(value[cut]) {
		cut--
	}
	return cliout.Key(string(value[:cut]) + "…")
}

func bytesOrNil(b []byte) any {
	if b == nil {
		return nil
	}
	return cliout.Key(b)
}

func textOrNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
