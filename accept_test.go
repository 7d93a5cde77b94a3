package iwarp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// tcpListener is what listeners of package net have beside Accept.
type tcpListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
	File() (*os.File, error)
}

// eachListener calls f with a listener of package net, and one of each policy.
func eachListener(t *testing.T, f func(t *testing.T, listen func() tcpListener)) {
	t.Run("net", func(t *testing.T) {
		f(t, func() tcpListener {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			return l.(tcpListener)
		})
	})
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			f(t, func() tcpListener {
				l, err := (&iwarp.ListenConfig{Offload: policy}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				require.NoError(t, err)
				return l.(tcpListener)
			})
		})
	}
}

// copyOf returns a listener of package net on the socket of l. It ends with the test.
func copyOf(t *testing.T, l tcpListener) *net.TCPListener {
	t.Helper()
	f, err := l.File()
	require.NoError(t, err)
	defer f.Close()
	other, err := net.FileListener(f)
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	return other.(*net.TCPListener)
}

// TestClientsStayInQueue has another listener on the socket get all clients that no call of Accept
// has asked for, whatever becomes of the first one.
func TestClientsStayInQueue(t *testing.T) {
	const clients = 20
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		l := listen()
		defer l.Close()
		other := copyOf(t, l)
		connect := func() {
			for range clients {
				_, err := io.WriteString(dialTCP(t, l), "hello")
				require.NoError(t, err)
			}
		}
		served := func() {
			require.NoError(t, other.SetDeadline(time.Now().Add(patience)))
			for range clients {
				c, err := other.Accept()
				require.NoError(t, err)
				got := make([]byte, 5)
				_, err = io.ReadFull(c, got)
				require.NoError(t, err)
				require.NoError(t, c.Close())
			}
		}
		connect() // while nobody has been in Accept yet
		served()
		require.NoError(t, l.SetDeadline(time.Now().Add(time.Millisecond)))
		_, err := l.Accept()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		connect() // once nobody is any more
		served()
		connect()
		require.NoError(t, l.Close())
		served()
	})
}

// TestAcceptTakesOne leaves to others what it has not been asked for.
func TestAcceptTakesOne(t *testing.T) {
	const clients = 20
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		l := listen()
		defer l.Close()
		other := copyOf(t, l)
		for range clients {
			_, err := io.WriteString(dialTCP(t, l), "hello")
			require.NoError(t, err)
		}
		if refuses(l) {
			return
		}
		c, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, other.SetDeadline(time.Now().Add(patience)))
		for range clients - 1 {
			c, err := other.Accept()
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
	})
}

// refuses reports whether l has no use for plain TCP.
func refuses(l net.Listener) bool {
	ours, ok := l.(*iwarp.Listener)
	return ok && iwarp.PolicyOf(ours) == iwarp.OffloadRequire
}

// TestCloseWaitsForAccept has calls of Accept ended when Close returns. The last steps of a call's
// goroutine are not part of that, so a few may be late, and many on a busy machine.
func TestCloseWaitsForAccept(t *testing.T) {
	const tries = 100
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		round := func() (ended int) {
			for range tries {
				l := listen()
				var in sync.WaitGroup
				var done atomic.Bool
				in.Add(1)
				end := make(chan error, 1)
				go func() {
					in.Done()
					_, err := l.Accept()
					done.Store(true)
					end <- err
				}()
				in.Wait()
				runtime.Gosched()
				require.NoError(t, l.Close())
				if done.Load() {
					ended++
				}
				require.ErrorIs(t, <-end, net.ErrClosed)
			}
			return ended
		}
		eventually(t, func() bool { return round() > tries*3/4 }, "calls end before Close does")
	})
}

// TestCloseByAcceptor closes a listener from the goroutine that accepts, while others do so as
// well.
func TestCloseByAcceptor(t *testing.T) {
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		l := listen()
		var loops sync.WaitGroup
		for range 3 {
			loops.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					_ = c.Close()
					_ = l.Close()
				}
			})
		}
		policy := iwarp.OffloadNever
		if refuses(l) {
			policy = iwarp.OffloadRequire
		}
		_, err := io.WriteString(dial(t, l, policy), "hello")
		require.NoError(t, err)
		loops.Wait()
	})
}

// TestDroppedListener gives the port of a listener back that nobody refers to, which has started no
// goroutine.
func TestDroppedListener(t *testing.T) {
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		for _, use := range map[string]func(l tcpListener){
			"unused": func(tcpListener) {},
			"used": func(l tcpListener) {
				_ = l.SetDeadline(time.Now().Add(time.Millisecond))
				_, err := l.Accept()
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			},
		} {
			before := servingGoroutines()
			address := func() string {
				l := listen()
				use(l)
				require.LessOrEqual(t, servingGoroutines(), before)
				return l.Addr().String()
			}()
			eventually(t, func() bool {
				runtime.GC()
				l, err := net.Listen("tcp", address)
				if err == nil {
					_ = l.Close()
				}
				return err == nil
			}, "the port is given back")
		}
	})
}

// servingGoroutines counts the goroutines of this process that serve a Listener.
func servingGoroutines() (n int) {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("iwarp.(*Listener)")) && !bytes.Contains(stack, []byte("drop")) {
			n++
		}
	}
	return n
}

// TestListenerSyscallConn reaches the socket that listens.
func TestListenerSyscallConn(t *testing.T) {
	eachListener(t, func(t *testing.T, listen func() tcpListener) {
		l := listen()
		rc, err := l.SyscallConn()
		require.NoError(t, err)
		called := false
		require.NoError(t, rc.Control(func(uintptr) { called = true }))
		require.True(t, called)
		require.ErrorIs(t, rc.Read(func(uintptr) bool { return true }), syscall.EINVAL)
		require.ErrorIs(t, rc.Write(func(uintptr) bool { return true }), syscall.EINVAL)
		require.NoError(t, l.Close())
		require.Error(t, rc.Control(func(uintptr) {}))
	})
}

// TestControlOnce calls Control on the one socket that listens.
func TestControlOnce(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		for _, policy := range policies {
			var calls []string
			control := func(network, address string, _ syscall.RawConn) error {
				calls = append(calls, network+" "+address)
				return nil
			}
			nl, err := (&net.ListenConfig{Control: control}).Listen(t.Context(), "tcp", address)
			require.NoError(t, err)
			require.NoError(t, nl.Close())
			want := calls
			calls = nil
			l, err := (&iwarp.ListenConfig{Offload: policy, Control: control}).Listen(t.Context(), "tcp", address)
			require.NoError(t, err)
			require.NoError(t, l.Close())
			require.Equal(t, want, calls, "%v %q", policy, address)
		}
	}
}

// TestControlOnceOverRemains does so where connections in TIME_WAIT have the port.
func TestControlOnceOverRemains(t *testing.T) {
	for _, policy := range policies {
		before, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		c := dialTCP(t, before)
		s, err := before.Accept()
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, c.Close())
		require.NoError(t, before.Close())
		listeners := map[string]func(net.ListenConfig) (net.Listener, error){
			"net": func(lc net.ListenConfig) (net.Listener, error) {
				return lc.Listen(t.Context(), "tcp", before.Addr().String())
			},
			"iwarp": func(lc net.ListenConfig) (net.Listener, error) {
				return (&iwarp.ListenConfig{Offload: policy, Control: lc.Control}).Listen(t.Context(), "tcp", before.Addr().String())
			},
		}
		for name, listen := range listeners {
			calls := 0
			l, err := listen(net.ListenConfig{Control: func(string, string, syscall.RawConn) error {
				calls++
				return nil
			}})
			require.NoError(t, err, name)
			require.NoError(t, l.Close())
			require.Equal(t, 1, calls, name)
		}
	}
}

// TestAcceptOrder returns plain clients in the order in which they connected, as package net does:
// those that speak at once, and those that are silent.
func TestAcceptOrder(t *testing.T) {
	const clients = 100
	listeners := map[string]func(*testing.T) net.Listener{"net": func(t *testing.T) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}}
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever, iwarp.OffloadPrefer} {
		listeners[policy.String()] = func(t *testing.T) net.Listener {
			return listen(t, iwarp.ListenConfig{Offload: policy, FirstByteTimeout: 20 * time.Millisecond})
		}
	}
	for name, listen := range listeners {
		for text, beginning := range map[string]string{"speak": "hello", "silent": ""} {
			t.Run(name+"/"+text, func(t *testing.T) {
				l := listen(t)
				next := acceptEach(t, l)
				var want, got []string
				for range clients {
					c := dialTCP(t, l)
					_, err := io.WriteString(c, beginning)
					require.NoError(t, err)
					want = append(want, c.LocalAddr().String())
				}
				for range clients {
					got = append(got, next().RemoteAddr().String())
				}
				require.Equal(t, want, got)
			})
		}
	}
}

// TestLookedAtAgain does not hand a client out as plain TCP that has asked for iWARP after
// FirstByteTimeout, but before anybody wanted it.
func TestLookedAtAgain(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: 500 * time.Millisecond})
	clients := []net.Conn{dialTCP(t, l), dialTCP(t, l)} // in which order they are identified is open
	require.Equal(t, iwarp.ReasonSilent, describe(t, accept(t, l)).Reason)
	eventually(t, func() bool { return l.Stats().Ready == 1 }, "the second one has been silent as well")
	for _, c := range clients {
		_, err := io.WriteString(c, mpaKey)
		require.NoError(t, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	eventually(t, func() bool { return l.Stats().Ready == 0 }, "somebody wants it")
	for _, c := range clients {
		require.NoError(t, c.Close())
	}
	eventually(t, func() bool { return l.Stats().HandshakeFailed == 1 }, "a handshake that fails")
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	require.EqualValues(t, 1, l.Stats().PlainTCP)
}

// TestCutClientsAreReset hands out nobody who has begun to ask for iWARP and had to give way.
func TestCutClientsAreReset(t *testing.T) {
	const extra = 10
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
	acceptEach(t, l)
	var first []net.Conn
	for i := range iwarp.MaxSilent + extra {
		c := dialTCP(t, l)
		_, err := io.WriteString(c, mpaKey[:10])
		require.NoError(t, err)
		if i < extra {
			first = append(first, c)
		}
	}
	for _, c := range first {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	require.Zero(t, l.Stats().PlainTCP)
}

// TestDrainLosesNobody serves every client whose connection came about, through Drain, Accept to
// the end, and Close.
func TestDrainLosesNobody(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			client := policy
			if policy == iwarp.OffloadAuto || policy == iwarp.OffloadPrefer {
				client = iwarp.OffloadNever
			}
			var served atomic.Int64
			var clients, conns sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for {
						d := iwarp.Dialer{Offload: client, Timeout: patience}
						c, err := d.Dial("tcp", l.Addr().String())
						if err != nil {
							if !errors.Is(err, syscall.ECONNREFUSED) {
								t.Error(err)
							}
							return
						}
						_ = c.SetDeadline(time.Now().Add(patience))
						_, err = io.WriteString(c, "hello")
						if err == nil {
							_, err = io.ReadFull(c, make([]byte, 5))
						}
						_ = c.Close()
						if !noError(t, err) {
							return
						}
						served.Add(1)
					}
				})
			}
			ended := make(chan error, 1)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						ended <- err
						return
					}
					conns.Go(func() {
						_, _ = io.Copy(c, c)
						_ = c.Close()
					})
				}
			}()
			eventually(t, func() bool { return served.Load() > 20 || t.Failed() }, "clients that are served")
			require.NoError(t, l.Drain(t.Context()))
			require.ErrorIs(t, <-ended, net.ErrClosed)
			require.NoError(t, l.Close())
			clients.Wait()
			conns.Wait()
		})
	}
}

// TestDrainThenShutdown ends an HTTP server without a client that fails. Shutdown closes
// connections whose request has not come to the handler (net/http/server.go, conn.serve), so that
// is waited for.
func TestDrainThenShutdown(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			l := listen(t, iwarp.ListenConfig{})
			var asking sync.Map // connections of which no request has come
			type connKey struct{}
			srv := &http.Server{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asking.Delete(r.Context().Value(connKey{}))
					_, _ = io.WriteString(w, r.URL.Path)
				}),
				ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
				ConnState: func(c net.Conn, s http.ConnState) {
					switch s {
					case http.StateNew:
						asking.Store(c, nil)
					case http.StateClosed:
						asking.Delete(c)
					}
				},
			}
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(l) }()
			d := iwarp.Dialer{Offload: policy, Timeout: patience}
			client := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: patience}
			var served atomic.Int64
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for {
						r, err := client.Get("http://" + l.Addr().String() + "/hello")
						if err != nil {
							if !errors.Is(err, syscall.ECONNREFUSED) {
								t.Error(err)
							}
							return
						}
						body, err := io.ReadAll(r.Body)
						_ = r.Body.Close()
						if !noError(t, err) || string(body) != "/hello" {
							return
						}
						served.Add(1)
					}
				})
			}
			eventually(t, func() bool { return served.Load() > 20 || t.Failed() }, "clients that are served")
			require.NoError(t, l.Drain(t.Context()))
			require.ErrorIs(t, <-ended, net.ErrClosed)
			eventually(t, func() bool {
				none := true
				asking.Range(func(any, any) bool { none = false; return false })
				return none
			}, "each request has come")
			require.NoError(t, srv.Shutdown(t.Context()))
			clients.Wait()
		})
	}
}

// TestFileAtTheEnd gives nobody a socket that refuses clients.
func TestFileAtTheEnd(t *testing.T) {
	ends := map[string]func(*iwarp.Listener) error{
		"close": (*iwarp.Listener).Close,
		"drain": func(l *iwarp.Listener) error { return l.Drain(t.Context()) },
	}
	for name, end := range ends {
		l := listen(t, iwarp.ListenConfig{})
		require.NoError(t, end(l), name)
		_, err := l.File()
		require.ErrorIs(t, err, net.ErrClosed, name)
		require.Equal(t, "file", opError(t, err).Op, name)
	}
}
