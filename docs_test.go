package iwarp_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

const operations = "docs/operations.md"

// TestReasonsAreExplained has each Reason in the table of the page for operators, with a cause and
// what to do, and no other.
func TestReasonsAreExplained(t *testing.T) {
	b, err := os.ReadFile(operations)
	require.NoError(t, err)
	_, table, found := strings.Cut(string(b), "| WHY | cause | what to do |\n|---|---|---|\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	explained := make(map[string]bool)
	for row := range strings.Lines(table + "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		require.Len(t, cells, 3, row)
		for _, cell := range cells {
			require.NotEmpty(t, strings.TrimSpace(cell), row)
		}
		var r iwarp.Reason
		name := strings.TrimSpace(cells[0])
		require.NoError(t, r.UnmarshalText([]byte(name)))
		require.False(t, explained[name], name)
		explained[name] = true
	}
	for r := iwarp.ReasonNone; ; r++ {
		name, err := r.MarshalText()
		if err != nil {
			break
		}
		require.True(t, explained[string(name)], "%s has nothing about %q", operations, name)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	mark    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	code    = regexp.MustCompile("(?s)```.*?```")
)

// TestLinks follows the links of the documents to others of them.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	root, err := filepath.Glob("*.md")
	require.NoError(t, err)
	for _, file := range append(files, root...) {
		for _, m := range link.FindAllStringSubmatch(text(t, file), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, ":") {
				continue
			}
			to := file
			if path != "" {
				to = filepath.Join(filepath.Dir(file), path)
				_, err := os.Stat(to)
				require.NoError(t, err, "%s: %s", file, m[1])
			}
			if anchor != "" && filepath.Ext(to) == ".md" {
				require.Contains(t, anchors(text(t, to)), anchor, "%s: %s", file, m[1])
			}
		}
	}
}

func text(t *testing.T, file string) string {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return code.ReplaceAllString(string(b), "")
}

// anchors are those that GitHub makes of headings.
func anchors(text string) (list []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		list = append(list, strings.ReplaceAll(mark.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return list
}
