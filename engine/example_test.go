package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"bzzz/engine"
)

// Example is the embed example of the README.
func Example() {
	dir, _ := os.MkdirTemp("", "bzzz")
	defer os.RemoveAll(dir)

	ctx := context.Background()
	db, err := engine.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Put(ctx, []byte("greeting"), []byte("hello")); err != nil {
		log.Fatal(err) // nil means: on disk
	}
	value, err := db.Get(ctx, []byte("greeting"))
	fmt.Printf("%s %v\n", value, err)
	// db.Sync(ctx, stream, engine.SyncOptions{Live: true}) on one node,
	// db.ServeSync(ctx, stream, ...) on the other.

	// Output: hello <nil>
}

// Two stores write the same key apart: both values stay, one is shown, and
// whoever has seen both resolves them.
func ExampleSyncLocal() {
	ctx := context.Background()
	a, _ := engine.Open("", &engine.Options{Memory: true})
	b, _ := engine.Open("", &engine.Options{Memory: true})
	defer a.Close()
	defer b.Close()
	a.Put(ctx, []byte("k"), []byte("from a"))
	b.Put(ctx, []byte("k"), []byte("from b"))

	report, _, err := engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	fmt.Println("in sync:", report.InSync, err)
	record, _ := a.GetAll(ctx, []byte("k"))
	fmt.Println("values side by side:", len(record.Siblings), "conflict:", record.Conflict())

	fmt.Println("resolved:", a.PutIf(ctx, []byte("k"), []byte("both"), record.Token))
	engine.SyncLocal(ctx, a, b, engine.SyncOptions{})
	value, _ := b.Get(ctx, []byte("k"))
	fmt.Printf("b sees %q\n", value)

	// Output:
	// in sync: true <nil>
	// values side by side: 2 conflict: true
	// resolved: <nil>
	// b sees "both"
}

// A conditional write fails with the current state if the key changed.
func ExampleNamespace_PutIf() {
	ctx := context.Background()
	db, _ := engine.Open("", &engine.Options{Memory: true})
	defer db.Close()
	db.Put(ctx, []byte("k"), []byte("1"))
	seen, _ := db.GetAll(ctx, []byte("k"))
	db.Put(ctx, []byte("k"), []byte("2"))

	err := db.PutIf(ctx, []byte("k"), []byte("3"), seen.Token)
	var conflict *engine.Conflict
	fmt.Println(errors.Is(err, engine.ErrConflict), errors.As(err, &conflict))
	fmt.Printf("%s\n", conflict.Current.Shown[0].Value)

	// Output:
	// true true
	// 2
}

// A value of any size streams in and out; the key changes once all of it is
// there.
func ExampleNamespace_PutReader() {
	ctx := context.Background()
	db, _ := engine.Open("", &engine.Options{Memory: true})
	defer db.Close()
	film := strings.Repeat("a long film ", 1_000_000)
	fmt.Println("put:", db.PutReader(ctx, []byte("film"), strings.NewReader(film), engine.ContentType("video/x")))

	r, err := db.GetReader(ctx, []byte("film"))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	scene := make([]byte, 11)
	_, err = r.ReadAt(scene, 6_000_000)
	fmt.Printf("%d bytes of %s, one scene: %q %v\n", r.Size(), r.Version().ContentType, scene, err)

	// Output:
	// put: <nil>
	// 12000000 bytes of video/x, one scene: "a long film" <nil>
}
