package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// TestDocument replaces what is between the marks of the very documents, in a copy.
func TestDocument(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "docs"), 0o755))
	r := reportOf(false, map[string]float64{lab.TCP: 1, lab.TCPAgain: 1.01, lab.SoftCRC: 1.23})
	for _, x := range r.Results {
		x.brief = true
	}
	for _, name := range []string{"README.md", "docs/performance.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", name))
		require.NoError(t, err)
		require.Error(t, r.document(folder), "nothing to write into")
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), b, 0o644))
	}
	require.NoError(t, r.document(folder))
	for _, name := range []string{"README.md", "docs/performance.md"} {
		once, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		require.Contains(t, string(once), "1.23")
		require.NoError(t, r.document(folder))
		again, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		require.Equal(t, string(once), string(again))
	}
}
