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

const (
	// chunk is how many rows a table holds back to align them.
	chunk = 500
	// Width is how many columns of characters a table takes if its Previews
	// can be cut that far: what most terminals show.
	Width = 100
	// minPreview is what is left of a Preview at least.
	minPreview = 12
)

// Rows prints results of one kind. A table is aligned over 500 rows at a time,
// so that memory is bounded; JSON lines go out at once; JSON is one array.
type Rows struct {
	p       *Printer
	names   []string
	widths  []int
	held    [][]cell
	text    []bool // columns that have shown something else than numbers
	preview []bool // columns that have shown a Preview
	rows    int
	started bool // the header or the bracket is out
}

// cell is a value of a table.
type cell struct {
	text string
	raw  Preview // what text may be cut from, nil if it may not
}

// Rows starts a list with these columns. Call Close at the end.
func (p *Printer) Rows(names ...string) *Rows {
	n := len(names)
	r := &Rows{p: p, names: names, widths: make([]int, n), text: make([]bool, n), preview: make([]bool, n)}
	for i := range names {
		r.widths[i] = utf8.RuneCountInString(r.head(i))
	}
	return r
}

// head is what stands above a column: nothing if it has no name.
func (r *Rows) head(i int) string {
	if r.names[i] == "" {
		return ""
	}
	return Safe(r.names[i])
}

// Add prints a row, one value a column (see Field). Missing values are nil.
func (r *Rows) Add(values ...any) error {
	r.rows++
	if r.p.format != Table {
		return r.object(values)
	}
	cells := make([]cell, len(r.names))
	for i := range cells {
		var v any
		if i < len(values) {
			v = values[i]
		}
		text, number := cellText(v)
		cells[i].text = text
		if raw, ok := v.(Preview); ok {
			r.preview[i] = true
			cells[i] = cell{Cut(raw, Width), raw[:min(len(raw), utf8.UTFMax*Width)]}
		}
		r.widths[i] = max(r.widths[i], utf8.RuneCountInString(cells[i].text))
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
	r.fit()
	var b strings.Builder
	if !r.started {
		r.started = true
		var head strings.Builder
		names := make([]cell, len(r.names))
		for i := range r.names {
			names[i].text = r.head(i)
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

// fit narrows the columns of Previews, the widest first, until the table is no
// wider than Width or they are as narrow as may be.
func (r *Rows) fit() {
	total := 2 * (len(r.widths) - 1)
	for _, w := range r.widths {
		total += w
	}
	for ; total > Width; total-- {
		widest, most := -1, minPreview
		for i, w := range r.widths {
			if r.preview[i] && w > most && w > utf8.RuneCountInString(r.head(i)) {
				widest, most = i, w
			}
		}
		if widest < 0 {
			return
		}
		r.widths[widest]--
	}
}

func (r *Rows) row(b *strings.Builder, cells []cell) {
	for i, c := range cells {
		text := c.text
		if c.raw != nil {
			text = Cut(c.raw, r.widths[i])
		}
		pad := strings.Repeat(" ", max(0, r.widths[i]-utf8.RuneCountInString(text)))
		switch {
		case !r.text[i] && r.rows > 0:
			b.WriteString(pad + text)
		case i < len(cells)-1:
			b.WriteString(text + pad)
		default:
			b.WriteString(text)
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
