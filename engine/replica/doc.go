// Package replica is the kernel of replication: the state of one namespace in
// one store, and the rules by which it changes.
//
// State is the siblings of every key, the clock (dots seen), the dead dots
// (known to be superseded) and the journal of everything that arrived, in
// order of arrival. The journal is primary; heads, dots and dead are views
// over it. Invariant: clock = live + dead.
//
// The kernel has no goroutine, no clock, no entropy and no network. It works
// inside transactions that its caller opens: a Batch writes within one, a View
// reads within one. Time and fresh identities come in as arguments. One writer
// at a time uses a Replica; any number of Views may read beside it.
//
// The rules K1-K8 that the comments name are in docs/DESIGN.md, "Kernel".
package replica
