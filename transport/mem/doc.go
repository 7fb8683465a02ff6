// Package mem simulates a network in memory: the twin of a real one, with
// latency, jitter, bandwidth, loss, duplication, reordering, bit flips,
// partitions, half-open links, clogged links and abrupt cuts.
//
// A Net is one simulated network; Net.Node gives the transport.Network of one
// of its nodes. Streams are reliable byte streams over faulty segments, as TCP
// is: a lost segment costs a retransmission timeout and its bytes again, a
// duplicate is counted and removed, a reordered one waits for its
// predecessors, and a link that stays silent breaks the stream. What TCP does
// not see, the simulated stream does not see either: flipped bits
// (LinkProfile.Corrupt) reach the reader.
//
// Simplifications, so that nobody measures them by mistake: bytes are payload
// bytes (headers are not counted), acknowledgements cost no bytes and are never
// lost (but take the latency of the way back), the sender knows which segments
// are lost (no needless retransmissions), and there is no congestion window:
// a stream's rate is bounded by bandwidth and by window / round trip.
//
// # Time
//
// The package uses package time directly and starts no goroutine: Net, streams
// and all waiting work in real time and inside testing/synctest bubbles (make
// the Net inside the bubble that uses it). A link without latency and faults
// delivers within Write, without timers.
//
// # What a seed determines
//
// The fate of every transmission (lost, doubled, late, corrupt, and its jitter)
// is a function of the seed, the link direction, the stream's number among
// those dialed over the link, the offset of the segment and the attempt. So
// faults of one stream do not depend on other streams, on goroutine scheduling
// or on GOMAXPROCS, as long as the program writes the same pieces. Not
// determined by the seed: the order in which goroutines run, hence the numbers
// of streams dialed over one link at the same instant, how streams share a
// limited bandwidth at the same instant, how many bytes one Read returns and,
// outside a bubble, anything that depends on the real clock.
package mem
