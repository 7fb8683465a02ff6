package cliout

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Object prints one result: a line a field in a table, else one JSON object
// with the fields in order.
func (p *Printer) Object(fields ...Field) error {
	if p.format != Table {
		_, err := p.out.Write(append(appendObject(nil, fields), '\n'))
		return err
	}
	width := 0
	for _, f := range fields {
		width = max(width, utf8.RuneCountInString(Safe(f.Name)))
	}
	for _, f := range fields {
		text, _ := cellText(f.Value)
		name := p.style(p.outTerminal, "1", fmt.Sprintf("%-*s", width, Safe(f.Name)))
		if _, err := fmt.Fprintf(p.out, "%s  %s\n", name, text); err != nil {
			return err
		}
	}
	return nil
}

// chunk is how many rows a table holds back to align them.
const chunk = 500

// Rows prints results of one kind. A table is aligned over 500 rows at a time,
// so that memory is bounded; JSON lines go out at once; JSON is one array.
type Rows struct {
	p       *Printer
	names   []string
	widths  []int
	held    [][]string
	text    []bool // columns that have shown something else than numbers
	rows    int
	started bool // the header or the bracket is out
}

// Rows starts a list with these columns. Call Close at the end.
func (p *Printer) Rows(names ...string) *Rows {
	r := &Rows{p: p, names: names, widths: make([]int, len(names)), text: make([]bool, len(names))}
	for i, n := range names {
		r.widths[i] = utf8.RuneCountInString(Safe(n))
	}
	return r
}

// Add prints a row, one value a column (see Field). Missing values are nil.
func (r *Rows) Add(values ...any) error {
	r.rows++
	if r.p.format != Table {
		return r.object(values)
	}
	cells := make([]string, len(r.names))
	for i := range cells {
		var v any
		if i < len(values) {
			v = values[i]
		}
		text, number := cellText(v)
		cells[i] = text
		r.widths[i] = max(r.widths[i], utf8.RuneCountInString(text))
		r.text[i] = r.text[i] || !number && v != nil
	}
	if r.held = append(r.held, cells); len(r.held) < chunk {
		return nil
	}
	return r.flush()
}

func (r *Rows) object(values []any) error {
	fields := make([]Field, len(r.names))
	for i, n := range r.names {
		fields[i].Name = n
		if i < len(values) {
			fields[i].Value = values[i]
		}
	}
	line := ""
	if r.p.format == JSON {
		line = ",\n"
		if !r.started {
			line = "[\n"
		}
	}
	r.started = true
	line = string(appendObject([]byte(line), fields))
	if r.p.format == JSONL {
		line += "\n"
	}
	_, err := io.WriteString(r.p.out, line)
	return err
}

// flush prints the rows held back, numbers to the right, below the header.
func (r *Rows) flush() error {
	var b strings.Builder
	if !r.started {
		r.started = true
		var head strings.Builder
		names := make([]string, len(r.names))
		for i, n := range r.names {
			names[i] = Safe(n)
		}
		r.row(&head, names)
		b.WriteString(r.p.style(r.p.outTerminal, "1", strings.TrimSuffix(head.String(), "\n")) + "\n")
	}
	for _, cells := range r.held {
		r.row(&b, cells)
	}
	r.held = r.held[:0]
	_, err := io.WriteString(r.p.out, b.String())
	return err
}

func (r *Rows) row(b *strings.Builder, cells []string) {
	for i, c := range cells {
		pad := strings.Repeat(" ", r.widths[i]-utf8.RuneCountInString(c))
		switch {
		case !r.text[i] && r.rows > 0:
			b.WriteString(pad + c)
		case i < len(cells)-1:
			b.WriteString(c + pad)
		default:
			b.WriteString(c)
		}
		if i < len(cells)-1 {
			b.WriteString("  ")
		}
	}
	b.WriteByte('\n')
}

// Close prints what is held back, in JSON the closing bracket. A list without
// rows is [] in JSON, nothing in JSON lines, and only its header in a table.
func (r *Rows) Close() error {
	end := "\n]\n"
	switch {
	case r.p.format == Table:
		if len(r.held) > 0 || !r.started {
			return r.flush()
		}
		return nil
	case r.p.format == JSONL:
		return nil
	case !r.started:
		end = "[]\n"
	}
	_, err := io.WriteString(r.p.out, end)
	return err
}
