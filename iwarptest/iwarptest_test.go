package iwarptest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/iwarptest"
	"github.com/rdmanet/iwarp/transport"
	_ "github.com/rdmanet/iwarp/transport/shm"
)

func TestMain(m *testing.M) {
	if os.Getenv("IWARPTEST_LEAK") != "" {
		os.Exit(m.Run()) // TestCheckLeaks has it fail
	}
	leak.Main(m)
}

const limit = 30 * time.Second

func TestPaths(t *testing.T) {
	want := []iwarptest.Path{iwarptest.Plain, iwarptest.Soft}
	if runtime.GOOS == "linux" {
		want = append(want, iwarptest.Shm)
	}
	require.ElementsMatch(t, want, iwarptest.Paths())
	require.Equal(t, iwarptest.Plain, iwarptest.Paths()[0])
}

// TestPair has bytes, a half-close and the end of the stream go over each path, and over no other.
func TestPair(t *testing.T) {
	iwarptest.Each(t, func(t *testing.T, p iwarptest.Path) {
		iwarptest.CheckLeaks(t)
		client, server := iwarptest.Pair(t, p)
		for _, c := range []net.Conn{client, server} {
			info, ok := iwarp.Describe(c)
			require.True(t, ok)
			require.Equal(t, string(p), info.Transport)
			require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
		}
		require.Equal(t, client.LocalAddr().String(), server.RemoteAddr().String())
		_, err := client.Write([]byte("request"))
		require.NoError(t, err)
		require.NoError(t, client.(interface{ CloseWrite() error }).CloseWrite())
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, "request", string(got))
		_, err = server.Write([]byte("reply"))
		require.NoError(t, err)
		require.NoError(t, server.Close())
		got, err = io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, "reply", string(got))
	})
}

// TestOnlyThePath has a listener of a path turn others away.
func TestOnlyThePath(t *testing.T) {
	l := iwarptest.Listen(t, iwarptest.Soft)
	go testkit.Echo(l)
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(limit)))
	_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestDial(t *testing.T) {
	iwarptest.Each(t, func(t *testing.T, p iwarptest.Path) {
		l := iwarptest.Listen(t, p)
		go testkit.Echo(l)
		c := iwarptest.Dial(t, p, l.Addr())
		testkit.ExchangeWithEcho(t, c, "text")
	})
}

// relayed returns a connection over p to an echo server behind a relay.
func relayed(t *testing.T, p iwarptest.Path) (net.Conn, *iwarptest.Relay) {
	l := iwarptest.Listen(t, p)
	go testkit.Echo(l)
	r := iwarptest.NewRelay(t, l.Addr())
	c := iwarptest.Dial(t, p, r.Addr())
	testkit.ExchangeWithEcho(t, c, "before")
	return c, r
}

var kernelPaths = []iwarptest.Path{iwarptest.Plain, iwarptest.Soft}

func TestRelay(t *testing.T) {
	for _, p := range kernelPaths {
		t.Run("cut/"+string(p), func(t *testing.T) {
			c, r := relayed(t, p)
			r.Cut()
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
		t.Run("stall/"+string(p), func(t *testing.T) {
			c, r := relayed(t, p)
			r.Stall()
			_, err := io.WriteString(c, "late")
			require.NoError(t, err)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			_, err = c.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			r.Resume()
			require.NoError(t, c.SetReadDeadline(time.Now().Add(limit)))
			got := make([]byte, 4)
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			require.Equal(t, "late", string(got))
		})
		t.Run("end/"+string(p), func(t *testing.T) {
			c, _ := relayed(t, p)
			require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
	t.Run("corrupt/tcp", func(t *testing.T) {
		c, r := relayed(t, iwarptest.Plain)
		r.Corrupt()
		_, err := io.WriteString(c, "a")
		require.NoError(t, err)
		got := make([]byte, 1)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.NotEqual(t, "a", string(got), "nothing in TCP finds it")
	})
	t.Run("corrupt/soft", func(t *testing.T) {
		c, r := relayed(t, iwarptest.Soft)
		r.Corrupt()
		_, err := io.WriteString(c, "a")
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		var te *transport.TerminateError
		require.True(t, errors.As(err, &te) || errors.Is(err, syscall.ECONNRESET), "%v", err)
	})
	t.Run("no server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		r := iwarptest.NewRelay(t, l.Addr())
		require.NoError(t, l.Close())
		c, err := net.Dial("tcp", r.Addr().String())
		if err == nil { // else the reset has come sooner
			defer c.Close()
			_, err = c.Read(make([]byte, 1))
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

// TestCheckLeaks runs this program once more, where a connection is left open.
func TestCheckLeaks(t *testing.T) {
	if os.Getenv("IWARPTEST_LEAK") != "" {
		*iwarptest.Settle = 50 * time.Millisecond
		iwarptest.CheckLeaks(t)
		l, err := iwarptest.Plain.ListenConfig().Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		leaked = l
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCheckLeaks$")
	cmd.Env = append(os.Environ(), "IWARPTEST_LEAK=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "still open: listener on 127.0.0.1:")
}

var leaked net.Listener

func BenchmarkRoundTrip(b *testing.B) {
	iwarptest.Each(b, func(b *testing.B, p iwarptest.Path) {
		client, server := iwarptest.Pair(b, p)
		go func() {
			for buf := make([]byte, 64); ; {
				n, err := server.Read(buf)
				if err != nil {
					return
				}
				_, _ = server.Write(buf[:n])
			}
		}()
		buf := make([]byte, 64)
		for b.Loop() {
			if _, err := client.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(client, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func Example() {
	t := new(testing.T) // that of a test
	iwarptest.Each(t, func(t *testing.T, p iwarptest.Path) {
		l := iwarptest.Listen(t, p)
		go testkit.Echo(l) // the service under test
		c := iwarptest.Dial(t, p, l.Addr())
		fmt.Fprintln(c, "hello")
	})
}
