package main

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/stretchr/testify/require"
)

// start runs a server with args on a free port of loopback and returns the port and a function that
// waits for its end.
func start(t *testing.T, args ...string) (port string, end func() error, out *testkit.Output) {
	pr, pw := io.Pipe()
	out = new(testkit.Output)
	c := config{stdout: out, stderr: pw}
	require.NoError(t, c.parse(append([]string{"-s", "-a", "127.0.0.1", "-p", "0"}, args...)))
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- c.run(ctx)
		pw.Close()
	}()
	lines := make(chan string)
	go func() {
		var b [4096]byte
		for first := true; ; first = false {
			n, err := pr.Read(b[:])
			if err != nil {
				close(lines)
				return
			}
			if first {
				lines <- string(b[:n])
			}
			_, _ = out.Write(b[:n])
		}
	}()
	var err error
	end = sync.OnceValue(func() error {
		select {
		case err = <-done:
		case <-time.After(10 * time.Second):
			t.Error("the server did not end")
		}
		cancel()
		return err
	})
	t.Cleanup(func() { cancel(); _ = end() })
	line, ok := <-lines
	require.True(t, ok, "the server ended at once")
	_, port, err = net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening on ")))
	require.NoError(t, err, line)
	return port, end, out
}

func ping(t *testing.T, port string, args ...string) (stdout, stderr string, err error) {
	var out, errs testkit.Output
	c := config{stdout: &out, stderr: &errs}
	require.NoError(t, c.parse(append([]string{"-c", "-a", "127.0.0.1", "-p", port}, args...)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = c.run(ctx)
	return out.String(), errs.String(), err
}

func TestPing(t *testing.T) {
	for name, c := range map[string]struct {
		both    []string
		client  []string
		crc     string
		content string
	}{
		"default":         {crc: "crc=true", content: "ping data: rdma-ping-2: CDEFG"},
		"without CRC":     {both: []string{"-crc=false"}, crc: "crc=false", content: "ping data: rdma-ping-2: CDEFG"},
		"CRC by one":      {client: []string{"-crc=false"}, crc: "crc=true", content: "ping data: rdma-ping-2: CDEFG"},
		"smallest":        {both: []string{"-S", strconv.Itoa(minSize)}, crc: "crc=true", content: "ping data: rdma-ping-2: CDEFG"},
		"largest":         {both: []string{"-S", strconv.Itoa(maxSize)}, crc: "crc=true", content: "ping data: rdma-ping-2: CDEFG"},
		"with invalidate": {both: []string{"-i"}, crc: "crc=true", content: "ping data: rdma-ping-2: CDEFG"},
	} {
		t.Run(name, func(t *testing.T) {
			port, end, server := start(t, append(c.both, "-v")...)
			stdout, stderr, err := ping(t, port, append(append([]string{"-v", "-V", "-C", "3"}, c.both...), c.client...)...)
			require.NoError(t, err)
			require.Contains(t, stdout, c.content)
			require.Equal(t, 3, strings.Count(stdout, "ping data: rdma-ping-"), stdout)
			require.Contains(t, stderr, c.crc)
			require.NoError(t, end())
			require.Contains(t, server.String(), "server "+c.content)
		})
	}
}

func TestPersistentServer(t *testing.T) {
	port, _, _ := start(t, "-P")
	for range 3 {
		_, _, err := ping(t, port, "-C", "2", "-V")
		require.NoError(t, err)
	}
}

func TestTooLargePing(t *testing.T) {
	port, end, _ := start(t)
	_, _, err := ping(t, port, "-C", "1", "-S", "4096")
	require.Error(t, err)
	require.ErrorContains(t, end(), "start this server with -S 4096")
}

func TestServerWithoutInvalidate(t *testing.T) {
	port, _, _ := start(t)
	_, _, err := ping(t, port, "-C", "1", "-i")
	require.ErrorContains(t, err, "start it with -i as well")
}

func TestRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	_, _, err = ping(t, port, "-C", "1")
	require.Error(t, err)
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"neither end":    {want: "say either -s or -c"},
		"both ends":      {args: []string{"-s", "-c"}, want: "say either -s or -c"},
		"no address":     {args: []string{"-c"}, want: "needs the server's address"},
		"size too small": {args: []string{"-s", "-S", "25"}, want: "size 25 is out of range"},
		"size too large": {args: []string{"-s", "-S", "65536"}, want: "size 65536 is out of range"},
		"negative count": {args: []string{"-c", "-a", "::1", "-C", "-1"}, want: "count -1 is negative"},
		"port":           {args: []string{"-s", "-p", "65536"}, want: "port 65536 is out of range"},
		"argument":       {args: []string{"-s", "x"}, want: `unexpected argument "x"`},
		"unknown flag":   {args: []string{"-x"}, want: "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config{stderr: io.Discard}
			require.ErrorContains(t, cfg.parse(c.args), c.want)
		})
	}
}

func TestInfo(t *testing.T) {
	want := info{offset: 0x0102030405060708, stag: 0x090a0b0c, length: 0x0d0e0f10}
	var b [infoSize]byte
	want.marshal(b[:])
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, b[:])
	var got info
	got.unmarshal(b[:])
	require.Equal(t, want, got)
}

func TestFill(t *testing.T) {
	b := make([]byte, 80)
	fill(b, 1)
	require.Equal(t, "rdma-ping-1: BCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyzABCDEFGHI\x00", string(b))
	require.Len(t, text(b), 79)
}
