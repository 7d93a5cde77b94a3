//go:build linux

package agent

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func client(t *testing.T) *Client {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = Serve(ln) }()
	t.Cleanup(func() { ln.Close(); <-ended })
	return &Client{Addr: ln.Addr().String()}
}

func TestCommand(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		exit           int
		stdout, stderr string
		fails          bool
	}{
		"output":   {args: []string{"sh", "-c", "echo out; echo err >&2"}, stdout: "out\n", stderr: "err\n"},
		"status":   {args: []string{"sh", "-c", "exit 3"}, exit: 3},
		"signal":   {args: []string{"sh", "-c", "kill -TERM $$"}, exit: -1, fails: true},
		"no start": {args: []string{"/no/such/program"}, exit: -1, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := client(t).Start(t.Context(), c.args...)
			require.NoError(t, err)
			exit, err := p.Wait()
			require.Equal(t, c.fails, err != nil, "%v", err)
			require.Equal(t, c.exit, exit)
			require.Equal(t, c.stdout, p.Stdout())
			require.Equal(t, c.stderr, p.Stderr())
		})
	}
}

func TestWaitOutput(t *testing.T) {
	p, err := client(t).Start(t.Context(), "sh", "-c", "echo ready; exec sleep 60")
	require.NoError(t, err)
	require.NoError(t, p.WaitOutput("ready"))
	p.Kill()
	_, err = p.Wait()
	require.ErrorContains(t, err, "killed")
	require.ErrorContains(t, p.WaitOutput("never"), "without printing")
}

func TestContextEndsCommand(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p, err := client(t).Start(ctx, "sleep", "60")
	require.NoError(t, err)
	_, err = p.Wait()
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
