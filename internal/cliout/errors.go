package cliout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bzzz/internal/errs"
)

// The exit codes (docs: exit codes of the commands). 5 (unauthorised) and 7
// (degraded, with --strict) are set by the commands that know these states.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitConflict    = 4
	ExitUnavailable = 6
	ExitTemporary   = 75 // EX_TEMPFAIL of sysexits.h: try again
	ExitConfig      = 78 // EX_CONFIG
	ExitInterrupted = 130
)

// UsageError is a command line that makes no sense.
type UsageError struct {
	Command string // whose help tells more, for example "bzzz import"; may be empty
	Err     error
}

// Error prints the cause.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// ConfigError is a configuration that cannot be used.
type ConfigError struct {
	File string // where it was read, may be empty
	Err  error
}

// Error prints "file: cause".
func (e *ConfigError) Error() string {
	if e.File == "" {
		return e.Err.Error()
	}
	return e.File + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

type nextError struct {
	error
	next string
}

func (e *nextError) Unwrap() error { return e.error }

// WithNext returns err with the next step that PrintError shows, nil if err is
// nil.
func WithNext(err error, next string) error {
	if err == nil {
		return nil
	}
	return &nextError{err, next}
}

// class is what the commands say about an error of one kind.
type class struct {
	code string // stable name
	exit int
	next string
}

// classify returns the class of an error that is not nil.
func classify(err error) class {
	if u, ok := errors.AsType[*UsageError](err); ok {
		if u.Command == "" {
			return class{"usage", ExitUsage, "run the command with --help"}
		}
		return class{"usage", ExitUsage, "run " + u.Command + " --help"}
	}
	if _, ok := errors.AsType[*ConfigError](err); ok {
		return class{"config", ExitConfig, "correct the configuration; bzzz config check shows every fault at once"}
	}
	switch kind := errs.KindOf(err); {
	case errors.Is(err, context.Canceled):
		return class{"interrupted", ExitInterrupted, ""}
	case kind == errs.KindOther && errors.Is(err, context.DeadlineExceeded):
		return ofKind(errs.KindTimeout)
	default:
		return ofKind(kind)
	}
}

func ofKind(kind errs.Kind) class {
	switch kind {
	case errs.KindNotFound:
		return class{"not_found", ExitNotFound, ""}
	case errs.KindNotRetained:
		return class{"not_retained", ExitNotFound, "restore a backup that reaches back that far"}
	case errs.KindExists:
		return class{"exists", ExitConflict, ""}
	case errs.KindConflict:
		return class{"conflict", ExitConflict, "read the current state and try again"}
	case errs.KindCorrupt:
		return class{"corrupt", ExitError, "bzzz verify --repair, then bzzz sync with a peer that holds it"}
	case errs.KindClosed:
		return class{"closed", ExitError, ""}
	case errs.KindPoisoned:
		return class{"poisoned", ExitError, "look at the disk, then close the store and open it again"}
	case errs.KindReadOnly:
		return class{"read_only", ExitError, ""}
	case errs.KindTooLarge:
		return class{"too_large", ExitError, ""}
	case errs.KindUnavailable:
		return class{"unavailable", ExitUnavailable, "see what is reachable: bzzz status, bzzz doctor"}
	case errs.KindTimeout:
		return class{"timeout", ExitTemporary, "try again, or give more time with --timeout"}
	case errs.KindUnsupported:
		return class{"unsupported", ExitError, ""}
	case errs.KindInvalid:
		return class{"invalid", ExitError, "correct the input and run the command again"}
	case errs.KindLocked:
		return class{"locked", ExitTemporary, "stop the process that has it open, or talk to it"}
	}
	return class{"error", ExitError, ""}
}

// ExitCode returns the exit code for an error, 0 for nil. UsageError and
// ConfigError count before interruption, and that before the kind of the error.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	return classify(err).exit
}

// PrintError prints an error on stderr: what failed, its code and cause, and
// the next step where one is known; one JSON object unless the format is Table.
// Nil prints nothing. Being quiet does not silence it.
func (p *Printer) PrintError(err error) {
	if err == nil {
		return
	}
	c := classify(err)
	if n, ok := errors.AsType[*nextError](err); ok {
		c.next = n.next
		if err == error(n) {
			err = n.error
		}
	}
	what, cause := err.Error(), ""
	if e, ok := err.(*errs.Error); ok && e.Err != nil {
		what, cause = strings.TrimSpace(e.Op+" "+e.Addr), e.Err.Error()
	}
	if p.format != Table {
		fields := []Field{{"error", what}, {"code", c.code}, {"exit", c.exit}}
		for _, f := range []Field{{"cause", cause}, {"next", c.next}} {
			if f.Value != "" {
				fields = append(fields, f)
			}
		}
		_, _ = p.err.Write(append(appendObject(nil, fields), '\n'))
		return
	}
	_, _ = fmt.Fprintf(p.err, "%s %s\n", p.style(p.errTerminal, "1;31", "error:"), indent(what))
	for _, f := range []Field{{"code", fmt.Sprintf("%s (exit %d)", c.code, c.exit)}, {"cause", cause}, {"next", c.next}} {
		if text, _ := f.Value.(string); text != "" {
			_, _ = fmt.Fprintf(p.err, "  %-6s %s\n", f.Name+":", indent(text))
		}
	}
}

// indent makes text safe and sets its further lines below the first.
func indent(text string) string {
	return strings.ReplaceAll(strings.TrimRight(clean(text), "\n"), "\n", "\n         ")
}
