package arch

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeExampleIsCompiled: the README's Go code stands word for word in the
// engine's runnable example.
func TestReadmeExampleIsCompiled(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../engine/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Fatal("the README has no Go example")
	}
	for _, b := range blocks {
		if !strings.Contains(string(example), b[1]) {
			t.Errorf("README code is not in engine/example_test.go:\n%s", b[1])
		}
	}
}
