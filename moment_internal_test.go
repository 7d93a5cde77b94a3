package iwarp

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/sniff"
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
