package iwarp_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// nic is a transport with a port space of its own, as an RNIC has: its port n is some other port of
// the kernel.
type nic struct {
	soft               *soft.Transport
	absent, unroutable bool

	mu     sync.Mutex
	ports  map[uint16]netip.AddrPort // what its listeners have
	locals []netip.AddrPort          // what its dials were told to come from
}

func newNIC() *nic { return &nic{soft: soft.New(nil), ports: make(map[uint16]netip.AddrPort)} }

var nicDevice = transport.Device{Name: "nic0", Transport: "nic", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, OwnPorts: true}

func (n *nic) Name() string   { return "nic" }
func (n *nic) Offloads() bool { return true }

func (n *nic) Devices() ([]transport.Device, error) {
	if n.absent {
		return nil, nil
	}
	return []transport.Device{nicDevice}, nil
}

func (n *nic) Route(context.Context, netip.AddrPort, netip.AddrPort) (transport.Device, error) {
	if n.unroutable {
		return transport.Device{}, transport.ErrNoRoute
	}
	return nicDevice, nil
}

func (n *nic) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	n.mu.Lock()
	n.locals = append(n.locals, local)
	to, ok := n.ports[remote.Port()]
	n.mu.Unlock()
	if !ok {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	return n.soft.Dial(ctx, netip.AddrPort{}, to, o)
}

func (n *nic) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.ports[local.Port()]; ok {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	l, err := n.soft.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err == nil {
		n.ports[local.Port()] = l.Addr()
	}
	return l, err
}

func (n *nic) transports() []transport.Transport { return []transport.Transport{n, n.soft} }

// TestDevice prefers a device, whose port the kernel holds as long as the connection lives.
func TestDevice(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			iwarp.ForgetPeers()
			n := newNIC()
			l := listen(t, iwarp.ListenConfig{Offload: policy, Transports: n.transports()})
			d := iwarp.Dialer{Offload: policy, Transports: n.transports(), Timeout: patience}
			c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
			exchange(t, c, s, "hello")
			for _, c := range []net.Conn{c, s} {
				info := describe(t, c)
				require.Equal(t, "nic", info.Transport)
				require.True(t, info.Offloaded)
				require.Equal(t, iwarp.ReasonNone, info.Reason)
			}
			require.Equal(t, "nic0", describe(t, c).Device)

			local := n.locals[0].String()
			_, err := net.Listen("tcp", local)
			require.ErrorIs(t, err, syscall.EADDRINUSE, "the port of the connection is taken")
			require.NoError(t, c.Close())
			free, err := net.Listen("tcp", local)
			require.NoError(t, err, "the port is free again")
			require.NoError(t, free.Close())

			// The same listener serves the kernel's TCP.
			exchangeMet(t, l, func() net.Conn { return dialSoft(t, l) })
		})
	}
}

func dialSoft(t testing.TB, l net.Listener) net.Conn {
	c := dial(t, l, iwarp.OffloadRequire)
	require.Equal(t, "soft", describe(t, c).Transport)
	return c
}

// TestDeviceFallback says why a device was not used.
func TestDeviceFallback(t *testing.T) {
	for _, tt := range []struct {
		name   string
		nic    func(*nic)
		listen func(*nic) []transport.Transport
		reason iwarp.Reason
		dials  int
	}{
		{name: "absent", nic: func(n *nic) { n.absent = true }, reason: iwarp.ReasonNoDevice},
		{name: "no route", nic: func(n *nic) { n.unroutable = true }, reason: iwarp.ReasonNoRoute},
		{name: "no answer", nic: func(n *nic) { clear(n.ports) }, reason: iwarp.ReasonFailed, dials: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iwarp.ForgetPeers()
			n := newNIC()
			l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
			go echo(l)
			tt.nic(n)
			for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
				n.locals = nil
				d := iwarp.Dialer{Offload: policy, Transports: n.transports(), Timeout: patience}
				c, err := d.Dial("tcp", l.Addr().String())
				require.NoError(t, err)
				defer c.Close()
				exchangeWithEcho(t, c, "hello")
				require.Len(t, n.locals, tt.dials)
				if policy == iwarp.OffloadAuto {
					require.Equal(t, tt.reason, describe(t, c).Reason)
				} else {
					require.Equal(t, "soft", describe(t, c).Transport)
				}
				for _, local := range n.locals {
					free, err := net.Listen("tcp", local.String())
					require.NoError(t, err, "nothing holds the port of an attempt that failed")
					require.NoError(t, free.Close())
				}

				d.Transports = []transport.Transport{n}
				c, err = d.Dial("tcp", l.Addr().String())
				if policy != iwarp.OffloadRequire {
					require.NoError(t, err)
					defer c.Close()
					require.Equal(t, tt.reason, describe(t, c).Reason)
					continue
				}
				var why *iwarp.OffloadError
				require.ErrorAs(t, err, &why)
				require.Equal(t, tt.reason, why.Reason)
			}
		})
	}
}

// TestDeviceReasonOfAttempt says why the device that was tried failed, and not that another one
// does not reach the peer.
func TestDeviceReasonOfAttempt(t *testing.T) {
	iwarp.ForgetPeers()
	n, other := newNIC(), newNIC()
	other.unroutable = true
	l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
	go echo(l)
	clear(n.ports)
	for _, list := range [][]transport.Transport{{n, other}, {other, n}} {
		d := iwarp.Dialer{Transports: list, Timeout: patience}
		c := dialBy(t, &d, "tcp", l.Addr().String())
		exchangeWithEcho(t, c, "hello")
		require.Equal(t, iwarp.ReasonFailed, describe(t, c).Reason)
	}
}

// TestDevicePortTaken is EADDRINUSE for a port that only the device knows to be taken, unless
// another will do.
func TestDevicePortTaken(t *testing.T) {
	n := newNIC()
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	require.NoError(t, r.Release())
	taken := r.Addr().(*net.TCPAddr).AddrPort()
	other, err := n.Listen(t.Context(), taken, nil)
	require.NoError(t, err)
	defer other.Close()

	lc := iwarp.ListenConfig{Transports: n.transports()}
	_, err = lc.Listen(t.Context(), "tcp", taken.String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.Equal(t, "listen", opError(t, err).Op)
	free, err := net.Listen("tcp", taken.String())
	require.NoError(t, err, "the kernel's port is given back")
	require.NoError(t, free.Close())

	// The device refuses the first port that the kernel chooses.
	fussy := &fussyNIC{nic: n}
	l := listen(t, iwarp.ListenConfig{Transports: []transport.Transport{fussy, n.soft}})
	require.Equal(t, 2, fussy.calls)
	d := iwarp.Dialer{Transports: n.transports(), Timeout: patience}
	c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
	require.Equal(t, "nic", describe(t, c).Transport)
	require.NoError(t, s.Close())
}

type fussyNIC struct {
	*nic
	calls int
}

func (f *fussyNIC) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	if f.calls++; f.calls == 1 {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return f.nic.Listen(ctx, local, o)
}

// TestDeviceDialInterrupted ends a dial through a device.
func TestDeviceDialInterrupted(t *testing.T) {
	n := newNIC()
	mute := silentServer(t)
	n.ports[7] = mute.Addr().(*net.TCPAddr).AddrPort()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: n.transports()}
	_, err := d.DialContext(ctx, "tcp", "127.0.0.1:7")
	op := opError(t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, "i/o timeout", op.Err.Error())
	require.Equal(t, "127.0.0.1:7", op.Addr.String())
	free, err := net.Listen("tcp", n.locals[0].String())
	require.NoError(t, err, "the port is free again")
	require.NoError(t, free.Close())
}
