package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"bzzz/engine"
	"bzzz/store"
	"bzzz/store/bolt"
	"bzzz/store/mem"
)

// sample is a small store with history, deletes, conflicts, composites and two
// namespaces, as files and as a healthy peer that has all of it.
type sample struct {
	clean, unclean []byte // the file after Close, and after a kill
	peer           *mem.Image
	truth          map[string][]string // of the file
	peerTruth      map[string][]string // histories are each node's own
}

const sampleKeys = 24

func sampleKey(i int) []byte { return fmt.Appendf(nil, "key %02d", i) }

// fillSample writes and syncs at random on a.
func fillSample(t testing.TB, a, b *engine.DB) {
	t.Helper()
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(7, 7))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.SetResolver(ctx, []byte("key 1"), "mv"))
	for _, db := range []*engine.DB{a, b} {
		_, err := db.CreateNamespace(ctx, "second")
		must(err)
	}
	for range 4 {
		for _, db := range []*engine.DB{a, b} {
			second, err := db.OpenNamespace(ctx, "second")
			must(err)
			for range 20 {
				k := sampleKey(rng.IntN(sampleKeys))
				if rng.IntN(4) == 0 {
					must(db.Delete(ctx, k))
				} else {
					must(db.Put(ctx, k, fmt.Appendf(nil, "%d %s", rng.Uint64(), strings.Repeat("v", rng.IntN(200)))))
				}
				must(db.Counter([]byte("count")).Add(ctx, int64(rng.IntN(9))))
				must(db.Set([]byte("set")).Add(ctx, fmt.Appendf(nil, "e%d", rng.IntN(12))))
				must(second.Put(ctx, k, fmt.Append(nil, rng.Uint64())))
			}
			must(db.Set([]byte("set")).Remove(ctx, fmt.Appendf(nil, "e%d", rng.IntN(12))))
		}
		syncBoth(t, a, b)
	}
	must(b.Put(ctx, []byte("long lived"), []byte("v"), engine.TTL(1000*time.Hour)))
	must(b.Put(ctx, sampleKey(0), []byte("concurrent")))
	must(a.Put(ctx, sampleKey(0), []byte("values")))
	syncBoth(t, a, b)
}

func newSample(t testing.TB) *sample {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, engine.DataFile)
	a, err := engine.Open(dir, &engine.Options{RuntimeDir: "-", SweepInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	back := mem.New()
	b := openOn(t, back)
	fillSample(t, a, b)
	s := &sample{}
	read := func() []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	s.unclean = read()
	// Collecting removes nothing so early, but brings the views up to date.
	if r, err := a.Collect(context.Background(), engine.Retention{}); err != nil || r.Removed > 0 {
		t.Fatal(r, err)
	}
	s.truth, s.peerTruth = answers(a).lines, answers(b).lines
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	s.clean, s.peer = read(), back.Image()
	return s
}

// readings are what a store answers, as lines, or the error it gave.
type readings struct {
	lines map[string][]string
	errs  map[string]error
}

func (r readings) put(what string, lines []string, err error) {
	if err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrNotRetained) {
		r.errs[what] = err
	}
	r.lines[what] = lines
}

// answers asks for everything.
func answers(db *engine.DB) readings {
	ctx := context.Background()
	r := readings{map[string][]string{}, map[string]error{}}
	names, err := db.Namespaces(ctx)
	r.put("namespaces", names, err)
	for _, name := range []string{"default", "second"} {
		ns, err := db.OpenNamespace(ctx, name)
		if err != nil {
			r.put(name, nil, err)
			continue
		}
		r.namespace(ns)
	}
	return r
}

func (r readings) namespace(ns *engine.Namespace) {
	ctx := context.Background()
	keys := [][]byte{[]byte("long lived"), []byte("after"), []byte("never")}
	for i := range sampleKeys {
		keys = append(keys, sampleKey(i))
	}
	for _, key := range keys {
		what := fmt.Sprintf("%s %s ", ns.Name(), key)
		v, err := ns.Get(ctx, key)
		r.put(what+"get", optional(string(v), err), err)
		all, err := ns.GetAll(ctx, key)
		r.put(what+"all", versionLines(all.Siblings), err)
		old, err := ns.GetAt(ctx, key, engine.StepsBack(1))
		r.put(what+"before", versionLines(old.Siblings), err)
		history, err := ns.History(ctx, key)
		r.put(what+"history", versionLines(history), err)
	}
	var lines []string
	var failed error
	for e, err := range ns.Scan(ctx, engine.Range{}) {
		if failed = err; err == nil {
			lines = append(lines, fmt.Sprintf("%q %s %q %v", e.Key, e.Type, e.Value, e.Conflict))
		}
	}
	r.put(ns.Name()+" scan", lines, failed)
	lines, failed = nil, nil
	for c, err := range ns.Conflicts(ctx, nil) {
		if failed = err; err == nil {
			lines = append(lines, fmt.Sprintf("%q %d", c.Key, len(c.Siblings)))
		}
	}
	r.put(ns.Name()+" conflicts", lines, failed)
	lines, failed = nil, nil
	for e, err := range ns.Set([]byte("set")).All(ctx) {
		if failed = err; err == nil {
			lines = append(lines, string(e))
		}
	}
	r.put(ns.Name()+" set", lines, failed)
	n, err := ns.Counter([]byte("count")).Value(ctx)
	r.put(ns.Name()+" sum", []string{strconv.FormatInt(n, 10)}, err)
	state, err := ns.State(ctx)
	r.put(ns.Name()+" sum root", []string{fmt.Sprintf("%x", state.Root)}, err)
	r.put(ns.Name()+" sum clock", []string{fmt.Sprintf("%x", state.Clock.Append(nil))}, err)
	r.put(ns.Name()+" sum rules", []string{fmt.Sprint(ns.Resolvers())}, nil)
}

func optional(line string, err error) []string {
	if err != nil {
		return nil
	}
	return []string{line}
}

func versionLines(versions []engine.Version) (lines []string) {
	for _, v := range versions {
		lines = append(lines, fmt.Sprintf("%s %s:%d %q %v", v.CID, v.Author, v.Seq, v.Value, v.Kind))
	}
	return lines
}

// damaged reports whether an error is one that damage may cause.
func damaged(err error) bool {
	return errors.Is(err, engine.ErrCorrupt) || errors.Is(err, engine.ErrUnsupported)
}

// outcome is what became of one bad file.
type outcome struct {
	refused  bool // by Open
	reported bool // by Verify
	changed  string
	healed   bool
	failed   error // of Repair: pages that the store cannot read
}

// lasting reports whether nothing could be done about a problem: the pages of the
// file themselves are damaged.
func lasting(p engine.Problem) bool { return p.Outcome == engine.OutcomeUnrepaired }

// metDamage reports whether the reads before met damage, and it is mended by now.
func metDamage(db *engine.DB) bool {
	stats, err := db.Stats(context.Background())
	if err != nil {
		return true
	}
	return slices.ContainsFunc(stats.Namespaces, func(ns engine.NamespaceStats) bool { return ns.Scrub.Found > 0 })
}

// judge opens a bad file and compares all it answers with the truth: nothing
// wrong is ever said, what is missing is reported, and no peer loses anything.
func (s *sample) judge(t testing.TB, file []byte) (out outcome) {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, engine.DataFile), file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := engine.Open(dir, &engine.Options{RuntimeDir: "-", SweepInterval: -1})
	if err != nil {
		if !damaged(err) {
			t.Errorf("open: %v, want corrupt or unsupported", err)
		}
		out.refused = true
		return out
	}
	defer func() {
		if err := db.Close(); err != nil && !damaged(err) && !errors.Is(err, engine.ErrPoisoned) {
			t.Errorf("close: %v", err)
		}
	}()
	got := answers(db)
	out.changed = compare(t, got, s.truth)
	report, err := db.Verify(ctx, nil)
	out.reported = len(report.Problems) > 0 || err != nil || metDamage(db)
	if err != nil && !damaged(err) && !errors.Is(err, engine.ErrPoisoned) {
		t.Errorf("verify: %v", err)
	}
	if out.changed != "" && !out.reported {
		t.Errorf("%s changed, and verify found nothing", out.changed)
	}
	mended, e := db.Repair(ctx, nil)
	if e != nil {
		out.failed = errors.Join(err, e)
		if !damaged(e) && !errors.Is(e, engine.ErrPoisoned) {
			t.Errorf("repair: %v", e)
		}
	}
	if err := db.Put(ctx, []byte("after"), []byte("damage")); err != nil && !damaged(err) {
		t.Errorf("put: %v", err)
	}
	out.healed = s.spread(t, db, out.failed)
	if out.reported && !out.healed && out.failed == nil && !slices.ContainsFunc(mended.Problems, lasting) {
		t.Errorf("reported and repaired, but not healed by a peer: %v", mended.Problems)
	}
	return out
}

// compare returns the first answer that is not the truth, "" if all are. What
// the truth does not have is wrong whatever else is reported.
func compare(t testing.TB, got readings, truth map[string][]string) (changed string) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(got.lines)) {
		if err := got.errs[what]; err != nil {
			changed = what + ": " + err.Error()
			if !damaged(err) {
				t.Errorf("%s: %v, want corrupt", what, err)
			}
			continue
		}
		if slices.Equal(got.lines[what], truth[what]) {
			continue
		}
		changed = what
		if strings.Contains(what, " sum") {
			continue // of what is there
		}
		for _, line := range got.lines[what] {
			if !slices.Contains(truth[what], line) {
				t.Errorf("%s: wrong answer %s", what, line)
			}
		}
	}
	return changed
}

// spread lets the bad store sync with a fresh node and that with a healthy one
// before it meets the healthy one itself: none of them may lose anything. It
// reports whether the bad store shows the same as the healthy one then. failed is
// why it cannot read its pages, if so: what it wrote since may not have got out.
func (s *sample) spread(t testing.TB, db *engine.DB, failed error) (healed bool) {
	t.Helper()
	ctx := context.Background()
	fresh, err := engine.Open("", &engine.Options{Memory: true, SweepInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	healthy := openOn(t, mem.FromImage(s.peer))
	defer healthy.Close()
	for _, pair := range [][2]*engine.DB{{db, fresh}, {fresh, healthy}, {db, healthy}, {healthy, db}} {
		_, _, err := engine.SyncLocal(ctx, pair[0], pair[1], engine.SyncOptions{})
		if err != nil && (pair[0] == fresh || !damaged(err) && !errors.Is(err, engine.ErrPoisoned) && !errors.Is(err, engine.ErrUnavailable)) {
			t.Errorf("sync: %v", err)
		}
	}
	now := answers(healthy)
	for what, err := range now.errs {
		t.Errorf("healthy peer: %s: %v", what, err)
	}
	for what, lines := range s.peerTruth {
		for _, line := range lines {
			if !strings.Contains(what, " sum") && !slices.Contains(now.lines[what], line) {
				t.Errorf("healthy peer lost %s of %s", line, what)
			}
		}
	}
	got := answers(fresh)
	for what, err := range got.errs {
		t.Errorf("fresh peer: %s: %v", what, err)
	}
	current(t, "fresh peer", got, now)
	bad := answers(db)
	if failed == nil {
		current(t, "bad store after syncing", bad, now)
	}
	for what, lines := range now.lines {
		if isCurrent(what) && (bad.errs[what] != nil || !slices.Equal(bad.lines[what], lines)) && !strings.HasSuffix(what, "rules") {
			t.Logf("%s: %q (%v), want %q", what, bad.lines[what], bad.errs[what], lines)
			return false
		}
	}
	return true
}

// isCurrent reports whether an answer is about the current state, which peers
// share.
func isCurrent(what string) bool {
	return !strings.HasSuffix(what, "history") && !strings.HasSuffix(what, "before")
}

// current checks that nothing is shown now that a healthy peer does not show.
func current(t testing.TB, who string, got, want readings) {
	t.Helper()
	for what, lines := range got.lines {
		if strings.Contains(what, " sum") || !isCurrent(what) {
			continue
		}
		for _, line := range lines {
			if !slices.Contains(want.lines[what], line) {
				t.Errorf("%s: %s: wrong answer %s", who, what, line)
			}
		}
	}
}

func TestSampleIsWhole(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for name, file := range map[string][]byte{"clean": s.clean, "unclean": s.unclean} {
		out := s.judge(t, file)
		if out.refused || out.reported || out.changed != "" || !out.healed {
			t.Errorf("%s file without damage: %+v", name, out)
		}
	}
	t.Logf("%d and %d bytes", len(s.clean), len(s.unclean))
}

func TestFlippedBits(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	flips := 200
	if s := os.Getenv("BZZZ_FLIPS"); s != "" {
		fmt.Sscan(s, &flips)
	}
	const workers = 4
	for w := range workers {
		t.Run(fmt.Sprint("worker=", w), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(w), 11))
			var refused, reported, changed, healed, lasting int
			for range flips / workers {
				file := bytes.Clone([][]byte{s.clean, s.unclean}[w%2])
				at, bit := somewhere(rng, file), rng.IntN(8)
				file[at] ^= 1 << bit
				var out outcome
				if !t.Run(fmt.Sprintf("byte=%d,bit=%d", at, bit), func(t *testing.T) { out = s.judge(t, file) }) {
					t.Logf("page %d, offset %d", at/4096, at%4096)
				}
				refused += count(out.refused)
				reported += count(out.reported)
				changed += count(out.changed != "")
				healed += count(out.reported && out.healed)
				lasting += count(out.reported && !out.healed)
			}
			t.Logf("%d flips: open refused %d, %d changed answers, verify reported %d, of which a peer healed %d and not %d",
				flips/workers, refused, changed, reported, healed, lasting)
			if changed == 0 {
				t.Error("no flip changed anything: tested nothing")
			}
		})
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// somewhere returns a place in the file near bytes that say something: most of
// a small file is padding.
func somewhere(rng *rand.Rand, file []byte) int {
	for {
		at := rng.IntN(len(file))
		for _, b := range file[max(0, at-8):min(len(file), at+8)] {
			if b != 0 {
				return at
			}
		}
	}
}

// tamper changes a store behind the engine's back.
func tamper(t testing.TB, file []byte, change func(store.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	kv, err := bolt.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kv.Update(change), kv.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Records that vanish or change places are damage that no sum over their bytes
// alone shows.
func TestRecordsLostAndMoved(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	buckets := []string{"db", "namespaces"}
	for _, b := range []string{"journal", "heads", "dots", "dead", "meta", "local", "conflicts", "expiry"} {
		buckets = append(buckets, "n00000001/"+b, "n00000002/"+b)
	}
	for i, name := range buckets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(i), 4))
			for range 5 {
				s.judge(t, tamper(t, s.clean, func(tx store.Tx) error {
					b := tx.Bucket(name)
					var keys, values [][]byte
					c := b.Cursor()
					for k, v := c.First(); k != nil; k, v = c.Next() {
						keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
					}
					if len(keys) == 0 {
						return nil
					}
					x, y := rng.IntN(len(keys)), rng.IntN(len(keys))
					if rng.IntN(3) == 0 {
						return b.Delete(keys[x])
					}
					return errors.Join(b.Put(keys[x], values[y]), b.Put(keys[y], values[x]))
				}))
			}
		})
	}
	t.Run("bucket", func(t *testing.T) {
		for _, name := range buckets {
			s.judge(t, tamper(t, s.clean, func(tx store.Tx) error { return tx.DeleteBucket(name) }))
		}
	})
}

func TestCutFiles(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	sizes := []int{0, 1, 15, 16, 79, 80, 4095, 4096, 4097, 8191, 8192, 3 * 4096, 4 * 4096, len(s.clean) - 1, len(s.clean) - 4096, len(s.clean) / 2}
	for _, n := range sizes {
		t.Run(fmt.Sprint("bytes=", n), func(t *testing.T) {
			t.Parallel()
			s.judge(t, s.clean[:n])
			zeroed := bytes.Clone(s.clean)
			clear(zeroed[n:])
			s.judge(t, zeroed)
		})
	}
}

func TestFilesOfOthers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	other, err := bbolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = other.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("db"))
		if err != nil {
			return err
		}
		return b.Put([]byte("format"), []byte{0, 0, 0, 1})
	})
	if err = errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	foreignFile, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want error
	}{
		{"empty", nil, engine.ErrCorrupt},
		{"noise", noise, engine.ErrUnsupported},
		{"text", []byte("just a note\n"), engine.ErrUnsupported},
		{"sqlite", append([]byte("SQLite format 3\x00\x10\x00\x01\x01"), make([]byte, 8192)...), engine.ErrUnsupported},
		{"zeros", make([]byte, 32<<10), engine.ErrUnsupported},
		{"bbolt of another program", foreignFile, engine.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, engine.DataFile)
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{false, true} {
				_, err := engine.Open(dir, &engine.Options{ReadOnly: readOnly, RuntimeDir: t.TempDir()})
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("read-only %v: got %v, want %v and the file's name", readOnly, err, tt.want)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, tt.file) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}
