package rdmanet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// requireOpError checks an error as package net's tests do: an OpError outside, with the ends of
// the connection.
func requireOpError(t testing.TB, c *rdmanet.Conn, err error, op string, target error) {
	t.Helper()
	require.Error(t, err)
	oe, ok := err.(*net.OpError)
	require.True(t, ok, "%T: %v", err, err)
	require.Equal(t, op, oe.Op)
	require.Equal(t, "tcp", oe.Net)
	require.Equal(t, c.LocalAddr(), oe.Source)
	require.Equal(t, c.RemoteAddr(), oe.Addr)
	require.ErrorIs(t, err, target)
	var inner *net.OpError
	require.False(t, errors.As(oe.Err, &inner), "an OpError in an OpError: %v", err)
}

func TestHalfClose(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		_, err := x.Write([]byte("request"))
		require.NoError(t, err)
		require.NoError(t, x.CloseWrite())
		require.NoError(t, x.CloseWrite(), "a second time")
		_, err = x.Write([]byte("more"))
		requireOpError(t, x, err, "write", syscall.EPIPE)

		got, err := io.ReadAll(y)
		require.NoError(t, err)
		require.Equal(t, "request", string(got))
		n, err := y.Read(make([]byte, 1))
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)

		answer := pattern(1 << 20)
		wait := background(t, func() {
			if _, err := y.Write(answer); err != nil {
				t.Error(err)
			}
			if err := y.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		got, err = io.ReadAll(x)
		require.NoError(t, err)
		wait()
		require.True(t, bytes.Equal(answer, got))
		require.NoError(t, x.Close())
		require.NoError(t, y.Close())
	})
}

func TestCrossingCloses(t *testing.T) {
	closes := map[string]func(c *rdmanet.Conn) error{
		"CloseWrite": (*rdmanet.Conn).CloseWrite,
		"Close":      (*rdmanet.Conn).Close,
		"CloseRead and CloseWrite": func(c *rdmanet.Conn) error {
			return errors.Join(c.CloseRead(), c.CloseWrite())
		},
		"CloseWrite and CloseRead": func(c *rdmanet.Conn) error {
			return errors.Join(c.CloseWrite(), c.CloseRead())
		},
	}
	for xname, xclose := range closes {
		for yname, yclose := range closes {
			t.Run(xname+" against "+yname, func(t *testing.T) {
				forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
					_, err := x.Write([]byte("x"))
					require.NoError(t, err)
					_, err = y.Write([]byte("y"))
					require.NoError(t, err)
					var wg sync.WaitGroup
					wg.Go(func() {
						if err := xclose(x); err != nil && !errors.Is(err, syscall.ENOTCONN) {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if err := yclose(y); err != nil && !errors.Is(err, syscall.ENOTCONN) {
							t.Error(err)
						}
					})
					wg.Wait()
					if xname == "CloseWrite" {
						got, err := io.ReadAll(x)
						requireEnd(t, err, yname == "Close")
						require.Equal(t, "y", string(got))
					}
					if yname == "CloseWrite" {
						got, err := io.ReadAll(y)
						requireEnd(t, err, xname == "Close")
						require.Equal(t, "x", string(got))
					}
				})
			})
		}
	}
}

// requireEnd checks the end that io.ReadAll has found. A peer that may have closed without reading
// all is told apart between two of this package, as a socket does by a reset.
func requireEnd(t *testing.T, err error, unread bool) {
	t.Helper()
	if !unread || !errors.Is(err, syscall.ECONNRESET) {
		require.NoError(t, err)
	}
}

// What was written before Close arrives, even when the peer is slow to read and has itself written.
func TestCloseLosesNothing(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		want := pattern(100000)
		_, err := y.Write([]byte("never read"))
		require.NoError(t, err)
		wait := background(t, func() {
			if n, err := x.Write(want); n != len(want) || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(iotest.HalfReader(y))
		requireEnd(t, err, x.Extended())
		reset := err
		wait()
		require.True(t, bytes.Equal(want, got))
		n, err := y.Write([]byte("too late"))
		if reset == nil {
			require.Equal(t, 8, n, "the first Write is taken, as a socket takes it")
			require.NoError(t, err)
			_, err = y.Write([]byte("too late"))
			requireOpError(t, y, err, "write", syscall.EPIPE)
		} else {
			require.Zero(t, n)
			requireOpError(t, y, err, "write", syscall.ECONNRESET)
		}
		require.NoError(t, y.Close())
	})
}

// A Write that does not end, since the peer closes, fails.
func TestWriteAfterPeerClosed(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		require.NoError(t, y.Close())
		err := within(t, func() error {
			for p := make([]byte, 10000); ; {
				if _, err := x.Write(p); err != nil {
					return err
				}
			}
		})
		requireOpError(t, x, err, "write", syscall.EPIPE)
		_, err = x.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

func TestCloseWakes(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		fill(t, x)
		read, write := make(chan error, 2), make(chan error, 2)
		for range 2 {
			go func() {
				_, err := x.Read(make([]byte, 10))
				read <- err
			}()
			go func() {
				_, err := x.Write(make([]byte, 10))
				write <- err
			}()
		}
		time.Sleep(5 * time.Millisecond) // makes it likely that they are blocked; correct without
		require.NoError(t, x.Close())
		for range 2 {
			requireOpError(t, x, within(t, func() error { return <-read }), "read", net.ErrClosed)
			requireOpError(t, x, within(t, func() error { return <-write }), "write", net.ErrClosed)
		}
		for op, err := range map[string]error{
			"close": x.Close(),
		} {
			requireOpError(t, x, err, op, net.ErrClosed)
		}
		requireOpError(t, x, x.CloseWrite(), "close", net.ErrClosed)
		requireOpError(t, x, x.CloseRead(), "close", net.ErrClosed)
		requireOpError(t, x, x.SetNoDelay(true), "set", net.ErrClosed)
		requireOpError(t, x, x.SetLinger(1), "set", net.ErrClosed)
		for _, err := range []error{x.SetDeadline(time.Time{}), x.SetReadDeadline(time.Time{}), x.SetWriteDeadline(time.Time{}), x.SetReadBuffer(1 << 16)} {
			var oe *net.OpError
			require.ErrorAs(t, err, &oe)
			require.Equal(t, &net.OpError{Op: "set", Net: "tcp", Addr: x.LocalAddr(), Err: net.ErrClosed}, oe)
		}
		require.ErrorContains(t, x.Close(), "use of closed network connection")
		require.IsType(t, (*net.TCPAddr)(nil), x.LocalAddr())
		require.IsType(t, (*net.TCPAddr)(nil), x.RemoteAddr())
	})
}

func TestCloseReadWakes(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		read := make(chan error, 1)
		go func() {
			_, err := x.Read(make([]byte, 10))
			read <- err
		}()
		time.Sleep(2 * time.Millisecond) // makes it likely that it is blocked; correct without
		require.NoError(t, x.CloseRead())
		require.Equal(t, io.EOF, within(t, func() error { return <-read }))
		_, err := x.Write([]byte("still"))
		require.NoError(t, err)
		require.NoError(t, x.CloseWrite())
		got, err := io.ReadAll(y)
		require.NoError(t, err)
		require.Equal(t, "still", string(got))
	})
}

func TestCloseWriteWakesWriter(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		n := fill(t, x)
		write := make(chan error, 1)
		go func() {
			_, err := x.Write(make([]byte, 10))
			write <- err
		}()
		time.Sleep(2 * time.Millisecond) // makes it likely that it is blocked; correct without
		require.NoError(t, x.CloseWrite())
		requireOpError(t, x, within(t, func() error { return <-write }), "write", syscall.EPIPE)
		got, err := io.ReadAll(y)
		require.NoError(t, err)
		require.Len(t, got, n)
	})
}

func TestConnectionCut(t *testing.T) {
	for _, s := range settings[:2] {
		for _, c := range []struct {
			name  string
			cut   func(tcp *net.TCPConn)
			read  error
			write error
		}{
			{"by an end without words", func(tcp *net.TCPConn) { tcp.CloseWrite() }, io.ErrUnexpectedEOF, syscall.EPIPE},
			{"by a reset", func(tcp *net.TCPConn) { tcp.SetLinger(0); tcp.Close() }, syscall.ECONNRESET, syscall.ECONNRESET},
		} {
			t.Run(s.name+"/"+c.name, func(t *testing.T) {
				e := connect(t, s)
				_, err := e.a.Write([]byte("before"))
				require.NoError(t, err)
				_, err = io.ReadFull(e.b, make([]byte, 3)) // all of it has arrived
				require.NoError(t, err)
				c.cut(e.tcpA)
				got, err := io.ReadAll(e.b)
				require.Equal(t, "ore", string(got), "what came before is lost")
				requireOpError(t, e.b, err, "read", c.read)
				require.NotErrorIs(t, err, io.EOF)
				_, err = e.b.Write(make([]byte, 10))
				requireOpError(t, e.b, err, "write", c.write)
				_, err = e.b.Read(make([]byte, 10))
				requireOpError(t, e.b, err, "read", c.read)
				requireOpError(t, e.b, e.b.CloseWrite(), "close", syscall.ENOTCONN)
				require.NoError(t, e.b.Close())
			})
		}
	}
}

// A reset after the peer's farewell is normal: what it sent stays readable, and ends in io.EOF.
func TestResetAfterDisconnect(t *testing.T) {
	e := connect(t, setting{})
	_, err := e.a.Write([]byte("all"))
	require.NoError(t, err)
	require.NoError(t, e.a.CloseRead())
	require.NoError(t, e.a.CloseWrite()) // tells DISCONNECT, and leaves the TCP connection
	b := make([]byte, 10)
	n, err := e.b.Read(b[:1])
	require.NoError(t, err)
	e.tcpA.SetLinger(0)
	e.tcpA.Close()
	for err == nil {
		var k int
		k, err = e.b.Read(b[n:])
		n += k
	}
	require.Equal(t, io.EOF, err)
	require.Equal(t, "all", string(b[:n]))
}

// The farewell counts for a writer too that runs into the reset after it.
func TestWriteIntoResetAfterDisconnect(t *testing.T) {
	p, c, n := dialRaw(t, nil, nil)
	p.data([]byte("all"))
	p.send(wordDisconnect)
	require.NoError(t, p.qp.Drain(time.Now().Add(limit)))
	n.tcpA.SetLinger(0)
	n.tcpA.Close()
	var err error
	for err == nil {
		_, err = c.Write([]byte("x"))
	}
	requireOpError(t, c, err, "write", syscall.EPIPE)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "all", string(got))
}

// A closing peer need not wait for this end's Close: the connection below ends when its farewell is
// seen.
func TestDisconnectIsAnswered(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	p.data([]byte("all"))
	p.send(wordDisconnect)
	b := make([]byte, 1)
	_, err := c.Read(b)
	require.NoError(t, err)
	_, err = p.next(limit)
	require.Equal(t, io.EOF, err)
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "ll", string(rest), "what came before must stay readable")
	require.NoError(t, c.Close())
}

func TestLinger(t *testing.T) {
	t.Run("zero resets", func(t *testing.T) {
		e := connect(t, setting{})
		require.NoError(t, e.a.SetLinger(0))
		require.NoError(t, e.a.Close())
		_, err := e.b.Read(make([]byte, 1))
		requireOpError(t, e.b, err, "read", syscall.ECONNRESET)
		_, err = e.b.Write(make([]byte, 1))
		requireOpError(t, e.b, err, "write", syscall.ECONNRESET)
		requireOpError(t, e.a, e.a.Close(), "close", net.ErrClosed)
	})
	t.Run("negative sends all in the background", func(t *testing.T) {
		e := connect(t, setting{})
		require.NoError(t, e.a.SetLinger(-5))
		n := fill(t, e.a)
		require.NoError(t, e.a.Close())
		got, err := io.ReadAll(e.b)
		require.NoError(t, err)
		require.Len(t, got, n)
	})
	for name, s := range map[string]setting{"positive waits for the peer": {}, "positive waits for the transport": {restricted: true}} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, s)
			require.NoError(t, e.a.SetLinger(20))
			n := fill(t, e.a)
			var got []byte
			var err error
			done := make(chan struct{})
			go func() {
				defer close(done)
				got, err = io.ReadAll(e.b)
			}()
			require.NoError(t, e.a.Close())
			<-done
			require.NoError(t, err)
			require.Len(t, got, n)
		})
	}
	for name, tt := range map[string]struct {
		end  func(t *testing.T, e ends)
		want error
	}{
		"positive after the peer's end, which is read": {func(t *testing.T, e ends) {
			require.NoError(t, e.a.CloseWrite())
			_, err := io.Copy(io.Discard, e.b)
			require.NoError(t, err)
			require.NoError(t, e.b.Close())
			_, err = io.Copy(io.Discard, e.a)
			require.NoError(t, err)
		}, nil},
		"positive after the peer's end": {func(t *testing.T, e ends) {
			_, err := io.ReadFull(e.b, make([]byte, len("hello")))
			require.NoError(t, err)
			require.NoError(t, e.b.Close())
		}, nil},
		"positive after both have finished": {func(t *testing.T, e ends) {
			_, err := io.ReadFull(e.b, make([]byte, len("hello")))
			require.NoError(t, err)
			require.NoError(t, e.b.CloseWrite())
			_, err = io.Copy(io.Discard, e.a)
			require.NoError(t, err)
			require.NoError(t, e.a.CloseWrite())
			_, err = io.Copy(io.Discard, e.b)
			require.NoError(t, err)
			require.NoError(t, e.b.Close())
		}, nil},
		"positive after the peer has finished, and this end reads no more": {func(t *testing.T, e ends) {
			_, err := io.ReadFull(e.b, make([]byte, len("hello")))
			require.NoError(t, err)
			require.NoError(t, e.b.CloseWrite())
			_, err = io.Copy(io.Discard, e.a)
			require.NoError(t, err)
			require.NoError(t, e.a.CloseRead())
			require.NoError(t, e.a.CloseWrite())
			_, err = io.Copy(io.Discard, e.b)
			require.NoError(t, err)
			require.NoError(t, e.b.Close())
		}, nil},
		"positive after the peer broke off": {func(t *testing.T, e ends) {
			_, err := io.ReadFull(e.b, make([]byte, len("hello")))
			require.NoError(t, err)
			require.NoError(t, e.tcpB.CloseWrite())
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair { return departed{restricted{qp, false}} }})
			_, err := e.a.Write([]byte("hello"))
			require.NoError(t, err)
			tt.end(t, e)
			require.NoError(t, e.a.SetLinger(20))
			err = e.a.Close()
			if tt.want == nil {
				require.NoError(t, err)
				return
			}
			requireOpError(t, e.a, err, "close", tt.want)
		})
	}
	t.Run("positive knows that the last word is sent, although the peer ends the connection at once", func(t *testing.T) {
		e := connect(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair { return &outlived{restricted: restricted{qp, false}} }})
		_, err := e.a.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, e.a.SetLinger(20))
		require.NoError(t, e.a.Close())
	})
	for name, read := range map[string]bool{"positive tells of what a reset has lost": false, "positive tells of what a reset that was read has lost": true} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, setting{})
			require.NoError(t, e.tcpB.SetReadBuffer(1<<12))
			require.NoError(t, e.tcpA.SetWriteBuffer(1<<20))
			require.NoError(t, e.a.SetLinger(20))
			_, err := e.a.Write(make([]byte, 300_000))
			require.NoError(t, err)
			require.NoError(t, e.b.SetLinger(0))
			require.NoError(t, e.b.Close())
			if read {
				_, err := e.a.Read(make([]byte, 1))
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			requireOpError(t, e.a, e.a.Close(), "close", syscall.ECONNRESET)
		})
	}
	t.Run("positive is bounded", func(t *testing.T) {
		e := connect(t, setting{})
		require.NoError(t, e.tcpB.SetReadBuffer(1<<12))
		require.NoError(t, e.a.SetLinger(1))
		fill(t, e.a)
		start := time.Now()
		requireOpError(t, e.a, e.a.Close(), "close", os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(start), time.Second/2, "nobody reads")
	})
}

// departed is a queue pair of whose peer nothing is left by the time that it could be drained.
type departed struct{ restricted }

func (q departed) Drain(deadline time.Time) error {
	_ = q.Wait(deadline)
	return io.EOF
}

// outlived is a queue pair whose peer ends the connection before anybody can ask for a completion.
type outlived struct {
	restricted
	known bool // the last request has one
}

func (q *outlived) PostSend(wrs []transport.SendWR) (int, error) {
	q.known = wrs[len(wrs)-1].Flags&(transport.Signaled|transport.WillDrain) != 0
	return q.restricted.PostSend(wrs)
}

func (q *outlived) Drain(time.Time) error {
	if q.known {
		return nil
	}
	return io.EOF
}

// wrapper is a queue pair around another one.
type wrapper struct{ transport.QueuePair }

func (w wrapper) Unwrap() transport.QueuePair { return w.QueuePair }

// awaiter reports the calls of AwaitClosed.
type awaiter struct {
	wrapper
	transport.CloseAwaiter
	awaited *atomic.Int32
}

func (a awaiter) AwaitClosed(deadline time.Time) error {
	a.awaited.Add(1)
	return a.CloseAwaiter.AwaitClosed(deadline)
}

// TestWrapped finds what a queue pair can do through one that wraps it.
func TestWrapped(t *testing.T) {
	var awaited atomic.Int32
	e := connect(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
		return wrapper{wrapper{awaiter{wrapper{qp}, qp.(transport.CloseAwaiter), &awaited}}}
	}})
	for _, err := range []error{e.a.SetKeepAlive(true), e.a.SetNoDelay(false), e.a.SetReadBuffer(1 << 17), e.a.SetLinger(20)} {
		require.NoError(t, err)
	}
	_, err := e.a.Write([]byte("hello"))
	require.NoError(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(e.b, got)
	require.NoError(t, err)
	require.NoError(t, e.a.Close())
	require.EqualValues(t, 1, awaited.Load())
}

func TestOptions(t *testing.T) {
	e := connect(t, setting{})
	r := connect(t, setting{restricted: true})
	for name, set := range map[string]func(c *rdmanet.Conn) error{
		"keepalive":        func(c *rdmanet.Conn) error { return c.SetKeepAlive(true) },
		"no keepalive":     func(c *rdmanet.Conn) error { return c.SetKeepAlive(false) },
		"keepalive period": func(c *rdmanet.Conn) error { return c.SetKeepAlivePeriod(time.Minute) },
		"keepalive config": func(c *rdmanet.Conn) error {
			return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3})
		},
		"delay":        func(c *rdmanet.Conn) error { return c.SetNoDelay(false) },
		"read buffer":  func(c *rdmanet.Conn) error { return c.SetReadBuffer(1 << 17) },
		"write buffer": func(c *rdmanet.Conn) error { return c.SetWriteBuffer(1 << 17) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, set(e.a))
			err := set(r.a) // its queue pair offers none of this
			var oe *net.OpError
			require.ErrorAs(t, err, &oe)
			require.Equal(t, "set", oe.Op)
			require.Equal(t, errors.ErrUnsupported, oe.Err)
		})
	}
	require.NoError(t, r.a.SetNoDelay(true))
}

// That the peer has closed must not look as if this end had.
func TestOptionsAfterPeerClosed(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		require.NoError(t, y.Close())
		_, err := x.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		for _, err := range []error{x.SetNoDelay(true), x.SetKeepAlive(true), x.SetReadBuffer(1 << 16), x.SetDeadline(time.Time{}), x.SetLinger(1)} {
			require.NotErrorIs(t, err, net.ErrClosed)
		}
		require.NoError(t, x.Close())
		require.ErrorIs(t, x.SetNoDelay(true), net.ErrClosed)
	})
}

// The options must reach the kernel's connection.
func TestKeepAliveReachesTheSocket(t *testing.T) {
	e := connect(t, setting{})
	require.NoError(t, e.a.SetKeepAlive(false))
	require.Zero(t, sockopt(t, e.tcpA, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	require.NoError(t, e.a.SetKeepAlivePeriod(77*time.Second))
	require.Zero(t, sockopt(t, e.tcpA, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE), "a period must not turn it on")
	require.NoError(t, e.a.SetKeepAlive(true))
	require.NotZero(t, sockopt(t, e.tcpA, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	require.NoError(t, e.tcpA.SetKeepAlive(false), "as a Dialer with a negative KeepAlive has it")
	require.NoError(t, e.a.SetKeepAlivePeriod(77*time.Second))
	require.Zero(t, sockopt(t, e.tcpA, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE), "a period must not turn it on")
	require.NotZero(t, sockopt(t, e.tcpA, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
	require.NoError(t, e.a.SetNoDelay(false))
	require.Zero(t, sockopt(t, e.tcpA, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
}

func sockopt(t testing.TB, c *net.TCPConn, level, name int) (v int) {
	t.Helper()
	rc, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) { v, err = getsockopt(fd, level, name) }))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("reads socket options on unix only")
	}
	require.NoError(t, err)
	return v
}

func TestNotASyscallConn(t *testing.T) {
	_, ok := any((*rdmanet.Conn)(nil)).(syscall.Conn)
	require.False(t, ok, "io.Copy would send past the framing")
}

func TestErrorsAreOfTheOS(t *testing.T) {
	e := connect(t, setting{})
	require.NoError(t, e.a.CloseWrite())
	_, err := e.a.Write([]byte("x"))
	var se *os.SyscallError
	require.ErrorAs(t, err, &se)
	require.Equal(t, os.NewSyscallError("write", syscall.EPIPE), se)
}
