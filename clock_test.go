package iwarp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMonotonicTime finds what would wait by a clock that can be set: times without the monotonic
// reading that package time compares. time.Unix(1, 0) is a deadline that is over by any clock, and
// the statistics page tells other processes the time of day. Package instant looks for the reading.
func TestMonotonicTime(t *testing.T) {
	wall := map[string]bool{"Unix": true, "UnixNano": true, "UnixMicro": true, "UnixMilli": true, "Local": true, "UTC": true, "In": true, "Truncate": true}
	for _, dir := range []string{".", "rdmanet", "transport", "internal", "iwarphttp"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir():
				if dir == "." && path != "." {
					return fs.SkipDir
				}
				for _, other := range []string{"statpage", "testkit", "instant"} {
					if path == filepath.Join("internal", other) {
						return fs.SkipDir
					}
				}
				return nil
			case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !wall[s.Sel.Name] && s.Sel.Name != "Round" {
					return true
				}
				if of, ok := s.X.(*ast.Ident); ok && of.Name == "time" && s.Sel.Name == "Unix" {
					at, ok := call.Args[0].(*ast.BasicLit)
					require.True(t, ok && at.Value == "1", "%s: a time of the wall clock", set.Position(call.Pos()))
					return true
				}
				if s.Sel.Name == "Round" { // of a Duration, unless it is Round(0)
					at, ok := call.Args[0].(*ast.BasicLit)
					require.False(t, ok && at.Value == "0", "%s: a time loses its monotonic reading", set.Position(call.Pos()))
					return true
				}
				t.Errorf("%s: %s of a time takes the wall clock", set.Position(call.Pos()), s.Sel.Name)
				return true
			})
			return nil
		}))
	}
}
