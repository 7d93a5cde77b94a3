package iwarp

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// TestMoment waits for a client that is about to ask, and no longer than a moment for one that is
// silent; after such a one it waits for none for a while.
func TestMoment(t *testing.T) {
	if !sniff.CanPeek {
		t.Skip("first bytes cannot be looked at")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	connect := func() (client net.Conn, c *net.TCPConn) {
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { client.Close() })
		s, err := l.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		return client, s.(*net.TCPConn)
	}
	var quick, m moment
	asks, c := connect()
	_, err = io.WriteString(asks, sniff.Key)
	require.NoError(t, err)
	first, err := quick.await(c)
	require.NoError(t, err)
	require.Equal(t, sniff.IWARPRequest, first.Verdict)

	_, silent := connect()
	first, err = m.await(silent)
	require.NoError(t, err)
	require.Equal(t, sniff.Undecided, first.Verdict)
	require.Equal(t, momentPause, m.pause)
	require.NoError(t, silent.SetReadDeadline(time.Now().Add(time.Hour)), "the caller's again")

	for range momentPause {
		require.False(t, m.begin(silent))
	}
	require.True(t, m.begin(silent))
	require.False(t, m.begin(c), "one has it")
	over := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.c == nil
	}
	require.Eventually(t, over, time.Minute, time.Millisecond, "the timer ends it")
}

// TestResetClientOfRequire counts a client that has hung up as one that failed, and not as one of
// plain TCP: its error is told once, to whoever looks first.
func TestResetClientOfRequire(t *testing.T) {
	if !sniff.CanPeek {
		t.Skip("first bytes cannot be looked at")
	}
	lc := ListenConfig{Offload: OffloadRequire, Transports: []transport.Transport{soft.New(nil)}}
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := ln.(*Listener)
	const clients = 20
	for range clients {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		require.NoError(t, c.Close())
	}
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	require.Eventually(t, func() bool { return l.counters.failed.Load() == clients }, time.Minute, time.Millisecond)
	require.Zero(t, l.counters.refused.Load())
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}
