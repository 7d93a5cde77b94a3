package proc

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/testkit"
)

func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	require.Equal(t, pid, Leader(uint32(unix.Gettid())))
	uid, ok := User(pid)
	require.True(t, ok)
	require.EqualValues(t, os.Geteuid(), uid)
	require.Equal(t, "proc.test", Name(pid))
	require.NotZero(t, Netns(0))
	require.Equal(t, Netns(0), Netns(pid))
}

func TestNoProcess(t *testing.T) {
	require.Equal(t, 1<<30, Leader(1<<30))
	_, ok := User(1 << 30)
	require.False(t, ok)
	require.Equal(t, "?", Name(1<<30))
	require.Zero(t, Netns(1<<30))
	require.False(t, Elsewhere(1<<30))
}

func TestElsewhere(t *testing.T) {
	require.False(t, Elsewhere(os.Getpid()))
	require.True(t, Elsewhere(testkit.ProcessElsewhere(t)))
}
