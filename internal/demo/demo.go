// Package demo is the program's main job on real data, as a story that checks
// itself: three durable stores take in parts of a weather record, sync over a
// simulated network, are cut off from each other, go on writing, and come
// together again.
//
// Run plays it and returns a Report of what happened and of every claim that
// was checked; Text prints the report step by step for people. The network's
// faults come from a seed and the writes bear the story's own times, so that two
// runs differ in ids and times only.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bzzz/internal/errs"
)

// ErrFalse is the error of a run that found one of its claims false. The report
// has the claim and what was found instead.
var ErrFalse = errors.New("a claim of the demo is false")

// DefaultLimit is how long a run may take: several times what it needs on a
// slow machine (it sleeps about 2 s on the simulated links).
const DefaultLimit = 60 * time.Second

// minRows is how many records a node must import for the story to have its keys.
const minRows = 10

// Options changes a run. The zero value plays the whole story in a temporary
// directory that is removed in the end unless a claim is false.
type Options struct {
	// Dir is where the stores are made, one directory each, and stay. It must
	// be empty or not there. "" = a temporary directory.
	Dir string
	// Keep leaves a temporary directory.
	Keep bool
	// Rows each node imports at most, the first of its part; at least 10. 0 = all.
	Rows int
	// Seed of the network's faults.
	Seed uint64
	// Limit on the whole run; 0 = DefaultLimit.
	Limit time.Duration
	// AfterStep, if not nil, is called after each step with what is known so
	// far, from Run's goroutine. An error ends the run.
	AfterStep func(Step, *Report) error
}

// Step is one part of the story.
type Step int

// The steps in their order.
const (
	StepImport Step = iota + 1
	StepFirstSync
	StepApart
	StepViews
	StepHeal
	StepRecords
	StepTypes
	StepSettle
	StepChecks
	StepEnd
)

// run is one run.
type run struct {
	o     Options
	c     *cluster
	r     *Report
	model model
}

// Run plays the story and checks every claim it makes. The report is valid, as
// far as the run got, with an error too: ErrFalse if a claim does not hold,
// else what went wrong. It blocks about 2 s, most of it latency of the
// simulated network.
func Run(ctx context.Context, o Options) (*Report, error) {
	started := time.Now()
	report := &Report{Dir: o.Dir, Kept: o.Keep || o.Dir != ""}
	if o.Rows != 0 && o.Rows < minRows {
		return report, fmt.Errorf("demo with %d rows a node, want at least %d: %w", o.Rows, minRows, errs.ErrInvalid)
	}
	dir, err := prepareDir(o.Dir)
	if err != nil {
		return report, err
	}
	report.Dir = dir
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("the demo took more than %v: %w", o.Limit, errs.ErrTimeout))
	defer cancel()
	p := &run{o: o, c: newCluster(dir, o), r: report, model: newModel()}
	err = errors.Join(p.play(ctx), p.c.close())
	if err == nil {
		err = report.verdict()
		report.OK = err == nil
	}
	if errors.Is(err, ErrFalse) {
		report.Kept = true // to be looked into
	}
	if !report.Kept {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	report.Seconds = time.Since(started).Seconds()
	if err == nil || errors.Is(err, ErrFalse) {
		err = errors.Join(err, p.after(StepEnd))
	}
	return report, err
}

// play goes through the steps.
func (p *run) play(ctx context.Context) error {
	steps := []struct {
		step Step
		do   func(context.Context) error
	}{
		{StepImport, p.begin},
		{StepFirstSync, func(ctx context.Context) error { return p.sync(ctx, "first") }},
		{StepApart, p.apart},
		{StepViews, func(ctx context.Context) (err error) { p.r.Apart, err = p.views(ctx); return err }},
		{StepHeal, p.heal},
		{StepRecords, p.records},
		{StepTypes, p.types},
		{StepSettle, p.settle},
		{StepChecks, p.finish},
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		if err := p.after(s.step); err != nil {
			return err
		}
	}
	return nil
}

func (p *run) after(s Step) error {
	if p.o.AfterStep == nil {
		return nil
	}
	return p.o.AfterStep(s, p.r)
}

// verdict returns ErrFalse with the claims that do not hold, nil if all do.
func (r *Report) verdict() error {
	var faults []string
	for _, c := range r.Checks {
		if !c.OK {
			faults = append(faults, c.Claim+" ("+c.Detail+")")
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrFalse, strings.Join(faults, "; "))
}

// prepareDir returns the directory of the stores, made if it is not there.
func prepareDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "bzzz-demo-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = errs.Wrap("demo", dir, fmt.Errorf("the directory is not empty: %w", errs.ErrExists))
	}
	return dir, err
}
