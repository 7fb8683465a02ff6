package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bzzz/internal/cliout"
)

// defaultData is where the store is unless --data or BZZZ_DATA says otherwise.
const defaultData = "bzzz-data"

// firstSteps is what the program says if it is called without arguments.
const firstSteps = `bzzz keeps versioned keys in a data directory (./` + defaultData + `, or what --data
names). Stores that were written apart come together by a sync; nothing is lost.

First steps:
  bzzz put greeting hello           write a value (this makes the store)
  bzzz get greeting                 print it
  bzzz put greeting "hello again"   write another: the first one stays in the history
  bzzz log greeting                 list its versions
  bzzz counter visits add 1         count (there are sets, lists and maps, too)
  bzzz ls                           list what is there
  bzzz --data copy sync ` + defaultData + `   make a second store that holds the same
  bzzz demo                         see three stores write apart and come together

bzzz help lists the commands, bzzz COMMAND --help explains one with examples.
`

// app is one run of the program: its streams and its global flags.
type app struct {
	in       io.Reader
	out, err io.Writer

	data      string
	namespace string
	output    string
	quiet     bool
	verbose   bool
	noColor   bool
	timeout   time.Duration

	p       *cliout.Printer
	running bool // the command line made sense, a command has begun
	cancel  context.CancelFunc
}

// newRootCmd returns the command tree.
func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "bzzz",
		Short: "An embedded store whose replicas write apart and come together",
		Long: `bzzz keeps versioned keys in a data directory. Stores that were written apart
come together by "bzzz sync": nothing is lost, concurrent values stay side by
side until somebody resolves them, and equal roots prove that two stores agree.

The data directory is --data, else $BZZZ_DATA, else ./` + defaultData + `. Commands that
write values make it; all others want it to be there.

Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 conflict, 75 try again,
78 bad configuration, 130 interrupted.`,
		Example: `  bzzz put greeting hello
  bzzz get greeting
  bzzz import --key location,date weather.csv
  bzzz --data copy sync bzzz-data`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.p.Data([]byte(firstSteps))
			}
			return unknownCommand(cmd, args[0])
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.data, "data", "", "data directory (default $BZZZ_DATA, else ./"+defaultData+")")
	f.StringVar(&a.namespace, "namespace", "default", "namespace of the keys")
	f.StringVarP(&a.output, "output", "o", "table", "how to print results: table, json or jsonl")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more on stderr")
	f.BoolVar(&a.noColor, "no-color", false, "print without colour (as NO_COLOR does)")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this time (0 = never)")
	root.AddGroup(
		&cobra.Group{ID: groupData, Title: "Data:"}, &cobra.Group{ID: groupHistory, Title: "History:"},
		&cobra.Group{ID: groupTogether, Title: "Coming together:"}, &cobra.Group{ID: groupStore, Title: "The store:"},
		&cobra.Group{ID: groupTry, Title: "To try and to measure:"}, &cobra.Group{ID: groupHelp, Title: "Help:"})
	addTo(root, a, groupData, newPutCmd, newGetCmd, newRmCmd, newLsCmd, newWatchCmd, newImportCmd, newExportCmd,
		newCounterCmd, newNumberCmd, newSetCmd, newListCmd, newMapCmd)
	addTo(root, a, groupHistory, newLogCmd, newAtCmd, newMarkCmd, newDiffCmd, newRestoreCmd)
	addTo(root, a, groupTogether, newSyncCmd, newCompareCmd, newConflictsCmd)
	addTo(root, a, groupStore, newInitCmd, newNsCmd, newStatCmd, newVerifyCmd, newRootCmdOf, newProofCmd, newVerifyProofCmd, newGcCmd, newReplicaCmd,
		newCompactCmd, newBackupCmd, newRestoreBackupCmd)
	addTo(root, a, groupTry, newDemoCmd, newBenchCmd, newReplayCmd)
	addTo(root, a, groupHelp, newVersionCmd)
	root.SetHelpCommandGroupID(groupHelp)
	root.SetCompletionCommandGroupID(groupHelp)
	a.track(root)
	return root
}

// track makes every command tell when it begins, and what it wants if the
// number of its arguments is wrong.
func (a *app) track(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err != nil && strings.Contains(err.Error(), "arg(s)") { // as cobra says it
				err = fmt.Errorf("%d argument(s); want: %s%s", len(args), strings.TrimSuffix(cmd.CommandPath(), cmd.Name()), cmd.Use)
			}
			return err
		}
	}
	if fn := cmd.RunE; fn != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return fn(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.track(c)
	}
}

// The groups of the help text.
const (
	groupData     = "data"
	groupHistory  = "history"
	groupTogether = "together"
	groupStore    = "store"
	groupTry      = "try"
	groupHelp     = "help"
)

func addTo(parent *cobra.Command, a *app, group string, commands ...func(*app) *cobra.Command) {
	for _, make := range commands {
		cmd := make(a)
		cmd.GroupID = group
		parent.AddCommand(cmd)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2 // as cobra itself sets it
	err := fmt.Errorf("unknown command %q", name)
	var near []string
	for _, n := range cmd.SuggestionsFor(name) {
		near = append(near, strconv.Quote(n))
	}
	if len(near) > 0 {
		err = fmt.Errorf("unknown command %q, did you mean %s?", name, strings.Join(near, " or "))
	}
	return &cliout.UsageError{Command: cmd.CommandPath(), Err: err}
}

// prepare checks the global flags. It runs before every command.
func (a *app) prepare(cmd *cobra.Command) error {
	format, err := cliout.ParseFormat(a.output)
	if err != nil {
		return err
	}
	if a.timeout < 0 {
		return fmt.Errorf("a timeout of %v", a.timeout)
	}
	if err := checkNamespace(a.namespace); err != nil {
		return fmt.Errorf("--namespace: %w", err)
	}
	if a.data == "" {
		a.data = os.Getenv("BZZZ_DATA")
	}
	if a.data == "" {
		a.data = defaultData
	}
	a.p = cliout.New(cliout.Options{
		Out: a.out, Err: a.err, Format: format, Quiet: a.quiet, Verbose: a.verbose, NoColor: a.noColor,
	})
	if a.timeout > 0 {
		var ctx context.Context
		ctx, a.cancel = context.WithTimeout(cmd.Context(), a.timeout)
		cmd.SetContext(ctx)
	}
	return nil
}

func (a *app) finish() {
	if a.cancel != nil {
		a.cancel()
	}
}

// printer returns the Printer, one that honours what could be read of the
// flags if the command line was too wrong for prepare.
func (a *app) printer() *cliout.Printer {
	if a.p == nil {
		format, err := cliout.ParseFormat(a.output)
		if err != nil {
			format = cliout.Table
		}
		a.p = cliout.New(cliout.Options{Out: a.out, Err: a.err, Format: format, NoColor: a.noColor})
	}
	return a.p
}

// usage is an error of the command line that only the command itself can see.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &cliout.UsageError{Command: cmd.CommandPath(), Err: fmt.Errorf(format, args...)}
}
