package iwarp_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// A logbook is where a logger of a test writes.
type logbook struct{ testkit.Output }

// count returns how many lines have all of the words.
func (l *logbook) count(words ...string) (n int) {
next:
	for line := range strings.Lines(l.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		n++
	}
	return n
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestLogPath tells of the path of each connection, at both ends.
func TestLogPath(t *testing.T) {
	var client, server logbook
	l := listen(t, iwarp.ListenConfig{Logger: server.logger(), FirstByteTimeout: patience})
	meet(t, l, func() net.Conn {
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Logger: client.logger()}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	})
	for _, b := range []*logbook{&client, &server} {
		require.Equal(t, 1, b.count("level=DEBUG", `"iwarp: connected"`, "path.transport=soft", l.Addr().String()))
		require.Equal(t, 1, b.count())
	}
}

// TestLogFallback tells of a fallback once for each peer and reason, and then only in detail.
func TestLogFallback(t *testing.T) {
	var b logbook
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d := iwarp.Dialer{Logger: b.logger()}
	for range 3 {
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	require.Equal(t, 1, b.count("level=INFO", `"iwarp: plain TCP"`, `path.reason="no rdma device"`, l.Addr().String()))
	require.Equal(t, 2, b.count("level=DEBUG", `path.reason="no rdma device"`))

	d.Offload = iwarp.OffloadNever // as wanted
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Equal(t, 1, b.count("level=DEBUG", "path.reason=policy"))
}

// TestLogRefusal tells of what a listener and a dial refuse.
func TestLogRefusal(t *testing.T) {
	var b logbook
	l := listen(t, iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Logger: b.logger()})
	acceptEach(t, l)
	c := dialTCP(t, l)
	_, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	eventually(t, func() bool {
		return b.count("level=WARN", `"iwarp: client of plain TCP refused"`, c.LocalAddr().String()) == 1
	}, "a refusal")

	var dials logbook
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{}, Logger: dials.logger()}
	_, err = d.Dial("tcp", l.Addr().String())
	require.Error(t, err)
	require.Equal(t, 1, dials.count("level=INFO", `"iwarp: no connection"`, `reason="no rdma device"`))
}

// TestLogFailure tells of a connection that ends by a fault, but not of one that is closed.
func TestLogFailure(t *testing.T) {
	var b logbook
	l := listen(t, iwarp.ListenConfig{Logger: b.logger(), FirstByteTimeout: patience})
	for _, linger := range []int{-1, 0} {
		c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
		require.NoError(t, c.(*rdmanet.Conn).SetLinger(linger))
		require.NoError(t, c.Close())
		_, err := s.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, s.Close())
	}
	failed := []string{"level=INFO", `"iwarp: connection failed"`, "path.transport=soft", syscall.ECONNRESET.Error()}
	eventually(t, func() bool { return b.count(failed...) == 1 }, "a failure")
	require.Equal(t, 1, b.count("connection failed"))
}

// TestSetLogger hears of what has no logger of its own, and of conflicts.
func TestSetLogger(t *testing.T) {
	var b logbook
	iwarp.SetLogger(b.logger())
	defer iwarp.SetLogger(nil)
	l := listen(t, iwarp.ListenConfig{})
	for range 2 {
		_, err := iwarp.Listen("tcp", l.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
	require.Equal(t, 2, b.count("level=WARN", `"iwarp: port conflict"`, l.Addr().String()))
	_, err := iwarp.DefaultPortSpace.Reserve(context.Background(), "tcp", l.Addr().String())
	require.Error(t, err)
	require.Equal(t, 3, b.count(`"iwarp: port conflict"`))
	iwarp.SetLogger(nil)
	_, err = iwarp.Listen("tcp", l.Addr().String())
	require.Error(t, err)
	require.Equal(t, 3, b.count())
}
