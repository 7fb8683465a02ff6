package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
)

const (
	// watchPoll is how often a watch looks whether the store's file changed.
	watchPoll = 200 * time.Millisecond
	// watchIdle is how long the end of the journal must be quiet for a watch
	// to let go of the store, so that others can write.
	watchIdle = 20 * time.Millisecond
)

func newWatchCmd(a *app) *cobra.Command {
	w := &watch{app: a}
	cmd := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Print changes as they come",
		Long: `Print every change of the keys that begin with PREFIX: put, delete, and reset
where a cursor cannot be resumed (what it has not seen follows). It goes on until
interrupted; the store stays free for other commands to write meanwhile.

Every line ends with a cursor. --since CURSOR goes on right behind it, with
nothing missed and nothing repeated; "bzzz mark -o json" prints the current one.`,
		Example: `  bzzz watch reports/
  bzzz watch --since "$CURSOR" --once -o jsonl`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&w.since, "since", "", "go on behind this cursor (default: from now)")
	cmd.Flags().IntVar(&w.limit, "limit", 0, "end after so many changes (0 = never)")
	cmd.Flags().BoolVar(&w.once, "once", false, "end when there are no more changes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if w.limit < 0 {
			return usage(cmd, "--limit %d is negative", w.limit)
		}
		w.cmd, w.prefix = cmd, optional(args)
		if a.p.Format() != cliout.Table {
			w.rows = a.p.Rows("type", "key", "element", "value", "time", "author", "cid", "concurrent", "cursor")
		}
		err := w.follow(cmd.Context())
		if w.rows != nil {
			err = errors.Join(err, w.rows.Close())
		}
		return err
	}
	return cmd
}

// watch prints changes. It holds the store only while it reads.
type watch struct {
	app    *app
	cmd    *cobra.Command
	prefix []byte
	since  string // cursor
	limit  int
	once   bool
	rows   *cliout.Rows // nil for people, who want to see each line at once
	seen   int
}

// follow prints changes until the limit, or without one until ctx ends.
func (w *watch) follow(ctx context.Context) error {
	ticks := time.NewTicker(watchPoll)
	defer ticks.Stop()
	file := filepath.Join(w.app.data, engine.DataFile)
	var last os.FileInfo
	for {
		now, err := os.Stat(file)
		if last == nil || err == nil && (now.ModTime() != last.ModTime() || now.Size() != last.Size()) {
			err := w.app.inNamespace(w.cmd, reading, w.drain)
			locked := last != nil && errors.Is(err, engine.ErrLocked) // somebody writes: at the next tick
			switch {
			case err != nil && !locked:
				return err
			case w.once, w.limit > 0 && w.seen >= w.limit:
				return nil
			case !locked:
				last = now
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

// drain prints what lies behind the cursor.
func (w *watch) drain(ns *engine.Namespace) error {
	ctx := w.cmd.Context()
	events, err := ns.Watch(ctx, w.prefix, w.since)
	if errors.Is(err, engine.ErrInvalid) {
		return usage(w.cmd, "--since: %w", err)
	}
	if err != nil {
		return err
	}
	defer events.Close()
	for w.limit == 0 || w.seen < w.limit {
		wait, cancel := context.WithTimeout(ctx, watchIdle)
		e, err := events.Next(wait)
		cancel()
		w.since = events.Cursor()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return err
		}
		w.seen++
		if err := w.print(e); err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) print(e engine.Event) error {
	a, v := w.app, e.Version
	if w.rows == nil {
		return a.p.Data([]byte(strings.Join(append(w.line(e), w.since), "  ") + "\n"))
	}
	if e.Type == engine.EventReset {
		return w.rows.Add(string(e.Type), nil, nil, nil, nil, nil, nil, nil, w.since)
	}
	element := ""
	if e.Element {
		element = fmt.Sprintf("%s:%x", markName(e.Mark), e.Part)
	}
	value := bytesOrNil(v.Value)
	if v.Blob != "" {
		value = a.large(v.Blob, v.Size)
	}
	if n, ok := numberOf(v); ok {
		value = n
	}
	return w.rows.Add(string(e.Type), cliout.Key(e.Key), textOrNil(element), value, a.when(v.Time),
		a.author(v.Author), v.CID, e.Concurrent, w.since)
}

// watchValue is how many characters of a value people are shown.
const watchValue = 60

// line is what people are shown of an event.
func (w *watch) line(e engine.Event) []string {
	a, v := w.app, e.Version
	if e.Type == engine.EventReset {
		return []string{string(e.Type)}
	}
	parts := []string{a.when(v.Time).Format(time.DateTime), a.author(v.Author), string(e.Type), cliout.Safe(string(e.Key))}
	if e.Element {
		parts = append(parts, elementText(e.Mark, e.Part))
	}
	if n, ok := numberOf(v); ok {
		parts = append(parts, fmt.Sprint(n))
	} else if v.Blob != "" {
		parts = append(parts, fmt.Sprint(a.large(v.Blob, v.Size)))
	} else if v.Kind == crdt.Put || v.Kind == crdt.Insert {
		parts = append(parts, cliout.Cut(v.Value, watchValue))
	}
	if e.Concurrent {
		parts = append(parts, "(concurrent)")
	}
	return parts
}

// elementText names an element of a composite: "set red", "map name", or the
// composite's type alone where elements have no names.
func elementText(m crdt.Mark, part []byte) string {
	text := markName(m)
	if m != crdt.MarkAddSet && m != crdt.MarkRemSet && m != crdt.MarkMap {
		return text
	}
	name, rest, err := crdt.SplitName(part)
	if err != nil {
		return text
	}
	text += " " + cliout.Safe(string(name))
	if inner, component, ok := crdt.SplitMark(rest); ok && m == crdt.MarkMap {
		text += " " + elementText(inner, component)
	}
	return text
}

// markName is the type of the composite that an element belongs to.
func markName(m crdt.Mark) string {
	switch m {
	case crdt.MarkCounter:
		return "counter"
	case crdt.MarkAddSet, crdt.MarkRemSet:
		return "set"
	case crdt.MarkMap:
		return "map"
	case crdt.MarkList, crdt.MarkListBind:
		return "list"
	}
	return "element"
}
