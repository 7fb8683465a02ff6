package cliout_test

import (
	"os"
	"time"

	"bzzz/internal/cliout"
)

// A list of results for people; with Format cliout.JSONL the same calls print
// one object a line.
func ExamplePrinter_Rows() {
	p := cliout.New(cliout.Options{Out: os.Stdout})
	rows := p.Rows("key", "size", "age")
	_ = rows.Add(cliout.Key("notes/hello"), cliout.Bytes(1536), 90*time.Second)
	_ = rows.Add(cliout.Key("bell\a"), cliout.Bytes(12), 50*time.Hour)
	_ = rows.Close()
	// Output:
	// key             size    age
	// notes/hello  1.5 KiB  1m30s
	// "bell\a"        12 B   2d2h
}
