package iwarp_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencyList compares what the packages and tests of the module are built from with a list
// that is reviewed like code.
func TestDependencyList(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	got := slices.DeleteFunc(strings.Split(string(out), "\n"), func(s string) bool { return s == "" })
	slices.Sort(got)
	want, err := os.ReadFile("testdata/dependencies.golden")
	require.NoError(t, err)
	require.Equal(t, string(want), strings.Join(slices.Compact(got), "\n")+"\n")
}

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:- )?uses:\s*(.*)$`)
	pinned = regexp.MustCompile(`^[\w-]+/[\w./-]+@[0-9a-f]{40} # v[\d.]+$`)
	grants = regexp.MustCompile(`(?m)^\s+([a-z-]+): write\b`)
)

// TestWorkflows has the actions of workflows pinned by commit, and no more rights given to them
// than it takes.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		text := string(b)
		require.Contains(t, text, "\npermissions:\n  contents: read\n", file)
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			require.Regexp(t, pinned, m[1], file)
		}
		require.Equal(t, strings.Count(text, "actions/checkout@"), strings.Count(text, "persist-credentials: false"), file)
		var rights []string
		for _, m := range grants.FindAllStringSubmatch(text, -1) {
			rights = append(rights, m[1])
		}
		if filepath.Base(file) == "release.yml" {
			require.Equal(t, []string{"contents", "id-token", "attestations"}, rights, file)
		} else {
			require.Empty(t, rights, file)
		}
	}
}

// TestReleaseIsSigned has the workflow of releases sign all files once they are made, and their
// checksums, before anything is handed out, and nothing come from a key that is kept.
func TestReleaseIsSigned(t *testing.T) {
	b, err := os.ReadFile(".github/workflows/release.yml")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "\n    steps:\n")
	for _, step := range []string{
		`- run: \.ci/release dist$`,
		`- uses: actions/attest-build-provenance@.*\n\s+with:\n\s+subject-checksums: dist/SHA256SUMS\b`,
		`- uses: actions/attest-build-provenance@.*\n\s+id: signed\n\s+with:\n\s+subject-path: dist/SHA256SUMS$`,
		`- run: cp "\$BUNDLE" dist/SHA256SUMS\.sigstore\.json\b.*\n\s+env:\n\s+BUNDLE: \$\{\{ steps\.signed\.outputs\.bundle-path }}$`,
		`- run: gh release create .* --draft .* dist/\*$`,
	} {
		at := regexp.MustCompile("(?m)^      " + step).FindStringIndex(rest)
		require.NotNil(t, at, "%s, in this order", step)
		rest = rest[at[1]:]
	}
	require.NotContains(t, string(b), "secrets.")
	page, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "gh attestation verify SHA256SUMS --bundle SHA256SUMS.sigstore.json --repo rdmanet/iwarp")
	require.Contains(t, string(page), "--signer-workflow rdmanet/iwarp/.github/workflows/release.yml --source-ref refs/tags/v")
}
