package demo

import (
	"encoding/hex"
	"time"

	"bzzz/engine"
)

// Report is what a run did and found. Its JSON keys are stable.
type Report struct {
	Dir        string     `json:"dir"`  // of the stores, one directory below it each
	Kept       bool       `json:"kept"` // the stores are still there
	Nodes      []NodeInfo `json:"nodes"`
	Links      []LinkInfo `json:"links"`
	Syncs      []Sync     `json:"syncs"`  // in the order they happened
	Writes     []Write    `json:"writes"` // likewise; all were acknowledged
	Partition  Partition  `json:"partition"`
	Apart      []View     `json:"apart"`    // what each node showed before the network healed
	Together   []View     `json:"together"` // and after everybody had synced
	Records    []Record   `json:"records"`  // the corrected records after that
	Counter    Counter    `json:"counter"`
	Set        Collection `json:"set"`
	List       Collection `json:"list"`
	Resolution Resolution `json:"resolution"`
	Roots      []RootInfo `json:"roots"` // in the end
	Checks     []Check    `json:"checks"`
	OK         bool       `json:"ok"` // all checks hold
	Seconds    float64    `json:"seconds"`
}

// NodeInfo is one of the three stores.
type NodeInfo struct {
	Name         string  `json:"name"`
	Dir          string  `json:"dir"`
	ReplicaID    string  `json:"replica_id"` // under which it writes
	Author       string  `json:"author"`     // the same, as the commands show it
	Imports      string  `json:"imports"`    // what part of the data it took in
	Records      int     `json:"records"`
	ImportBytes  int64   `json:"import_bytes"` // of their keys and values
	ClockAheadS  float64 `json:"clock_ahead_s"`
	FileBytes    int64   `json:"file_bytes"` // in the end
	VersionsLive uint64  `json:"versions_live"`
}

// LinkInfo is how the network treats two nodes, the same both ways.
type LinkInfo struct {
	Between        [2]string `json:"between"`
	LatencyMS      float64   `json:"latency_ms"` // one way
	JitterMS       float64   `json:"jitter_ms"`
	Loss           float64   `json:"loss"` // share of the segments
	BytesPerSecond int64     `json:"bytes_per_second"`
}

// Sync is one session between two nodes, as the one that called tells it.
type Sync struct {
	Phase         string  `json:"phase"` // "first", "healed" or "settled"
	From          string  `json:"from"`
	To            string  `json:"to"`
	Tier          string  `json:"tier"` // "equal" if there was nothing to do
	Sent          int     `json:"sent"` // versions
	Received      int     `json:"received"`
	BytesSent     int64   `json:"bytes_sent"`
	BytesReceived int64   `json:"bytes_received"`
	RoundTrips    int     `json:"round_trips"`
	Milliseconds  float64 `json:"milliseconds"`
	InSync        bool    `json:"in_sync"`       // both proved equal clocks and roots
	NetworkBytes  int64   `json:"network_bytes"` // payload that the network counted, both ways
}

// Write is one thing that a node did to the data.
type Write struct {
	Time  time.Time `json:"time"` // on the clock of the node
	Node  string    `json:"node"`
	Phase string    `json:"phase"` // "before", "apart" or "settled"
	Did   string    `json:"did"`   // "correct", "delete", "reset", "add", "remove", "insert", "append", "take out", "settle"
	Key   string    `json:"key"`
	Value string    `json:"value"`         // as people are shown it
	CID   string    `json:"cid,omitempty"` // of the version, if the key is a register
}

// Partition is what came of a sync across a cut network.
type Partition struct {
	Tried string  `json:"tried"`
	Error string  `json:"error"`
	Waits float64 `json:"seconds"`
}

// View is what every node shows of one thing.
type View struct {
	What   string            `json:"what"`
	Values map[string]string `json:"values"` // by node
}

// Record is what became of a corrected record.
type Record struct {
	Key      string    `json:"key"`
	Verdict  string    `json:"verdict"` // "concurrent", "causal" or "delete_and_correction"
	Conflict bool      `json:"conflict"`
	Versions []Version `json:"versions"` // that stand side by side, then what they replaced
}

// Version is one version of a corrected record.
type Version struct {
	Node  string    `json:"node"` // who wrote it
	Time  time.Time `json:"time"` // its stamp
	Kind  string    `json:"kind"` // "put" or "delete"
	Value string    `json:"value"`
	CID   string    `json:"cid"`
	Fate  string    `json:"fate"` // "shown", "beside" (readable) or "replaced" (in the history)
}

// Counter is what became of the counter.
type Counter struct {
	Key     string           `json:"key"`
	Apart   map[string]int64 `json:"apart"` // by node
	Value   int64            `json:"value"`
	Want    int64            `json:"want"`  // every count that no reset had seen
	Swallow int64            `json:"reset"` // what the reset had seen
}

// Collection is what became of the set or the list.
type Collection struct {
	Key   string              `json:"key"`
	Apart map[string][]string `json:"apart"` // by node
	Items []string            `json:"items"`
}

// Resolution is how one conflict was settled.
type Resolution struct {
	Key        string   `json:"key"`
	Node       string   `json:"node"`
	StaleToken string   `json:"stale_token"` // read while apart
	Refused    string   `json:"refused"`     // what the write with it returned
	Found      int      `json:"found"`       // versions that the refusal carried
	Token      string   `json:"token"`       // of what was found
	Value      string   `json:"value"`
	Left       []string `json:"conflicts_left"` // keys still in conflict
}

// RootInfo is a node's state in the end.
type RootInfo struct {
	Node string `json:"node"`
	Root string `json:"root"`
}

// Check is one claim, and whether it held.
type Check struct {
	Claim  string `json:"claim"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // what was found; always given if it failed
}

// newSync describes a session by what each side reports to have sent.
func newSync(phase string, from, to *node, r, answer engine.SyncReport, onNet int64) Sync {
	s := Sync{
		Phase: phase, From: from.name, To: to.name, Tier: "equal",
		BytesSent: r.BytesSent, BytesReceived: answer.BytesSent, RoundTrips: r.RoundTrips,
		Milliseconds: float64(r.Duration.Microseconds()) / 1000, InSync: r.InSync && answer.InSync, NetworkBytes: onNet,
	}
	for _, n := range r.Namespaces {
		s.Sent += n.Sent
		s.Received += n.Received
		if n.Tier != "equal" {
			s.Tier = n.Tier
		}
	}
	return s
}

// hexRoot returns a root as people and programs are shown it.
func hexRoot(root [32]byte) string { return hex.EncodeToString(root[:]) }
