package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bzzz/internal/cliout"
	"bzzz/internal/trace"
)

func newReplayCmd(a *app) *cobra.Command {
	var laggards int
	var disk, dir string
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Replay the edit history of a project on many replicas and check the outcome",
		Long: `Replay an edit trace (JSON lines, plain or packed): who changed which path when,
on top of what. Every branch of the history is a replica with a store of its own;
a merge is a sync. The exit code is 0 only if the replica of the head holds
exactly the tree that the trace ends with, and all roots are equal after the
last sync.

The replicas are in memory, or with --disk bolt in files below --dir (default: a
temporary directory that is removed in the end).`,
		Example: `  bzzz replay edits.jsonl.gz
  bzzz replay --disk bolt --laggards 20 edits.jsonl.gz`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().IntVar(&laggards, "laggards", 0, "keep so many replicas that fell behind for the last sync")
	cmd.Flags().StringVar(&disk, "disk", "mem", "where the replicas are: mem or bolt")
	cmd.Flags().StringVar(&dir, "dir", "", "directory for --disk bolt; kept")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case laggards < 0:
			return usage(cmd, "--laggards %d is negative", laggards)
		case disk != "mem" && disk != "bolt":
			return usage(cmd, "unknown disk %q (known: mem, bolt)", disk)
		case disk == "mem" && dir != "":
			return usage(cmd, "--dir is for --disk bolt")
		}
		t, err := readTrace(args[0])
		if err != nil {
			return err
		}
		replicas := &cluster{}
		if disk == "bolt" {
			if replicas.dir = dir; dir == "" {
				if replicas.dir, err = os.MkdirTemp("", "bzzz-replay-"); err != nil {
					return err
				}
				defer os.RemoveAll(replicas.dir)
			}
		}
		return a.replay(cmd, t, replicas, laggards)
	}
	return cmd
}

func readTrace(path string) (*trace.Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, inputError(err)
	}
	defer f.Close()
	return trace.Read(f, path)
}

// replay drives the replicas and prints the report.
func (a *app) replay(cmd *cobra.Command, t *trace.Trace, replicas *cluster, laggards int) error {
	progress := a.p.Progress("replay", "commits", int64(len(t.Commits)))
	report, err := trace.Replay(cmd.Context(), t, replicas, trace.Options{
		Laggards: laggards, Progress: func(done, _ int) { progress.Set(int64(done)) },
	})
	progress.Done()
	if e := a.printReplay(t, report); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	for _, d := range report.Diffs {
		a.p.Note("%v", d)
	}
	return cliout.WithNext(report.Err(), "this is a fault of the engine: please report it with the trace")
}

func (a *app) printReplay(t *trace.Trace, r trace.Report) error {
	rate := 0.0
	if s := r.Duration.Seconds(); s > 0 {
		rate = float64(r.Commits) / s
	}
	fields := []cliout.Field{
		{Name: "commits", Value: cliout.Count(r.Commits)},
		{Name: "merges", Value: cliout.Count(r.Merges)},
		{Name: "authors", Value: cliout.Count(t.Authors)},
		{Name: "paths", Value: cliout.Count(t.Paths)},
		{Name: "puts", Value: cliout.Count(r.Puts)},
		{Name: "deletes", Value: cliout.Count(r.Deletes)},
		{Name: "replicas", Value: cliout.Count(r.Replicas)},
		{Name: "max_live", Value: cliout.Count(r.MaxLive)},
		{Name: "concurrent_versions", Value: cliout.Count(r.Conflicts)},
		{Name: "rewritten_by_merges", Value: cliout.Count(r.Unlisted)},
		{Name: "syncs", Value: cliout.Count(r.Syncs)},
		{Name: "bytes_synced", Value: cliout.Bytes(r.WireBytes)},
		{Name: "last_sync_replicas", Value: cliout.Count(r.Remaining)},
		{Name: "last_sync_rounds", Value: cliout.Count(r.Rounds)},
		{Name: "seconds", Value: r.Duration.Round(time.Millisecond)},
		{Name: "commits_per_second", Value: cliout.Count(rate)},
		{Name: "head_exact", Value: r.HeadOK},
		{Name: "roots_equal", Value: r.RootsEqual},
		{Name: "differences", Value: cliout.Count(r.Differences)},
	}
	if err := a.p.Object(fields...); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
