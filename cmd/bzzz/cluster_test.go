package main

import (
	"fmt"
	"testing"

	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"
)

// TestReplayRandomHistories replays histories that nobody has seen before.
func TestReplayRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			report, err := trace.Replay(t.Context(), tracetest.Generate(seed, tracetest.Shape{Commits: 40}), &cluster{},
				trace.Options{EveryCommit: true, Laggards: 3})
			if err == nil {
				err = report.Err()
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
