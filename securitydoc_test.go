package iwarp_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	testName = regexp.MustCompile("`((?:Test|Fuzz)\\w+)(/[^`]+)?`")
)

// TestDocsNameTests finds every test that the pages about security and trust name.
func TestDocsNameTests(t *testing.T) {
	source := make(map[string]string) // by name of a test, the file that has it
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			source[m[1]] += string(b)
		}
		return err
	}))
	for _, page := range []string{"docs/security.md", "docs/limits.md", "docs/trust.md", "SECURITY.md"} {
		b, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range testName.FindAllStringSubmatch(string(b), -1) {
			require.Contains(t, source, m[1], "%s names a test that there is not", page)
			if sub := strings.ReplaceAll(strings.TrimPrefix(m[2], "/"), "_", " "); sub != "" {
				require.Contains(t, source[m[1]], `"`+sub+`"`, "%s names a case of %s that there is not", page, m[1])
			}
		}
	}
}
