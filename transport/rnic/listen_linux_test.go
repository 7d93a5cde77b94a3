//go:build amd64 || arm64

package rnic_test

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// dial connects to l at an address, and closes.
func dial(t *testing.T, r *rnic.Transport, l transport.Listener, to netip.Addr) error {
	ctx := limited(t)
	c, err := r.Dial(ctx, netip.AddrPort{}, netip.AddrPortFrom(to, l.Addr().Port()), nil)
	if err != nil {
		return err
	}
	defer c.QueuePair().Abort()
	done := connecting(ctx, c, nil)
	accepted := make(chan error, 1)
	actx, cancel := context.WithCancel(ctx)
	go func() {
		s, err := l.Accept(actx)
		if err == nil {
			err = s.Accept(ctx, nil)
			defer s.QueuePair().Abort()
		}
		accepted <- err
	}()
	k := <-done
	if k.Err != nil {
		cancel()
	}
	err = <-accepted
	cancel()
	if k.Err == nil {
		require.NoError(t, err)
	}
	return k.Err
}

func TestPortTaken(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		_, err := r.Listen(limited(t), l.Addr(), nil)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		_, err = rnic.New(nil).Listen(limited(t), l.Addr(), nil)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		if d.KernelPorts {
			tl, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
			require.NoError(t, err)
			defer tl.Close()
			_, err = r.Listen(limited(t), tl.Addr().(*net.TCPAddr).AddrPort(), nil)
			require.ErrorIs(t, err, syscall.EADDRINUSE)
		}
		require.NoError(t, l.Close())
		l, err = r.Listen(limited(t), l.Addr(), nil)
		require.NoError(t, err, "the port is free again")
		require.NoError(t, l.Close())
	})
}

func TestListenerClose(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		done := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := l.Accept(context.Background())
				done <- err
			}()
		}
		require.NoError(t, l.Close())
		for range 2 {
			require.ErrorIs(t, <-done, net.ErrClosed)
		}
		require.ErrorIs(t, l.Close(), net.ErrClosed)
		_, err := l.Accept(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// Requests that nobody has accepted are refused when the listener is closed; one that was accepted
// lives on.
func TestListenerCloseWithRequests(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		c1, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		first := connecting(limited(t), c1, nil)
		s, err := l.Accept(limited(t))
		require.NoError(t, err)
		c2, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		second := connecting(limited(t), c2, nil)
		require.NoError(t, l.Close())
		require.Error(t, (<-second).Err)
		require.NoError(t, s.Accept(limited(t), nil))
		require.NoError(t, (<-first).Err)
		require.NoError(t, c1.QueuePair().Abort())
		require.NoError(t, s.QueuePair().Abort())
	})
}

func TestAcceptDeadline(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := l.Accept(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, dial(t, r, l, addr))
	})
}

func TestListenAddresses(t *testing.T) {
	r := rnic.New(nil)
	all := devices(t, r)
	_, err := r.Listen(limited(t), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.ErrorIs(t, err, transport.ErrNoDevice)
	_, err = r.Listen(limited(t), netip.MustParseAddrPort("198.51.100.1:0"), nil)
	require.ErrorIs(t, err, transport.ErrNoDevice)
	_, err = r.Listen(limited(t), netip.MustParseAddrPort("0.0.0.0:0"), &transport.Options{Devices: []string{"none0"}})
	require.ErrorIs(t, err, transport.ErrNoDevice)
	_, err = r.Listen(limited(t), netip.MustParseAddrPort("0.0.0.0:0"), &transport.Options{Devices: []string{}})
	require.ErrorIs(t, err, transport.ErrNoDevice)

	for _, wildcard := range []string{"0.0.0.0:0", "[::]:0"} {
		l, err := r.Listen(limited(t), netip.MustParseAddrPort(wildcard), nil)
		require.NoError(t, err, wildcard)
		require.NotZero(t, l.Addr().Port())
		require.True(t, l.Addr().Addr().IsUnspecified())
		for _, d := range all {
			require.NoError(t, dial(t, r, l, d.Addrs[0]), "%s at %s", wildcard, d.Name)
		}
		require.NoError(t, l.Close())
	}
	l, err := r.Listen(limited(t), netip.AddrPort{}, nil)
	require.NoError(t, err, "no address is the wildcard")
	require.NoError(t, l.Close())
}

func TestListenDevices(t *testing.T) {
	r := rnic.New(nil)
	all := devices(t, r)
	if len(all) < 2 {
		t.Skip("one device only")
	}
	for _, d := range all {
		l, err := r.Listen(limited(t), netip.MustParseAddrPort("0.0.0.0:0"), &transport.Options{Devices: []string{d.Name}})
		require.NoError(t, err)
		for _, other := range all {
			err := dial(t, r, l, other.Addrs[0])
			if other.Name == d.Name {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, syscall.ECONNREFUSED, "%s has no listener", other.Name)
			}
		}
		// The same port for the other devices is free.
		for _, other := range all {
			o, err := r.Listen(limited(t), netip.AddrPortFrom(netip.IPv4Unspecified(), l.Addr().Port()), &transport.Options{Devices: []string{other.Name}})
			if other.Name == d.Name {
				require.ErrorIs(t, err, syscall.EADDRINUSE)
				continue
			}
			require.NoError(t, err)
			require.NoError(t, o.Close())
		}
		_, err = r.Listen(limited(t), netip.AddrPortFrom(all[(slices.IndexFunc(all, func(o transport.Device) bool { return o.Name == d.Name })+1)%len(all)].Addrs[0], 0),
			&transport.Options{Devices: []string{d.Name}})
		require.ErrorIs(t, err, transport.ErrNoDevice, "an address of another device")
		require.NoError(t, l.Close())
	}
}

// A listener for all addresses does not fail for one that the kernel lets nobody use yet.
func TestListenTentative(t *testing.T) {
	eachDevice(t, func(t *testing.T, _ *rnic.Transport, d transport.Device, addr netip.Addr) {
		const tentative = "fd00:99::1/64"
		if out, err := exec.Command("ip", "addr", "add", tentative, "dev", d.NetDev).CombinedOutput(); err != nil {
			t.Skipf("no IPv6 address: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "addr", "del", tentative, "dev", d.NetDev).Run() })
		r := rnic.New(nil) // which sees the address
		l, err := r.Listen(limited(t), netip.MustParseAddrPort("[::]:0"), &transport.Options{Devices: []string{d.Name}})
		require.NoError(t, err)
		defer l.Close()
		require.NoError(t, dial(t, r, l, addr))
	})
}

func TestIPv6(t *testing.T) {
	r := rnic.New(nil)
	devices(t, r)
	eachDevice(t, func(t *testing.T, _ *rnic.Transport, d transport.Device, addr netip.Addr) {
		i := slices.IndexFunc(d.Addrs, func(a netip.Addr) bool { return a.Is6() && !a.IsLinkLocalUnicast() })
		if i < 0 {
			if out, err := exec.Command("ip", "addr", "add", map[bool]string{true: "fd00:9::1/64", false: "fd00:10::1/64"}[d.IWARP], "dev", d.NetDev, "nodad").CombinedOutput(); err != nil {
				t.Skipf("no IPv6 address: %s", out)
			}
			r = rnic.New(nil)
			all := devices(t, r)
			d = all[slices.IndexFunc(all, func(o transport.Device) bool { return o.Name == d.Name })]
			i = slices.IndexFunc(d.Addrs, func(a netip.Addr) bool { return a.Is6() && !a.IsLinkLocalUnicast() })
		}
		v6 := d.Addrs[i]
		l := listen(t, r, v6)
		require.Equal(t, v6, l.Addr().Addr())
		require.NoError(t, dial(t, r, l, v6))

		l, err := r.Listen(limited(t), netip.MustParseAddrPort("[::]:0"), &transport.Options{OnlyIPv6: true})
		require.NoError(t, err)
		defer l.Close()
		require.NoError(t, dial(t, r, l, v6))
		require.ErrorIs(t, dial(t, r, l, addr), syscall.ECONNREFUSED)
		four, err := r.Listen(limited(t), netip.AddrPortFrom(netip.IPv4Unspecified(), l.Addr().Port()), nil)
		require.NoError(t, err, "IPv4 has the port, too")
		require.NoError(t, four.Close())

		only, err := r.Listen(limited(t), netip.MustParseAddrPort("[::]:0"), &transport.Options{OnlyIPv6: true, Devices: []string{d.Name}})
		require.NoError(t, err)
		defer only.Close()
		require.NoError(t, dial(t, r, only, v6))
		require.ErrorIs(t, dial(t, r, only, addr), syscall.ECONNREFUSED)
	})
}

func TestLinkLocal(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		i := slices.IndexFunc(d.Addrs, netip.Addr.IsLinkLocalUnicast)
		if i < 0 {
			t.Skip("no link-local address")
		}
		a := d.Addrs[i]
		require.Equal(t, d.NetDev, a.Zone())
		l := listen(t, r, a)
		require.Equal(t, a, l.Addr().Addr())
		require.NoError(t, dial(t, r, l, a))
	})
}

// TestPoorRequest has a request refused with a word where something has run out, and the listener
// go on.
func TestPoorRequest(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, _ transport.Device, addr netip.Addr) {
		ctx := limited(t)
		l := listen(t, r, addr)
		r.KeepDevices() // a new list takes a descriptor
		for _, poor := range []bool{true, false} {
			c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			receives(t, c.QueuePair(), 1, 4)
			dialled := connecting(ctx, c, []byte("hello"))
			restore := func() {}
			if poor {
				restore = leaveNoDescriptor(t)
			}
			s, err := l.Accept(ctx)
			restore()
			require.NoError(t, err)
			require.Equal(t, "hello", string(s.PrivateData()[:5]))
			if !poor {
				require.NoError(t, s.Accept(ctx, nil))
				require.NoError(t, (<-dialled).Err)
				require.NoError(t, c.QueuePair().Close())
				require.NoError(t, s.QueuePair().Close())
				return
			}
			q := s.QueuePair()
			a, ok := transport.As[transport.MemoryAllocator](q)
			require.True(t, ok)
			_, _, err = a.AllocateMemory(4096, transport.LocalWrite)
			require.ErrorIs(t, err, syscall.EMFILE)
			_, err = q.PostRecv([]transport.RecvWR{{}})
			require.ErrorIs(t, err, syscall.EMFILE)
			require.ErrorIs(t, q.Wait(soon()), syscall.EMFILE)
			require.Zero(t, q.Poll(make([]transport.Completion, 1)))
			require.GreaterOrEqual(t, q.Attributes().RecvDepth, 64)
			require.NoError(t, s.Reject([]byte("limit")))
			var rejected *transport.RejectedError
			require.ErrorAs(t, (<-dialled).Err, &rejected)
			require.Equal(t, "limit", string(rejected.PrivateData[:5]))
		}
	})
}

// leaveNoDescriptor lets the process have no more descriptors than it has, until restore is called.
func leaveNoDescriptor(t *testing.T) (restore func()) {
	t.Helper()
	free, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(free))
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: old.Max}))
	return func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }
}
