package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// try runs the program with ids that are made up.
func try(ask func() (view, error), args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e, ask)
	return code, o.String(), e.String()
}

func these(list ...id) func() (view, error) {
	return func() (view, error) { return view{ids: list}, nil }
}

func TestCheck(t *testing.T) {
	code, out, errs := try(these(), "--check")
	require.Equal(t, exitFine, code, errs)
	require.Contains(t, out, "no ids")

	free := listening(freePort(t, "127.91.0.1"))
	code, out, errs = try(these(free), "--check")
	require.Equal(t, exitFine, code, errs)
	require.Regexp(t, `(?m)^free +`+free.Local.String()+` +rxe0 +\[test\]`, out)
	require.True(t, isFree(t, free.Local), "it is given back")

	_, a, _ := startOther(t, "127.91.0.1:0")
	code, out, errs = try(these(free, listening(a)), "--check")
	require.Equal(t, exitConflict, code, errs)
	require.Regexp(t, `(?m)^conflict +`+a.String()+` .*listening on .* by other`, out)
	require.Empty(t, errs)

	code, out, errs = try(these(free, listening(freePort(t, "127.91.0.1"))), "--check", "--max", "1")
	require.Equal(t, exitFailed, code, errs)
	require.Contains(t, out, "--max")

	code, _, errs = try(func() (view, error) { return view{}, errors.New("no answer") }, "--check")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "iwarp-portguard: no answer\n", errs)
	for _, args := range [][]string{{"--colour"}, {"--interval", "1ms"}, {"--max", "0"}, {"--check", "--metrics", ":1"}, {"word"}, {"--metrics", "nonsense"}} {
		code, _, errs = try(these(), args...)
		require.Equal(t, exitFailed, code, errs)
	}
	code, _, errs = try(new(source).look, "--check")
	require.NotEqual(t, exitFailed, code, errs)
}

// TestWatch runs the program as a service does.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	require.NoError(t, err)
	defer ready.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	path := filepath.Join(dir, "metrics")
	remains, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	remains.SetUnlinkOnClose(false)
	require.NoError(t, remains.Close())

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, taken, _ := startOther(t, "127.91.0.1:0")
	a := freePort(t, "127.91.0.1")
	ids := make(chan []id, 1)
	ids <- []id{listening(a), listening(taken)}
	var last []id
	var out, errs bytes.Buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"--interval", "10ms", "--metrics", "unix:" + path, "--json"}, &out, &errs, func() (view, error) {
			select {
			case last = <-ids:
			default:
			}
			return view{ids: last}, nil
		})
	}()
	said := make([]byte, 100)
	require.NoError(t, ready.SetReadDeadline(time.Now().Add(20*time.Second)))
	n, err := ready.Read(said)
	require.NoError(t, err)
	require.Equal(t, "READY=1", string(said[:n]))
	require.False(t, isFree(t, a))
	page := scrape(t, path)
	for _, line := range []string{
		"iwarp_portguard_held_ports 1", `iwarp_portguard_unheld_ports{reason="conflict"} 1`, "iwarp_portguard_conflicts_total 1",
		"iwarp_portguard_cm_ids 2", "iwarp_portguard_interval_seconds 0.01", "process_open_fds",
	} {
		require.Contains(t, page, line)
	}
	ids <- nil
	require.Eventually(t, func() bool { return isFree(t, a) }, 20*time.Second, 10*time.Millisecond)
	cancel()
	require.Equal(t, exitFine, <-done, errs.String())
	require.Contains(t, errs.String(), `"level":"WARN"`)
	require.Contains(t, errs.String(), "giving all ports back")
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func scrape(t *testing.T, path string) string {
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	r, err := c.Get("http://portguard/metrics")
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode, string(b))
	return string(b)
}

func TestMetricsAreWellNamed(t *testing.T) {
	problems, err := testutil.GatherAndLint(newMetrics(time.Second).registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestManual(t *testing.T) {
	dir := t.TempDir()
	code, _, errs := try(these(), "man", dir)
	require.Equal(t, exitFine, code, errs)
	page, err := os.ReadFile(filepath.Join(dir, "iwarp-portguard.8"))
	require.NoError(t, err)
	require.Contains(t, string(page), "IWARP-PORTGUARD")
	_, out, _ := try(these(), "completion", "bash")
	require.Contains(t, out, "iwarp-portguard")
}

// TestUnit has systemd check the unit, with a program in the place of the one that is not
// installed.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	unit, err := os.ReadFile("iwarp-portguard.service")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "iwarp-portguard.service")
	unit = bytes.Replace(unit, []byte("ExecStart=/usr/local/sbin/iwarp-portguard"), []byte("ExecStart=/bin/sh"), 1)
	require.NoError(t, os.WriteFile(path, unit, 0o644))
	out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), filepath.Base(path), "nothing is said of it")
}
