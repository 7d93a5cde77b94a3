package iwarp_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// openFiles counts the descriptors of the process.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}
