package iwarp_test

import (
	"io"
	"net"
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
