// Package crdt holds the plain types of replication and the rules that need no
// store: dots, clocks, hybrid logical clock stamps, versions and their
// identity, the merge of siblings, resolvers and typed values.
//
// A version is one immutable write of one key. It is named by its Dot (who
// wrote it, as which of its writes) and identified by its CID, the hash of its
// canonical encoding. Its Context lists, for each replica, the highest write
// of the same key in its causal past; everything in there is superseded. The
// versions of a key that no other known version supersedes are its siblings;
// a resolver folds them to what a reader sees.
//
// Everything here is pure: no I/O, no goroutine, no clock, no entropy. Values
// are not safe for concurrent change; reading them from many goroutines is.
//
// The rules are after Almeida et al., "Scalable and Accurate Causality
// Tracking for Eventually Consistent Stores" (dotted version vectors, DAIS
// 2014) and Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014);
// docs/DESIGN.md states them in full.
package crdt
