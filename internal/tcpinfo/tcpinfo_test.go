package tcpinfo_test

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/tcpinfo"
)

func TestOf(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer d.Close()
	c := d.(*net.TCPConn)
	info, ok := tcpinfo.Of(c)
	if runtime.GOOS != "linux" {
		require.False(t, ok)
		return
	}
	require.True(t, ok)
	require.Positive(t, info.RoundTrip)
	require.False(t, info.Sent)
	require.False(t, info.Unacked)

	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	began := time.Now()
	for idle := 0; idle < 3; idle++ { // until the peer has no room for more
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(5*time.Millisecond)))
		n, err := c.Write(make([]byte, 1<<20))
		if n > 0 {
			idle = 0
		} else {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
	info, ok = tcpinfo.Of(c)
	require.True(t, ok)
	require.True(t, info.Sent)
	require.True(t, info.Unacked)
	require.LessOrEqual(t, info.SinceAck, time.Since(began)+time.Second)

	require.NoError(t, c.Close())
	_, ok = tcpinfo.Of(c)
	require.False(t, ok)
}
