package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"bzzz/engine"
)

// cutConn breaks after a number of bytes read.
type cutConn struct {
	net.Conn
	left atomic.Int64
}

var errCut = errors.New("the line was cut")

func (c *cutConn) Read(b []byte) (int, error) {
	if c.left.Load() <= 0 {
		c.Close()
		return 0, errCut
	}
	n, err := c.Conn.Read(b)
	c.left.Add(-int64(n))
	return n, err
}

// syncOver syncs a with b over a line that breaks after a reads so many bytes.
func syncOver(a, b *engine.DB, limit int64, opts engine.SyncOptions) (ra, rb engine.SyncReport, err error) {
	x, y := net.Pipe()
	cut := &cutConn{Conn: x}
	cut.left.Store(limit)
	var wg sync.WaitGroup
	wg.Go(func() { rb, _ = b.ServeSync(context.Background(), y, opts) })
	ra, err = a.Sync(context.Background(), cut, opts)
	wg.Wait()
	return ra, rb, err
}

// Large values follow their records in the same session, both ways, each chunk
// once.
func TestSyncMovesLargeValues(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	big, other := noise(1, 5<<20), noise(2, 300<<10)
	for key, value := range map[string][]byte{"big": big, "same": big, "small": []byte("s")} {
		if err := a.Put(ctx, []byte(key), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(ctx, []byte("other"), other); err != nil {
		t.Fatal(err)
	}
	ra, rb, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	if err != nil || !ra.InSync || !rb.InSync || ra.Lacking+rb.Lacking > 0 {
		t.Fatalf("%v; in sync %v and %v, lacking %d and %d", err, ra.InSync, rb.InSync, ra.Lacking, rb.Lacking)
	}
	if max := int64(len(big) + len(other) + 20_000); ra.BytesSent+ra.BytesReceived > max {
		t.Errorf("%d bytes moved, want at most %d", ra.BytesSent+ra.BytesReceived, max)
	}
	for _, db := range []*engine.DB{a, b} {
		wantValue(t, db, "big", big)
		wantValue(t, db, "same", big)
		wantValue(t, db, "other", other)
		wantNoProblem(t, db)
	}
	again, _, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	if err != nil || again.BlocksSent+again.BlocksReceived > 0 || again.BytesSent+again.BytesReceived > 64 {
		t.Errorf("second sync: %+v, %v", again, err)
	}
}

// A transfer that is cut goes on where it was: no chunk that was stored is sent
// again.
func TestTransferGoesOnAfterCuts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	data := noise(3, 24<<20)
	if err := a.PutReader(ctx, []byte("k"), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var moved int64
	cuts := 0
	for limit := int64(3 << 20); ; limit += 1 << 20 {
		rb, _, err := syncOver(b, a, limit, engine.SyncOptions{})
		moved += rb.BytesReceived
		if err == nil {
			if !rb.InSync || rb.Lacking != 0 {
				t.Fatalf("in sync %v, lacking %d", rb.InSync, rb.Lacking)
			}
			break
		}
		if cuts++; cuts > 30 {
			t.Fatal(err)
		}
		if _, err := b.Get(ctx, []byte("small")); !errors.Is(err, engine.ErrNotFound) {
			t.Fatal(err)
		}
		if c := forget(t, b); c.Chunks != 0 {
			t.Fatalf("collected %+v in the middle of a transfer", c)
		}
	}
	if cuts < 3 {
		t.Fatalf("only %d cuts", cuts)
	}
	// What is lost with a cut is what was not stored yet: one answer of 2 MiB.
	if most := int64(len(data)) + int64(cuts)*(2<<20+300<<10); moved > most {
		t.Errorf("%d bytes moved over %d cuts, want at most %d", moved, cuts, most)
	}
	got, err := readAll(b, "k")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	wantNoProblem(t, b)
}

// Who does not hold the content either says so, and the sync ends without it.
func TestLackingIsReported(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b, c := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	if err := a.Put(ctx, []byte("k"), noise(4, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var records bytes.Buffer
	if _, err := a.WriteBundle(ctx, &records, engine.Mark{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadBundle(ctx, &records); err != nil {
		t.Fatal(err)
	}
	rb, rc, err := engine.SyncLocal(ctx, b, c, engine.SyncOptions{})
	if err != nil || rb.Lacking != 1 || rc.Lacking != 1 || rb.InSync || rc.InSync {
		t.Fatalf("%v; lacking %d and %d, in sync %v and %v", err, rb.Lacking, rc.Lacking, rb.InSync, rc.InSync)
	}
	if _, err := c.Get(ctx, []byte("k")); !errors.Is(err, engine.ErrUnavailable) {
		t.Fatalf("got %v, want unavailable", err)
	}
	if ra, rc, err := engine.SyncLocal(ctx, a, c, engine.SyncOptions{}); err != nil || !ra.InSync || !rc.InSync {
		t.Fatalf("%v, in sync %v and %v", err, ra.InSync, rc.InSync)
	}
	wantValue(t, c, "k", noise(4, 1<<20))
	// What is deleted meanwhile is not asked for any more.
	if err := c.Delete(ctx, []byte("k")); err != nil {
		t.Fatal(err)
	}
	if rb, _, err := engine.SyncLocal(ctx, b, c, engine.SyncOptions{}); err != nil || rb.Lacking != 0 || rb.BlocksReceived != 0 {
		t.Fatalf("%v, %+v", err, rb)
	}
}

// Old versions come where they are asked for, and only once.
func TestSyncHistory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := open(t, "", &engine.Options{Memory: true}), open(t, "", &engine.Options{Memory: true})
	for i := range 20 {
		if err := a.Put(ctx, []byte("k"), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for round, want := range []int{19, 0} {
		if err := a.Put(ctx, []byte("other"), fmt.Append(nil, round)); err != nil {
			t.Fatal(err)
		}
		rb, _, err := engine.SyncLocal(ctx, b, a, engine.SyncOptions{History: true})
		if err != nil || !rb.InSync {
			t.Fatal(err, rb.InSync)
		}
		if got := rb.Namespaces[0].PastReceived; got != want && got != want+round {
			t.Errorf("round %d: %d old versions, want %d", round, got, want)
		}
	}
	h, err := b.History(ctx, []byte("k"))
	if err != nil || len(h) != 20 {
		t.Fatalf("%d versions of history, %v", len(h), err)
	}
	wantNoProblem(t, b)
}
