package demo

import (
	"fmt"
	"strings"
	"time"

	"bzzz/internal/cliout"
)

// Text prints a report step by step for people: what happens, why, and a table
// of what came of it. Its Step is an Options.AfterStep.
type Text struct {
	p       *cliout.Printer
	program string // how the reader calls the program
}

// NewText returns a Text. program is how the reader calls this program, for the
// commands to try next.
func NewText(p *cliout.Printer, program string) *Text { return &Text{p: p, program: program} }

// Step prints one step of the report.
func (t *Text) Step(s Step, r *Report) error {
	switch s {
	case StepImport:
		return t.imports(r)
	case StepFirstSync:
		return t.syncs(r, "first", 2, "They sync over a simulated network",
			"Each pair talks once, so that all three know everything; then ann asks ben again,",
			"which shows what it costs to find out that there is nothing to do.")
	case StepApart:
		return t.apart(r)
	case StepViews:
		return t.views(r.Apart, 4, "What each node shows while they are apart",
			"Everybody reads and writes as ever; no node waits for another. Records show the highest",
			"temperature and the weather of a day.")
	case StepHeal:
		if err := t.syncs(r, "healed", 5, "The network heals, and they sync again", "Only what the other lacks travels."); err != nil {
			return err
		}
		return t.views(r.Together, 0, "", "Now every node shows the same, and equal roots prove that they hold the same:")
	case StepRecords:
		return t.records(r)
	case StepTypes:
		return t.types(r)
	case StepSettle:
		return t.settle(r)
	case StepChecks:
		return t.checks(r)
	case StepEnd:
		return t.end(r)
	}
	return nil
}

// heading prints a step's number, title and explanation.
func (t *Text) heading(step int, title string, lines ...string) error {
	var b strings.Builder
	b.WriteByte('\n')
	if step > 0 {
		fmt.Fprintf(&b, "%d. %s\n", step, title)
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	if step > 0 {
		b.WriteByte('\n')
	}
	return t.p.Data([]byte(b.String()))
}

// table prints rows below each other.
func (t *Text) table(columns []string, rows [][]any) error {
	out := t.p.Rows(columns...)
	for _, r := range rows {
		if err := out.Add(r...); err != nil {
			return err
		}
	}
	return out.Close()
}

// stamp shows a moment of the story: its day and minute.
func stamp(at time.Time) string { return at.Format("Jan 02 15:04") }

func (t *Text) imports(r *Report) error {
	err := t.heading(1, "Three durable stores, each imports a part of four years of weather",
		"A row becomes one record, a JSON value under location/date. One transaction each. The clock",
		"of cho is a day fast, and nobody knows.")
	if err != nil {
		return err
	}
	var rows [][]any
	for _, n := range r.Nodes {
		clock := "right"
		if n.ClockAheadS > 0 {
			clock = fmt.Sprintf("%.0f h fast", n.ClockAheadS/3600)
		}
		rows = append(rows, []any{n.Name, n.Imports, cliout.Count(n.Records), cliout.Bytes(n.ImportBytes), clock, n.Author})
	}
	if err := t.table([]string{"node", "imports", "records", "size", "clock", "writes as"}, rows); err != nil {
		return err
	}
	return t.writes(r, "before", "They also wrote what the story needs:")
}

// writes prints what was written in a phase.
func (t *Text) writes(r *Report, phase, title string) error {
	if err := t.heading(0, "", title); err != nil {
		return err
	}
	return t.writeTable(r, phase)
}

func (t *Text) writeTable(r *Report, phase string) error {
	var rows [][]any
	for _, w := range r.Writes {
		if w.Phase == phase {
			var value any
			if w.Value != "" {
				value = w.Value
			}
			rows = append(rows, []any{stamp(w.Time), w.Node, w.Did, w.Key, value})
		}
	}
	return t.table([]string{"its clock", "node", "did", "what", "value"}, rows)
}

// syncs prints the sessions of a phase.
func (t *Text) syncs(r *Report, phase string, step int, title string, lines ...string) error {
	if err := t.heading(step, title, lines...); err != nil {
		return err
	}
	return t.syncTable(r, phase)
}

// syncTable is the table of these.
func (t *Text) syncTable(r *Report, phase string) error {
	latency := map[string]float64{}
	for _, l := range r.Links {
		latency[l.Between[0]+l.Between[1]] = l.LatencyMS
	}
	var rows [][]any
	for _, s := range r.Syncs {
		if s.Phase != phase {
			continue
		}
		took := time.Duration(s.Milliseconds * float64(time.Millisecond)).Round(time.Millisecond)
		rows = append(rows, []any{s.From + " -> " + s.To, fmt.Sprintf("%g ms", latency[s.From+s.To]),
			cliout.Count(s.Sent), cliout.Count(s.Received), cliout.Bytes(s.BytesSent), cliout.Bytes(s.BytesReceived),
			s.RoundTrips, took.String(), yes(s.InSync)})
	}
	columns := []string{"sync", "latency", "versions out", "in", "bytes out", "in", "round trips", "took", "in sync"}
	return t.table(columns, rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (t *Text) apart(r *Report) error {
	err := t.heading(3, "The network is cut; everybody goes on writing",
		fmt.Sprintf("%s and gets, after %.1f s:", r.Partition.Tried, r.Partition.Waits),
		"  "+r.Partition.Error,
		"A correction and its count are one transaction. Each of these writes was acknowledged.")
	if err != nil {
		return err
	}
	return t.writeTable(r, "apart")
}

func (t *Text) views(views []View, step int, title string, lines ...string) error {
	if err := t.heading(step, title, lines...); err != nil {
		return err
	}
	var rows [][]any
	for _, v := range views {
		rows = append(rows, []any{v.What, v.Values["ann"], v.Values["ben"], v.Values["cho"]})
	}
	return t.table([]string{"what", "ann", "ben", "cho"}, rows)
}

// verdict explains what became of a record.
func verdict(r Record) string {
	switch r.Verdict {
	case "concurrent":
		values := 0
		for _, v := range r.Versions {
			if v.Fate != "replaced" {
				values++
			}
		}
		text := fmt.Sprintf("%d writers that had not seen each other; all stay, the latest is shown", values)
		if r.Versions[0].Node == "cho" {
			text += "\n  (cho's, by its fast clock: what is shown is a choice, so somebody settles it in step 8)"
		}
		return text
	case "delete_and_correction":
		return "the delete had not seen the correction, which stays"
	}
	return "ann had seen cho's, so hers wins; its stamp follows cho's,\n  a day ahead, while ann's clock stays right"
}

func (t *Text) records(r *Report) error {
	err := t.heading(6, "Who wrote what, and what became of it",
		"A write replaces what its writer had seen, nothing else. Stamps only choose what is shown of",
		"several values; those beside it stay readable, those replaced stay in the history.",
		"Columns: by, stamp, value, what it became, end of its CID.")
	if err != nil {
		return err
	}
	var b strings.Builder
	for i, rec := range r.Records {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s: %s\n", rec.Key, verdict(rec))
		for _, v := range rec.Versions {
			value := v.Value
			if v.Kind == "delete" {
				value = "(delete)"
			}
			fmt.Fprintf(&b, "  %-3s  %s  %-14s  %-8s  ...%s\n", v.Node, stamp(v.Time), value, v.Fate, v.CID[len(v.CID)-8:])
		}
	}
	return t.p.Data([]byte(b.String()))
}

func (t *Text) types(r *Report) error {
	err := t.heading(7, "Values that merge by themselves: counter, set and list",
		"Nothing to resolve here: what was done apart adds up.")
	if err != nil {
		return err
	}
	c, s, l := r.Counter, r.Set, r.List
	var lines []string
	line := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-8s ", name)+fmt.Sprintf(format, args...))
	}
	line("counter", "%q was %d, %d and %d; ben's reset swallowed the %d it had seen.", c.Key, c.Apart["ann"], c.Apart["ben"], c.Apart["cho"], c.Swallow)
	line("", "Now %d: what the others counted meanwhile stays.", c.Value)
	line("set", "%q is {%s}: ben added storm while ann removed it, and the add wins.", s.Key, strings.Join(s.Items, ", "))
	line("", "Nobody added draft again, so it is gone.")
	line("list", "%q: ann and ben inserted two items each at one place; neither pair is torn.", l.Key)
	for i, item := range l.Items {
		line("", "  %d  %s", i, item)
	}
	return t.p.Data([]byte(strings.Join(lines, "\n") + "\n"))
}

func (t *Text) settle(r *Report) error {
	s := r.Resolution
	err := t.heading(8, "Somebody settles a conflict",
		fmt.Sprintf("ann corrects %s on what she saw while apart:", s.Key),
		fmt.Sprintf("  PutIf(key, %q, token %s...)", s.Value, s.StaleToken[:8]),
		"  refused: "+s.Refused,
		fmt.Sprintf("The error carries these %d versions and their token. ann looks at them and decides:", s.Found),
		fmt.Sprintf("  PutIf(key, %q, token %s...)", s.Value, s.Token[:8]),
		"  accepted: it replaces all of them, here and after the next sync everywhere.")
	if err != nil {
		return err
	}
	if err := t.syncTable(r, "settled"); err != nil {
		return err
	}
	return t.heading(0, "", "Still in conflict, for you to settle: "+strings.Join(s.Left, ", "))
}

func (t *Text) checks(r *Report) error {
	if err := t.heading(9, "Is all of that true? The demo checks itself"); err != nil {
		return err
	}
	var b strings.Builder
	for _, c := range r.Checks {
		mark := "yes"
		if !c.OK {
			mark = "NO "
		}
		b.WriteString(mark + "  " + c.Claim + "\n" + "     " + c.Detail + "\n")
	}
	return t.p.Data([]byte(b.String()))
}
