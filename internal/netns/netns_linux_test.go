package netns

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestCurrent(t *testing.T) {
	name, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	require.Equal(t, name, "net:["+strconv.FormatUint(Current(), 10)+"]")
	require.Zero(t, testing.AllocsPerRun(10, func() { Current() }))
}

// TestAnotherNamespace is what a thread may have of its own.
func TestAnotherNamespace(t *testing.T) {
	before := Current()
	other := make(chan uint64)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		if unix.Unshare(unix.CLONE_NEWNET) != nil {
			close(other)
			return
		}
		other <- Current()
	}()
	got, ok := <-other
	if !ok {
		t.Skip("no namespace can be made")
	}
	require.NotEqual(t, before, got)
	require.Equal(t, before, Current())
}
