package session

import (
	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
)

// Traffic counts the frames of one type.
type Traffic struct {
	FramesOut int   `json:"frames_out"`
	FramesIn  int   `json:"frames_in"`
	BytesOut  int64 `json:"bytes_out"`
	BytesIn   int64 `json:"bytes_in"`
}

// NamespaceReport is what a session did for one namespace.
type NamespaceReport struct {
	Name         string
	Peer         crdt.ReplicaID // the id the peer writes under; zero if equal at once
	Tier         string         // the last that was needed: "equal", "clocks", "sketch" or "tree"; "none" if the two hold nothing in common
	Sent         int            // versions
	Received     int            // versions
	Applied      replica.Applied
	Lost         int   // versions of ours that damage has taken
	Missing      int   // versions of the peer's that should have been here, and are again
	Rounds       int   // comparisons
	Diverged     int   // versions that comparisons found on one side only
	Held         *Held // removals that the brake holds back
	Pushes       int   // live pushes sent
	PastSent     int   // versions of retained history sent
	PastReceived int   // and taken in
	InSync       bool
	Root         [32]byte // proven equal if InSync
	Err          error    // why the namespace was refused or does not agree
}

// Report is what a session did.
type Report struct {
	Namespaces []NamespaceReport
	Frames     map[string]Traffic // by frame type
	BytesOut   int64
	BytesIn    int64
	BlocksOut  int // blocks of large values sent
	BlocksIn   int // and received
	Turns      int // times an answer arrived to what we had sent: round trips
}

func (r *Report) count(t wire.Type, out bool, n int) {
	f := r.Frames[t.String()]
	if out {
		f.FramesOut++
		f.BytesOut += int64(n)
		r.BytesOut += int64(n)
	} else {
		f.FramesIn++
		f.BytesIn += int64(n)
		r.BytesIn += int64(n)
	}
	r.Frames[t.String()] = f
}

// Report returns what happened so far.
func (s *Session) Report() Report {
	r := s.report
	r.Namespaces = nil
	for _, sp := range s.spaces {
		r.Namespaces = append(r.Namespaces, sp.report)
	}
	r.Namespaces = append(r.Namespaces, s.aside...)
	return r
}
