package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
)

func newVerifyCmd(a *app) *cobra.Command {
	var child, repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check everything in the store",
		Long: `Check every key, the version behind it by its digest, and every record by its
checksum, in all namespaces. Each problem is listed, in full with -o json; the
exit code is 1 if there is any. The check runs in a process of its own, so that
even a file that crashes the storage library ends in a report.

--repair makes indexes and other derived records anew from the journal, notes
damaged versions, so that the next sync with a store that has them brings them
back, and lets go of damaged records of the past. Each problem says what became
of it: repaired, asked, forgotten or unrepaired. Without it nothing is written.`,
		Example: `  bzzz verify
  bzzz verify --repair && bzzz sync /media/stick/bzzz-data`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "mend what can be mended, and note the rest for the next sync to bring back")
	cmd.Flags().BoolVar(&child, "child", false, "report to the parent process")
	if err := cmd.Flags().MarkHidden("child"); err != nil {
		panic(err) // the flag is defined just above
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if child {
			return a.verifyChild(cmd.Context(), repair)
		}
		return a.verify(cmd.Context(), repair)
	}
	return cmd
}

// finding is one line from the child to its parent: exactly one field is set.
type finding struct {
	Checked int            `json:"checked,omitempty"` // so far
	Problem *problem       `json:"problem,omitempty"`
	Error   *childError    `json:"error,omitempty"` // the check could not be made
	Done    *verifySummary `json:"done,omitempty"`
}

// problem is an engine.Problem as JSON.
type problem struct {
	Namespace string `json:"namespace,omitempty"`
	What      string `json:"what"`
	Key       string `json:"key,omitempty"`
	KeyBase64 []byte `json:"key_base64,omitempty"` // instead of a key that is not UTF-8
	Version   string `json:"version,omitempty"`
	Outcome   string `json:"outcome,omitempty"` // of --repair
	Problem   string `json:"problem"`
}

func newProblem(p engine.Problem) *problem {
	out := &problem{Namespace: p.Namespace, What: p.What, Version: p.Version, Outcome: string(p.Outcome), Problem: p.Err.Error()}
	if out.Outcome != "" {
		out.Problem = out.Outcome + ": " + out.Problem
	}
	if utf8.Valid(p.Key) {
		out.Key = string(p.Key)
	} else {
		out.KeyBase64 = p.Key
	}
	return out
}

type verifySummary struct {
	Checked  int `json:"checked"`
	Problems int `json:"problems"`
	Noted    int `json:"noted"`
}

// childError is an error that crossed from the child: its text and its kind.
type childError struct {
	Text string    `json:"text"`
	Kind errs.Kind `json:"kind"`
}

func (e *childError) Error() string { return e.Text }
func (e *childError) Unwrap() error { return errs.Sentinel(e.Kind) }

// verifyChild checks the store and writes findings to stdout.
func (a *app) verifyChild(ctx context.Context, repair bool) error {
	out := json.NewEncoder(a.out)
	mode := reading
	if repair {
		mode = writing
	}
	err := a.inDB(mode, func(db *engine.DB) error {
		check := db.Verify
		if repair {
			check = db.Repair
		}
		report, err := check(ctx, func(done int) { _ = out.Encode(finding{Checked: done}) })
		if err != nil {
			return err
		}
		for _, p := range report.Problems {
			if err := out.Encode(finding{Problem: newProblem(p)}); err != nil {
				return err
			}
		}
		return out.Encode(finding{Done: &verifySummary{report.Checked, len(report.Problems), report.Noted}})
	})
	if err != nil {
		err = out.Encode(finding{Error: &childError{innermost(err).Error(), errs.KindOf(err)}})
	}
	return err
}

// verify runs the check in a child process and prints what it finds.
func (a *app) verify(ctx context.Context, repair bool) error {
	if there, err := storeAt(a.data); err != nil {
		return err
	} else if !there {
		return noStore(a.data)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "verify", "--child", "--data", a.data, fmt.Sprintf("--repair=%t", repair))
	stderr := &beginning{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	v := &verification{app: a, problems: []problem{}, progress: a.p.Progress("verify", "records", 0)}
	readErr := v.read(stdout)
	if readErr != nil {
		_ = cmd.Process.Kill() // nobody listens any more
	}
	waitErr := cmd.Wait()
	v.progress.Done()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case readErr != nil:
		return readErr
	case v.failed != nil:
		return openError(a.data, v.failed)
	case v.done == nil:
		v.crash(waitErr, stderr.String())
	}
	return v.print(started)
}

// verification is what the parent knows of a check.
type verification struct {
	app      *app
	progress *cliout.Progress
	problems []problem
	failed   error
	done     *verifySummary
}

// read takes the child's findings in until it ends.
func (v *verification) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil // an unfinished line is that of a crash
		}
		var f finding
		if err == nil {
			err = json.Unmarshal(line, &f)
		}
		if err != nil {
			return fmt.Errorf("report of the check: %w", err)
		}
		switch {
		case f.Problem != nil:
			v.problems = append(v.problems, *f.Problem)
		case f.Error != nil:
			v.failed = f.Error
		case f.Done != nil:
			v.done = f.Done
		default:
			v.progress.Set(int64(f.Checked))
		}
	}
}

// crash makes the end of a child without a report a problem of the store.
func (v *verification) crash(err error, stderr string) {
	text := "the check crashed"
	if err != nil {
		text += ": " + err.Error()
	}
	if first, _, _ := strings.Cut(stderr, "\n"); first != "" {
		text += ": " + first
	}
	v.problems = append(v.problems, problem{What: "file", Problem: text})
	v.done = &verifySummary{Problems: len(v.problems)}
}

// print lists the problems; any is an error.
func (v *verification) print(started time.Time) error {
	p := v.app.p
	fields := []cliout.Field{
		{Name: "checked", Value: cliout.Count(v.done.Checked)},
		{Name: "problems", Value: cliout.Count(v.done.Problems)},
		{Name: "noted", Value: cliout.Count(v.done.Noted)},
		{Name: "seconds", Value: time.Since(started)},
	}
	var err error
	if p.Format() == cliout.Table {
		err = v.table(fields)
	} else {
		err = p.Object(append(fields, cliout.Field{Name: "found", Value: v.problems})...)
	}
	if err == nil && v.done.Problems > 0 {
		err = cliout.WithNext(fmt.Errorf("%d problem(s) found: %w", v.done.Problems, engine.ErrCorrupt),
			"keep a copy of the directory; bzzz verify --repair, then bzzz sync with a peer that holds it, or restore a backup")
	}
	return err
}

func (v *verification) table(fields []cliout.Field) error {
	if len(v.problems) > 0 {
		if err := errors.Join(v.app.listProblems(v.problems), v.app.p.Data([]byte("\n"))); err != nil {
			return err
		}
	}
	return v.app.p.Object(fields...)
}

// listProblems prints a table of problems.
func (a *app) listProblems(problems []problem) error {
	rows := a.p.Rows("namespace", "what", "key", "version", "problem")
	for _, found := range problems {
		key := textOrNil(found.Key + string(found.KeyBase64))
		text := cliout.Preview(strings.TrimPrefix(found.Problem, "version "+found.Version+": "))
		if err := rows.Add(textOrNil(found.Namespace), found.What, key, textOrNil(shortVersion(found.Version)), text); err != nil {
			return err
		}
	}
	return rows.Close()
}

// shortVersion shows author:number as people are shown authors.
func shortVersion(version string) string {
	author, number, _ := strings.Cut(version, ":")
	if r, err := crdt.ParseReplicaID(author); err == nil {
		return r.Short() + ":" + number
	}
	return version
}

// beginning keeps the first bytes of what a crashing process says.
type beginning struct{ b bytes.Buffer }

// beginningLen is enough for a panic's message and its first frames.
const beginningLen = 4 << 10

func (w *beginning) Write(p []byte) (int, error) {
	w.b.Write(p[:min(len(p), beginningLen-w.b.Len())])
	return len(p), nil
}

func (w *beginning) String() string { return w.b.String() }
