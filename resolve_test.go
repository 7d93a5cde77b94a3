package iwarp_test

import (
	"errors"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// TestSeveralAddresses tries the addresses of a host name until one answers, on every path.
func TestSeveralAddresses(t *testing.T) {
	n := newNIC()
	l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
	go echo(l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	both := nameServer([4]byte{127, 0, 0, 9}, [4]byte{127, 0, 0, 1})
	dead := nameServer([4]byte{127, 0, 0, 8}, [4]byte{127, 0, 0, 9})
	for _, network := range []string{"tcp", "tcp4"} {
		for _, policy := range policies {
			d := iwarp.Dialer{Offload: policy, Resolver: both, Timeout: patience}
			c, err := d.Dial(network, "server.test:"+port)
			require.NoError(t, err)
			require.Equal(t, l.Addr().String(), c.RemoteAddr().String())
			exchangeWithEcho(t, c, "hello")
			require.NoError(t, c.Close())

			_, want := (&net.Dialer{Resolver: dead}).Dial(network, "server.test:"+port)
			d.Resolver = dead
			_, err = d.Dial(network, "server.test:"+port)
			requireSameError(t, want, err)

			r := reserve(t, nil, "tcp", "127.0.0.1:0")
			d.Resolver, d.LocalAddr = both, r.Addr()
			if runtime.GOOS != "linux" {
				_, err = d.Dial(network, "server.test:"+port)
				require.ErrorIs(t, err, errors.ErrUnsupported)
				continue
			}
			c, err = d.Dial(network, "server.test:"+port)
			require.NoError(t, err)
			require.Equal(t, r.Addr().String(), c.LocalAddr().String())
			require.NoError(t, c.Close())
		}
		d := iwarp.Dialer{Resolver: both, Timeout: patience, Transports: []transport.Transport{n}}
		c, err := d.Dial(network, "server.test:"+port)
		require.NoError(t, err)
		require.Equal(t, "nic", describe(t, c).Transport)
		require.NoError(t, c.Close())
	}
}

// TestLinkLocal connects between addresses with a zone.
func TestLinkLocal(t *testing.T) {
	addr := linkLocal(t)
	for _, policy := range policies {
		l, err := (&iwarp.ListenConfig{Offload: policy}).Listen(t.Context(), "tcp", net.JoinHostPort(addr, "0"))
		require.NoError(t, err)
		defer l.Close()
		go echo(l)
		d := iwarp.Dialer{Offload: policy, Timeout: patience}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		require.Equal(t, l.Addr().String(), c.RemoteAddr().String())
		require.NotEmpty(t, c.LocalAddr().(*net.TCPAddr).Zone)
		exchangeWithEcho(t, c, "hello")
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())

		r := reserve(t, nil, "tcp", net.JoinHostPort(addr, "0"))
		_, err = net.Listen("tcp", r.Addr().String())
		require.Error(t, err)
		l, err = iwarp.Listen("tcp", r.Addr().String())
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}

func linkLocal(t testing.TB) string {
	t.Helper()
	list, err := net.Interfaces()
	require.NoError(t, err)
	for _, ifi := range list {
		addrs, err := ifi.Addrs()
		require.NoError(t, err)
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && n.IP.IsLinkLocalUnicast() {
				return n.IP.String() + "%" + ifi.Name
			}
		}
	}
	t.Skip("no interface has a link-local address; to run: unshare -rn sh -c 'ip link set lo up && " +
		"ip addr add fe80::1/64 dev lo nodad && go test -run LinkLocal .'")
	return ""
}
