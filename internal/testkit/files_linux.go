package testkit

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// OpenFiles counts the descriptors of the process.
func OpenFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// LimitFiles lets the process have no descriptor from most on, until restore is called or the test
// ends. Each call of exhaust takes what there is, such as what others have closed meanwhile.
func LimitFiles(t testing.TB, most uint64) (exhaust, restore func()) {
	t.Helper()
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(old.Cur, most), Max: old.Max}))
	var taken []int
	exhaust = func() {
		for fd, err := unix.Dup(0); err == nil; fd, err = unix.Dup(0) {
			taken = append(taken, fd)
		}
	}
	restore = func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
		taken = nil
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	}
	t.Cleanup(restore)
	return exhaust, restore
}
