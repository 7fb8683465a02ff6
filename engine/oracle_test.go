package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/crdt"
	"bzzz/engine"
)

// written is one version of a key as the oracle knows it.
type written struct {
	value   []byte // nil: a delete
	at      time.Time
	expires time.Time // zero: never
	cid     string
}

func (w written) shown(now time.Time) ([]byte, bool) {
	if w.value == nil || !w.expires.IsZero() && !now.Before(w.expires) {
		return nil, false
	}
	return w.value, true
}

// oracle is a store as a map of lists. It knows nothing of clocks, heads and
// journals: one node writes, so the last version of a key is its state.
type oracle struct {
	t    *testing.T
	rng  *rand.Rand
	db   *engine.DB
	dir  string // "": in memory
	run  string
	keys map[string][]written
	// What was marked, and how many versions each key had then.
	marks []marked
	times []time.Time
	n     int
}

type marked struct {
	mark engine.Mark
	lens map[string]int
}

const oracleSweep = 10 * time.Second

func (o *oracle) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("step %d: %v", o.n, err)
	}
}

func (o *oracle) open() {
	o.t.Helper()
	var err error
	o.db, err = engine.Open(o.dir, &engine.Options{Memory: o.dir == "", RuntimeDir: o.run, SweepInterval: oracleSweep})
	o.must(err)
}

// key draws a key from bytes that order badly if they are escaped badly.
func (o *oracle) key() []byte {
	k := make([]byte, 1+o.rng.IntN(3))
	for i := range k {
		k[i] = []byte{0, 1, 'a', 0xFE, 0xFF}[o.rng.IntN(5)]
	}
	return k
}

// prefix draws the beginning of a key, often nothing.
func (o *oracle) prefix() []byte {
	k := o.key()
	return k[:o.rng.IntN(len(k)+1)]
}

func (o *oracle) value() []byte {
	return fmt.Appendf(nil, "%d %s", o.n, strings.Repeat("\x00v", o.rng.IntN(20)))
}

// now is the moment as versions bear it.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

// at returns the version of a key that counted at a moment.
func at(versions []written, when time.Time) (last written) {
	for _, v := range versions {
		if !v.at.After(when) {
			last = v
		}
	}
	return last
}

func newest(versions []written) written {
	if len(versions) == 0 {
		return written{}
	}
	return versions[len(versions)-1]
}

// note enters a version that the store must have now.
func (o *oracle) note(key, value []byte, ttl time.Duration) {
	o.t.Helper()
	h, err := o.db.History(context.Background(), key)
	o.must(err)
	old := o.keys[string(key)]
	if len(h) != len(old)+1 || !bytes.Equal(h[0].Value, value) || !h[0].Live || (h[0].Kind == crdt.Delete) != (value == nil) {
		o.t.Fatalf("step %d: key %q has %d versions, want %d and %q as the newest: %+v", o.n, key, len(h), len(old)+1, value, h)
	}
	w := written{value: value, at: h[0].Time, cid: h[0].CID}
	if value != nil && w.value == nil {
		w.value = []byte{}
	}
	if ttl > 0 {
		w.expires = now().Add(ttl)
	}
	if w.at.Before(now()) || w.at.After(now().Add(time.Second)) || !h[0].Expires.Equal(w.expires) {
		o.t.Fatalf("step %d: version of %v, expires %v, written at %v to expire at %v", o.n, w.at, h[0].Expires, now(), w.expires)
	}
	o.keys[string(key)] = append(old, w)
}

// step does one random thing to the store and to the map.
func (o *oracle) step() {
	o.t.Helper()
	ctx := context.Background()
	o.n++
	key, value := o.key(), o.value()
	switch o.rng.IntN(16) {
	case 0, 1, 2:
		o.must(o.db.Put(ctx, key, value))
		o.note(key, value, 0)
	case 3:
		ttl := time.Duration(1+o.rng.IntN(60)) * time.Second
		o.must(o.db.Put(ctx, key, value, engine.TTL(ttl)))
		o.note(key, value, ttl)
	case 4:
		o.must(o.db.Delete(ctx, key))
		o.noteDelete(key)
	case 5:
		o.conditional(key, value)
	case 6:
		o.update()
	case 7:
		o.restore()
	case 8:
		time.Sleep(time.Duration(o.rng.IntN(5000)) * time.Millisecond)
		synctest.Wait()
		o.swept(false)
	case 9:
		if o.rng.IntN(4) == 0 {
			time.Sleep(2*oracleSweep + time.Millisecond)
			synctest.Wait()
			o.swept(true)
		}
	case 10:
		if o.dir != "" {
			o.must(o.db.Close())
			o.open()
		}
	case 11:
		snap, err := o.db.Snapshot(ctx)
		o.must(err)
		m := marked{snap.Mark(), map[string]int{}}
		for k, v := range o.keys {
			m.lens[k] = len(v)
		}
		snap.Close()
		o.marks, o.times = append(o.marks, m), append(o.times, now())
	case 12:
		o.deletePrefix(o.prefix())
	default:
		o.checkScan()
		o.checkKey(key)
		o.checkDiff()
	}
}

func (o *oracle) noteDelete(key []byte) {
	o.t.Helper()
	if newest(o.keys[string(key)]).value != nil {
		o.note(key, nil, 0)
	}
}

// swept takes over what the sweeper deleted: only what has expired, and once
// it has had the time all of it.
func (o *oracle) swept(all bool) {
	o.t.Helper()
	for key, versions := range o.keys {
		last := newest(versions)
		if last.value == nil || last.expires.IsZero() {
			continue
		}
		_, shown := last.shown(time.Now())
		h, err := o.db.History(context.Background(), []byte(key))
		o.must(err)
		deleted := len(h) == len(versions)+1 && h[0].Kind == crdt.Delete
		if late := time.Since(last.expires) > oracleSweep; deleted && shown || !deleted && late && all {
			o.t.Fatalf("step %d: %q expires at %v, it is %v, deleted: %v", o.n, key, last.expires, time.Now(), deleted)
		}
		if deleted {
			o.keys[key] = append(versions, written{at: h[0].Time, cid: h[0].CID})
		}
	}
}

// conditional writes with a token that is right, or one that is not.
func (o *oracle) conditional(key, value []byte) {
	o.t.Helper()
	ctx := context.Background()
	r, err := o.db.GetAll(ctx, key)
	o.must(err)
	if o.rng.IntN(2) == 0 {
		r.Token[0] ^= 1
		for _, err := range []error{o.db.PutIf(ctx, key, value, r.Token), o.db.DeleteIf(ctx, key, r.Token)} {
			var c *engine.Conflict
			if !errors.As(err, &c) || !errors.Is(err, engine.ErrConflict) || len(c.Current.Siblings) != min(1, len(o.keys[string(key)])) {
				o.t.Fatalf("step %d: got %v, want a conflict", o.n, err)
			}
		}
		return
	}
	if o.rng.IntN(2) == 0 {
		o.must(o.db.DeleteIf(ctx, key, r.Token))
		o.noteDelete(key)
		return
	}
	o.must(o.db.PutIf(ctx, key, value, r.Token))
	o.note(key, value, 0)
}

// update changes several keys at once, or none where the function fails.
func (o *oracle) update() {
	o.t.Helper()
	boom := errors.New("boom")
	fails := o.rng.IntN(3) == 0
	after := map[string][]byte{} // nil: deleted
	err := o.db.Update(context.Background(), func(tx *engine.Txn) error {
		for range 1 + o.rng.IntN(6) {
			k, v := o.key(), o.value()
			if o.rng.IntN(3) == 0 {
				_, mine := after[string(k)]
				was := newest(o.keys[string(k)]).value != nil
				if mine {
					was = after[string(k)] != nil
				}
				existed, err := tx.Delete(k)
				if err != nil || existed != was {
					return fmt.Errorf("delete: existed %v, want %v: %w", existed, was, err)
				}
				if existed {
					after[string(k)] = nil
				}
				continue
			}
			if err := tx.Put(k, v); err != nil {
				return err
			}
			after[string(k)] = v
			if got, err := tx.Get(k); err != nil || !bytes.Equal(got, v) {
				return fmt.Errorf("own write: got %q, %w", got, err)
			}
		}
		if fails {
			return boom
		}
		return nil
	})
	if fails {
		if !errors.Is(err, boom) {
			o.t.Fatalf("step %d: got %v, want boom", o.n, err)
		}
		return
	}
	o.must(err)
	for k, v := range after {
		o.note([]byte(k), v, 0)
	}
}

func (o *oracle) deletePrefix(prefix []byte) {
	o.t.Helper()
	want := 0
	for k, v := range o.keys {
		if strings.HasPrefix(k, string(prefix)) && newest(v).value != nil {
			want++
		}
	}
	n, err := o.db.DeletePrefix(context.Background(), prefix)
	o.must(err)
	if n != want {
		o.t.Fatalf("step %d: deleted %d keys under %q, want %d", o.n, n, prefix, want)
	}
	for k := range o.keys {
		if strings.HasPrefix(k, string(prefix)) {
			o.noteDelete([]byte(k))
		}
	}
}

// then is a point in the past, and what the map held there.
type then struct {
	point engine.Point
	value func(key string) ([]byte, bool)
}

// pointInTime draws a point: now, a moment or a mark.
func (o *oracle) pointInTime() then {
	switch i := len(o.marks); {
	case i > 0 && o.rng.IntN(3) == 0:
		m := o.marks[o.rng.IntN(i)]
		back, err := engine.ParseMark(m.mark.String())
		o.must(err)
		return then{engine.AtMark(back), func(k string) ([]byte, bool) {
			return newest(o.keys[k][:m.lens[k]]).shown(time.Now())
		}}
	case i > 0 && o.rng.IntN(2) == 0:
		when := o.times[o.rng.IntN(i)].Add(time.Duration(o.rng.IntN(3)-1) * time.Second)
		return then{engine.AtTime(when), func(k string) ([]byte, bool) { return at(o.keys[k], when).shown(when) }}
	}
	return then{engine.Point{}, func(k string) ([]byte, bool) { return newest(o.keys[k]).shown(time.Now()) }}
}

// differences lists what two points show differently under a prefix.
func (o *oracle) differences(prefix []byte, from, to then) []string {
	var out []string
	for k := range o.keys {
		a, hadA := from.value(k)
		b, hadB := to.value(k)
		if strings.HasPrefix(k, string(prefix)) && (hadA != hadB || !bytes.Equal(a, b)) {
			out = append(out, fmt.Sprintf("%q %q %q", k, a, b))
		}
	}
	slices.Sort(out)
	return out
}

func (o *oracle) checkDiff() {
	o.t.Helper()
	prefix, from, to := o.prefix(), o.pointInTime(), o.pointInTime()
	var got []string
	var last []byte
	for d, err := range o.db.Diff(context.Background(), prefix, from.point, to.point) {
		o.must(err)
		if last != nil && bytes.Compare(last, d.Key) >= 0 {
			o.t.Fatalf("step %d: diff out of order", o.n)
		}
		last = d.Key
		got = append(got, fmt.Sprintf("%q %q %q", d.Key, d.Before, d.After))
	}
	slices.Sort(got)
	if want := o.differences(prefix, from, to); !slices.Equal(got, want) {
		o.t.Fatalf("step %d: diff under %q:\n got %v\nwant %v", o.n, prefix, got, want)
	}
}

func (o *oracle) restore() {
	o.t.Helper()
	ctx := context.Background()
	prefix, to := o.prefix(), o.pointInTime()
	current := then{value: func(k string) ([]byte, bool) { return newest(o.keys[k]).shown(time.Now()) }}
	want := len(o.differences(prefix, current, to))
	values := map[string][]byte{}
	for k := range o.keys {
		a, hadA := current.value(k)
		b, hadB := to.value(k)
		if strings.HasPrefix(k, string(prefix)) && (hadA != hadB || !bytes.Equal(a, b)) {
			values[k] = b
		}
	}
	n, err := o.db.Restore(ctx, prefix, to.point)
	o.must(err)
	if n != want {
		o.t.Fatalf("step %d: restored %d keys, want %d", o.n, n, want)
	}
	for k, v := range values {
		if v == nil {
			o.noteDelete([]byte(k))
		} else {
			o.note([]byte(k), v, 0)
		}
	}
}

// checkScan compares a random range with the sorted map.
func (o *oracle) checkScan() {
	o.t.Helper()
	r := engine.Range{Prefix: o.prefix(), Limit: o.rng.IntN(3) * o.rng.IntN(8)}
	if o.rng.IntN(2) == 0 {
		r.Start = o.key()
	}
	if o.rng.IntN(2) == 0 {
		r.End = o.key()
	}
	var want, got []string
	for k, v := range o.keys {
		value, shown := newest(v).shown(time.Now())
		if shown && strings.HasPrefix(k, string(r.Prefix)) && k >= string(r.Start) && (r.End == nil || k < string(r.End)) {
			want = append(want, fmt.Sprintf("%x=%x", k, value))
		}
	}
	slices.SortFunc(want, func(a, b string) int { // of keys, not of their hexadecimal lines
		return strings.Compare(strings.SplitN(a, "=", 2)[0], strings.SplitN(b, "=", 2)[0])
	})
	if r.Limit > 0 {
		want = want[:min(r.Limit, len(want))]
	}
	for e, err := range o.db.Scan(context.Background(), r) {
		o.must(err)
		got = append(got, fmt.Sprintf("%x=%x", e.Key, e.Value))
	}
	if !slices.Equal(got, want) {
		o.t.Fatalf("step %d: scan %+v:\n got %v\nwant %v", o.n, r, got, want)
	}
}

// checkKey compares one key with its list, at every point.
func (o *oracle) checkKey(key []byte) {
	o.t.Helper()
	ctx := context.Background()
	versions := o.keys[string(key)]
	got, err := o.db.Get(ctx, key)
	want, shown := newest(versions).shown(time.Now())
	if shown && (err != nil || !bytes.Equal(got, want)) || !shown && !errors.Is(err, engine.ErrNotFound) {
		o.t.Fatalf("step %d: %q: got %q, %v, want %q %v", o.n, key, got, err, want, shown)
	}
	h, err := o.db.History(ctx, key)
	o.must(err)
	if len(h) != len(versions) {
		o.t.Fatalf("step %d: %d versions, want %d", o.n, len(h), len(versions))
	}
	for i, v := range h {
		w := versions[len(versions)-1-i]
		if v.CID != w.cid || !bytes.Equal(v.Value, w.value) || v.Live != (i == 0) || !v.Time.Equal(w.at) {
			o.t.Fatalf("step %d: version %d of %q: %+v, want %+v", o.n, i, key, v, w)
		}
		point, err := engine.AtCID(w.cid)
		o.must(err)
		r, err := o.db.GetAt(ctx, key, point)
		o.must(err)
		if len(r.Siblings) != 1 || r.Siblings[0].CID != w.cid {
			o.t.Fatalf("step %d: by CID: %+v", o.n, r)
		}
		if i > 0 {
			r, err = o.db.GetAt(ctx, key, engine.StepsBack(i))
			if err != nil || len(r.Siblings) != 1 || r.Siblings[0].CID != w.cid {
				o.t.Fatalf("step %d: %d steps back: %+v, %v", o.n, i, r, err)
			}
		}
	}
	if _, err := o.db.GetAt(ctx, key, engine.StepsBack(len(h)+1)); !errors.Is(err, engine.ErrNotFound) {
		o.t.Fatalf("step %d: before the first version: %v", o.n, err)
	}
	p := o.pointInTime()
	r, err := o.db.GetAt(ctx, key, p.point)
	o.must(err)
	want, shown = p.value(string(key))
	if len(r.Shown) != count(shown) || shown && !bytes.Equal(r.Shown[0].Value, want) {
		o.t.Fatalf("step %d: %q at a point: %+v, want %q %v", o.n, key, r, want, shown)
	}
}

// The same random history on file and in memory, against a map of lists.
func TestHistoriesAgainstOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		for _, memory := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,memory=%v", seed, memory), func(t *testing.T) {
				t.Parallel()
				dir, run := "", ""
				if !memory {
					dir, run = t.TempDir(), t.TempDir()
				}
				synctest.Test(t, func(t *testing.T) {
					o := &oracle{t: t, rng: rand.New(rand.NewPCG(seed, 8)), dir: dir, run: run, keys: map[string][]written{}}
					o.open()
					defer func() { o.must(o.db.Close()) }()
					for range 500 {
						o.step()
					}
					for k := range o.keys {
						o.checkKey([]byte(k))
					}
					r, err := o.db.Verify(context.Background(), nil)
					o.must(err)
					if len(r.Problems) > 0 {
						t.Fatal(r.Problems)
					}
				})
			})
		}
	}
}
