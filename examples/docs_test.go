package examples

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	_ "github.com/rdmanet/iwarp/grpc"      // for the documents
	_ "github.com/rdmanet/iwarp/iwarptest" // likewise
)

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// packages are those that code in the documents uses, by the name that it has there.
var packages = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "log": "log", "net": "net", "os": "os",
	"testing": "testing", "time": "time",
	"grpc": "google.golang.org/grpc", "insecure": "google.golang.org/grpc/credentials/insecure",
	"iwarp": "github.com/rdmanet/iwarp", "iwarpgrpc": "github.com/rdmanet/iwarp/grpc", "iwarptest": "github.com/rdmanet/iwarp/iwarptest",
}

// given is what a reader of code in the documents knows without being told.
const given = `ctx context.Context, c net.Conn, l net.Listener, d *iwarp.Dialer, handler, health http.Handler,
	creds grpc.DialOption, server *grpc.Server, target string, t *testing.T, myservice interface{ Serve(net.Listener) error }`

// TestDocs compiles each block of Go in the documents.
func TestDocs(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	checked := 0
	imports := exports(t)
	for _, file := range append(files, "../README.md") {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range goBlock.FindAllStringSubmatch(string(b), -1) {
			checked++
			source := sourceOf(m[1])
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, file, source, 0)
			require.NoErrorf(t, err, "%s:\n%s", file, source)
			config := types.Config{Importer: importer.ForCompiler(fset, "gc", imports), Error: func(err error) {
				if e, ok := err.(types.Error); !ok || !e.Soft { // which is something unused
					t.Errorf("%v\n%s", err, source)
				}
			}}
			_, _ = config.Check("docs", fset, []*ast.File{f}, nil)
		}
	}
	require.Greater(t, checked, 10)
}

// sourceOf makes a file of a block, which may be a file, declarations, or statements with "..." for
// what does not matter.
func sourceOf(block string) string {
	block = regexp.MustCompile(`(?m)^\s*\.\.\.$`).ReplaceAllString(block, "")
	if strings.HasPrefix(block, "package ") {
		return block
	}
	declares := strings.HasPrefix(block, "func ")
	if !strings.HasPrefix(block, "import ") && !declares {
		block = "func _(" + given + ") {\n{\n" + block + "\n}\n}"
	}
	var head strings.Builder
	head.WriteString("package docs\n")
	for name, path := range packages {
		if regexp.MustCompile(`\b` + name + `\.`).MatchString(block) {
			fmt.Fprintf(&head, "import %s %q\n", name, path)
		}
	}
	return head.String() + block
}

// exports returns a function that opens what a package exports to those that import it.
func exports(t *testing.T) func(path string) (io.ReadCloser, error) {
	args := []string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}",
		"github.com/rdmanet/iwarp/transport/rnic", "github.com/rdmanet/iwarp/transport/shm"}
	for _, path := range packages {
		args = append(args, path)
	}
	c := exec.CommandContext(t.Context(), "go", args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	require.NoError(t, err)
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, errors.New("not among the packages of the documents")
		}
		return os.Open(files[path])
	}
}
