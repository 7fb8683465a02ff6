package trace

import (
	"fmt"
	"time"

	"bzzz/internal/errs"
)

// MaxDiffs is how many differences a Report lists; the rest is counted.
const MaxDiffs = 20

// Report is the outcome of a replay.
type Report struct {
	Commits      int           `json:"commits"`
	Merges       int           `json:"merges"`        // commits with two or more different parents
	Replicas     int           `json:"replicas"`      // made
	MaxLive      int           `json:"max_live"`      // replicas alive at the same time
	Remaining    int           `json:"remaining"`     // replicas in the last step
	Syncs        int           `json:"syncs"`         // pairs of replicas synced
	Rounds       int           `json:"rounds"`        // of the last step, until all roots were equal
	Puts         int           `json:"puts"`          // paths written
	Deletes      int           `json:"deletes"`       // paths deleted
	Unlisted     int           `json:"unlisted"`      // paths a merge had to write though all its parents agreed on them; 0 where a causally later write wins
	Conflicts    int           `json:"conflicts"`     // paths that a merge brought into conflict (Conflicter)
	ContentBytes int64         `json:"content_bytes"` // sizes of the files behind the paths written
	WireBytes    int64         `json:"wire_bytes"`    // sent between the replicas (Meter)
	Duration     time.Duration `json:"duration_ns"`
	HeadOK       bool          `json:"head_ok"`     // the head's replica held exactly the tree
	RootsEqual   bool          `json:"roots_equal"` // after the last step
	Differences  int           `json:"differences"` // all that were seen
	Diffs        []Diff        `json:"diffs"`       // the first MaxDiffs of them
}

func (r *Report) add(diffs []Diff) {
	r.Differences += len(diffs)
	r.Diffs = append(r.Diffs, diffs[:min(len(diffs), MaxDiffs-len(r.Diffs))]...)
}

// Err returns nil for the right outcome, errs.ErrCorrupt for a replay that lost
// or mixed up something.
func (r *Report) Err() error {
	switch {
	case r.Differences > 0:
		return fmt.Errorf("%w: the replay differs from the trace in %d places, first %v", errs.ErrCorrupt, r.Differences, r.Diffs[0])
	case !r.HeadOK:
		return fmt.Errorf("%w: the replay did not reach the head", errs.ErrCorrupt)
	case !r.RootsEqual:
		return fmt.Errorf("%w: the replicas show the same but their roots differ after %d rounds", errs.ErrCorrupt, r.Rounds)
	}
	return nil
}
