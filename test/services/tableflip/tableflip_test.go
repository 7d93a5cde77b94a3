//go:build unix

// Package tableflip upgrades a server by github.com/cloudflare/tableflip.
package tableflip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/test/services/load"
)

const runServer = "SERVICES_RUN_TABLEFLIP"

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	if os.Getenv(runServer) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve is a server as tableflip's documentation has it, but for Wrap and Drain.
func serve() error {
	upg, err := tableflip.New(tableflip.Options{UpgradeTimeout: load.Patience})
	if err != nil {
		return err
	}
	defer upg.Stop()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				upg.Stop()
				continue
			}
			for upg.Upgrade() != nil { // until the process before is gone
				time.Sleep(time.Millisecond)
			}
		}
	}()

	inner, err := upg.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l, err := new(iwarp.ListenConfig).Wrap(inner.(*net.TCPListener))
	if err != nil {
		return err
	}
	var open sync.WaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) }),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Done()
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	if err := upg.Ready(); err != nil {
		return err
	}
	fmt.Println(os.Getpid(), l.Addr())
	<-upg.Exit() // the new process is ready, or the last one is to end

	ctx, cancel := context.WithTimeout(context.Background(), load.Patience)
	defer cancel()
	if err := l.Drain(ctx); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		return err
	}
	srv.SetKeepAlivesEnabled(false) // after what they have under way; Shutdown is not for new ones
	open.Wait()
	return srv.Close()
}

// TestUpgrade replaces the process under load: no request fails.
func TestUpgrade(t *testing.T) {
	const upgrades, requests = 20, 4000
	path, err := os.Executable()
	require.NoError(t, err)
	out, in, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()
	_ = out.SetReadDeadline(time.Now().Add(2 * load.Patience))
	c := exec.Command(path)
	c.Env = append(os.Environ(), runServer+"=1")
	c.Stdout, c.Stderr = in, os.Stderr
	require.NoError(t, c.Start())
	require.NoError(t, in.Close())
	said := bufio.NewReader(out)
	pid, address := next(t, said)
	first := pid
	defer func() {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()

	var newest atomic.Int64
	clients := load.Start(address, func(said string) error {
		n, err := strconv.Atoi(said)
		if err != nil {
			return fmt.Errorf("answer is %q", said)
		}
		newest.Store(int64(n))
		return nil
	})
	defer clients.Stop()
	for n := 1; n <= upgrades; n++ {
		clients.Await(t, n*requests/(upgrades+1))
		require.NoError(t, syscall.Kill(pid, syscall.SIGHUP))
		var again string
		pid, again = next(t, said)
		require.Equal(t, address, again)
		for end := time.Now().Add(load.Patience); newest.Load() != int64(pid); time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(end), "the new process answers")
		}
		if n == 1 {
			require.NoError(t, c.Wait(), "the old process ends in order")
		}
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	require.NotEqual(t, first, pid)
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	pid = 0
	rest, err := io.ReadAll(said) // until the last one has ended
	require.NoError(t, err)
	require.Empty(t, rest)
}

// next returns what the next process says of itself.
func next(t *testing.T, said *bufio.Reader) (pid int, address string) {
	t.Helper()
	_, err := fmt.Fscanln(said, &pid, &address)
	require.NoError(t, err)
	return pid, address
}
