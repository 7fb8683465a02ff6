// Package cliout is how the commands speak: results on stdout as a table, JSON
// or JSON lines, everything else on stderr, an exit code for every kind of
// error, progress for long work. Whatever a user or a peer put into a key or a
// message, no control character of it reaches a terminal.
package cliout

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Format is how results are printed.
type Format string

// The formats, by the names that -o takes.
const (
	Table Format = "table" // for people
	JSON  Format = "json"  // one document
	JSONL Format = "jsonl" // one object a line
)

// ParseFormat returns the format called name, a *UsageError for another name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Table, JSON, JSONL:
		return f, nil
	}
	return "", &UsageError{Err: fmt.Errorf("unknown output format %q (known: table, json, jsonl)", name)}
}

// Options say where and how to print. The zero value prints tables to the
// standard streams.
type Options struct {
	Out     io.Writer // results; os.Stdout if nil
	Err     io.Writer // everything else; os.Stderr if nil
	Format  Format    // Table if empty
	Quiet   bool      // neither notes nor progress
	Verbose bool      // Detail is printed
	NoColor bool      // as --no-color; NO_COLOR and TERM=dumb do the same
	// Getenv looks up the environment; os.Getenv if nil.
	Getenv func(string) string
	// Terminal tells whether w is a terminal; IsTerminal if nil.
	Terminal func(w io.Writer) bool
}

// Printer prints. It is not safe for concurrent use; a Progress is.
type Printer struct {
	out, err       io.Writer
	format         Format
	quiet, verbose bool
	outTerminal    bool
	errTerminal    bool
	color          bool
}

// New returns a Printer.
func New(o Options) *Printer {
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Err == nil {
		o.Err = os.Stderr
	}
	if o.Format == "" {
		o.Format = Table
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Terminal == nil {
		o.Terminal = IsTerminal
	}
	return &Printer{
		out: o.Out, err: o.Err, format: o.Format, quiet: o.Quiet, verbose: o.Verbose,
		outTerminal: o.Terminal(o.Out), errTerminal: o.Terminal(o.Err),
		color: !o.NoColor && o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb",
	}
}

// IsTerminal reports whether w is a file that is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Format returns how results are printed.
func (p *Printer) Format() Format { return p.format }

// style puts text into an ANSI style (SGR parameter), where colour is on.
func (p *Printer) style(terminal bool, sgr, text string) string {
	if !terminal || !p.color {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// Note prints a line for people on stderr, unless quiet.
func (p *Printer) Note(format string, args ...any) {
	if !p.quiet {
		p.line(format, args...)
	}
}

// Detail prints a line on stderr where the user asked for more (-v).
func (p *Printer) Detail(format string, args ...any) {
	if p.verbose && !p.quiet {
		p.line(format, args...)
	}
}

// line writes to stderr. That a message cannot be written is nowhere to be told.
func (p *Printer) line(format string, args ...any) {
	_, _ = fmt.Fprintln(p.err, clean(fmt.Sprintf(format, args...)))
}

// Data prints a value as it is. On a terminal, control characters and bytes
// that are not UTF-8 are shown as escapes, line feeds and tabs kept, and a line
// end is added where there is none.
func (p *Printer) Data(value []byte) error {
	if p.outTerminal {
		text := clean(string(value))
		if len(value) > 0 && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		value = []byte(text)
	}
	_, err := io.Copy(p.out, bytes.NewReader(value))
	return err
}
