package iwarp_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// wrap makes a Listener of a listener, or skips where the system cannot.
func wrap(t testing.TB, lc iwarp.ListenConfig, inner net.Listener) *iwarp.Listener {
	t.Helper()
	l, err := lc.Wrap(inner.(*net.TCPListener))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the socket of a listener cannot be had on this system")
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestWrap has a listener of package net serve iWARP, with the client that waits there already.
func TestWrap(t *testing.T) {
	for _, policy := range policies {
		for _, address := range []string{"127.0.0.1:0", ":0"} {
			t.Run(policy.String()+" "+address, func(t *testing.T) {
				inner, err := net.Listen("tcp", address)
				require.NoError(t, err)
				early := dialTCP(t, inner)
				ps := &iwarp.PortSpace{}
				l := wrap(t, iwarp.ListenConfig{Offload: policy, PortSpace: ps}, inner)
				require.Equal(t, inner.Addr(), l.Addr())
				require.Len(t, ps.Reservations(), 1)
				require.Equal(t, iwarp.PortListening, ps.Reservations()[0].State)
				_, err = inner.Accept()
				require.ErrorIs(t, err, net.ErrClosed)
				require.Error(t, inner.Close())

				if policy != iwarp.OffloadRequire {
					_, err = io.WriteString(early, "x")
					require.NoError(t, err)
					s := accept(t, l)
					_, err = io.ReadFull(s, make([]byte, 1))
					require.NoError(t, err)
					exchange(t, early, s, "hello")
				}
				want := map[bool]string{true: "tcp", false: "soft"}[policy == iwarp.OffloadNever]
				go echo(l)
				client := map[bool]iwarp.Offload{true: iwarp.OffloadNever, false: iwarp.OffloadRequire}[policy == iwarp.OffloadNever]
				c := dial(t, l, client)
				require.Equal(t, want, describe(t, c).Transport)
				exchangeWithEcho(t, c, "hello")
				require.NoError(t, l.Close())
				_, err = net.Dial("tcp", l.Addr().String())
				require.Error(t, err, "nobody listens any more")
			})
		}
	}
}

// TestWrapHandedOver keeps iWARP where a listener goes through a file, as in servers that reload;
// the old one may be closed at any time.
func TestWrapHandedOver(t *testing.T) {
	old := listen(t, iwarp.ListenConfig{})
	f, err := old.File()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the socket of a listener cannot be had on this system")
	}
	require.NoError(t, err)
	defer f.Close()
	inner, err := net.FileListener(f)
	require.NoError(t, err)
	l := wrap(t, iwarp.ListenConfig{}, inner)
	require.NoError(t, old.Close())
	go echo(l)
	for _, policy := range []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever} {
		exchangeWithEcho(t, dial(t, l, policy), "hello")
	}
}

// TestReload replaces the listener within a process under load, as servers do that reload: no
// client is lost.
func TestReload(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	address := l.Addr().String()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var served atomic.Int64
	for i := range 4 {
		d := iwarp.Dialer{Offload: []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever}[i%2], Timeout: patience}
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := d.Dial("tcp", address)
				if !noError(t, err) {
					return
				}
				_, err = io.WriteString(c, "hello")
				if err == nil {
					_ = c.SetReadDeadline(time.Now().Add(patience))
					_, err = io.ReadFull(c, make([]byte, 5))
				}
				cut(c)
				if !noError(t, err) {
					return
				}
				served.Add(1)
			}
		})
	}
	var servers sync.WaitGroup
	servers.Go(func() { echo(l) })
	for range 5 {
		before := served.Load()
		eventually(t, func() bool { return served.Load() > before+20 || t.Failed() }, "clients are served")
		f, err := l.File()
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		require.NoError(t, err)
		inner, err := net.FileListener(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		next := wrap(t, iwarp.ListenConfig{}, inner)
		servers.Go(func() { echo(next) })
		require.NoError(t, l.Drain(t.Context()))
		_ = l.Close()
		l = next
	}
	close(stop)
	clients.Wait()
	require.NoError(t, l.Close())
	servers.Wait()
}

func TestWrapErrors(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inner.Close()
	ps := &iwarp.PortSpace{}
	_, err = (&iwarp.ListenConfig{Offload: 77, PortSpace: ps}).Wrap(inner.(*net.TCPListener))
	require.Equal(t, "listen", opError(t, err).Op)
	require.ErrorContains(t, err, "use auto, never, prefer, require or device")
	_, err = (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: withSoft(nil)[:0], PortSpace: ps}).Wrap(inner.(*net.TCPListener))
	require.ErrorAs(t, err, new(*iwarp.OffloadError))
	require.Empty(t, ps.Reservations())
	c := dialTCP(t, inner)
	require.NoError(t, inner.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	s, err := inner.Accept()
	require.NoError(t, err, "it is as it was")
	exchange(t, c, s, "hello")
	require.NoError(t, s.Close())

	_, err = (&iwarp.ListenConfig{}).Wrap(nil)
	require.Error(t, err)
	require.NoError(t, inner.Close())
	_, err = (&iwarp.ListenConfig{}).Wrap(inner.(*net.TCPListener))
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, "listen", opError(t, err).Op)
}
