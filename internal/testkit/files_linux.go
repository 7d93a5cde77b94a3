package testkit

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// OpenFiles counts the descriptors of the process.
func OpenFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}
