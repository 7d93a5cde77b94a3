// Package coredns asks CoreDNS over iWARP, through iwarp-gateway, while it reloads its
// configuration.
package coredns

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
)

const (
	patience = time.Minute
	reloads  = 5
	queries  = 20 // between two reloads, at least
)

// TestReload asks all the time: no query fails, and each goes by iWARP.
func TestReload(t *testing.T) {
	bin := t.TempDir()
	build(t, ".", bin, "./server")
	build(t, "../../cmd", bin, "./iwarp-gateway")
	to, at := testkit.ClosedPort(t), testkit.ClosedPort(t)
	_, port, err := net.SplitHostPort(to)
	require.NoError(t, err)
	corefile := filepath.Join(bin, "Corefile")
	config := fmt.Sprintf("service.example.:%s {\n bind 127.0.0.1\n errors\n hosts {\n 192.0.2.7 service.example\n }\n}\n", port)
	require.NoError(t, os.WriteFile(corefile, []byte(config), 0o600))
	server, said := start(t, filepath.Join(bin, "server"), "-conf", corefile)
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "CoreDNS-") }, patience, time.Millisecond, "%s", said)
	gateway, log := start(t, filepath.Join(bin, "iwarp-gateway"), "iwarp://"+at+"=tcp://"+to)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "msg=listening") }, patience, time.Millisecond, "%s", log)

	d := iwarp.Dialer{Offload: iwarp.OffloadRequire}
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", at)
	}}
	ask := func(n int) {
		for range n {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			addrs, err := resolver.LookupHost(ctx, "service.example.")
			cancel()
			require.NoError(t, err)
			require.Equal(t, []string{"192.0.2.7"}, addrs)
		}
	}
	ask(1)
	for i := range reloads {
		require.NoError(t, server.Signal(syscall.SIGUSR1))
		for ask(queries); strings.Count(said.String(), "Reloading complete") <= i; {
			ask(1)
			require.NotContains(t, said.String(), "ERROR")
		}
	}
	require.NoError(t, gateway.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "draining") }, patience, time.Millisecond)
	require.Contains(t, log.String(), "soft", "the path of the clients")
}

func build(t *testing.T, dir, to, what string) {
	c := exec.CommandContext(t.Context(), "go", "build", "-C", dir, "-o", to+"/", what)
	out, err := c.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}

// start runs a program until the end of the test.
func start(t *testing.T, program string, args ...string) (*os.Process, *testkit.Output) {
	o := new(testkit.Output)
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = o, o
	c.WaitDelay = patience
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process, o
}
