package engine_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also lets the test binary serve as a process to be killed: a crash
// test starts it again with the child's task in the environment.
func TestMain(m *testing.M) {
	if task := os.Getenv(childEnv); task != "" {
		os.Exit(runChild(task))
	}
	goleak.VerifyTestMain(m)
}
