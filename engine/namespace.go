package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"bzzz/engine/replica"
	"bzzz/store"
)

// MaxNamespaceName is the longest name of a namespace in bytes.
const MaxNamespaceName = 255

// Namespace is one replicated set of keys with a clock, history and root of
// its own. Writes to different namespaces share commits but not transactions.
type Namespace struct {
	db      *DB
	name    string
	replica *replica.Replica // reading is free, everything else is the committer's
	scope   replica.Scope    // what of it is held here, nil if all
	rules   atomic.Pointer[ruleTable]
	roots   rootCache
	scrub   scrubber
	dropped atomic.Bool
}

// checkNamespace refuses names that cannot be shown or sent.
func checkNamespace(name string) error {
	if name == "" || len(name) > MaxNamespaceName || !utf8.ValidString(name) {
		return fmt.Errorf("namespace name of %d bytes (1..%d of UTF-8): %w", len(name), MaxNamespaceName, ErrInvalid)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("namespace name %q has a control character: %w", name, ErrInvalid)
		}
	}
	return nil
}

// bucketPrefix is what the buckets of a namespace begin with.
func bucketPrefix(number uint32) string { return fmt.Sprintf("n%08x/", number) }

// loadNamespaces opens every namespace of the store.
func (db *DB) loadNamespaces(tx store.Tx) error {
	known := map[string]bool{}
	c := tx.Bucket(bucketNamespaces).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		number, err := decodeNamespace(k, v)
		if err != nil {
			return err
		}
		ns, err := db.openNamespace(tx, string(k), number)
		if err != nil {
			return err
		}
		db.namespaces[ns.name] = ns
		known[bucketPrefix(number)] = true
	}
	known[blobPrefix] = true
	for name := range tx.Buckets() {
		prefix, _, found := strings.Cut(name, "/")
		if name != bucketDB && name != bucketNamespaces && !(found && known[prefix+"/"]) {
			return fmt.Errorf("bucket %q is of no namespace: %w", name, ErrCorrupt)
		}
	}
	return nil
}

// appendNamespace returns an entry of the namespace table: number u32 and the
// CRC32C of name and number.
func appendNamespace(name string, number uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, number)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(append([]byte(name), b...), crcTable))
}

func decodeNamespace(name, b []byte) (number uint32, err error) {
	if len(b) != 8 || !bytes.Equal(b, appendNamespace(string(name), binary.BigEndian.Uint32(b))) {
		return 0, fmt.Errorf("namespace table, entry %q: %w", name, ErrCorrupt)
	}
	return binary.BigEndian.Uint32(b), nil
}

func (db *DB) openNamespace(tx store.Tx, name string, number uint32) (*Namespace, error) {
	r, err := replica.Open(tx, replica.Config{Name: name, Prefix: bucketPrefix(number), MaxDrift: db.opts.MaxDrift})
	if err != nil {
		return nil, err
	}
	ns := &Namespace{db: db, name: name, replica: r, scope: r.Scope()}
	rd, err := r.Reader(tx)
	if err != nil {
		return nil, err
	}
	ns.loadScrub(rd)
	return ns, ns.loadRules(rd)
}

// openDefault returns the namespace of the DB's own methods, making it unless
// the DB is read-only.
func (db *DB) openDefault() (*Namespace, error) {
	if db.opts.ReadOnly {
		if ns := db.find(db.opts.Namespace); ns != nil {
			return ns, nil
		}
		return &Namespace{db: db, name: db.opts.Namespace}, nil
	}
	return db.CreateNamespace(context.Background(), db.opts.Namespace)
}

func (db *DB) find(name string) *Namespace {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.namespaces[name]
}

// OpenNamespace returns a namespace that exists. ErrNotFound if it does not.
func (db *DB) OpenNamespace(ctx context.Context, name string) (*Namespace, error) {
	if err := db.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkNamespace(name); err != nil {
		return nil, err
	}
	if ns := db.find(name); ns != nil {
		return ns, nil
	}
	return nil, fmt.Errorf("namespace %q: %w", name, ErrNotFound)
}

// CreateNamespace returns a namespace, making it if it is not there: one
// commit then.
func (db *DB) CreateNamespace(ctx context.Context, name string) (*Namespace, error) {
	return db.createNamespace(ctx, name, nil)
}

// createNamespace returns a namespace, making it with that scope if it is not
// there.
func (db *DB) createNamespace(ctx context.Context, name string, scope replica.Scope) (*Namespace, error) {
	if ns, err := db.OpenNamespace(ctx, name); err == nil || db.opts.ReadOnly {
		return ns, err
	}
	if err := checkNamespace(name); err != nil {
		return nil, err
	}
	var made *Namespace
	err := db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		if g.tx.Bucket(bucketNamespaces).Get([]byte(name)) != nil {
			return nil, nil // made meanwhile, maybe in this very group
		}
		ns, err := g.createNamespace(name, scope)
		if err != nil {
			return err, err
		}
		g.after = append(g.after, func() {
			db.mu.Lock()
			defer db.mu.Unlock()
			db.namespaces[name] = ns
		})
		return nil, nil
	}})
	if err != nil {
		return nil, err
	}
	if made = db.find(name); made == nil {
		return nil, fmt.Errorf("namespace %q was dropped again: %w", name, ErrNotFound)
	}
	return made, nil
}

func (g *group) createNamespace(name string, scope replica.Scope) (*Namespace, error) {
	meta := g.tx.Bucket(bucketDB)
	next := meta.Get(keyNextNS)
	if len(next) != 4 {
		return nil, fmt.Errorf("namespace counter: %w", ErrCorrupt)
	}
	number := binary.BigEndian.Uint32(next)
	if err := meta.Put(keyNextNS, binary.BigEndian.AppendUint32(nil, number+1)); err != nil {
		return nil, err
	}
	if err := g.tx.Bucket(bucketNamespaces).Put([]byte(name), appendNamespace(name, number)); err != nil {
		return nil, err
	}
	cfg := replica.Config{Name: name, Prefix: bucketPrefix(number), Scope: scope}
	if err := replica.Create(g.tx, cfg, random[[16]byte]()); err != nil {
		return nil, err
	}
	ns, err := g.db.openNamespace(g.tx, name, number)
	if err == nil && g.db.vouched {
		ns.replica.SetSelf(g.db.id.replica())
	}
	return ns, err
}

// Namespaces returns the names of all namespaces in order.
func (db *DB) Namespaces(ctx context.Context) ([]string, error) {
	if err := db.usable(ctx); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	var names []string
	for name := range db.namespaces {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// DropNamespace removes a namespace and all it holds from this node; peers
// keep theirs, and a later sync brings it back from them. The store takes a
// fresh replica id, since the dots it used are forgotten here. The namespace
// of the DB's own methods cannot be dropped (ErrInvalid).
func (db *DB) DropNamespace(ctx context.Context, name string) error {
	if name == db.opts.Namespace {
		return fmt.Errorf("namespace %q is the one this DB was opened on: %w", name, ErrInvalid)
	}
	ns, err := db.OpenNamespace(ctx, name)
	if err != nil {
		return err
	}
	return db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		entry := g.tx.Bucket(bucketNamespaces).Get([]byte(name))
		if entry == nil {
			return fmt.Errorf("namespace %q: %w", name, ErrNotFound), nil
		}
		number, err := decodeNamespace([]byte(name), entry)
		if err != nil {
			return err, err
		}
		if err := g.dropNamespace(ns, number); err != nil {
			return err, err
		}
		return nil, nil
	}})
}

func (g *group) dropNamespace(ns *Namespace, number uint32) error {
	db := g.db
	if err := replica.Drop(g.tx, bucketPrefix(number)); err != nil {
		return err
	}
	if err := g.tx.Bucket(bucketNamespaces).Delete([]byte(ns.name)); err != nil {
		return err
	}
	delete(g.batches, ns)
	// The dots used in the namespace are forgotten with it: even if nothing is
	// written before the next open, that must not go on under this id.
	if err := db.id.renew(g.tx); err != nil {
		return err
	}
	db.vouched = false
	g.after = append(g.after, func() {
		ns.dropped.Store(true)
		db.mu.Lock()
		defer db.mu.Unlock()
		delete(db.namespaces, ns.name)
	})
	return nil
}

// Name returns the namespace's name.
func (ns *Namespace) Name() string { return ns.name }

// DB returns the store the namespace lives in.
func (ns *Namespace) DB() *DB { return ns.db }
