// Package enginetest runs clusters of engines on a simulated network, in one
// process: real files, live sync sessions, partitions, restarts and kills, and
// oracles that say what any outcome must satisfy. It is test support: imported
// from tests only, and meant for testing/synctest bubbles, where waiting costs
// nothing.
//
// A Cluster is the nodes and the network between them; a Recorder writes and
// reads through it and knows what every read must show.
package enginetest
