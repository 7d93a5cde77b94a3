package iwarp

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		in    string
		ended bool
		want  verdict
	}{
		{"", false, undecided},
		{"", true, plainTCP},
		{"M", false, undecided},
		{"M", true, plainTCP},
		{"m", false, plainTCP},
		{"MPA ID Re", false, undecided},
		{"MPA ID Req Fram", false, undecided},
		{"MPA ID Req Fram", true, plainTCP},
		{"MPA ID Req Frame", false, iwarpRequest},
		{"MPA ID Req Frame", true, iwarpRequest},
		{"MPA ID Req Frame\x40\x02\x00\x00", false, iwarpRequest},
		{"MPA ID Rep Frame", false, plainTCP},
		{"MPA ID Rep", false, plainTCP},
		{"GET / HTTP/1.1\r\n", false, plainTCP},
		{"\x16\x03\x01", false, plainTCP},
		{"\x00", false, plainTCP},
	} {
		require.Equal(t, tt.want, judge([]byte(tt.in), tt.ended), "%q, ended %v", tt.in, tt.ended)
	}
}

// TestFirstBytesLate makes out a connection whose bytes are there when the deadline is found to
// have passed.
func TestFirstBytesLate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for text, want := range map[string]verdict{mpaKey: iwarpRequest, "GET /": plainTCP, "MPA": undecided, "": undecided} {
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		c, err := l.Accept()
		require.NoError(t, err)
		defer c.Close()
		if text != "" {
			_, err = io.WriteString(client, text)
			require.NoError(t, err)
			rc, err := c.(*net.TCPConn).SyscallConn()
			require.NoError(t, err)
			var p peeker
			require.NoError(t, rc.Read(func(fd uintptr) bool {
				_, err := p.peek(fd)
				return err != nil || p.n > 0
			}))
		}
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
		first, err := firstBytes(c.(*net.TCPConn))
		require.Equal(t, beginning{want, min(len(text), keyLen)}, first, "%q", text)
		if want == undecided {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			continue
		}
		require.NoError(t, err)
		got := make([]byte, len(text))
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got), "nothing was taken")
	}
}
