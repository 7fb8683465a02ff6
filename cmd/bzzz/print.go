package main

import (
	"context"
	"errors"
	"fmt"
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

// checkKey refuses a key that no store takes, before one is made for it.
func checkKey(key string) error {
	if n := len(crdt.AppendName(nil, []byte(key))); n > crdt.MaxKey {
		return fmt.Errorf("key of %d bytes as stored (at most %d): %w", n, crdt.MaxKey, engine.ErrTooLarge)
	}
	return nil
}

// recordAt returns what a key's register holds at a point. An absent one is
// ErrNotFound.
func recordAt(cmd *cobra.Command, ns *engine.Namespace, key string, p point) (engine.Record, error) {
	at, err := p.in(cmd, ns, key)
	if err != nil {
		return engine.Record{}, err
	}
	get := ns.GetAll
	if at != (engine.Point{}) {
		get = func(ctx context.Context, key []byte) (engine.Record, error) { return ns.GetAt(ctx, key, at) }
	}
	r, err := get(cmd.Context(), []byte(key))
	if err == nil && len(r.Shown) == 0 {
		err = engine.ErrNotFound
	}
	if errors.Is(err, engine.ErrNotFound) {
		return r, missing(cmd.Context(), ns, key)
	}
	return r, err
}

// missing is the error of a register that is not there, with what can be done
// instead.
func missing(ctx context.Context, ns *engine.Namespace, key string) error {
	name := cliout.Safe(key)
	others, err := composites(ctx, ns, []byte(key))
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return cliout.WithNext(
			fmt.Errorf("key %q is %s, with a history per element and none of its own: %w", key, kinds(others), engine.ErrNotFound),
			fmt.Sprintf("bzzz get %s shows what it holds now; bzzz watch %s what changes in it", name, name))
	}
	history, err := ns.History(ctx, []byte(key))
	if err != nil {
		return err
	}
	next := "bzzz ls shows what is there"
	if len(history) > 0 {
		next = fmt.Sprintf("bzzz log %s shows what it held before; %s", name, next)
	}
	return cliout.WithNext(fmt.Errorf("key %q: %w", key, engine.ErrNotFound), next)
}

// printValue prints the main value of a record, as it is for people and
// programs that read a table, or writes it to a file.
func (a *app) printValue(ctx context.Context, ns *engine.Namespace, r engine.Record, part span, out string) error {
	if len(r.Shown) == 0 {
		return engine.ErrNotFound
	}
	main := r.Shown[0]
	if out == "" && a.p.Format() != cliout.Table {
		return a.printRecord(r)
	}
	if out == "" && r.Conflict() && main.Kind == crdt.Put {
		a.p.Note("other values stand beside this one: bzzz conflicts %s", cliout.Safe(string(r.Key)))
	}
	if err := a.writeValue(ctx, ns, main, part, out); err != nil {
		err = fmt.Errorf("key %q: %w", r.Key, err)
		if errors.Is(err, engine.ErrUnavailable) {
			err = cliout.WithNext(err, "bzzz sync with a store that holds the value")
		}
		return err
	}
	return nil
}

// printRecord prints a record as one object.
func (a *app) printRecord(r engine.Record) error {
	var main engine.Version
	if len(r.Shown) > 0 {
		main = r.Shown[0]
	}
	typ, value, conflict := engine.TypeRegister, bytesOrNil(main.Value), r.Conflict()
	if main.Blob != "" {
		value = a.large(main.Blob, main.Size)
	}
	if n, ok := numberOf(main); ok { // the highest, or lowest, of all
		typ, value, conflict = engine.TypeNumber, n, false
	}
	return a.p.Object(
		cliout.Field{Name: "key", Value: cliout.Key(r.Key)},
		cliout.Field{Name: "type", Value: string(typ)},
		cliout.Field{Name: "value", Value: value},
		cliout.Field{Name: "content_type", Value: textOrNil(main.ContentType)},
		cliout.Field{Name: "cid", Value: textOrNil(main.CID)},
		cliout.Field{Name: "author", Value: a.author(main.Author)},
		cliout.Field{Name: "time", Value: a.when(main.Time)},
		cliout.Field{Name: "expires", Value: a.when(main.Expires)},
		cliout.Field{Name: "conflict", Value: conflict},
		cliout.Field{Name: "token", Value: r.Token.String()},
	)
}

// siblingRows starts a list of versions that nothing supersedes. The token, which
// only programs can use, is for them.
func (a *app) siblingRows() *cliout.Rows {
	columns := []string{"key", "shown", "kind", "value", "time", "author", "cid"}
	if a.p.Format() != cliout.Table {
		columns = append(columns, "token")
	}
	return a.p.Rows(columns...)
}

// addSiblings prints every current version of a record, the main one first.
func (a *app) addSiblings(rows *cliout.Rows, r engine.Record) error {
	shown := map[string]bool{}
	for _, v := range r.Shown {
		shown[v.CID] = true
	}
	var values [][]byte
	for _, v := range r.Siblings {
		values = append(values, v.Value)
	}
	short, common := a.shortCIDs(r.Siblings), commonLen(values...)
	for _, v := range r.Siblings {
		err := rows.Add(cliout.Key(r.Key), shown[v.CID], v.Kind.String(), a.valueOf(v, common), a.when(v.Time),
			a.author(v.Author), short(v.CID), r.Token.String())
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
	return cliout.Preview(strings.Join(out, " "))
}

// when shows a moment: in local time for people, in UTC for programs.
func (a *app) when(t time.Time) time.Time {
	if a.p.Format() == cliout.Table {
		return t.Local()
	}
	return t.UTC()
}

// preview shows a value: for people from the byte given on, and as far as it
// fits into the table.
func (a *app) preview(value []byte, from int) any {
	if value == nil {
		return nil
	}
	for from > 0 && from < len(value) && !utf8.RuneStart(value[from]) {
		from--
	}
	if a.p.Format() != cliout.Table || from == 0 {
		return cliout.Preview(value)
	}
	return cliout.Preview("…" + string(value[min(from, len(value)):]))
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
