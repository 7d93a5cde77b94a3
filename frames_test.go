package iwarp_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// A wiretap is a relay that knows what has passed.
type wiretap struct {
	mu     sync.Mutex
	bytes  [2][]byte // from the client, and from the server
	change func(way int, b []byte)
}

func (w *wiretap) pass(way int, to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			w.mu.Lock()
			w.bytes[way] = append(w.bytes[way], b[:n]...)
			change := w.change
			w.mu.Unlock()
			if change != nil {
				change(way, b[:n])
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func (w *wiretap) passed(way int) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.bytes[way])
}

// tapped returns both ends of a connection of software iWARP, and what is between them.
func tapped(t *testing.T) (client, server net.Conn, w *wiretap) {
	w = new(wiretap)
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer relay.Close()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	wg.Go(func() {
		from, err := relay.Accept()
		if err != nil {
			return
		}
		defer from.Close()
		to, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return
		}
		defer to.Close()
		var both sync.WaitGroup
		both.Go(func() { w.pass(0, to, from) })
		both.Go(func() { w.pass(1, from, to) })
		both.Wait()
	})
	accepted := make(chan net.Conn, 1)
	wg.Go(func() {
		c, _ := l.Accept()
		accepted <- c
	})
	client, err = (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).Dial("tcp", relay.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	server = <-accepted
	require.NotNil(t, server)
	t.Cleanup(func() { server.Close() })
	return client, server, w
}

func addrsOfConn(c net.Conn) (local, remote netip.AddrPort) {
	return netaddr.Of(c.LocalAddr()), netaddr.Of(c.RemoteAddr())
}

func traceOf(t *testing.T, c net.Conn, payload bool) *frames.Trace {
	local, remote := addrsOfConn(c)
	tr, err := frames.Start(local, remote, frames.Limits{Frames: frames.MostFrames, Time: frames.MostTime, Payload: payload})
	require.NoError(t, err)
	t.Cleanup(tr.Stop)
	return tr
}

// talk sends a little and much both ways, one after the other.
func talk(t *testing.T, a, b net.Conn, fill byte) {
	for _, n := range []int{1, 100, 4097, 9 << 10, 70_001, 300_000} {
		for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
			sent := make(chan error, 1)
			go func() {
				_, err := way[0].Write(bytes.Repeat([]byte{fill}, n))
				sent <- err
			}()
			_, err := io.ReadFull(way[1], make([]byte, n))
			require.NoError(t, err)
			require.NoError(t, <-sent)
		}
	}
}

func all(list []frames.Frame, out bool) (b []byte) {
	for _, f := range list {
		if f.Out == out {
			b = append(b, f.Data...)
		}
	}
	return b
}

// A trace with payload has every byte of every frame, both ways and at both ends.
func TestTraceIsWhatIsOnTheWire(t *testing.T) {
	client, server, w := tapped(t)
	talk(t, client, server, 'x')
	before := [2]int{len(w.passed(0)), len(w.passed(1))}
	traces := []*frames.Trace{traceOf(t, client, true), traceOf(t, server, true)}
	require.True(t, traces[0].Initiator)
	require.False(t, traces[1].Initiator)
	require.True(t, traces[0].CRC && traces[1].CRC)
	talk(t, client, server, 'y')
	require.NoError(t, client.Close())
	_, err := server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, server.Close())
	for end, tr := range traces {
		sent := end // the way
		require.Eventually(t, func() bool {
			list, _ := tr.Frames()
			return bytes.HasSuffix(w.passed(sent), all(list, true)) && bytes.HasSuffix(w.passed(1-sent), all(list, false))
		}, 10*time.Second, 10*time.Millisecond)
		list, _ := tr.Frames()
		// All of it, but for what was on its way when the trace began.
		require.Less(t, len(w.passed(sent))-before[sent]-len(all(list, true)), 1000)
		require.Less(t, len(w.passed(1-sent))-before[1-sent]-len(all(list, false)), 1000)
		for _, f := range list {
			require.Equal(t, f.Size, len(f.Data))
			require.False(t, f.Bad)
			text := tr.Read(&f)
			require.Empty(t, text.Fault)
			require.Contains(t, []string{"RDMA Write", "Send"}, text.Op)
		}
	}
}

// A trace has no payload unless that is asked for.
func TestTraceOfHeaders(t *testing.T) {
	client, server, _ := tapped(t)
	tr := traceOf(t, client, false)
	talk(t, client, server, 'y')
	require.NoError(t, client.Close())
	_, err := server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, server.Close())
	var list []frames.Frame
	require.Eventually(t, func() bool {
		var ended string
		list, ended = tr.Frames()
		return ended == "the connection is closed"
	}, 10*time.Second, time.Millisecond)
	payload, notes := 0, ""
	for _, f := range list {
		require.NotContains(t, string(f.Data), "yyy")
		require.Less(t, len(f.Data), 100)
		text := tr.Read(&f)
		if text.Op == "RDMA Write" && f.Out && text.Note == "" {
			payload += text.Payload
		}
		notes += text.Note + "\n"
	}
	require.GreaterOrEqual(t, payload, 300_000)
	require.Contains(t, notes, "to the table")
	require.Contains(t, notes, "disconnect")
}

// A frame that was changed on its way is in the trace of whoever got it, and so is the answer.
func TestTraceOfTerminate(t *testing.T) {
	client, server, w := tapped(t)
	tr := traceOf(t, server, false)
	w.mu.Lock()
	w.change = func(way int, b []byte) {
		if way == 0 {
			b[len(b)-1] ^= 1
		}
	}
	w.mu.Unlock()
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	_, err = server.Read(make([]byte, 5))
	require.Error(t, err)
	list, _ := tr.Frames()
	require.GreaterOrEqual(t, len(list), 2)
	changed := list[len(list)-2]
	require.True(t, changed.Bad)
	require.NotEmpty(t, tr.Read(&changed).Fault)
	last := tr.Read(&list[len(list)-1])
	require.True(t, list[len(list)-1].Out)
	require.Equal(t, "Terminate", last.Op)
	require.Contains(t, last.Note, "CRC")
}

func TestTraceOfPlainTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := iwarp.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	local, remote := addrsOfConn(c)
	_, err = frames.Start(local, remote, frames.Limits{})
	require.ErrorIs(t, err, frames.ErrPlain)
	_, err = frames.Start(remote, local, frames.Limits{})
	require.ErrorIs(t, err, frames.ErrNotFound)
}
