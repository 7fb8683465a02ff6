package crdt

import (
	"slices"
	"sort"
)

// Interval is a run of sequence numbers, both ends included.
type Interval struct{ Lo, Hi uint64 }

// SeqSet is a set of sequence numbers kept as sorted, disjoint runs that do not
// touch each other. Numbers are 1..MaxSeq. The zero value is empty. Has, Add and Remove cost
// O(log n) to find the place and O(n) to shift, n being the number of runs.
type SeqSet struct{ runs []Interval }

// NewSeqSet returns the set of the given runs, in any order, overlapping or not.
func NewSeqSet(runs ...Interval) SeqSet {
	var s SeqSet
	for _, r := range runs {
		s.AddRange(r.Lo, r.Hi)
	}
	return s
}

// Runs returns the runs in rising order. They belong to the set.
func (s SeqSet) Runs() []Interval { return s.runs }

// IsEmpty reports whether nothing is in the set.
func (s SeqSet) IsEmpty() bool { return len(s.runs) == 0 }

// Base returns the highest n such that 1..n are all in the set, 0 if 1 is not.
func (s SeqSet) Base() uint64 {
	if len(s.runs) == 0 || s.runs[0].Lo != 1 {
		return 0
	}
	return s.runs[0].Hi
}

// Max returns the highest number in the set, 0 if it is empty.
func (s SeqSet) Max() uint64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[len(s.runs)-1].Hi
}

// Count returns how many numbers are in the set.
func (s SeqSet) Count() uint64 {
	var n uint64
	for _, r := range s.runs {
		n += r.Hi - r.Lo + 1
	}
	return n
}

// find returns the index of the first run that ends at or after n.
func (s SeqSet) find(n uint64) int {
	return sort.Search(len(s.runs), func(i int) bool { return s.runs[i].Hi >= n })
}

// Has reports whether n is in the set.
func (s SeqSet) Has(n uint64) bool {
	i := s.find(n)
	return i < len(s.runs) && s.runs[i].Lo <= n
}

// HasRange reports whether all of lo..hi is in the set.
func (s SeqSet) HasRange(lo, hi uint64) bool {
	i := s.find(lo)
	return i < len(s.runs) && s.runs[i].Lo <= lo && s.runs[i].Hi >= hi
}

// Add puts n into the set.
func (s *SeqSet) Add(n uint64) { s.AddRange(n, n) }

// AddRange puts lo..hi into the set; nothing if lo is 0 or above hi.
func (s *SeqSet) AddRange(lo, hi uint64) {
	if lo == 0 || lo > hi {
		return
	}
	if n := len(s.runs); n > 0 && lo > s.runs[n-1].Hi { // the usual case: at the end
		if lo == s.runs[n-1].Hi+1 {
			s.runs[n-1].Hi = hi
		} else {
			s.runs = append(s.runs, Interval{lo, hi})
		}
		return
	}
	i := s.find(lo - 1) // touching runs merge (lo-1 == 0 finds run 0, which is right)
	j := i
	for j < len(s.runs) && s.runs[j].Lo <= hi+1 {
		lo, hi = min(lo, s.runs[j].Lo), max(hi, s.runs[j].Hi)
		j++
	}
	s.runs = slices.Replace(s.runs, i, j, Interval{lo, hi})
}

// RemoveRange takes lo..hi out of the set.
func (s *SeqSet) RemoveRange(lo, hi uint64) {
	if lo > hi {
		return
	}
	i := s.find(lo)
	j := i
	var keep []Interval
	for j < len(s.runs) && s.runs[j].Lo <= hi {
		if s.runs[j].Lo < lo {
			keep = append(keep, Interval{s.runs[j].Lo, lo - 1})
		}
		if s.runs[j].Hi > hi {
			keep = append(keep, Interval{hi + 1, s.runs[j].Hi})
		}
		j++
	}
	s.runs = slices.Replace(s.runs, i, j, keep...)
}

// Union puts all of o into the set.
func (s *SeqSet) Union(o SeqSet) {
	if len(s.runs) == 0 {
		s.runs = slices.Clone(o.runs)
		return
	}
	if len(o.runs) <= 4 {
		for _, r := range o.runs {
			s.AddRange(r.Lo, r.Hi)
		}
		return
	}
	s.runs = mergeRuns(s.runs, o.runs)
}

// mergeRuns returns the union of two run lists in one pass.
func mergeRuns(a, b []Interval) []Interval {
	out := SeqSet{runs: make([]Interval, 0, len(a)+len(b))}
	for len(a) > 0 || len(b) > 0 {
		var r Interval
		if len(b) == 0 || (len(a) > 0 && a[0].Lo <= b[0].Lo) {
			r, a = a[0], a[1:]
		} else {
			r, b = b[0], b[1:]
		}
		if n := len(out.runs); n > 0 && r.Lo <= out.runs[n-1].Hi+1 {
			out.runs[n-1].Hi = max(out.runs[n-1].Hi, r.Hi)
		} else {
			out.runs = append(out.runs, r)
		}
	}
	return out.runs
}

// Minus returns what is in s and not in o. O(n + m).
func (s SeqSet) Minus(o SeqSet) SeqSet {
	var out SeqSet
	b := o.runs
	for _, r := range s.runs {
		for len(b) > 0 && b[0].Hi < r.Lo {
			b = b[1:]
		}
		lo := r.Lo
		for i := 0; i < len(b) && b[i].Lo <= r.Hi; i++ {
			if lo < b[i].Lo {
				out.runs = append(out.runs, Interval{lo, b[i].Lo - 1})
			}
			lo = b[i].Hi + 1
		}
		if lo <= r.Hi {
			out.runs = append(out.runs, Interval{lo, r.Hi})
		}
	}
	return out
}

// Intersect returns what is in both. O(n + m).
func (s SeqSet) Intersect(o SeqSet) SeqSet {
	var out SeqSet
	a, b := s.runs, o.runs
	for len(a) > 0 && len(b) > 0 {
		if lo, hi := max(a[0].Lo, b[0].Lo), min(a[0].Hi, b[0].Hi); lo <= hi {
			out.runs = append(out.runs, Interval{lo, hi})
		}
		if a[0].Hi < b[0].Hi {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// Contains reports whether all of o is in s.
func (s SeqSet) Contains(o SeqSet) bool {
	for _, r := range o.runs {
		if !s.HasRange(r.Lo, r.Hi) {
			return false
		}
	}
	return true
}

// Equal reports whether both hold the same numbers.
func (s SeqSet) Equal(o SeqSet) bool { return slices.Equal(s.runs, o.runs) }

// Clone returns a copy that shares nothing.
func (s SeqSet) Clone() SeqSet { return SeqSet{runs: slices.Clone(s.runs)} }
