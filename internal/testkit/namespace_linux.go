package testkit

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// namespaceVariable holds the name of the test that a process in a network namespace of its own
// runs.
const namespaceVariable = "IWARP_TEST_NAMESPACE"

// InNamespace has the calling test run in a process of its own, in a new network namespace in which
// only lo is up. It returns true there, and false in the test that waits for it, which is over
// then.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(s)
		lo, err := unix.NewIfreq("lo")
		require.NoError(t, err)
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		require.NoError(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
		return true
	}
	self, err := os.Executable()
	require.NoError(t, err)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=5m"}
	for _, a := range os.Args[1:] {
		if a == "-test.short=true" || !strings.HasPrefix(a, "-test.") {
			args = append(args, a)
		}
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), namespaceVariable+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		SkipUnprivileged(t, err)
	}
	require.NoErrorf(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()+" ") {
		SkipUnprivileged(t, string(out))
	}
	require.Containsf(t, string(out), "--- PASS: "+t.Name(), "%s", out)
	t.Logf("in a network namespace:\n%s", out)
	return false
}

// ProcessElsewhere starts a process in a network namespace of its own, which ends with the test,
// and returns its number. Where that is not allowed, the test is skipped.
func ProcessElsewhere(t testing.TB) (pid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		SkipUnprivileged(t, "only root makes network namespaces")
	}
	c := exec.Command("sleep", "60")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		SkipUnprivileged(t, err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process.Pid
}

// IP runs ip(8).
func IP(t testing.TB, args string) {
	t.Helper()
	path, err := exec.LookPath("ip")
	if err != nil {
		SkipUnprivileged(t, "no ip(8)")
	}
	out, err := exec.Command(path, strings.Fields(args)...).CombinedOutput()
	require.NoErrorf(t, err, "ip %s: %s", args, out)
}

// PortRange sets the range from which the kernel chooses ports in the test's namespace.
func PortRange(t testing.TB, value string) {
	t.Helper()
	require.NotEmpty(t, os.Getenv(namespaceVariable))
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(value), 0))
}
