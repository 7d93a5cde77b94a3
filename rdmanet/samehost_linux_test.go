package rdmanet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// needNamespaceCookie skips where the kernel has nothing that an end could prove its namespace by.
func needNamespaceCookie(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	if _, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		t.Skip("no cookie of a network namespace: ", err)
	}
	if _, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err != nil {
		t.Skip("no number of this boot: ", err)
	}
}

// tcpPair returns both ends of a TCP connection between addresses of host. A relay is between them
// if asked for.
func tcpPair(t *testing.T, host string, relayed bool) (a, b *net.TCPConn) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	to := l.Addr().String()
	if relayed {
		r, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		require.NoError(t, err)
		defer r.Close()
		client, err := net.Dial("tcp", r.Addr().String())
		require.NoError(t, err)
		in, err := r.Accept()
		require.NoError(t, err)
		out, err := net.Dial("tcp", to)
		require.NoError(t, err)
		carry(t, in, out)
		a = client.(*net.TCPConn)
	} else {
		client, err := net.Dial("tcp", to)
		require.NoError(t, err)
		a = client.(*net.TCPConn)
	}
	server, err := l.Accept()
	require.NoError(t, err)
	return a, server.(*net.TCPConn)
}

// carry passes on what comes on either connection to the other, until one ends.
func carry(t *testing.T, x, y net.Conn) {
	done := make(chan struct{}, 2)
	pass := func(from, to net.Conn) {
		_, _ = io.Copy(to, from)
		_ = from.Close()
		_ = to.Close()
		done <- struct{}{}
	}
	go pass(x, y)
	go pass(y, x)
	t.Cleanup(func() {
		_ = x.Close()
		_ = y.Close()
		<-done
		<-done
	})
}

// A party is one end of a connection: how it is configured, and what it is.
type party struct {
	soft  soft.Config
	conn  *rdmanet.Config
	other bool // it knows nothing of the proof
}

// lacking is a queue pair without anything that is optional.
type lacking struct{ transport.QueuePair }

func (p *party) queuePair(qp transport.QueuePair) transport.QueuePair {
	if p.other {
		return lacking{qp}
	}
	return qp
}

// streams makes the connection of a and b.
func streams(t *testing.T, a, b *net.TCPConn, client, server party) (c, s *rdmanet.Conn) {
	ctx := testContext(t)
	accepted := make(chan *rdmanet.Conn, 1)
	go func() {
		r, err := soft.New(&server.soft).Server(ctx, b, nil)
		if err == nil {
			s, err = rdmanet.Server(ctx, otherRequest{r, server.queuePair(r.QueuePair())}, server.conn)
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- s
	}()
	k, err := soft.New(&client.soft).Client(a, nil)
	require.NoError(t, err)
	c, err = rdmanet.Client(ctx, otherConnector{k, client.queuePair(k.QueuePair())}, client.conn)
	require.NoError(t, err)
	s = <-accepted
	require.NotNil(t, s)
	t.Cleanup(func() {
		_ = c.Close()
		_ = s.Close()
	})
	return c, s
}

// requireCRC checks whether both ends have the CRC, and that bytes pass.
func requireCRC(t *testing.T, want bool, c, s *rdmanet.Conn) {
	t.Helper()
	require.Equal(t, [2]bool{want, want}, [2]bool{c.Attributes().CRC, s.Attributes().CRC})
	for _, n := range []int{1, 5000, 100_000} {
		for _, way := range [][2]*rdmanet.Conn{{c, s}, {s, c}} {
			sent := make(chan error, 1)
			go func() {
				_, err := way[0].Write(make([]byte, n))
				sent <- err
			}()
			_, err := io.ReadFull(way[1], make([]byte, n))
			require.NoError(t, err)
			require.NoError(t, <-sent)
		}
	}
}

// TestCRCOnOneHost leaves the CRC out where both ends have proved to be on one host, and nowhere
// else.
func TestCRCOnOneHost(t *testing.T) {
	needNamespaceCookie(t)
	plain := &rdmanet.Config{Plain: true}
	for _, tc := range []struct {
		name           string
		host           string
		relayed        bool
		client, server party
		want           bool
	}{
		{name: "same host"},
		{name: "IPv6", host: "::1"},
		{name: "both families", host: "::ffff:127.0.0.1"},
		{name: "the client does without", client: party{soft: soft.Config{NoCRC: true}}},
		{name: "the server does without", server: party{soft: soft.Config{NoCRC: true}}},
		{name: "MPA 1", client: party{soft: soft.Config{Revision: 1}}},
		{name: "relay", relayed: true, want: true},
		{name: "IPv6 relay", host: "::1", relayed: true, want: true},
		{name: "the client asks", client: party{soft: soft.Config{AlwaysCRC: true}}, want: true},
		{name: "the server asks", server: party{soft: soft.Config{AlwaysCRC: true}}, want: true},
		{name: "the client asks and does without", client: party{soft: soft.Config{AlwaysCRC: true, NoCRC: true}}, want: true},
		{name: "one asks of two that do without", client: party{soft: soft.Config{NoCRC: true}},
			server: party{soft: soft.Config{AlwaysCRC: true}}, want: true},
		{name: "the client is an rsocket", client: party{conn: plain}, want: true},
		{name: "the server is an rsocket", server: party{conn: plain}, want: true},
		{name: "the client does not know", client: party{other: true}, want: true},
		{name: "the server does not know", server: party{other: true}, want: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := tc.host
			if host == "" {
				host = "127.0.0.1"
			}
			a, b := tcpPair(t, host, tc.relayed)
			c, s := streams(t, a, b, tc.client, tc.server)
			requireCRC(t, tc.want, c, s)
		})
	}
}

// TestEchoIsNoProof has a responder that says what it was told.
func TestEchoIsNoProof(t *testing.T) {
	a, b := tcpPair(t, "127.0.0.1", false)
	type answer struct {
		qp  transport.QueuePair
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := soft.New(nil).Server(context.Background(), b, nil)
		if err != nil {
			answered <- answer{nil, err}
			return
		}
		err = r.Accept(context.Background(), append([]byte(nil), r.PrivateData()...))
		answered <- answer{r.QueuePair(), err}
	}()
	k, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	c, err := rdmanet.Client(testContext(t), k, nil)
	require.NoError(t, err)
	defer c.Close()
	peer := <-answered
	require.NoError(t, peer.err)
	require.True(t, c.Attributes().CRC)
	require.NoError(t, peer.qp.Abort())
}

// TestCRCBetweenNamespaces has the two ends in namespaces that are as alike as two hosts, behind a
// relay whose legs have the same addresses and ports.
func TestCRCBetweenNamespaces(t *testing.T) {
	needNamespaceCookie(t)
	var first, second, far *net.TCPConn
	var l *net.TCPListener
	var client *net.TCPConn
	inNewNamespace(t, func() {
		l, client, first = pairAt(t, 0, 0)
	})
	defer l.Close()
	from, to := client.LocalAddr().(*net.TCPAddr).Port, client.RemoteAddr().(*net.TCPAddr).Port
	inNewNamespace(t, func() {
		l, second, far = pairAt(t, from, to)
	})
	defer l.Close()
	require.Equal(t, client.LocalAddr(), far.RemoteAddr())
	require.Equal(t, client.RemoteAddr(), far.LocalAddr())
	carry(t, first, second)
	c, s := streams(t, client, far, party{}, party{})
	requireCRC(t, true, c, s)
}

// pairAt returns a TCP connection from one port of loopback to another. 0 means any.
func pairAt(t *testing.T, from, to int) (l *net.TCPListener, a, b *net.TCPConn) {
	loopback := net.IPv4(127, 0, 0, 1)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback, Port: to})
	require.NoError(t, err)
	a, err = net.DialTCP("tcp4", &net.TCPAddr{IP: loopback, Port: from}, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	b, err = l.AcceptTCP()
	require.NoError(t, err)
	return l, a, b
}

// inNewNamespace runs f by a thread with a network namespace of its own, and skips where that is
// not allowed. The sockets that f makes stay in it.
func inNewNamespace(t *testing.T, f func()) {
	failed := make(chan error)
	go func() {
		defer close(failed)
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		if err := loopbackUp(); err != nil {
			failed <- err
			return
		}
		f()
	}()
	if err := <-failed; err != nil {
		t.Skip(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}
