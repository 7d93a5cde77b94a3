//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

const runMain = "RESTART_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	leak.Main(m)
}

// TestRestart replaces the server several times under load, on both paths: every request gets its
// whole answer.
func TestRestart(t *testing.T) {
	path, err := os.Executable()
	require.NoError(t, err)
	out, in, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()
	c := exec.Command(path, "-listen", "127.0.0.1:0")
	c.Env = append(os.Environ(), runMain+"=1")
	c.Stdout, c.Stderr = in, os.Stderr
	require.NoError(t, c.Start())
	require.NoError(t, in.Close())
	said := bufio.NewScanner(out)
	pid, address := next(t, said)
	last := pid
	defer func() {
		p, err := os.FindProcess(last)
		require.NoError(t, err)
		_ = p.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out) // until the last one has ended
	}()

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answered atomic.Int64
	var failures sync.Map
	for i := range 8 {
		d := &iwarp.Dialer{Offload: []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever}[i%2], Timeout: patience}
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.DialContext, tr.DisableKeepAlives = d.DialContext, i%4 < 2
		client := &http.Client{Transport: tr, Timeout: patience}
		clients.Go(func() {
			defer tr.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := whole(client, address); err != nil {
					failures.Store(err.Error(), d.Offload)
					continue
				}
				answered.Add(1)
			}
		})
	}
	for range 20 {
		before := answered.Load()
		for end := time.Now().Add(patience); answered.Load() < before+50; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(end), "requests are answered")
		}
		p, err := os.FindProcess(last)
		require.NoError(t, err)
		require.NoError(t, p.Signal(syscall.SIGHUP))
		var again string
		last, again = next(t, said)
		require.Equal(t, address, again)
	}
	close(stop)
	clients.Wait()
	failures.Range(func(err, policy any) bool {
		t.Errorf("%v: %v", policy, err)
		return true
	})
	require.NoError(t, c.Wait(), "the first process ends in order")
	t.Log(answered.Load(), "requests")
}

// next returns what the next process says of itself.
func next(t *testing.T, said *bufio.Scanner) (pid int, address string) {
	t.Helper()
	require.True(t, said.Scan())
	words := strings.Fields(said.Text())
	require.Len(t, words, 5, said.Text())
	pid, err := strconv.Atoi(words[1])
	require.NoError(t, err)
	return pid, words[4]
}

func whole(client *http.Client, address string) error {
	resp, err := client.Get("http://" + address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && !strings.HasSuffix(string(b), "whole\n") {
		err = fmt.Errorf("answer is %q", b)
	}
	return err
}
