package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// edit is what a command does to a typed value.
type edit struct {
	mode  access // creating, or writing if it makes no sense without a store
	apply func(ctx context.Context, t *engine.Txn, name []byte) error
}

// typedCmd returns a command that edits a typed value: NAME and what parse
// makes of the words behind it, or NAME alone to print it.
func typedCmd(a *app, typ func() engine.Type, parse func(verb string, args []string) (edit, error)) *cobra.Command {
	cmd := &cobra.Command{Args: keyed(cobra.MinimumNArgs(1))}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return a.inNamespace(cmd, reading, func(ns *engine.Namespace) error { return a.getTyped(cmd, ns, args[0], "", span{}, typ()) })
		}
		e, err := parse(args[1], args[2:])
		if err != nil {
			return usage(cmd, "%w", err)
		}
		if err := checkKey(args[0]); err != nil {
			return err
		}
		return a.inNamespace(cmd, e.mode, func(ns *engine.Namespace) error {
			name := []byte(args[0])
			err := ns.Update(cmd.Context(), func(t *engine.Txn) error { return e.apply(cmd.Context(), t, name) })
			switch {
			case errors.Is(err, engine.ErrNotFound):
				return cliout.WithNext(fmt.Errorf("key %q: %w", args[0], err), fmt.Sprintf("bzzz get %s shows what is there", cliout.Safe(args[0])))
			case err != nil || a.p.Format() == cliout.Table:
				return err
			}
			return a.printNow(cmd, ns, name, typ())
		})
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.Contains(err.Error(), "unknown shorthand flag") {
			err = fmt.Errorf("%w (put -- before words that begin with -)", err)
		}
		return &cliout.UsageError{Command: cmd.CommandPath(), Err: err}
	})
	return cmd
}

// printNow prints a typed value for programs after an edit, an empty one too.
func (a *app) printNow(cmd *cobra.Command, ns *engine.Namespace, name []byte, typ engine.Type) error {
	if typ == engine.TypeNumber {
		r, err := ns.GetAll(cmd.Context(), name)
		if err != nil {
			return err
		}
		return a.printRecord(r)
	}
	return a.printEntry(cmd.Context(), ns, engine.Entry{Key: name, Type: typ})
}

// count checks how many words follow a verb.
func count(verb string, args []string, least, most int, form string) error {
	if len(args) < least || len(args) > most {
		return fmt.Errorf("want %s %s", verb, form)
	}
	return nil
}

// wholeNumber reads a number.
func wholeNumber(s string, least int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least {
		return 0, fmt.Errorf("%q is no whole number from %d to %d", s, least, int64(math.MaxInt64))
	}
	return n, nil
}

// unknownVerb is the error of a word that names no edit.
func unknownVerb(verb, known string) error {
	return fmt.Errorf("unknown %q (known: %s)", verb, known)
}

func always(typ engine.Type) func() engine.Type { return func() engine.Type { return typ } }

func elementsOf(args []string) [][]byte {
	out := make([][]byte, len(args))
	for i, arg := range args {
		out[i] = []byte(arg)
	}
	return out
}

func newCounterCmd(a *app) *cobra.Command {
	cmd := typedCmd(a, always(engine.TypeCounter), func(verb string, args []string) (edit, error) {
		sign := int64(1)
		switch verb {
		case "reset":
			return edit{writing, func(ctx context.Context, t *engine.Txn, name []byte) error { return t.Counter(name).Reset(ctx) }},
				count(verb, args, 0, 0, "alone")
		case "sub":
			sign = -1
		case "add":
		default:
			return edit{}, unknownVerb(verb, "add, sub, reset")
		}
		if err := count(verb, args, 1, 1, "N"); err != nil {
			return edit{}, err
		}
		n, err := wholeNumber(args[0], 0)
		return edit{creating, func(ctx context.Context, t *engine.Txn, name []byte) error { return t.Counter(name).Add(ctx, sign*n) }}, err
	})
	cmd.Use = "counter NAME [add N | sub N | reset]"
	cmd.Short = "Count up and down, or print a counter"
	cmd.Long = `Add to a counter or take away from it. What stores that do not see each other
count adds up. reset takes away all that this store knows to be counted; what
others count without having seen that stays. NAME alone prints the count, as
"bzzz get" does.`
	cmd.Example = `  bzzz counter visits add 1
  bzzz counter stock sub 12
  bzzz counter visits`
	return cmd
}

func newNumberCmd(a *app) *cobra.Command {
	cmd := typedCmd(a, always(engine.TypeNumber), func(verb string, args []string) (edit, error) {
		handle := (*engine.Txn).Max
		switch verb {
		case "max":
		case "min":
			handle = (*engine.Txn).Min
		default:
			return edit{}, unknownVerb(verb, "max, min")
		}
		if err := count(verb, args, 1, 1, "N"); err != nil {
			return edit{}, err
		}
		n, err := wholeNumber(args[0], math.MinInt64)
		return edit{creating, func(ctx context.Context, t *engine.Txn, name []byte) error { return handle(t, name).Set(ctx, n) }}, err
	})
	cmd.Use = "number NAME [max N | min N]"
	cmd.Short = "Raise a highest or lower a lowest number, or print it"
	cmd.Long = `Raise a number that only rises to N (max), or lower one that only falls to N
(min). A number that is at N or beyond stays as it is. Of what several stores
wrote the highest (lowest) counts. A name should be used for one of the two.
NAME alone prints the number, as "bzzz get" does.`
	cmd.Example = `  bzzz number high-score max 4200
  bzzz number coldest min -- -17
  bzzz number high-score`
	return cmd
}

func newSetCmd(a *app) *cobra.Command {
	removeWins := false
	handle := func(t *engine.Txn, name []byte) engine.Set {
		if removeWins {
			return t.RemoveWinsSet(name)
		}
		return t.Set(name)
	}
	typ := func() engine.Type {
		if removeWins {
			return typeRemoveWins
		}
		return engine.TypeSet
	}
	cmd := typedCmd(a, typ, func(verb string, args []string) (edit, error) {
		elems := elementsOf(args)
		add := func(ctx context.Context, t *engine.Txn, name []byte) error { return handle(t, name).Add(ctx, elems...) }
		rm := func(ctx context.Context, t *engine.Txn, name []byte) error {
			set, in := handle(t, name), 0
			for _, e := range elems {
				has, err := set.Has(ctx, e)
				if err != nil {
					return err
				}
				if has {
					in++
				}
			}
			if in == 0 && !removeWins { // a remove-wins set remembers the removal
				return fmt.Errorf("none of the elements is in the set: %w", engine.ErrNotFound)
			}
			return set.Remove(ctx, elems...)
		}
		err := count(verb, args, 1, math.MaxInt, "ELEM...")
		switch verb {
		case "add":
			return edit{creating, add}, err
		case "rm":
			return edit{writing, rm}, err
		}
		return edit{}, unknownVerb(verb, "add, rm")
	})
	cmd.Flags().BoolVar(&removeWins, "remove-wins", false, "a set in which a removal beats an add that has not seen it")
	cmd.Use = "set NAME [add ELEM... | rm ELEM...]"
	cmd.Short = "Put elements into a set or take them out, or print it"
	cmd.Long = `Put elements into a set or take them out, all or none. An element that one store
adds while another removes it is in the set afterwards, with --remove-wins it is
not; the two sorts are different sets, even under one name. NAME alone prints
the elements, as "bzzz get" does.`
	cmd.Example = `  bzzz set tags add red green
  bzzz set tags rm red
  bzzz set banned add mallory --remove-wins`
	return cmd
}

func newListCmd(a *app) *cobra.Command {
	cmd := typedCmd(a, always(engine.TypeList), func(verb string, args []string) (edit, error) {
		const known = "append, insert, set, rm"
		if verb == "append" {
			return edit{creating, func(ctx context.Context, t *engine.Txn, name []byte) error {
				return t.List(name).Append(ctx, elementsOf(args)...)
			}}, count(verb, args, 1, math.MaxInt, "VALUE...")
		}
		form := map[string]string{"insert": "I VALUE...", "set": "I VALUE", "rm": "I..."}[verb]
		if form == "" {
			return edit{}, unknownVerb(verb, known)
		}
		least, most, numbers := 2, math.MaxInt, 1
		switch verb {
		case "set":
			most = 2
		case "rm":
			least, numbers = 1, len(args)
		}
		if err := count(verb, args, least, most, form); err != nil {
			return edit{}, err
		}
		var at []int
		for _, arg := range args[:numbers] {
			n, err := wholeNumber(arg, 0)
			if err != nil || n > math.MaxInt32 {
				return edit{}, fmt.Errorf("%q is no index: they count from 0", arg)
			}
			at = append(at, int(n))
		}
		return listEdit(verb, at, elementsOf(args[numbers:])), nil
	})
	cmd.Use = "list NAME [append VALUE... | insert I VALUE... | set I VALUE | rm I...]"
	cmd.Short = "Add, change or remove elements of a list, or print it"
	cmd.Long = `Add elements to a list, at the end or before the one of index I, replace one, or
remove some. An index counts the elements that are there, from 0. What two
stores insert at one place comes one after the other. NAME alone prints the
elements, as "bzzz get" does.`
	cmd.Example = `  bzzz list todo append "buy bread" "call Ada"
  bzzz list todo insert 0 "wake up"
  bzzz list todo rm 1`
	return cmd
}

// listEdit returns the edit of a list at indexes.
func listEdit(verb string, at []int, values [][]byte) edit {
	mode := writing
	if verb == "insert" {
		mode = creating
	}
	return edit{mode, func(ctx context.Context, t *engine.Txn, name []byte) error {
		list := t.List(name)
		switch verb {
		case "insert":
			return list.Insert(ctx, at[0], values...)
		case "set":
			return list.Set(ctx, at[0], values[0])
		}
		// From the end on, so that each counts as it was given.
		slices.Sort(at)
		for _, i := range slices.Backward(slices.Compact(at)) {
			if err := list.Delete(ctx, i, 1); err != nil {
				return err
			}
		}
		return nil
	}}
}

func newMapCmd(a *app) *cobra.Command {
	cmd := typedCmd(a, always(engine.TypeMap), func(verb string, args []string) (edit, error) {
		if len(args) > 0 && args[0] == "" {
			return edit{}, errors.New("the field is empty")
		}
		switch verb {
		case "put":
			return edit{creating, func(ctx context.Context, t *engine.Txn, name []byte) error {
				return t.Map(name).Put(ctx, []byte(args[0]), []byte(args[1]))
			}}, count(verb, args, 2, 2, "FIELD VALUE")
		case "rm":
			return edit{writing, func(ctx context.Context, t *engine.Txn, name []byte) error {
				return removeField(ctx, t.Map(name), []byte(args[0]))
			}}, count(verb, args, 1, 1, "FIELD")
		}
		return edit{}, unknownVerb(verb, "put, rm")
	})
	cmd.Use = "map NAME [put FIELD VALUE | rm FIELD]"
	cmd.Short = "Write or remove a field of a map, or print it"
	cmd.Long = `Write a field of a map, or remove one with everything in it. Fields are merged
one by one. Programs may put counters, sets, lists and maps into fields; they
are printed, and removed, like any other. NAME alone prints the fields, as "bzzz
get" does.`
	cmd.Example = `  bzzz map user:7 put name Ada
  bzzz map user:7 rm name
  bzzz get user:7 -o json`
	return cmd
}

// removeField removes a field that is there.
func removeField(ctx context.Context, m engine.Map, field []byte) error {
	there := false
	for e, err := range m.All(ctx) {
		if err != nil {
			return err
		}
		if there = bytes.Equal(e.Key, field); there {
			break
		}
	}
	if !there {
		return fmt.Errorf("field %q: %w", field, engine.ErrNotFound)
	}
	return m.Delete(ctx, field)
}
