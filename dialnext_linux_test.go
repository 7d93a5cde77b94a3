package iwarp_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// blackHole has an address answer no connection request: its queue is full.
func blackHole(t testing.TB, addr [4]byte, port uint16) {
	t.Helper()
	open := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	at := &unix.SockaddrInet4{Addr: addr, Port: int(port)}
	l := open()
	require.NoError(t, unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	require.NoError(t, unix.Bind(l, at))
	require.NoError(t, unix.Listen(l, 0))
	for range 4 {
		_ = unix.Connect(open(), at)
	}
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.AddrFrom4(addr), port).String(), 50*time.Millisecond)
	if err == nil {
		_ = c.Close()
	}
	require.True(t, opError(t, err).Timeout())
}

// TestNextAddressIsABlackHole has an address that answers nothing cost no more than a peer that
// does not answer, where plain TCP to the first one is there.
func TestNextAddressIsABlackHole(t *testing.T) {
	plain, dead := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 7}
	for _, tt := range legacyAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newLegacyServer(t, tt.answer)
			port := s.Addr().(*net.TCPAddr).AddrPort().Port()
			blackHole(t, dead, port)
			_, service, err := net.SplitHostPort(s.Addr().String())
			require.NoError(t, err)
			iwarp.ForgetPeers()
			defer iwarp.SetAnswerSlack(50 * time.Millisecond)()
			for _, d := range []iwarp.Dialer{{}, {Timeout: 10 * patience}, {HandshakeTimeout: 200 * time.Millisecond}, {FallbackDelay: -1}} {
				d.Offload, d.Resolver = iwarp.OffloadPrefer, nameServer(plain, dead)
				began := time.Now()
				c, err := d.Dial("tcp", "server.test:"+service)
				require.NoError(t, err)
				require.Less(t, time.Since(began), patience)
				require.Equal(t, s.Addr().String(), c.RemoteAddr().String())
				exchangeWithEcho(t, c, "hello")
				require.NoError(t, c.Close())
			}
		})
	}
}

// TestInsteadIsABlackHole is the same for an address that spoke iWARP a moment ago. It is dialed
// once; what fails on this host does not count.
func TestInsteadIsABlackHole(t *testing.T) {
	plain, other := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 9}
	s := newLegacyServer(t, legacyAnswers[0].answer)
	port := s.Addr().(*net.TCPAddr).AddrPort().Port()
	at := netip.AddrPortFrom(netip.AddrFrom4(other), port).String()
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire, PortSpace: &iwarp.PortSpace{}}).Listen(t.Context(), "tcp", at)
	require.NoError(t, err)
	go echo(l)
	iwarp.ForgetPeers()
	var tried []string
	var fails error
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Resolver: nameServer(plain, other)}
	d.Control = func(_, address string, _ syscall.RawConn) error {
		tried = append(tried, address)
		if address == at {
			return fails
		}
		return nil
	}
	_, service, err := net.SplitHostPort(at)
	require.NoError(t, err)
	try := func(want string) {
		began := time.Now()
		c, err := d.Dial("tcp", "server.test:"+service)
		require.NoError(t, err)
		require.Equal(t, want, c.RemoteAddr().String())
		exchangeWithEcho(t, c, "hello")
		require.NoError(t, c.Close())
		require.Less(t, time.Since(began), patience)
	}
	try(at)
	try(at)
	for _, fails = range []error{errors.New("no"), syscall.EMFILE, syscall.EADDRNOTAVAIL} {
		try(s.Addr().String())
	}
	fails = nil
	try(at)
	require.NoError(t, l.Close())
	blackHole(t, other, port)
	defer iwarp.SetAnswerSlack(50 * time.Millisecond)()
	try(s.Addr().String())
	require.Contains(t, tried, at)
	tried = nil
	try(s.Addr().String())
	require.Equal(t, []string{s.Addr().String()}, tried)
}

// TestNextAddressCanceled ends a dial while it waits for the second address, to connect or to
// answer.
func TestNextAddressCanceled(t *testing.T) {
	s := newLegacyServer(t, legacyAnswers[0].answer)
	port := s.Addr().(*net.TCPAddr).AddrPort().Port()
	first, dead, silent := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 7}, [4]byte{127, 0, 0, 6}
	blackHole(t, dead, port)
	mute, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4(silent), port).String())
	require.NoError(t, err)
	defer mute.Close()
	_, service, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	for _, second := range [][4]byte{dead, silent} {
		iwarp.ForgetPeers()
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Resolver: nameServer(first, second)}
		ctx, cancel := context.WithCancel(t.Context())
		tried := make(chan struct{}, 4)
		d.Control = func(_, address string, _ syscall.RawConn) error {
			if address == netip.AddrPortFrom(netip.AddrFrom4(second), port).String() {
				tried <- struct{}{}
			}
			return nil
		}
		failed := make(chan error)
		go func() {
			_, err := d.DialContext(ctx, "tcp", "server.test:"+service)
			failed <- err
		}()
		<-tried
		cancel()
		select {
		case err := <-failed:
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, "dial", opError(t, err).Op)
		case <-time.After(patience):
			t.Fatal("dial goes on")
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := d.DialContext(ctx, "tcp", "server.test:"+service)
		cancel()
		require.True(t, errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*iwarp.OffloadError)), "%v", err)
	}
}
