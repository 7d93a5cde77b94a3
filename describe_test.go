package iwarp_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
)

func TestDescribe(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
	for _, c := range []net.Conn{c, s} {
		require.IsType(t, (*rdmanet.Conn)(nil), c)
		want := iwarp.Info{Transport: "soft", Device: "soft"}
		require.Equal(t, want, describe(t, c))
		require.Equal(t, want, describe(t, tls.Client(c, nil)), "below TLS")
		require.NoError(t, c.Close())
		require.Equal(t, want, describe(t, c), "after Close")
	}

	foreign := dialTCP(t, l)
	pipe, _ := net.Pipe()
	for _, c := range []net.Conn{nil, foreign, pipe, (*net.TCPConn)(nil), (*rdmanet.Conn)(nil), tls.Client(pipe, nil)} {
		info, ok := iwarp.Describe(c)
		require.False(t, ok)
		require.Zero(t, info)
	}
}

// TestDescribeForgets keeps nothing of connections that nobody uses any more.
func TestDescribeForgets(t *testing.T) {
	settle := func() int {
		for range 3 {
			runtime.GC()
		}
		return iwarp.PathCount()
	}
	eventually(t, func() bool { return settle() < 10 }, "connections of other tests are forgotten")
	before := settle()
	func() {
		l := listen(t, iwarp.ListenConfig{})
		for i := range 20 {
			var client net.Conn
			var dialed sync.WaitGroup
			dialed.Go(func() {
				var err error
				client, err = (&iwarp.Dialer{Offload: policies[i%len(policies)], Timeout: patience}).Dial("tcp", l.Addr().String())
				if noError(t, err) {
					_, err = client.Write([]byte("x"))
					noError(t, err)
				}
			})
			server, err := l.Accept()
			require.NoError(t, err)
			dialed.Wait()
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}
		require.GreaterOrEqual(t, iwarp.PathCount(), before)
	}()
	eventually(t, func() bool { return settle() <= before }, "all are forgotten")
}
