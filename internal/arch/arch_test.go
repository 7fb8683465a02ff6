package arch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Standard     bool
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// list returns packages of this module, or with args of what they name.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// allowed is the dependency table of docs/DESIGN.md: what each package may
// import of this module, besides internal/errs, and from elsewhere, besides
// the standard library. A name that ends in / allows everything below it.
var allowed = map[string][]string{
	"bzzz/internal/errs":            {},
	"bzzz/internal/arch":            {},
	"bzzz/internal/trace":           {"bzzz/internal/ingest"},
	"bzzz/internal/ingest":          {},
	"bzzz/internal/car":             {"bzzz/crdt", "bzzz/merkle", "bzzz/merkle/list", "github.com/ipld/go-car/v2", "github.com/ipld/go-car/v2/index", "github.com/ipfs/go-cid", "github.com/fxamacker/cbor/v2"},
	"bzzz/internal/cliout":          {"github.com/schollz/progressbar/v3", "golang.org/x/term"},
	"bzzz/internal/bench":           {"bzzz/engine", "bzzz/store", "bzzz/store/", "bzzz/crdt", "bzzz/merkle/proof", "bzzz/transport", "bzzz/transport/mem", "go.etcd.io/bbolt", "golang.org/x/sys/"},
	"bzzz/internal/demo":            {"bzzz/engine", "bzzz/crdt", "bzzz/transport", "bzzz/transport/mem", "bzzz/internal/ingest", "bzzz/internal/cliout", "bzzz/testdata"},
	"bzzz/crdt":                     {"github.com/ipfs/go-cid", "github.com/multiformats/go-multihash", "github.com/fxamacker/cbor/v2"},
	"bzzz/store":                    {},
	"bzzz/store/mem":                {"bzzz/store", "github.com/tidwall/btree"},
	"bzzz/store/bolt":               {"bzzz/store", "go.etcd.io/bbolt", "go.etcd.io/bbolt/", "golang.org/x/sys/"},
	"bzzz/store/fault":              {"bzzz/store"},
	"bzzz/store/chunk":              {"bzzz/store", "bzzz/merkle/list", "github.com/ipfs/go-cid", "github.com/multiformats/go-multihash"},
	"bzzz/merkle/list":              {"github.com/cbergoon/merkletree"},
	"bzzz/merkle/sketch":            {},
	"bzzz/merkle":                   {"bzzz/store"},
	"bzzz/engine/replica":           {"bzzz/crdt", "bzzz/merkle", "bzzz/merkle/sketch", "bzzz/store", "github.com/RoaringBitmap/roaring/v2", "github.com/ipfs/go-cid"},
	"bzzz/merkle/walk":              {"bzzz/merkle"},
	"bzzz/merkle/proof":             {"bzzz/crdt", "bzzz/merkle"},
	"bzzz/engine/session/wire":      {"bzzz/crdt", "github.com/klauspost/compress/", "github.com/ipfs/go-cid"},
	"bzzz/engine/session":           {"bzzz/crdt", "bzzz/engine/replica", "bzzz/engine/session/wire", "bzzz/merkle/sketch", "bzzz/merkle/walk"},
	"bzzz/engine":                   {"bzzz/crdt", "bzzz/merkle", "bzzz/merkle/proof", "bzzz/store", "bzzz/store/bolt", "bzzz/store/chunk", "bzzz/store/mem", "github.com/ipfs/go-cid", "bzzz/engine/replica", "bzzz/engine/session", "bzzz/engine/session/wire"},
	"bzzz/transport":                {},
	"bzzz/transport/mem":            {"bzzz/transport"},
	"bzzz/cmd/bzzz":                 {"bzzz/", "github.com/spf13/cobra", "golang.org/x/"},
	"bzzz/crdt/crdttest":            {"bzzz/crdt"},
	"bzzz/store/storetest":          {"bzzz/store", "pgregory.net/rapid"},
	"bzzz/transport/transporttest":  {"bzzz/transport"},
	"bzzz/engine/enginetest":        {"bzzz/engine", "bzzz/crdt", "bzzz/store", "bzzz/store/", "bzzz/transport", "bzzz/transport/mem"},
	"bzzz/internal/trace/tracetest": {"bzzz/internal/trace"},
}

func TestDependencyTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range list(t, "./...") {
		seen[p.ImportPath] = true
		may, known := allowed[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the dependency table", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if imp == "bzzz/internal/errs" || isStandard(imp) || slices.ContainsFunc(may, func(a string) bool {
				return imp == a || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a)
			}) {
				continue
			}
			t.Errorf("%s must not import %s", p.ImportPath, imp)
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s is in the dependency table but not in the module", name)
		}
	}
}

// isStandard reports whether a path is the standard library's: its first
// element has no dot.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first != "bzzz" && !strings.Contains(first, ".")
}

// TestSupportStaysInTests: packages named *test are imported from tests only.
func TestSupportStaysInTests(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "bzzz/") && strings.HasSuffix(imp, "test") {
				t.Errorf("%s imports the test support %s", p.ImportPath, imp)
			}
		}
	}
}

// maxThirdParty is how many third-party packages an embedder may come to link.
const maxThirdParty = 50

// TestEmbedderLinksLittle: engine and its default store bring few packages and
// no network stack.
func TestEmbedderLinksLittle(t *testing.T) {
	t.Parallel()
	var third []string
	for _, p := range list(t, "-deps", "./engine", "./store/bolt") {
		switch {
		case p.ImportPath == "net/http", strings.Contains(p.ImportPath, "libp2p/go-libp2p"):
			t.Errorf("an embedder links %s", p.ImportPath)
		case !p.Standard && !strings.HasPrefix(p.ImportPath, "bzzz/"):
			third = append(third, p.ImportPath)
		}
	}
	if len(third) >= maxThirdParty {
		t.Errorf("an embedder links %d third-party packages, want below %d:\n%s", len(third), maxThirdParty, strings.Join(third, "\n"))
	}
	t.Logf("an embedder links %d third-party packages", len(third))
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		var with []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(with), with)
		}
	}
}

// Caps on the length of a file in lines.
const (
	maxLines     = 600
	maxTestLines = 800
)

func TestFileCaps(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			limit := maxLines
			if strings.HasSuffix(name, "_test.go") {
				limit = maxTestLines
			}
			if n := countLines(t, filepath.Join(p.Dir, name)); n > limit {
				t.Errorf("%s/%s has %d lines, at most %d", p.ImportPath, name, n, limit)
			}
		}
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		n++
	}
	return n
}

// TestUnfinishedWords: nothing is left for later.
func TestUnfinishedWords(t *testing.T) {
	t.Parallel()
	words := []string{"TO" + "DO", "FIX" + "ME", "place" + "holder", "not yet " + "implemented"}
	for _, p := range list(t, "./...") {
		for _, name := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range words {
				if bytes.Contains(b, []byte(w)) {
					t.Errorf("%s/%s contains %q", p.ImportPath, name, w)
				}
			}
		}
	}
}
