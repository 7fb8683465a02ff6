package engine

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/store"
)

// fileFormat is the number of the engine's layout of a store.
const fileFormat = 1

// Buckets and keys that are the DB's own, not a namespace's.
const (
	bucketDB         = "db"
	bucketNamespaces = "namespaces" // name -> see appendNamespace
)

var (
	keyFormat      = []byte("format")
	keyInstance    = []byte("instance")    // 16 random bytes: this store
	keyTag         = []byte("tag")         // 8 bytes: this node
	keyIncarnation = []byte("incarnation") // 8 random bytes: the id it writes under
	keyStamp       = []byte("stamp")       // 8 random bytes: the last commit
	keyNextNS      = []byte("next")        // number of the next namespace
)

// identity is who this store is.
type identity struct {
	instance    [16]byte
	tag         [8]byte
	incarnation [8]byte
}

// replica returns the id that the store writes under.
func (i identity) replica() crdt.ReplicaID { return crdt.NewReplicaID(i.tag, i.incarnation) }

func random[T [8]byte | [16]byte]() T {
	var v T
	switch p := any(&v).(type) {
	case *[8]byte:
		rand.Read(p[:]) // never fails
	case *[16]byte:
		rand.Read(p[:])
	}
	return v
}

// initStore lays out an empty store.
func initStore(tx store.Tx) error {
	b, err := tx.CreateBucket(bucketDB, store.Ordered)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketNamespaces, store.Ordered); err != nil {
		return err
	}
	instance, tag := random[[16]byte](), random[[8]byte]()
	for k, v := range map[string][]byte{
		string(keyFormat): binary.BigEndian.AppendUint32(nil, fileFormat),
		string(keyNextNS): binary.BigEndian.AppendUint32(nil, 1),
		string(keyTag):    tag[:], string(keyInstance): instance[:],
	} {
		if err := b.Put([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

// loadIdentity reads who the store is. ErrUnsupported for another format.
func loadIdentity(tx store.Tx) (identity, error) {
	var id identity
	b := tx.Bucket(bucketDB)
	if b == nil || tx.Bucket(bucketNamespaces) == nil {
		return id, fmt.Errorf("not a store of this engine: %w", ErrUnsupported)
	}
	if f := b.Get(keyFormat); len(f) != 4 || binary.BigEndian.Uint32(f) != fileFormat {
		return id, fmt.Errorf("engine format %x, this build reads %d: %w", f, fileFormat, ErrUnsupported)
	}
	if copy(id.instance[:], b.Get(keyInstance)) != 16 || copy(id.tag[:], b.Get(keyTag)) != 8 {
		return id, fmt.Errorf("instance or tag missing: %w", ErrCorrupt)
	}
	copy(id.incarnation[:], b.Get(keyIncarnation))
	return id, nil
}

// disown makes a copy of a store a store of its own: another instance, so that
// no anchor speaks for it, no incarnation, so that it draws one before its
// first write, and other journals, so that no cursor into the original's is
// taken for one into its.
func disown(tx store.Tx) error {
	b := tx.Bucket(bucketDB)
	instance := random[[16]byte]()
	if err := b.Put(keyInstance, instance[:]); err != nil {
		return err
	}
	for _, k := range [][]byte{keyIncarnation, keyStamp} {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	c := tx.Bucket(bucketNamespaces).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		number, err := decodeNamespace(k, v)
		if err != nil {
			return err
		}
		if err := replica.SetJournal(tx, bucketPrefix(number), random[[16]byte]()); err != nil {
			return err
		}
	}
	return nil
}

// putStamp gives the transaction a name that no other commit of this store or
// of a copy has: numbers agree by chance once two copies went on apart.
func putStamp(tx store.Tx) ([8]byte, error) {
	stamp := random[[8]byte]()
	if mutant("anchor naming a number") {
		copy(stamp[:], tx.Bucket(bucketDB).Get(keyStamp))
		binary.BigEndian.PutUint64(stamp[:], binary.BigEndian.Uint64(stamp[:])+1)
	}
	return stamp, tx.Bucket(bucketDB).Put(keyStamp, append([]byte(nil), stamp[:]...))
}

// renew draws a fresh incarnation and stores it. No id drawn before is used
// again.
func (i *identity) renew(tx store.Tx) error {
	i.incarnation = random[[8]byte]()
	return tx.Bucket(bucketDB).Put(keyIncarnation, append([]byte(nil), i.incarnation[:]...))
}
