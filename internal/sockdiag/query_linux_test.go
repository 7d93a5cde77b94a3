package sockdiag

import (
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQuery finds this process's own sockets, of both ends of a connection.
func TestQuery(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()

	list, err := Query(l.Addr().(*net.TCPAddr).AddrPort().Port())
	require.NoError(t, err)
	states := make(map[State]Socket)
	for _, s := range list {
		states[s.State] = s
	}
	require.Len(t, list, 2)
	require.Contains(t, states, Listening)
	require.Equal(t, c.LocalAddr().String(), states[Established].Remote.String())
	all, err := Query(0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(all), 3)

	owners, _ := Owners(states[Listening].Inode, states[Established].Inode, 0)
	require.Len(t, owners, 2)
	require.Equal(t, os.Getpid(), owners[states[Listening].Inode].PID)
	require.NotEmpty(t, owners[states[Listening].Inode].Name)
}

// listening returns a listener and the inode of its socket.
func listening(t testing.TB) (l *net.TCPListener, inode uint32) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	list, err := QueryListening(l.Addr().(*net.TCPAddr).AddrPort().Port())
	require.NoError(t, err)
	require.Len(t, list, 1)
	return l, list[0].Inode
}

// TestElsewhere finds copies of a descriptor, here and in another process, while they are there.
func TestElsewhere(t *testing.T) {
	l, inode := listening(t)
	found := func() bool {
		found, _, err := Elsewhere(inode)
		require.NoError(t, err)
		return found
	}
	require.False(t, found())
	f, err := l.File()
	require.NoError(t, err)
	require.True(t, found())
	c := exec.CommandContext(t.Context(), "cat")
	c.ExtraFiles = []*os.File{f}
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	require.NoError(t, f.Close())
	require.True(t, found())
	require.NoError(t, stdin.Close())
	require.NoError(t, c.Wait())
	require.False(t, found())
}

// TestOwnersAfterEnd is not led astray by where sockets were found before: a process that is gone.
func TestOwnersAfterEnd(t *testing.T) {
	const gone = 1<<22 + 1 // more than there can be
	_, inode := listening(t)
	const nobodys = 1<<32 - 1
	_, complete := Owners(nobodys)
	for i := range mostFound {
		latest.add(gone + i)
	}
	owners, again := Owners(inode, nobodys)
	require.Equal(t, complete, again)
	require.Len(t, owners, 1)
	require.Equal(t, os.Getpid(), owners[inode].PID)
	require.Equal(t, os.Getpid(), latest.list()[0])
	require.Len(t, latest.list(), mostFound)
}

// BenchmarkOwners names the process of a socket.
func BenchmarkOwners(b *testing.B) {
	_, inode := listening(b)
	for b.Loop() {
		owners, _ := Owners(inode)
		require.Len(b, owners, 1)
	}
}

func TestWatchEnds(t *testing.T) {
	w, err := Watch()
	require.NoError(t, err)
	require.NoError(t, w.Wait(time.Millisecond), "nothing happened")
	done := make(chan error)
	go func() { done <- w.Wait(time.Minute) }()
	require.NoError(t, w.Close())
	require.ErrorIs(t, <-done, os.ErrClosed)
}

func BenchmarkQuery(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	for name, query := range map[string]func(uint16) ([]Socket, error){"all": Query, "unconnected": QueryUnconnected} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				list, err := query(port)
				require.NoError(b, err)
				require.Len(b, list, 1)
			}
		})
	}
}

func TestQueryDetailed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write(make([]byte, 1000))
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	_, err = io.ReadFull(s, make([]byte, 100))
	require.NoError(t, err)
	list, err := QueryDetailed()
	require.NoError(t, err)
	at, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	found := 0
	for _, i := range list {
		if i.TCP == nil {
			continue // an earlier connection of the port, in TIME_WAIT
		}
		switch { // another process may have a connection from the same port to another address
		case i.Local == at && i.Remote == to:
			require.EqualValues(t, 1000, i.TCP.BytesOut)
			require.Positive(t, i.TCP.MSS)
			require.Positive(t, i.TCP.Window)
			require.EqualValues(t, 1, i.TCP.SegmentsOut)
			require.Positive(t, i.TCP.RoundTrip)
			found++
		case i.Local == to && i.Remote == at:
			require.EqualValues(t, 1000, i.TCP.BytesIn)
			require.EqualValues(t, 900, i.RecvQueue)
			found++
		}
	}
	require.Equal(t, 2, found)
}
