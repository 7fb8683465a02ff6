// Package session is anti-entropy between two replicas as a state machine:
// frames in, frames out. It has no goroutine, no clock and no entropy of its
// own; what it needs of its node it asks of a Host.
//
// A session opens with digests over (root, clock, gone) of every namespace:
// equal means in sync, one round trip and some sixty bytes. Where they differ
// both sides exchange clocks and stream the live versions, tombstones included,
// that the other's clock lacks (tier 1). Only once a complete stream from one
// snapshot, taken after the other's clock arrived, has been applied does the
// receiver adopt the sender's clock, in the transaction of the last batch
// (KERNEL K5). A cut at any point leaves both sides correct: what arrived is in
// their clocks, the rest is missing there and comes next time. Afterwards both
// state root and clock again, which proves that they agree.
//
// In a live session each side then pushes what it commits: the same stream and
// adoption in small, numbered steps, each applied in one transaction.
package session
