package sniff

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
		want  Verdict
	}{
		{"", false, Undecided},
		{"", true, PlainTCP},
		{"M", false, Undecided},
		{"M", true, PlainTCP},
		{"m", false, PlainTCP},
		{"MPA ID Re", false, Undecided},
		{"MPA ID Req Fram", false, Undecided},
		{"MPA ID Req Fram", true, PlainTCP},
		{"MPA ID Req Frame", false, IWARPRequest},
		{"MPA ID Req Frame", true, IWARPRequest},
		{"MPA ID Req Frame\x40\x02\x00\x00", false, IWARPRequest},
		{"MPA ID Rep Frame", false, PlainTCP},
		{"MPA ID Rep", false, PlainTCP},
		{"GET / HTTP/1.1\r\n", false, PlainTCP},
		{"\x16\x03\x01", false, PlainTCP},
		{"\x00", false, PlainTCP},
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
	for text, want := range map[string]Verdict{Key: IWARPRequest, "GET /": PlainTCP, "MPA": Undecided, "": Undecided} {
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
		first, err := FirstBytes(c.(*net.TCPConn))
		require.Equal(t, Beginning{want, min(len(text), len(Key))}, first, "%q", text)
		if want == Undecided {
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

// TestHungUp looks at a connection without taking anything from it.
func TestHungUp(t *testing.T) {
	for name, tt := range map[string]struct {
		say  string
		end  func(*net.TCPConn) error
		want bool
	}{
		"open":           {say: "x"},
		"ended":          {end: (*net.TCPConn).CloseWrite, want: true},
		"said and ended": {say: "x", end: (*net.TCPConn).CloseWrite},
		"reset":          {end: func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			s, err := l.Accept()
			require.NoError(t, err)
			defer s.Close()
			client := c.(*net.TCPConn)
			require.False(t, HungUp(client))
			_, err = io.WriteString(s, tt.say)
			require.NoError(t, err)
			if tt.end != nil {
				require.NoError(t, tt.end(s.(*net.TCPConn)))
			}
			require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
			_, _ = Look(client, true) // until the news has come
			if CanPeek {
				require.Equal(t, tt.want, HungUp(client))
			}
			if tt.say != "" {
				_, err = io.ReadFull(client, make([]byte, 1))
				require.NoError(t, err)
			}
		})
	}
}
