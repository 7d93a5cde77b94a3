//go:build linux

package kernel

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// A place is where programs run: the guest or this host.
type place struct {
	name string
	agent.Client
}

// theHost is this host, whose programs are started in the same way as the guest's.
var theHost = sync.OnceValues(func() (*place, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = agent.Serve(ln) }()
	return &place{name: "host", Client: agent.Client{Addr: ln.Addr().String()}}, nil
})

// start starts a program for as long as the test runs.
func (p *place) start(t *testing.T, args ...string) *agent.Process {
	t.Helper()
	if p.name == "host" && filepath.Base(args[0]) == args[0] {
		args[0] = filepath.Join(bin, args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), cellLimit)
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

// succeeds waits for the end of the process, which must be a success, and returns its standard output.
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

// A pair tells who runs where, and by which addresses one end finds the other. The C program always runs in the guest.
type pair struct {
	goServes bool
	ours     *place // where our program runs
	listen   string // the server's address and port in its own place
	port     string
	dial     string // the same as the client sees it
	dialPort string
}

// pairs runs test for each role of our program and each place of it.
func pairs(t *testing.T, test func(t *testing.T, g *guest, p func(t *testing.T) pair)) {
	g := theGuest(t)
	host, err := theHost()
	require.NoError(t, err)
	for _, goServes := range []bool{false, true} {
		for _, ours := range []*place{&g.place, host} {
			role := "client"
			if goServes {
				role = "server"
			}
			t.Run(fmt.Sprintf("go=%s/in=%s", role, ours.name), func(t *testing.T) {
				test(t, g, func(t *testing.T) pair { return g.newPair(t, goServes, ours) })
			})
		}
	}
}

func (g *guest) newPair(t *testing.T, goServes bool, ours *place) pair {
	if goServes && ours.name == "host" {
		ports, err := freePorts(1)
		require.NoError(t, err)
		port := strconv.Itoa(ports[0])
		return pair{goServes: true, ours: ours, listen: "127.0.0.1", port: port, dial: hostAddr, dialPort: port}
	}
	inside, outside := g.port()
	p := pair{goServes: goServes, ours: ours, listen: guestAddr, port: strconv.Itoa(inside)}
	p.dial, p.dialPort = p.listen, p.port
	if ours.name == "host" {
		p.dial, p.dialPort = "127.0.0.1", strconv.Itoa(outside)
	}
	return p
}

// roles starts the server, waits until it listens, then starts the client. ours and theirs make the arguments.
func (g *guest) roles(t *testing.T, p pair, ours, theirs func(server bool) []string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	if p.goServes {
		goEnd = p.ours.start(t, ours(true)...)
		require.NoError(t, goEnd.WaitOutput("listening on"))
		return goEnd, g.start(t, theirs(false)...)
	}
	cEnd = g.start(t, theirs(true)...)
	port, err := strconv.Atoi(p.port)
	require.NoError(t, err)
	g.awaitListener(t, cEnd, port)
	return p.ours.start(t, ours(false)...), cEnd
}
