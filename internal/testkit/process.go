package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

// ProcessVariable names what a process that a test starts from its own program must do.
const ProcessVariable = "IWARP_TEST_PROCESS"

// Processes are what there is to do. They return the exit status.
var Processes = map[string]func() int{}

// Command prepares a process that does what Processes has by that name.
func Command(t testing.TB, name string, env ...string) *exec.Cmd {
	t.Helper()
	require.Contains(t, Processes, name)
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(append(os.Environ(), ProcessVariable+"="+name), env...)
	c.Stderr = os.Stderr
	return c
}

// unprivileged counts the tests that were skipped for want of a privilege.
var unprivileged atomic.Int32

// SkipUnprivileged skips a test that lacks a privilege, and counts it.
func SkipUnprivileged(t testing.TB, why any) {
	t.Helper()
	unprivileged.Add(1)
	t.Skip("not privileged: ", why)
}

// Run runs the tests, or in a process that Command has made what that is to do, and exits.
func Run(m *testing.M) {
	if run, ok := Processes[os.Getenv(ProcessVariable)]; ok {
		os.Exit(run())
	}
	leak.Main(noticing{m})
}

// noticing says at the end what was not tested.
type noticing struct{ *testing.M }

func (m noticing) Run() int {
	status := m.M.Run()
	if n := unprivileged.Load(); n > 0 {
		fmt.Printf("NOTICE: %d tests were skipped, as they need root or user namespaces\n", n)
	}
	return status
}
