// Package bench measures the engine: the scenarios P1 to P5, S1 to S4, M1, B1
// and R1, as "bzzz bench" prints them.
//
// A rate on a shared machine means little by itself. So every comparison is
// made in one run, in turns, on the same keys and values: a round of the
// engine, a round of the peer, and so on, and the ratios of the rounds are what
// to look at. Bytes, round trips and flushes are exact.
//
// The peer of the scenarios P is raw bbolt: the file underneath the engine,
// with the options the engine gives it, doing the two mutations of a put (a
// record appended to a journal, an entry put under the key) with records of
// the size the engine writes, and nothing else: no identity, no clock, no
// checksum, no digest. All writes are flushed before they count, on both sides.
package bench
