package iwarp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// A stream is what connections of every path have of a net.TCPConn.
type stream interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
	SetKeepAlive(bool) error
}

// A client is the end that the test calls, with the socket below.
type client struct {
	stream
	socket syscall.RawConn
}

// states of TCP connections, as Linux numbers them
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpTimeWait    = 6
	tcpClosed      = 7
)

// look returns the state of the TCP connection, and how many bytes are unread and not acknowledged.
func (c *client) look() (state uint8, unread int, unacked uint32) {
	state = tcpClosed
	_ = c.socket.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state, unacked = info.State, info.Unacked
		}
		unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return state, unread, unacked
}

// awaitArrival waits until the peer has ended something, or sent.
func (c *client) awaitArrival(t testing.TB) {
	eventually(t, func() bool {
		state, unread, _ := c.look()
		return unread > 0 || !slices.Contains([]uint8{tcpEstablished, tcpFinWait1, tcpFinWait2}, state)
	}, "what the peer does arrives")
}

// awaitDelivery waits until the peer's host has what c has written.
func (c *client) awaitDelivery(t testing.TB) {
	eventually(t, func() bool { _, _, unacked := c.look(); return unacked == 0 }, "it is delivered")
}

// awaitEnd waits until the kernel has nothing to do for c any more.
func (c *client) awaitEnd(t testing.TB) {
	eventually(t, func() bool { state, _, _ := c.look(); return state == tcpTimeWait || state == tcpClosed }, "the peer's kernel answers")
}

var ten = []byte("0123456789")

// A situation is what c, whose peer is s, can be in when it is called.
type situation struct {
	name  string
	enter func(t *testing.T, c *client, s stream)
	waits bool // nothing would end a second Read
	quiet bool // nor the first
	gone  bool // the peer has closed, so the kernel answers what is written with a reset
	late  bool // nobody has looked at that yet
	shut  bool // c has closed both directions, but the peer has not
}

func write(t *testing.T, c stream) {
	_, err := c.Write(ten)
	require.NoError(t, err)
}

// leave closes s with something of c's unread.
func leave(t *testing.T, c *client, s stream) {
	write(t, c)
	c.awaitDelivery(t)
	require.NoError(t, s.Close())
	c.awaitArrival(t)
}

func reset(t *testing.T, c *client, s stream) {
	require.NoError(t, s.SetLinger(0))
	require.NoError(t, s.Close())
	c.awaitArrival(t)
}

func finish(t *testing.T, c *client, s stream) {
	require.NoError(t, s.Close())
	c.awaitArrival(t)
}

func read(t *testing.T, c stream) { _, _ = c.Read(make([]byte, 1)) }

var situations = []situation{
	{name: "data", waits: true, enter: func(t *testing.T, c *client, s stream) { write(t, s) }},
	{name: "peer closed", gone: true, late: true, enter: finish},
	{name: "peer closed, seen", gone: true, enter: func(t *testing.T, c *client, s stream) { finish(t, c, s); read(t, c) }},
	{name: "data, peer closed", gone: true, late: true, enter: func(t *testing.T, c *client, s stream) { write(t, s); finish(t, c, s) }},
	{name: "peer closed with data unread", gone: true, late: true, enter: leave},
	{name: "peer closed with data unread, seen", gone: true, enter: func(t *testing.T, c *client, s stream) { leave(t, c, s); read(t, c) }},
	{name: "data, peer closed with data unread", gone: true, late: true, enter: func(t *testing.T, c *client, s stream) { write(t, s); leave(t, c, s) }},
	{name: "peer reset", gone: true, late: true, enter: reset},
	{name: "peer reset, seen", gone: true, enter: func(t *testing.T, c *client, s stream) { reset(t, c, s); read(t, c) }},
	{name: "data, peer reset", gone: true, late: true, enter: func(t *testing.T, c *client, s stream) { write(t, s); reset(t, c, s) }},
	{name: "peer CloseWrite", enter: func(t *testing.T, c *client, s stream) { require.NoError(t, s.CloseWrite()); c.awaitArrival(t) }},
	{name: "peer CloseWrite, seen", enter: func(t *testing.T, c *client, s stream) { require.NoError(t, s.CloseWrite()); read(t, c) }},
	{name: "Close", enter: func(t *testing.T, c *client, s stream) { require.NoError(t, c.Close()) }},
	{name: "CloseWrite", waits: true, quiet: true, enter: func(t *testing.T, c *client, s stream) { require.NoError(t, c.CloseWrite()) }},
	{name: "CloseWrite, peer closed", gone: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseWrite())
		read(t, s)
		finish(t, c, s)
	}},
	{name: "CloseWrite, data, peer closed", gone: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseWrite())
		read(t, s)
		write(t, s)
		finish(t, c, s)
	}},
	{name: "CloseWrite, peer closed, seen", gone: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseWrite())
		read(t, s)
		finish(t, c, s)
		read(t, c)
	}},
	{name: "peer CloseWrite, seen, CloseWrite", enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, s.CloseWrite())
		read(t, c)
		require.NoError(t, c.CloseWrite())
		read(t, s)
	}},
	{name: "CloseRead", enter: func(t *testing.T, c *client, s stream) { require.NoError(t, c.CloseRead()) }},
	{name: "data, CloseRead", enter: func(t *testing.T, c *client, s stream) {
		write(t, s)
		c.awaitArrival(t)
		require.NoError(t, c.CloseRead())
	}},
	{name: "CloseRead, data", enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseRead())
		write(t, s)
		c.awaitArrival(t)
	}},
	{name: "CloseRead, peer closed", gone: true, late: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseRead())
		finish(t, c, s)
	}},
	{name: "CloseRead, peer reset", gone: true, late: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseRead())
		reset(t, c, s)
	}},
	{name: "CloseRead, CloseWrite", shut: true, enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseRead())
		require.NoError(t, c.CloseWrite())
	}},
	{name: "deadline", enter: func(t *testing.T, c *client, s stream) { require.NoError(t, c.SetDeadline(time.Unix(1, 0))) }},
	{name: "data, deadline", enter: func(t *testing.T, c *client, s stream) {
		write(t, s)
		require.NoError(t, c.SetDeadline(time.Unix(1, 0)))
	}},
	{name: "peer closed, deadline", late: true, gone: true, enter: func(t *testing.T, c *client, s stream) {
		finish(t, c, s)
		require.NoError(t, c.SetDeadline(time.Unix(1, 0)))
	}},
	{name: "CloseWrite, deadline", enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseWrite())
		require.NoError(t, c.SetDeadline(time.Unix(1, 0)))
	}},
	{name: "CloseRead, deadline", enter: func(t *testing.T, c *client, s stream) {
		require.NoError(t, c.CloseRead())
		require.NoError(t, c.SetDeadline(time.Unix(1, 0)))
	}},
}

// A streamCall is a call of c. It takes as a count what has none.
type streamCall struct {
	name string
	call func(c stream) (int64, error)
}

func wide(n int, err error) (int64, error) { return int64(n), err }

var streamCalls = []streamCall{
	{"Read", func(c stream) (int64, error) { return wide(c.Read(make([]byte, 100))) }},
	{"Read of nothing", func(c stream) (int64, error) { return wide(c.Read(nil)) }},
	{"WriteTo", func(c stream) (int64, error) { return c.WriteTo(struct{ io.Writer }{io.Discard}) }},
	{"Write", func(c stream) (int64, error) { return wide(c.Write(ten)) }},
	{"Write of nothing", func(c stream) (int64, error) { return wide(c.Write(nil)) }},
	{"ReadFrom", func(c stream) (int64, error) { return c.ReadFrom(struct{ io.Reader }{bytes.NewReader(ten)}) }},
	{"ReadFrom buffers", func(c stream) (int64, error) { return c.ReadFrom(&net.Buffers{ten[:4], ten[4:]}) }},
	{"ReadFrom empty buffers", func(c stream) (int64, error) { return c.ReadFrom(&net.Buffers{nil}) }},
	{"CloseRead", func(c stream) (int64, error) { return 0, c.CloseRead() }},
	{"CloseWrite", func(c stream) (int64, error) { return 0, c.CloseWrite() }},
	{"SetDeadline", func(c stream) (int64, error) { return 0, c.SetDeadline(time.Unix(1, 0)) }},
	{"SetNoDelay", func(c stream) (int64, error) { return 0, c.SetNoDelay(true) }},
	{"SetLinger", func(c stream) (int64, error) { return 0, c.SetLinger(5) }},
	{"SetKeepAlive", func(c stream) (int64, error) { return 0, c.SetKeepAlive(true) }},
	{"Close", func(c stream) (int64, error) { return 0, c.Close() }},
}

func (k *streamCall) reads() bool { return k.name == "Read" || k.name == "WriteTo" }
func (k *streamCall) writes() bool {
	return strings.HasPrefix(k.name, "Write of") || k.name == "Write" || strings.HasPrefix(k.name, "ReadFrom")
}

// classOf says what a program can learn from a result: the count, and what is known of the error.
func classOf(c net.Conn, n int64, err error) string {
	if err == nil {
		return fmt.Sprint(n, " nil")
	}
	s := fmt.Sprint(n)
	for _, class := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN,
		errors.ErrUnsupported,
	} {
		if errors.Is(err, class) {
			s += fmt.Sprintf(" %q", class)
		}
	}
	if err == io.EOF {
		return s + " itself"
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		s += " timeout"
	}
	op, ok := err.(*net.OpError)
	if !ok {
		return s + fmt.Sprintf(" %T", err)
	}
	s += " " + op.Op + " " + op.Net
	for _, end := range []struct {
		name string
		addr net.Addr
	}{{"source", op.Source}, {"addr", op.Addr}} {
		switch {
		case end.addr == nil:
		case end.addr.String() == c.LocalAddr().String():
			s += " " + end.name + " local"
		case end.addr.String() == c.RemoteAddr().String():
			s += " " + end.name + " remote"
		default:
			s += " " + end.name + " " + end.addr.String()
		}
	}
	return s
}

// resultsOf calls a connection of a path that is in a situation: twice, and then others.
func resultsOf(t *testing.T, policy iwarp.Offload, in *situation, calls []streamCall) (results []string) {
	lc := iwarp.ListenConfig{Offload: policy, FirstByteTimeout: time.Millisecond, HandshakeTimeout: patience}
	var c client
	d := iwarp.Dialer{Offload: policy, Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		c.socket = raw
		return nil
	}}
	a, b, stop, err := pair(t, &lc, &d)
	require.NoError(t, err)
	defer stop()
	c.stream = a.(stream)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, b.SetDeadline(time.Now().Add(patience)))
	in.enter(t, &c, b.(stream))
	_, isSocket := a.(*net.TCPConn)
	for _, k := range calls {
		n, err := k.call(c.stream)
		results = append(results, classOf(c.stream, n, err))
		if isSocket && in.gone && (n > 0 && k.writes() || k.name == "CloseWrite") {
			c.awaitEnd(t)
		}
	}
	return results
}

// A history is what the calls of a connection before have done.
type history struct {
	told   bool // one was told of a reset
	looked bool // at what has arrived
	blind  bool // a Write was taken that nobody has looked before
}

// documented reports whether a result may differ from package net's, as the documentation of Conn
// says.
func (h *history) documented(in *situation, k *streamCall, control, result string) bool {
	switch {
	case h.told && strings.Contains(result, "reset"):
		return true
	case strings.HasSuffix(control, " nil") || !strings.HasSuffix(result, " nil"):
		return false
	}
	return in.late && !h.looked && k.writes() || h.blind
}

func (h *history) add(in *situation, k *streamCall, control, result string) {
	h.told = h.told || strings.Contains(control, "reset")
	h.blind = h.blind || in.late && !h.looked && k.writes() && strings.HasSuffix(result, " nil")
	h.looked = h.looked || k.reads() || strings.HasPrefix(k.name, "Close")
}

// TestErrorsAreThoseOfNet makes every call in every situation, on package net's connections and on
// ours. What the kernel of the test answers is right.
func TestErrorsAreThoseOfNet(t *testing.T) {
	last := []streamCall{streamCalls[3], streamCalls[0], streamCalls[9]}
	for i := range situations {
		in := &situations[i]
		t.Run(in.name, func(t *testing.T) {
			for j, k := range streamCalls {
				if in.waits && k.name == "WriteTo" || in.quiet && k.name == "Read" {
					continue // it would wait
				}
				calls := []streamCall{k}
				if !in.waits {
					calls = append(append(calls, k), last...)
				}
				control := resultsOf(t, iwarp.OffloadNever, in, calls)
				policies := []iwarp.Offload{iwarp.OffloadRequire}
				if j%5 == 0 {
					policies = append(policies, iwarp.OffloadAuto)
				}
				for _, policy := range policies {
					results := resultsOf(t, policy, in, calls)
					h := history{told: strings.HasSuffix(in.name, "unread, seen") || strings.HasSuffix(in.name, "reset, seen")}
					for n, call := range calls {
						if results[n] != control[n] && !h.documented(in, &call, control[n], results[n]) {
							t.Errorf("%s, call %d, %v: %s: %s; package net: %s", k.name, n, policy, call.name, results[n], control[n])
						}
						h.add(in, &call, control[n], results[n])
					}
				}
			}
		})
	}
}

// TestCloseReadTakesWhatComes reads on after CloseRead: what comes is there, and where nothing is
// there Read returns io.EOF in place of waiting. The peer's Writes go on, and wait while nobody
// reads.
func TestCloseReadTakesWhatComes(t *testing.T) {
	const size = 16 << 20
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			lc := iwarp.ListenConfig{Offload: path.policy, FirstByteTimeout: patience, HandshakeTimeout: patience}
			if path.policy == iwarp.OffloadAuto { // whose clients are silent
				lc.FirstByteTimeout = time.Millisecond
			}
			a, b, stop, err := pair(t, &lc, &iwarp.Dialer{Offload: path.policy, Timeout: patience})
			require.NoError(t, err)
			defer stop()
			c, s := a.(stream), b.(stream)
			require.NoError(t, c.CloseRead())
			require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
			wrote := make(chan error, 1)
			go func() {
				_, err := s.Write(make([]byte, size))
				wrote <- err
			}()
			got, buf := 0, make([]byte, 1<<20)
			eventually(t, func() bool {
				n, err := c.Read(buf)
				for ; n > 0; n, err = c.Read(buf) {
					got += n
				}
				require.Equal(t, io.EOF, err)
				return got == size
			}, "all is there to be read")
			require.NoError(t, <-wrote)
		})
	}
}
