package sniff

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
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
		first, err := FirstBytes(c.(*net.TCPConn), Leave)
		require.Equal(t, Beginning{Verdict: want, N: min(len(text), len(Key))}, first, "%q", text)
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
			client, s := connect(t)
			require.False(t, HungUp(client))
			_, err := io.WriteString(s, tt.say)
			require.NoError(t, err)
			if tt.end != nil {
				require.NoError(t, tt.end(s))
			}
			require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
			_, _ = Look(client, true, Leave) // until the news has come
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

// TestWhole tells a request that is there from one that is still coming.
func TestWhole(t *testing.T) {
	if !CanPeek || runtime.GOOS != "linux" {
		t.Skip("how many bytes are there is known on Linux only")
	}
	header := Key + "\x40\x02\x01\x04"
	for text, want := range map[string]bool{
		Key:                                       false,
		header:                                    false,
		header + strings.Repeat("x", 0x103):       false,
		header + strings.Repeat("x", 0x104):       true,
		header + strings.Repeat("x", 0x105):       true,
		Key + "\x40\x02\x00\x00":                  true,
		"MPA ID Rep Frame\x40\x02\x00\x00":        false,
		"GET / HTTP/1.1\r\nHost: example.org\r\n": false,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		c, err := l.Accept()
		require.NoError(t, err)
		_, err = io.WriteString(client, text)
		require.NoError(t, err)
		first, err := Look(c.(*net.TCPConn), true, Leave)
		require.NoError(t, err)
		require.Equal(t, want, first.Whole, "%q", text)
		for _, c := range []io.Closer{l, client, c} {
			require.NoError(t, c.Close())
		}
	}
}

// FuzzJudge has the first bytes of a connection come one after the other. What they decide must not
// depend on how many are there when somebody looks.
func FuzzJudge(f *testing.F) {
	for _, seed := range []string{"", "M", Key, Key[:15], Key + "\x40\x01\x00\x00", "MPA ID Rep Frame", "GET / HTTP/1.1\r\n", "MPA ID Req frame", "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 2*len(Key))]
		want := PlainTCP
		if strings.HasPrefix(string(b), Key) {
			want = IWARPRequest
		}
		require.Equal(t, want, judge(b, true))
		decided := Undecided
		for n := range len(b) + 1 {
			v := judge(b[:n], false)
			if decided != Undecided {
				require.Equal(t, decided, v)
			}
			decided = v
		}
		if decided != Undecided {
			require.Equal(t, want, decided)
		} else {
			require.True(t, strings.HasPrefix(Key, string(b)))
		}
	})
}

// TestTake finds the same as Leave, and takes the error of a connection that was reset.
func TestTake(t *testing.T) {
	if !CanPeek || runtime.GOOS != "linux" {
		t.Skip("how many bytes are there is known on Linux only")
	}
	request := Key + "\x40\x02\x00\x04abcd"
	for name, tt := range map[string]struct {
		say  string
		end  func(*net.TCPConn) error
		want Beginning
		err  error
	}{
		"request":            {say: request, want: Beginning{IWARPRequest, len(Key), true}},
		"most of a request":  {say: request[:len(request)-1], want: Beginning{IWARPRequest, len(Key), false}},
		"key":                {say: Key, want: Beginning{IWARPRequest, len(Key), false}},
		"something else":     {say: "GET / HTTP/1.1\r\n\r\n", want: Beginning{PlainTCP, len(Key), false}},
		"end within the key": {say: "MPA ID", end: (*net.TCPConn).CloseWrite, want: Beginning{PlainTCP, 6, false}},
		"end":                {end: (*net.TCPConn).CloseWrite, want: Beginning{PlainTCP, 0, false}},
		"reset":              {end: func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }, err: syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			client, c := connect(t)
			first, err := Look(c, false, Take)
			require.NoError(t, err)
			require.Equal(t, Beginning{}, first, "before anything has come")
			_, err = io.WriteString(client, tt.say)
			require.NoError(t, err)
			if tt.end != nil {
				require.NoError(t, tt.end(client))
			}
			require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			first, err = Look(c, true, Take)
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, first)
		})
	}
}

// connect returns the two ends of a connection.
func connect(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}
