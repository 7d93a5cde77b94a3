package iwarp_test

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// processVariable names what a process that a test starts from its own program is to do.
const processVariable = "IWARP_TEST_PROCESS"

// processes are what there is to do. They return the exit status.
var processes = map[string]func() int{}

// command prepares a process that does what processes has by that name.
func command(t testing.TB, name string, env ...string) *exec.Cmd {
	t.Helper()
	require.Contains(t, processes, name)
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(append(os.Environ(), processVariable+"="+name), env...)
	c.Stderr = os.Stderr
	return c
}

// unprivileged counts the tests that were skipped for want of a privilege.
var unprivileged atomic.Int32

func skipUnprivileged(t testing.TB, why any) {
	t.Helper()
	unprivileged.Add(1)
	t.Skip("not privileged: ", why)
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
