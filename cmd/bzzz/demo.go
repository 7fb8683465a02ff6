package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bzzz/internal/cliout"
	"bzzz/internal/demo"
	"bzzz/internal/errs"
)

func newDemoCmd(a *app) *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See three stores write apart and come together, explained",
		Long: `Open three stores, let each import a part of four years of weather, sync them
over a simulated network, cut the network, let all three correct the same
records, count, and edit a set and a list, connect them again, and explain what
became of every write. Takes about 3 s.

The demo checks what it claims. The exit code is 0 only if every claim holds.
-o json prints all of it as one object, -q the outcome only.

The stores are in a temporary directory that is removed in the end. --keep leaves
it, --dir makes them in another directory and leaves them there.`,
		Example: `  bzzz demo
  bzzz demo --dir bzzz-demo
  bzzz --data bzzz-demo/ann conflicts`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd, o) },
	}
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "keep the temporary directory with the stores")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "make the stores in this directory, which is empty or not there; kept")
	return cmd
}

// demo plays the story and prints it.
func (a *app) demo(cmd *cobra.Command, o demo.Options) error {
	if a.p.Format() == cliout.Table && !a.quiet {
		o.AfterStep = demo.NewText(a.p, programName(os.Args[0])).Step
	}
	report, err := demo.Run(cmd.Context(), o)
	switch {
	case errors.Is(err, errs.ErrExists):
		return cliout.WithNext(err, "name a directory that is empty or not there")
	case errors.Is(err, demo.ErrFalse):
		err = cliout.WithNext(err, "the stores are kept in "+report.Dir+": please report this with what bzzz demo -o json prints")
	case err != nil:
		return err
	}
	if e := a.printDemo(report); err == nil {
		err = e
	}
	return err
}

// printDemo prints the whole report for programs, its outcome for people who
// want no more.
func (a *app) printDemo(report *demo.Report) error {
	switch {
	case a.p.Format() != cliout.Table:
		text, err := json.Marshal(report)
		if err != nil {
			return err
		}
		return a.p.Data(append(text, '\n'))
	case a.quiet:
		text := report.Summary()
		if report.Kept {
			text += "; stores in " + report.Dir
		}
		return a.p.Data([]byte(text + "\n"))
	}
	return nil
}

// programName is how the user calls this program: as found on the path, or by
// the path given.
func programName(arg string) string {
	if strings.ContainsRune(arg, filepath.Separator) && !filepath.IsAbs(arg) {
		return arg
	}
	return filepath.Base(arg)
}
