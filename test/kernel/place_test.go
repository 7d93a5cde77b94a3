//go:build linux

package kernel

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// A place is where programs run: the guest or this host.
type place struct {
	name string
	agent.Client
	prefix []string // of every command
}

// theHost is this host, whose programs are started in the same way as the guest's. Only this user
// gets at the socket.
var theHost = sync.OnceValues(func() (*place, error) {
	ln, err := net.Listen("unix", filepath.Join(bin, "agent.sock"))
	if err != nil {
		return nil, err
	}
	go func() { _ = agent.Serve(ln) }()
	return &place{name: "host", Client: agent.Client{Addr: ln.Addr().String()}}, nil
})

// start starts a program for as long as the test runs, and cellLimit at most.
func (p *place) start(t *testing.T, args ...string) *agent.Process {
	t.Helper()
	return p.startFor(t, cellLimit, args...)
}

// startFor is start with a limit of its own.
func (p *place) startFor(t *testing.T, limit time.Duration, args ...string) *agent.Process {
	t.Helper()
	if p.name == "host" && filepath.Base(args[0]) == args[0] {
		args[0] = filepath.Join(bin, args[0])
	}
	args = slices.Concat(p.prefix, args)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	proc, err := p.Start(ctx, args...)
	if err != nil {
		cancel()
		require.NoError(t, err, "%s: %q", p.name, args)
	}
	t.Cleanup(func() {
		proc.Kill()
		cancel()
		if t.Failed() {
			t.Logf("%s: %q\n%s%s", p.name, args, proc.Stdout(), proc.Stderr())
		}
	})
	return proc
}

// again has a client on rdma_cm connect again where the local port that it got is a socket's:
// rdma_cm picks one without a look at those.
func again(client []string) []string {
	const script = `said=/tmp/said.$$
		for i in 1 2 3; do
			"$@" 2>$said
			exit=$?
			[ $exit != 0 ] && grep -q "Address already in use" $said || break
		done
		[ ! -s $said ] || cat $said >&2
		exit $exit`
	return append([]string{"busybox", "sh", "-c", script, "again"}, client...)
}

// succeeds waits for the end of the process, which must be a success, and returns its standard
// output.
func succeeds(t *testing.T, p *agent.Process) string {
	t.Helper()
	exit, err := p.Wait()
	require.NoError(t, err, "%s%s", p.Stdout(), p.Stderr())
	require.Zero(t, exit, "%s%s", p.Stdout(), p.Stderr())
	return p.Stdout()
}

// run runs a program to its end, which must be a success, and returns its standard output.
func (p *place) run(t *testing.T, args ...string) string {
	t.Helper()
	return succeeds(t, p.start(t, args...))
}
