package trace_test

import (
	"context"
	"fmt"

	"bzzz/internal/trace"
	"bzzz/internal/trace/tracetest"
)

// A random history with merges, replayed on the reference.
func ExampleReplay() {
	t := tracetest.Generate(42, tracetest.Shape{Commits: 100})
	report, err := trace.Replay(context.Background(), t, tracetest.NewReference(), trace.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("commits:", report.Commits)
	fmt.Println("head is right:", report.HeadOK)
	fmt.Println("all roots equal:", report.RootsEqual)
	// Output:
	// commits: 100
	// head is right: true
	// all roots equal: true
}
