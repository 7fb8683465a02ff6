// Package engine is the embedded sync engine: a durable, versioned,
// content-addressed store whose replicas may write apart and always come
// together.
//
// Open a directory, write and read keys, and hand Sync a stream to another
// node. Concurrent writes stay side by side until somebody resolves them: a
// register shows one of them by its prefix's resolver and GetAll shows all.
// Deletes, counters, sets, maps and lists merge by the same rules everywhere.
//
// A write that returned nil is durable (by the class in Options) and will reach
// every replica. A DB is safe for use from many goroutines: writers are
// gathered into common commits, readers never wait for writers.
package engine
