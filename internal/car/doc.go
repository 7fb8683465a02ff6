// Package car writes the live versions of a namespace as a CAR file, the
// archive of content-addressed blocks that other tools read, and reads them
// back (CARv1 and CARv2 specifications, ipld.io/specs/transport/car).
//
// Every block is canonical DAG-CBOR under a CIDv1 (dag-cbor, sha2-256):
//
//	manifest   {"keys", "root", "seal", "type", "clock", "format", "prefix",
//	           "entries", "versions", "namespace"}: what the file holds, and what
//	           it must come to; the file's only root
//	list       {"level", "links"}: at most 1,000 links, of level 0 to versions, of
//	           level n to lists of level n-1
//	version    the record whose CID the store shows (crdt.Version.AppendCanonical)
//
// Versions, tombstones included, are ordered by key and then by digest. Lists
// are filled from the left, so that their shape follows from the number of
// versions alone. Blocks are in the order of a depth-first walk, each once. So
// equal states have equal bytes, a reader knows which block comes next, and
// nothing can be missing, unreachable or too deep.
//
// What the manifest says: root is the Merkle root of the keys that begin with
// prefix (package merkle), over keys of them; seal the RFC 6962 root (package
// merkle/list) over the digests of all versions in order; clock the versions
// that the writer knew, live and dead. A blob that a version links to is not in
// the file.
package car
