package engine_test

import (
	"context"
	"fmt"

	"bzzz/engine"
)

// two opens two stores in memory and returns how to sync and how to close them.
func two() (a, b *engine.DB, sync, end func()) {
	a, _ = engine.Open("", &engine.Options{Memory: true})
	b, _ = engine.Open("", &engine.Options{Memory: true})
	sync = func() {
		if _, _, err := engine.SyncLocal(context.Background(), a, b, engine.SyncOptions{}); err != nil {
			fmt.Println(err)
		}
	}
	return a, b, sync, func() {
		a.Close()
		b.Close()
	}
}

// Counts from nodes that do not see each other add up. Errors are left out for
// brevity.
func ExampleCounter() {
	ctx := context.Background()
	a, b, sync, end := two()
	defer end()
	a.Counter([]byte("visits")).Add(ctx, 2)
	b.Counter([]byte("visits")).Add(ctx, 3)
	sync()
	n, _ := a.Counter([]byte("visits")).Value(ctx)
	fmt.Println(n)
	// Output: 5
}

// An element that one node removes while another adds it again stays.
func ExampleSet() {
	ctx := context.Background()
	a, b, sync, end := two()
	defer end()
	a.Set([]byte("tags")).Add(ctx, []byte("red"), []byte("green"))
	sync()
	a.Set([]byte("tags")).Remove(ctx, []byte("red"), []byte("green"))
	b.Set([]byte("tags")).Add(ctx, []byte("green"))
	sync()
	for tag, err := range a.Set([]byte("tags")).All(ctx) {
		fmt.Println(string(tag), err)
	}
	// Output: green <nil>
}

// Fields merge one by one and have types of their own.
func ExampleMap() {
	ctx := context.Background()
	a, b, sync, end := two()
	defer end()
	a.Map([]byte("user")).Put(ctx, []byte("name"), []byte("Ada"))
	b.Map([]byte("user")).Counter([]byte("logins")).Add(ctx, 1)
	sync()
	for field, err := range a.Map([]byte("user")).All(ctx) {
		fmt.Println(string(field.Key), field.Type, string(field.Value), err)
	}
	// Output:
	// logins counter  <nil>
	// name register Ada <nil>
}

// What two nodes insert at one place comes one after the other.
func ExampleList() {
	ctx := context.Background()
	a, b, sync, end := two()
	defer end()
	list := []byte("shopping")
	a.List(list).Append(ctx, []byte("bread"), []byte("milk"))
	sync()
	a.List(list).Delete(ctx, 0, 1)
	b.List(list).Insert(ctx, 1, []byte("butter"))
	b.List(list).Set(ctx, 2, []byte("oat milk"))
	sync()
	for item, err := range a.List(list).All(ctx) {
		fmt.Println(string(item), err)
	}
	// Output:
	// butter <nil>
	// oat milk <nil>
}

// Handles of a Txn join it: all or nothing.
func ExampleTxn_Counter() {
	ctx := context.Background()
	db, _ := engine.Open("", &engine.Options{Memory: true})
	defer db.Close()
	err := db.Update(ctx, func(tx *engine.Txn) error {
		if err := tx.Counter([]byte("stock")).Add(ctx, -1); err != nil {
			return err
		}
		return tx.List([]byte("orders")).Append(ctx, []byte("one apple"))
	})
	n, _ := db.Counter([]byte("stock")).Value(ctx)
	fmt.Println(n, err)
	// Output: -1 <nil>
}
