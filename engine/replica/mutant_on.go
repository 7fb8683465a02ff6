//go:build mutant

package replica

import "os"

// planted names the fault that this build shows: see docs/KERNEL.md, "Traces".
var planted = os.Getenv("BZZZ_MUTANT")

// mutant reports whether the planted fault of that name is on. Where it is, the
// code does what a rule of the kernel forbids, and a test has to fail.
func mutant(name string) bool { return name == planted }
