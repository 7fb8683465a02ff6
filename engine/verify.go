package engine

import (
	"context"
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
)

// Outcome is what became of a problem.
type Outcome string

// The outcomes.
const (
	OutcomeFound      Outcome = ""           // nothing was tried
	OutcomeRepaired   Outcome = "repaired"   // made anew from what is sound here
	OutcomeAsked      Outcome = "asked"      // peers that have the version send it again
	OutcomeForgotten  Outcome = "forgotten"  // a record of the past was let go: no present value was in it
	OutcomeUnrepaired Outcome = "unrepaired" // another copy of the store has to help
)

// Problem is one finding of Verify or Repair.
type Problem struct {
	Namespace string // "" for the chunks of large values, which all share
	What      string // what was looked at: "version", "head", "journal record", ...
	Key       []byte // the stored key's name, if it is known
	Version   string // "replica:seq", if it is known
	Outcome   Outcome
	Err       error // what is wrong; matches ErrCorrupt, or ErrUnavailable for a large value that is not wholly here
}

// String describes the problem in a line. The key is quoted.
func (p Problem) String() string {
	s := p.What
	if p.Namespace != "" {
		s = p.Namespace + ": " + s
	}
	if p.Key != nil {
		s += fmt.Sprintf(" %q", p.Key)
	}
	if p.Version != "" {
		s += " " + p.Version
	}
	if p.Outcome != OutcomeFound {
		s += " (" + string(p.Outcome) + ")"
	}
	return s + ": " + p.Err.Error()
}

// problem describes a finding of the kernel, and what Mend has done about it if
// that was tried.
func (ns *Namespace) problem(p *replica.Problem, tried bool) Problem {
	found := Problem{Namespace: ns.name, What: p.What, Err: p.Err}
	if p.Key != nil {
		found.Key = p.Key
		if name, _, err := crdt.SplitName(p.Key); err == nil {
			found.Key = name
		}
	}
	if p.Dot.Seq != 0 {
		found.Version = p.Dot.String()
	}
	switch {
	case !tried:
	case p.Lost:
		found.Outcome = OutcomeAsked
	case p.View:
		found.Outcome = OutcomeRepaired
	case p.Mendable():
		found.Outcome = OutcomeForgotten
	default:
		found.Outcome = OutcomeUnrepaired
	}
	return found
}

// VerifyReport is what Verify or Repair found.
type VerifyReport struct {
	Checked  int // keys, journal records and index entries
	Problems []Problem
	Noted    int // damaged versions and chunks that the next sync asks peers for
}

// maxProblems bounds the findings of one Verify that are kept.
const maxProblems = 10_000

// Verify checks everything: each key and the version behind it by digest, each
// journal record by checksum, that indexes and Merkle tree agree with them, and
// that what is known is either live or dead, each chunk of large values by
// digest, and that those of live versions are here. Damaged versions are noted,
// and damaged chunks removed, unless the DB is read-only, so that the next sync
// with a peer that has them repairs them. progress, if not nil, is called with the number of keys, records and
// entries checked, now and then. An error is one of the store itself; damage is
// in the report. Reads and writes go on meanwhile. O(everything).
func (db *DB) Verify(ctx context.Context, progress func(done int)) (VerifyReport, error) {
	names, err := db.Namespaces(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	var out VerifyReport
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue
		}
		lost, err := ns.verify(ctx, &out, progress)
		if err != nil {
			return out, err
		}
		if !lost.IsEmpty() && !db.opts.ReadOnly {
			if err := ns.markUnknown(ctx, lost); err != nil {
				return out, err
			}
			out.Noted += int(lost.Count())
		}
	}
	return out, db.verifyBlobs(ctx, &out, progress)
}

// verifyStride is how many keys and records pass between calls of progress.
const verifyStride = 4096

func (ns *Namespace) verify(ctx context.Context, out *VerifyReport, progress func(int)) (lost crdt.Clock, err error) {
	lost = crdt.NewClock()
	err = ns.fullView(ctx, func(v *replica.View) error {
		return v.Verify(func(p replica.Problem) {
			if p.Lost {
				lost.Merge(p.Dots())
			}
			if len(out.Problems) < maxProblems {
				out.Problems = append(out.Problems, ns.problem(&p, false))
			}
		}, func(n int) error {
			if out.Checked += n; progress != nil {
				progress(out.Checked)
			}
			return ctx.Err()
		})
	})
	return lost, err
}

const (
	// repairStep is how many keys, records or entries Repair looks at in one
	// transaction.
	repairStep = 64 << 10
	// repairPasses is how often Repair looks at everything at most: once to mend,
	// once for what the mended shows to be wrong, once to see that it is right.
	repairPasses = 3
)

// Repair checks everything as Verify does and mends what it can, beside other
// work: whatever is derived is made anew from the journal, versions that cannot
// be read are noted, so that peers that have them send them again, at once where
// a session is live, and damaged records of the past are let go. Each problem
// says what became of it. It looks again until nothing new is found, three times
// at most; what is still there then is OutcomeUnrepaired. ErrReadOnly on a
// read-only DB.
func (db *DB) Repair(ctx context.Context, progress func(done int)) (VerifyReport, error) {
	names, err := db.Namespaces(ctx)
	if err == nil && db.opts.ReadOnly {
		err = ErrReadOnly
	}
	if err != nil {
		return VerifyReport{}, err
	}
	var out VerifyReport
	for _, name := range names {
		ns := db.find(name)
		if ns == nil {
			continue
		}
		r := repair{ns: ns, out: &out, progress: progress, known: map[string]int{}}
		if err := r.run(ctx); err != nil {
			return out, err
		}
	}
	large := len(out.Problems)
	err = db.verifyBlobs(ctx, &out, progress)
	for i := range out.Problems[large:] {
		out.Problems[large+i].Outcome = OutcomeAsked
	}
	return out, err
}

// repair is Repair of one namespace.
type repair struct {
	ns       *Namespace
	out      *VerifyReport
	progress func(int)
	known    map[string]int // a problem's description -> its place in the report
}

func (r *repair) run(ctx context.Context) error {
	for pass := range repairPasses {
		mended, err := r.pass(ctx, pass)
		if err != nil {
			return err
		}
		if !mended {
			break
		}
	}
	return r.ns.fullView(ctx, func(v *replica.View) error {
		r.out.Noted += int(v.Unknown().Count())
		return nil
	})
}

// pass goes through everything once, and reports whether it mended anything.
func (r *repair) pass(ctx context.Context, number int) (mended bool, err error) {
	var p replica.Pass
	checked := r.out.Checked
	for done := false; !done; {
		var problems []Problem
		if problems, done, err = r.ns.scrubStep(ctx, &p, repairStep, true, nil); err != nil {
			return mended, err
		}
		r.ns.scrub.count(problems)
		for _, x := range problems {
			mended = r.add(x, number) || mended
		}
		if number == 0 && !done {
			r.out.Checked = checked + int(p.Checked())
		}
		if r.progress != nil {
			r.progress(r.out.Checked)
		}
	}
	return mended, nil
}

// add enters a problem into the report, once, and reports whether it was mended.
func (r *repair) add(x Problem, pass int) bool {
	mended := x.Outcome == OutcomeRepaired || x.Outcome == OutcomeForgotten
	key := fmt.Sprintf("%s\x00%s\x00%s\x00%v", x.What, x.Key, x.Version, x.Err)
	at, known := r.known[key]
	switch {
	case known && mended && pass == repairPasses-1:
		r.out.Problems[at].Outcome = OutcomeUnrepaired
	case !known && len(r.out.Problems) < maxProblems:
		r.known[key] = len(r.out.Problems)
		r.out.Problems = append(r.out.Problems, x)
	}
	return mended
}

// count counts findings.
func (s *scrubber) count(problems []Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.count(problems)
}
