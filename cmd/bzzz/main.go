// Command bzzz works with a store of versioned, replicated keys: it puts, gets,
// looks back, imports, exports, checks and syncs. Every command has --help with
// an example.
//
// Results go to stdout, everything else to stderr. The exit code tells what
// happened: 0 done, 1 error, 2 usage, 3 not found, 4 conflict, 75 try again,
// 78 bad configuration, 130 interrupted.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"bzzz/internal/cliout"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run runs one command line and returns the exit code. An interrupt or SIGTERM
// ends the command's context; a second one ends the process.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	a := &app{in: in, out: out, err: errOut}
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	a.finish()
	if err != nil && !a.running { // the command line never got as far as a command
		if _, ok := errors.AsType[*cliout.UsageError](err); !ok {
			err = &cliout.UsageError{Command: cmd.CommandPath(), Err: err}
		}
	}
	p := a.printer()
	switch {
	case err == nil:
		return cliout.ExitOK
	case ctx.Err() == nil:
		p.PrintError(err)
		return cliout.ExitCode(err)
	case errors.Is(err, context.Canceled):
		p.Note("interrupted")
	default:
		p.PrintError(err)
	}
	return cliout.ExitInterrupted
}
