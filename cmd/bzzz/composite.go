package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
)

// typeRemoveWins is how the command line tells remove-wins sets from others.
const typeRemoveWins engine.Type = "remove-wins-set"

// typeNames are the types by the names that --as takes.
var typeNames = []engine.Type{
	engine.TypeRegister, engine.TypeNumber, engine.TypeCounter, engine.TypeSet, typeRemoveWins, engine.TypeMap, engine.TypeList,
}

func typeList() string {
	var names []string
	for _, t := range typeNames {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// holder is what typed values stand in: a namespace, or a map in it.
type holder interface {
	Counter(name []byte) engine.Counter
	Set(name []byte) engine.Set
	RemoveWinsSet(name []byte) engine.Set
	List(name []byte) engine.List
	Map(name []byte) engine.Map
}

// composites returns what stands under exactly one name besides a register or
// number.
func composites(ctx context.Context, ns *engine.Namespace, key []byte) ([]engine.Entry, error) {
	r := engine.Range{Start: key, End: append(bytes.Clone(key), 0)}
	out, err := collect(ctx, ns, ns.Scan(ctx, r))
	return slices.DeleteFunc(out, func(e engine.Entry) bool {
		return e.Type == engine.TypeRegister || e.Type == engine.TypeNumber
	}), err
}

// collect returns the entries of h.
func collect(ctx context.Context, h holder, entries iter.Seq2[engine.Entry, error]) ([]engine.Entry, error) {
	var out []engine.Entry
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	for i := range out {
		var before *engine.Entry
		if i > 0 {
			before = &out[i-1]
		}
		if err := tellSet(ctx, h, &out[i], before); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tellSet makes the type of a set say of which sort it is. before is the entry
// before it, if any: of two sets under one name the second is remove-wins.
func tellSet(ctx context.Context, h holder, e, before *engine.Entry) error {
	if e.Type != engine.TypeSet {
		return nil
	}
	if before != nil && before.Type == engine.TypeSet && bytes.Equal(before.Key, e.Key) {
		e.Type = typeRemoveWins
		return nil
	}
	elements, err := take(h.Set(e.Key).All(ctx), 1)
	if len(elements) == 0 {
		e.Type = typeRemoveWins
	}
	return err
}

// kinds names the types of entries in a sentence: "a counter and a set".
func kinds(entries []engine.Entry) string {
	var names []string
	for _, e := range entries {
		names = append(names, "a "+string(e.Type))
	}
	return strings.Join(names, " and ")
}

// take returns the elements of a composite, at most limit (0 = all).
func take(elements iter.Seq2[[]byte, error], limit int) ([]any, error) {
	out := []any{}
	for e, err := range elements {
		if err != nil {
			return nil, err
		}
		if out = append(out, plain(e)); len(out) == limit {
			break
		}
	}
	return out, nil
}

// plain is a value as JSON has it: a string, or for bytes that are not UTF-8 an
// object with their base64.
func plain(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return map[string]string{"base64": base64.StdEncoding.EncodeToString(b)}
}

// numberLen is how long the stored form of a number is.
const numberLen = 8

// numberOf returns what a version of a number holds.
func numberOf(v engine.Version) (int64, bool) {
	if v.Kind != crdt.Max && v.Kind != crdt.Min {
		return 0, false
	}
	n, err := crdt.DecodeNumber(v.Value)
	return n, err == nil
}

// natural returns what an entry of h holds as JSON has it: a number, a string,
// an array or an object; at most limit elements of each (0 = all).
func natural(ctx context.Context, h holder, e engine.Entry, limit int) (any, error) {
	switch e.Type {
	case engine.TypeNumber:
		return crdt.DecodeNumber(e.Value)
	case engine.TypeCounter:
		return h.Counter(e.Key).Value(ctx)
	case engine.TypeSet:
		return take(h.Set(e.Key).All(ctx), limit)
	case typeRemoveWins:
		return take(h.RemoveWinsSet(e.Key).All(ctx), limit)
	case engine.TypeList:
		return take(h.List(e.Key).All(ctx), limit)
	case engine.TypeMap:
		return naturalMap(ctx, h.Map(e.Key), limit)
	}
	if e.Blob != "" {
		return link{e.Blob, &e.Size}, nil
	}
	return plain(e.Value), nil
}

// naturalMap returns a map's fields as an object. A field of several types is
// an object of them by type.
func naturalMap(ctx context.Context, m engine.Map, limit int) (any, error) {
	fields, err := fieldsOf(ctx, m, limit)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for i, e := range fields {
		value, err := natural(ctx, m, e, limit)
		if err != nil {
			return nil, err
		}
		name := string(e.Key)
		if !utf8.Valid(e.Key) {
			name = "base64:" + base64.StdEncoding.EncodeToString(e.Key)
		}
		same := func(i int) bool { return i >= 0 && i < len(fields) && bytes.Equal(fields[i].Key, e.Key) }
		switch {
		case same(i - 1):
			out[name].(map[string]any)[string(e.Type)] = value
		case same(i + 1):
			out[name] = map[string]any{string(e.Type): value}
		default:
			out[name] = value
		}
	}
	return out, nil
}

// fieldsOf returns the entries of a map, at most limit (0 = all).
func fieldsOf(ctx context.Context, m engine.Map, limit int) ([]engine.Entry, error) {
	n := 0
	return collect(ctx, m, func(yield func(engine.Entry, error) bool) {
		for e, err := range m.All(ctx) {
			if n++; !yield(e, err) || n == limit {
				return
			}
		}
	})
}

// previewElements is how much of a composite within a map a table shows: more
// than fits.
const previewElements = 40

// printEntry prints a composite: for people a number, an element a line, or a
// line for each field; for programs one object.
func (a *app) printEntry(ctx context.Context, h holder, e engine.Entry) error {
	if a.p.Format() != cliout.Table {
		value, err := natural(ctx, h, e, 0)
		if err != nil {
			return err
		}
		return a.p.Object(cliout.Field{Name: "key", Value: cliout.Key(e.Key)},
			cliout.Field{Name: "type", Value: string(e.Type)}, cliout.Field{Name: "value", Value: value})
	}
	switch e.Type {
	case engine.TypeCounter:
		n, err := h.Counter(e.Key).Value(ctx)
		if err != nil {
			return err
		}
		return a.p.Data(fmt.Appendln(nil, n))
	case engine.TypeSet:
		return a.printElements(h.Set(e.Key).All(ctx))
	case typeRemoveWins:
		return a.printElements(h.RemoveWinsSet(e.Key).All(ctx))
	case engine.TypeList:
		return a.printElements(h.List(e.Key).All(ctx))
	}
	return a.printFields(ctx, h.Map(e.Key))
}

// outputChunk is how much text is gathered before it is written.
const outputChunk = 32 << 10

// printElements prints an element a line; one that is not a line of text is
// quoted.
func (a *app) printElements(elements iter.Seq2[[]byte, error]) error {
	var text []byte
	for e, err := range elements {
		if err != nil {
			return err
		}
		text = append(append(text, cliout.Safe(string(e))...), '\n')
		if len(text) >= outputChunk {
			if err := a.p.Data(text); err != nil {
				return err
			}
			text = text[:0]
		}
	}
	return a.p.Data(text)
}

// printFields prints a line for each field of a map.
func (a *app) printFields(ctx context.Context, m engine.Map) error {
	fields, err := fieldsOf(ctx, m, 0)
	if err != nil {
		return err
	}
	rows := a.p.Rows("field", "type", "value")
	for _, e := range fields {
		value, err := natural(ctx, m, e, previewElements)
		if err != nil {
			return err
		}
		switch {
		case e.Type == engine.TypeRegister && e.Blob != "":
			value = a.large(e.Blob, e.Size)
		case e.Type == engine.TypeRegister:
			value = cliout.Preview(e.Value)
		case e.Type != engine.TypeNumber && e.Type != engine.TypeCounter:
			value = cliout.Preview(cliout.JSONText(value))
		}
		if err := rows.Add(cliout.Key(e.Key), string(e.Type), value); err != nil {
			return err
		}
	}
	return rows.Close()
}

// getTyped prints what stands under a name: its register, else the first of its
// composites; or what as names.
func (a *app) getTyped(cmd *cobra.Command, ns *engine.Namespace, key, out string, part span, as engine.Type) error {
	ctx := cmd.Context()
	r, err := ns.GetAll(ctx, []byte(key))
	switch {
	case errors.Is(err, engine.ErrCorrupt):
		return fmt.Errorf("key %q: %w", key, err)
	case err != nil:
		return err
	}
	others, err := composites(ctx, ns, []byte(key))
	if len(r.Shown) > 0 && (as == "" || as == registerType(r)) {
		if as == "" && err == nil { // what else there is may be damaged
			a.noteOthers(key, others)
		}
		return a.printValue(ctx, ns, r, part, out)
	}
	if err != nil {
		return err
	}
	i := 0
	if as != "" {
		i = slices.IndexFunc(others, func(e engine.Entry) bool { return e.Type == as })
	}
	switch {
	case i < 0:
		return cliout.WithNext(fmt.Errorf("key %q as a %s: %w", key, as, engine.ErrNotFound),
			fmt.Sprintf("bzzz ls %s shows the types that are there", cliout.Safe(key)))
	case len(others) == 0:
		return missing(ctx, ns, key)
	case out != "":
		return usage(cmd, "--out takes the bytes of a value, but %q is a %s: print it to a file instead", key, others[i].Type)
	case part.set:
		return usage(cmd, "--range takes bytes of a value, but %q is a %s", key, others[i].Type)
	}
	if as == "" {
		a.noteOthers(key, others[1:])
	}
	return a.printEntry(ctx, ns, others[i])
}

// registerType is what a record that shows something is: a register or a number.
func registerType(r engine.Record) engine.Type {
	if _, number := numberOf(r.Shown[0]); number {
		return engine.TypeNumber
	}
	return engine.TypeRegister
}

// noteOthers tells that more stands under a name than is printed.
func (a *app) noteOthers(key string, others []engine.Entry) {
	if len(others) > 0 {
		a.p.Note("there is also %s of this name: bzzz get %s --as %s", kinds(others), cliout.Safe(key), others[0].Type)
	}
}
