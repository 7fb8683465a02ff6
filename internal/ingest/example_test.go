package ingest_test

import (
	"fmt"
	"os"
	"strings"

	"bzzz/internal/ingest"
)

// Rows of a CSV file become JSON lines, which can be read back.
func ExampleRecords() {
	const file = "location,date,temp_max,weather\nSeattle,2012-01-01,12.8,drizzle\nSeattle,2012-01-02,10.6\n"
	out := ingest.NewWriter(os.Stdout)
	options := ingest.Options{KeyColumns: []string{"location", "date"}}
	for rec, err := range ingest.Records(strings.NewReader(file), "weather.csv", ingest.FormatCSV, options) {
		if err != nil {
			_ = out.Flush()
			fmt.Println(err)
			return
		}
		_ = out.Write(rec.Key, rec.Value)
	}
	// Output:
	// {"key":"Seattle/2012-01-01","value":{"location":"Seattle","date":"2012-01-01","temp_max":12.8,"weather":"drizzle"}}
	// weather.csv:3:20: invalid: the row has 3 of 4 fields
}
