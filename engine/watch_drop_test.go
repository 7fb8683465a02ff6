package engine

import (
	"context"
	"fmt"
	"testing"

	"bzzz/crdt"
)

// TestWatchSeesDrops: siblings that a peer proved to be dead are reported as the
// state that their keys show now, each once.
func TestWatchSeesDrops(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, err := Open(t.TempDir(), &Options{RuntimeDir: "-"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ns, err := db.OpenNamespace(ctx, DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	claim := crdt.NewClock()
	for _, key := range []string{"alone", "outside", "contested"} {
		if err := ns.Put(ctx, []byte(key), []byte("ours")); err != nil {
			t.Fatal(err)
		}
		r, err := ns.GetAll(ctx, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		claim.Add(crdt.Dot{Replica: r.Shown[0].Author, Seq: r.Shown[0].Seq})
	}
	theirs := &crdt.Version{
		Key: crdt.AppendName(nil, []byte("contested")), Kind: crdt.Put, Value: []byte("theirs"),
		Dot: crdt.Dot{Replica: crdt.ReplicaID{7}, Seq: 1}, First: 1, Last: 1, Time: 1,
	}
	h := &host{db: db, ctx: ctx}
	if _, err := h.Apply(ns.name, []*crdt.Version{theirs}, nil); err != nil {
		t.Fatal(err)
	}
	w, err := ns.Watch(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := db.submit(ctx, &request{raw: func(g *group) (result, fatal error) {
		b, err := g.batch(ns)
		if err != nil {
			return err, nil
		}
		_, err = b.Drop(claim, crdt.ReplicaID{7})
		return err, err
	}}); err != nil {
		t.Fatal(err)
	}
	if err := ns.Put(ctx, []byte("last"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	cursor := w.Cursor()
	for _, want := range []string{"delete alone=", "put contested=theirs", "delete outside=", "put last=v"} {
		w, err := ns.Watch(ctx, nil, cursor) // each from the cursor behind the one before
		if err != nil {
			t.Fatal(err)
		}
		e, err := w.Next(ctx)
		if got := fmt.Sprintf("%s %s=%s", e.Type, e.Key, e.Version.Value); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if e.Concurrent || e.Type == EventDelete && e.Version.CID != "" {
			t.Fatalf("event %+v", e)
		}
		cursor = w.Cursor()
		w.Close()
	}
}
