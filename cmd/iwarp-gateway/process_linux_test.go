package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
)

const (
	asProgram     = "IWARP_GATEWAY_TEST"           // has this program be the gateway
	onlyTransport = "IWARP_GATEWAY_TEST_TRANSPORT" // which uses no other than that of this name
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		for _, one := range transport.Registered() {
			if one.Name() == os.Getenv(onlyTransport) {
				transports = []transport.Transport{one}
			}
		}
		main()
		return
	}
	leak.Main(m)
}

var takenOver = regexp.MustCompile(`has taken over" pid=(\d+)`)

// TestHandOver has one process after another take over while clients ask all the time.
func TestHandOver(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer web.Close()
	log := new(testkit.Output)
	address, admin, removed := testkit.ClosedPort(t), testkit.ClosedPort(t), testkit.ClosedPort(t)
	file := filepath.Join(t.TempDir(), "gateway.toml")
	mapping := "[[mapping]]\nlisten = \"tcp://%s\"\ntarget = \"tcp://" + web.Listener.Addr().String() + "\"\n"
	kept := fmt.Sprintf(mapping, address)
	require.NoError(t, os.WriteFile(file, []byte(kept+fmt.Sprintf(mapping, removed)), 0o600))
	p := exec.Command(os.Args[0], "--drain", "20s", "--admin", admin, "--config", file)
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stderr = log
	p.WaitDelay = limit
	require.NoError(t, p.Start())
	pid := p.Process.Pid
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	listening := func(n int) func() bool {
		return func() bool { return strings.Count(log.String(), "msg=listening") == n }
	}
	require.Eventually(t, listening(2), limit, time.Millisecond, "%s", log)

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var answers atomic.Int64
	for range 4 {
		clients.Go(func() {
			transport := &http.Transport{DisableKeepAlives: true}
			for ctx.Err() == nil {
				r, err := (&http.Client{Transport: transport, Timeout: limit}).Post("http://"+address, "text/plain", strings.NewReader("whole"))
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || string(b) != "whole" {
					t.Errorf("answer: %q, %v", b, err)
					return
				}
				answers.Add(1)
			}
		})
	}
	requireHealthy := func() {
		t.Helper()
		r, err := http.Get("http://" + admin + "/healthz")
		require.NoError(t, err)
		r.Body.Close()
		require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, r.StatusCode, "the old process may answer")
	}
	for i := range 3 {
		before := answers.Load()
		if i == 1 {
			require.NoError(t, os.WriteFile(file, []byte(kept), 0o600))
		}
		require.NoError(t, syscall.Kill(pid, syscall.SIGHUP))
		require.Eventually(t, func() bool {
			all := takenOver.FindAllStringSubmatch(log.String(), -1)
			if len(all) <= i {
				return false
			}
			pid, _ = strconv.Atoi(all[i][1])
			return true
		}, limit, time.Millisecond, "%s", log)
		require.Eventually(t, func() bool { return answers.Load() > before+20 || t.Failed() }, limit, time.Millisecond)
		requireHealthy()
	}
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", removed)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, limit, time.Millisecond, "nobody holds the port of a mapping that was removed")
	cancel()
	clients.Wait()
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	require.NoError(t, p.Wait(), "%s", log)
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil || isZombie(pid) }, limit, time.Millisecond)
	t.Logf("%d answers", answers.Load())
}

// TestFailedHandOver ends a gateway whose successor could not start. The client that waits for its
// turn is carried, and not reset.
func TestFailedHandOver(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer target.Close()
	go testkit.Echo(target)
	log, address := new(testkit.Output), testkit.ClosedPort(t)
	file := filepath.Join(t.TempDir(), "gateway.toml")
	mapping := fmt.Sprintf("[[mapping]]\nlisten = \"tcp://%s\"\ntarget = \"tcp://%s\"\nmax = 1\n", address, target.Addr())
	require.NoError(t, os.WriteFile(file, []byte(mapping), 0o600))
	p := exec.CommandContext(t.Context(), os.Args[0], "--drain", limit.String(), "--config", file)
	p.Env, p.Stderr, p.WaitDelay = append(os.Environ(), asProgram+"=1"), log, limit
	require.NoError(t, p.Start())
	says := func(what string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(log.String(), what) }, limit, time.Millisecond, "%s", log)
	}
	says("msg=listening")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	first := dial()
	testkit.ExchangeWithEcho(t, first, "hello")
	require.NoError(t, os.WriteFile(file, []byte("no mapping"), 0o600))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	says("no other process takes over")
	waits := dial()
	_, err = io.WriteString(waits, "hello")
	require.NoError(t, err)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	says("msg=draining")
	require.NoError(t, first.Close())
	require.NoError(t, waits.SetDeadline(time.Now().Add(limit)))
	_, err = io.ReadFull(waits, make([]byte, len("hello")))
	require.NoError(t, err, "%s", log)
	require.NoError(t, waits.Close())
	require.NoError(t, p.Wait(), "%s", log)
}

// isZombie reports whether a process has ended and waits to be noticed.
func isZombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}
