package iwarp_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// One goroutine dials, writes, and accepts only then, as over package net.
func TestDialThenAccept(t *testing.T) {
	for _, path := range paths {
		for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"} {
			t.Run(path.name+"/"+at, func(t *testing.T) {
				l, err := (&iwarp.ListenConfig{Offload: path.policy}).Listen(t.Context(), "tcp", at)
				require.NoError(t, err)
				defer l.Close()
				clients := map[int]net.Conn{} // by port: the set-up of the first may end last
				for range 3 {
					c := dial(t, l, path.policy)
					_, err := io.WriteString(c, "x")
					require.NoError(t, err)
					clients[c.LocalAddr().(*net.TCPAddr).Port] = c
				}
				for range 3 {
					s := accept(t, l.(*iwarp.Listener))
					c := clients[s.RemoteAddr().(*net.TCPAddr).Port]
					require.IsType(t, c, s)
					got := make([]byte, 1)
					_, err := io.ReadFull(s, got)
					require.NoError(t, err)
					require.Equal(t, "x", string(got))
					exchange(t, s, c, "y")
				}
			})
		}
	}
}

// beside are listeners of a process that another one at the same port must not hide, nor a deadline
// of Accept that has passed.
var beside = map[string]func(t *testing.T, lc iwarp.ListenConfig) (address string){
	"IPv4 beside IPv6": func(t *testing.T, lc iwarp.ListenConfig) string {
		return listenBoth(t, lc, "tcp4", "tcp6", "127.0.0.1")
	},
	"IPv6 beside IPv4": func(t *testing.T, lc iwarp.ListenConfig) string {
		return listenBoth(t, lc, "tcp6", "tcp4", "::1")
	},
	"IPv4 before IPv6": func(t *testing.T, lc iwarp.ListenConfig) string {
		return listenBoth(t, lc, "tcp6", "tcp4", "127.0.0.1")
	},
	"deadline": func(t *testing.T, lc iwarp.ListenConfig) string {
		l := listen(t, lc)
		require.NoError(t, l.SetDeadline(time.Now().Add(-1)))
		_, err := l.Accept()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		return l.Addr().String()
	},
	"polled": func(t *testing.T, lc iwarp.ListenConfig) string {
		l, done := listen(t, lc), make(chan struct{})
		stopped := background(t, func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = l.SetDeadline(time.Now().Add(-1))
					runtime.Gosched()
				}
			}
		})
		t.Cleanup(func() { close(done); stopped() })
		return l.Addr().String()
	},
}

// listenBoth listens on all addresses of both families, by a listener each.
func listenBoth(t *testing.T, lc iwarp.ListenConfig, first, second, host string) (address string) {
	a, err := lc.Listen(t.Context(), first, ":0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close() })
	_, port, err := net.SplitHostPort(a.Addr().String())
	require.NoError(t, err)
	b, err := lc.Listen(t.Context(), second, ":"+port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return net.JoinHostPort(host, port)
}

// TestDialBesideOthers dials a listener of the process, before a call of Accept, as over package
// net.
func TestDialBesideOthers(t *testing.T) {
	for name, listen := range beside {
		for _, path := range paths {
			t.Run(name+"/"+path.name, func(t *testing.T) {
				address := listen(t, iwarp.ListenConfig{Offload: path.policy})
				iwarp.ForgetPeers()
				d := &iwarp.Dialer{Offload: path.policy, Timeout: patience}
				for range 6 {
					dialBy(t, d, "tcp", address)
				}
			})
		}
	}
}

// Dials of the process that nobody accepts hold up no call of Accept, and leave nothing behind.
func TestDialsWithoutAccept(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			const n = 30
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			var dials, accepts sync.WaitGroup
			for range n {
				dials.Go(func() {
					c, err := (&iwarp.Dialer{Offload: policy, Timeout: patience}).Dial("tcp", l.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					_, _ = io.WriteString(c, "x")
					_, _ = io.Copy(io.Discard, c)
				})
				accepts.Go(func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						_ = c.Close()
					}
				})
			}
			dials.Wait()
			require.NoError(t, l.Close())
			accepts.Wait()
		})
	}
	l := listen(t, iwarp.ListenConfig{})
	c := dial(t, l, iwarp.OffloadRequire)
	require.NoError(t, l.Close(), "with a client that nobody has accepted")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, net.ErrClosed)
}
