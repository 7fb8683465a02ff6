package main

import (
	"math"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bzzz/internal/bench"
	"bzzz/internal/cliout"
)

func newBenchCmd(a *app) *cobra.Command {
	var scenarios []string
	var scale, dir string
	var runs int
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine and this build",
		Long: `Measure this machine and this build in a temporary directory, which is removed:

  P1 durable puts, one writer       S1 fresh replica
  P2 durable puts, many writers     S2 reconnect after a partition
  P3 batches of puts on a base      S3 check when nothing differs
  P4 verified gets and scans        S4 differences that clocks do not show
  P5 bytes on disk                  M1 root after changes, proofs
  R1 open a large store, memory     B1 large values

Rates are taken in turns with raw bbolt doing the same two mutations on the same
data in the same run; look at the ratios, since a rate alone says as much about
the machine. Bytes, round trips and flushes are exact.

-o json and -o jsonl print one object a line as soon as it is measured.`,
		Example: `  bzzz bench
  bzzz bench --scenario S2,P1 -o json
  bzzz bench --scale full --runs 3 --dir /mnt/disk`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&scenarios, "scenario", nil, "only these scenarios, separated by commas")
	f.StringVar(&scale, "scale", string(bench.Small), "small (a minute) or full (bases of a million keys)")
	f.StringVar(&dir, "dir", "", "directory on the disk to measure (default "+os.TempDir()+")")
	f.IntVar(&runs, "runs", 1, "how often to measure")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if runs < 1 {
			return usage(cmd, "--runs %d: at least 1", runs)
		}
		if _, err := bench.Select(scenarios); err != nil {
			return usage(cmd, "--scenario: %w", err)
		}
		if s := bench.Scale(scale); s != bench.Small && s != bench.Full {
			return usage(cmd, "--scale %q: small or full", scale)
		}
		return a.bench(cmd, bench.Config{Dir: dir, Scenarios: scenarios, Scale: bench.Scale(scale), Runs: runs})
	}
	return cmd
}

// bench measures and prints.
func (a *app) bench(cmd *cobra.Command, cfg bench.Config) error {
	// A reader that leaves, such as head, must not leave the stores behind.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	cfg.Progress = func(run int, id, title string) {
		if cfg.Runs > 1 {
			a.p.Note("run %d of %d: %s %s", run, cfg.Runs, id, title)
		} else {
			a.p.Note("%s %s", id, title)
		}
	}
	var all []bench.Measurement
	err := bench.Run(cmd.Context(), cfg, func(m bench.Measurement) error {
		if a.p.Format() == cliout.Table {
			all = append(all, m)
			return nil
		}
		lines, err := m.AppendJSON(nil)
		if err != nil {
			return err
		}
		_, err = a.out.Write(lines)
		return err
	})
	if err != nil || a.p.Format() != cliout.Table {
		return err
	}
	rows := a.p.Rows("id", "metric", "params", "value", "unit", "baseline", "its value", "ratio", "min", "max")
	for _, r := range bench.Summary(all) {
		values := []any{r.ID, r.Metric, r.Params.String(), significant(r.Value), r.Unit, nil, nil, nil, nil, nil}
		if r.Baseline.Name != "" {
			values[5], values[6] = r.Baseline.Name, significant(r.Baseline.Value)
		}
		if r.High > 0 {
			values[7], values[8], values[9] = significant(r.Median), significant(r.Low), significant(r.High)
		}
		if err := rows.Add(values...); err != nil {
			return err
		}
	}
	return rows.Close()
}

// significant rounds for people: whole numbers from 100 on, else two digits
// behind the point.
func significant(x float64) any {
	if x >= 100 {
		return int64(math.Round(x))
	}
	return math.Round(x*100) / 100
}
