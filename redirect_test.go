package iwarp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func portOf(a net.Addr) uint16 { return a.(*net.TCPAddr).AddrPort().Port() }

// dialDevice connects to l by way of the device.
func dialDevice(t testing.TB, l net.Listener, nic transport.Transport, policy iwarp.Offload) net.Conn {
	t.Helper()
	d := iwarp.Dialer{Offload: policy, Transports: withSoft(nic), Timeout: patience}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// TestRedirect sends clients with an iWARP device to the server's, while the port of the service is
// the kernel's.
func TestRedirect(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				l := listen(t, iwarp.ListenConfig{Offload: policy, Transports: withSoft(nic)})
				service, beside := portOf(l.Addr()), n.lastListen().local.Port()
				require.NotEqual(t, service, beside)
				for i, dials := range [][]uint16{n.dialing(service, beside), {beside}} {
					c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, policy) })
					exchange(t, c, s, "hello")
					require.Equal(t, dials, n.takeDials())
					for _, c := range []net.Conn{c, s} {
						info := describe(t, c)
						require.Equal(t, "rnic", info.Transport)
						require.True(t, info.Offloaded)
						require.Equal(t, iwarp.ReasonNone, info.Reason)
						require.Equal(t, beside, info.RedirectPort)
						require.NoError(t, info.Err)
					}
					require.Equal(t, n.devices[0].Name, describe(t, s).Device)
					require.Equal(t, n.devices[0].Name, describe(t, c).Device)
					require.Equal(t, l.Addr().String(), c.RemoteAddr().String(), "the address that was dialed")
					require.Equal(t, l.Addr().String(), s.LocalAddr().String(), "the address of the service")
					stats := l.Stats()
					require.EqualValues(t, 1, stats.Redirected)
					require.EqualValues(t, i+1, stats.IWARP)
					require.Zero(t, stats.HandshakeFailed)
				}

				// Nobody else notices.
				exchangeMet(t, l, func() net.Conn { return dialSoft(t, l) })
				if policy != iwarp.OffloadRequire {
					c := dialTCP(t, l)
					_, err := io.WriteString(c, "hello")
					require.NoError(t, err)
					require.IsType(t, (*net.TCPConn)(nil), accept(t, l))
				}
				require.EqualValues(t, 1, l.Stats().Redirected)
			})
		})
	}
}

// TestRedirectHoldsPorts has the kernel hold the ports of the device's listener and connections as
// long as they are there.
func TestRedirectHoldsPorts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a port can only be held by listening on it")
	}
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		ps := &iwarp.PortSpace{}
		l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic), PortSpace: ps})
		beside := n.lastListen().local
		c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
		held := func() map[netip.AddrPort]iwarp.PortInfo {
			m := make(map[netip.AddrPort]iwarp.PortInfo)
			for _, info := range ps.Reservations() {
				m[info.Addr] = info
			}
			return m
		}
		require.Equal(t, map[netip.AddrPort]iwarp.PortInfo{
			infoAddr(l): {Addr: infoAddr(l), State: iwarp.PortListening, Owner: "listener", References: 1},
			beside:      {Addr: beside, State: iwarp.PortListening, Owner: n.devices[0].Name, References: 2},
		}, held())
		for _, a := range []string{beside.String(), n.locals[len(n.locals)-1].String()} {
			_, err := net.Listen("tcp", a)
			require.ErrorIs(t, err, syscall.EADDRINUSE, a)
		}
		require.NoError(t, l.Close())
		require.Zero(t, n.listeners())
		exchange(t, c, s, "hello")
		require.Equal(t, map[netip.AddrPort]iwarp.PortInfo{
			beside: {Addr: beside, State: iwarp.PortConnected, Owner: n.devices[0].Name, References: 1},
		}, held(), "the port of the service is nobody's, that of the device its connection's")
		require.NoError(t, s.Close())
		require.Empty(t, held())
		require.NoError(t, c.Close())
	})
}

// TestRedirectReleased gives the device's port back however the listener ends.
func TestRedirectReleased(t *testing.T) {
	for name, end := range map[string]func(testing.TB, *iwarp.Listener){
		"close": func(t testing.TB, l *iwarp.Listener) { require.NoError(t, l.Close()) },
		"drain": func(t testing.TB, l *iwarp.Listener) { require.NoError(t, l.Drain(t.Context())) },
		"drain behind a copy": func(t testing.TB, l *iwarp.Listener) {
			f, err := l.File()
			if errors.Is(err, errors.ErrUnsupported) || runtime.GOOS == "windows" {
				t.Skip("listeners cannot be copied")
			}
			require.NoError(t, err)
			t.Cleanup(func() { _ = f.Close() })
			require.NoError(t, l.Drain(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
				beside := n.lastListen().local
				_, err := net.Listen("tcp", beside.String())
				require.ErrorIs(t, err, syscall.EADDRINUSE)
				end(t, l)
				require.Zero(t, n.listeners())
				free, err := net.Listen("tcp", beside.String())
				require.NoError(t, err)
				require.NoError(t, free.Close())
			})
		})
	}
}

// TestRedirectRemembered finds the server again when its device has another port meanwhile, whoever
// has the old one.
func TestRedirectRemembered(t *testing.T) {
	for name, squat := range map[string]func(t *testing.T, old netip.AddrPort){
		"nobody": func(*testing.T, netip.AddrPort) {},
		"another service": func(t *testing.T, old netip.AddrPort) {
			l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", old.String())
			require.NoError(t, err)
			acceptEach(t, l)
			t.Cleanup(func() { require.Zero(t, l.(*iwarp.Listener).Stats().IWARP) })
		},
		"plain tcp": func(t *testing.T, old netip.AddrPort) {
			l, err := net.Listen("tcp", old.String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.Close()
				}
			}()
		},
		"silence": func(t *testing.T, old netip.AddrPort) {
			l, err := net.Listen("tcp", old.String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				lc := iwarp.ListenConfig{Transports: withSoft(nic)}
				l := listen(t, lc)
				old := n.lastListen().local
				c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
				require.NoError(t, c.Close())
				require.NoError(t, s.Close())
				require.NoError(t, l.Close())
				squat(t, old)
				again, err := lc.Listen(t.Context(), "tcp", l.Addr().String())
				require.NoError(t, err)
				defer again.Close()
				beside := n.lastListen().local
				if old == beside {
					t.Skip("the kernel chose the same port again")
				}

				n.takeDials()
				d := iwarp.Dialer{Transports: withSoft(nic), Timeout: patience}
				if name == "silence" {
					d.HandshakeTimeout = 2 * time.Second // which is to pass once, and suffice for the other attempts
				}
				service := portOf(l.Addr())
				for _, dials := range [][]uint16{append([]uint16{old.Port()}, n.dialing(service, beside.Port())...), {beside.Port()}} {
					c, s := meet(t, again, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
					require.Equal(t, dials, n.takeDials())
					require.Equal(t, "rnic", describe(t, c).Transport)
					require.Equal(t, beside.Port(), describe(t, c).RedirectPort)
					exchange(t, c, s, "hello")
				}
			})
		})
	}
}

// rejecting serves software iWARP requests by refusals with what data returns.
func rejecting(t testing.TB, data func(own uint16) []byte) netip.AddrPort {
	t.Helper()
	l, err := soft.New(nil).Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			r, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			_ = r.Reject(data(l.Addr().Port()))
		}
	}()
	return l.Addr()
}

func redirectTo(port uint16) []byte {
	return append([]byte("iWAR\x01\x00\x02\x02"), byte(port>>8), byte(port))
}

// TestRedirectInVain falls back with the reason why the device could not be used.
func TestRedirectInVain(t *testing.T) {
	plain := func(*net.TCPConn, []byte) {}
	for _, tt := range []struct {
		name   string
		remote func(t testing.TB) netip.AddrPort
		reason iwarp.Reason
		dials  int
		known  bool
		limit  time.Duration
	}{
		{name: "plain tcp", reason: iwarp.ReasonNotIWARP, dials: 1, known: true, remote: func(t testing.TB) netip.AddrPort {
			return infoAddr(newLegacyServer(t, plain))
		}},
		{name: "refuses", reason: iwarp.ReasonDeclined, dials: 1, remote: func(t testing.TB) netip.AddrPort {
			return rejecting(t, func(uint16) []byte { return nil })
		}},
		{name: "to a closed port", reason: iwarp.ReasonFailed, dials: 2, remote: func(t testing.TB) netip.AddrPort {
			closed := netip.MustParseAddrPort(closedPort(t))
			return rejecting(t, func(uint16) []byte { return redirectTo(closed.Port()) })
		}},
		{name: "to itself", reason: iwarp.ReasonDeclined, dials: 1, remote: func(t testing.TB) netip.AddrPort {
			return rejecting(t, redirectTo)
		}},
		{name: "twice", reason: iwarp.ReasonDeclined, dials: 2, remote: func(t testing.TB) netip.AddrPort {
			second := rejecting(t, func(own uint16) []byte { return redirectTo(own + 1) })
			return rejecting(t, func(uint16) []byte { return redirectTo(second.Port()) })
		}},
		{name: "to plain tcp", reason: iwarp.ReasonNotIWARP, dials: 2, known: true, remote: func(t testing.TB) netip.AddrPort {
			second := newLegacyServer(t, plain)
			return rejecting(t, func(uint16) []byte { return redirectTo(portOf(second.Addr())) })
		}},
		{name: "to silence", reason: iwarp.ReasonHandshakeTimeout, dials: 2, known: true, limit: 2 * time.Second, remote: func(t testing.TB) netip.AddrPort {
			second := silentServer(t)
			return rejecting(t, func(uint16) []byte { return redirectTo(portOf(second.Addr())) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				remote := tt.remote(t)
				ps := &iwarp.PortSpace{}
				d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience, PortSpace: ps, HandshakeTimeout: tt.limit}
				most := len(n.dialing(make([]uint16, tt.dials)...))
				for _, dials := range []int{most, map[bool]int{false: most}[tt.known]} {
					c, err := d.Dial("tcp", remote.String())
					require.NoError(t, err)
					defer c.Close()
					require.IsType(t, (*net.TCPConn)(nil), c)
					require.Equal(t, tt.reason, describe(t, c).Reason)
					require.Len(t, n.takeDials(), dials)
					require.Empty(t, ps.Reservations(), "nothing is held for a dial that failed")
				}
				d.Offload = iwarp.OffloadRequire
				_, err := d.Dial("tcp", remote.String())
				require.Equal(t, remote.String(), opError(t, err).Addr.String())
				var why *iwarp.OffloadError
				require.ErrorAs(t, err, &why)
				require.Equal(t, tt.reason, why.Reason)
			})
		})
	}
}

// TestNoRedirect serves clients where they are if there is no better place.
func TestNoRedirect(t *testing.T) {
	for name, before := range map[string]func(n *rnic) []transport.Transport{
		"no device":     func(*rnic) []transport.Transport { return []transport.Transport{soft.New(nil)} },
		"other address": nil,
	} {
		t.Run(name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				list := withSoft(nic)
				if before != nil {
					list = before(n)
				} else {
					n.devices[0].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
				}
				l := listen(t, iwarp.ListenConfig{Transports: list})
				require.Empty(t, n.listens)
				n.devices[0].Addrs = loopback()
				if n.devices[0].KernelPorts {
					n.staysInSoftware(t, l, nic)
					return
				}
				c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
				exchange(t, c, s, "hello")
				require.Equal(t, "rnic", describe(t, c).Transport)
				require.Equal(t, "soft", describe(t, s).Transport)
				require.Zero(t, describe(t, c).RedirectPort)
				require.Equal(t, []uint16{portOf(l.Addr())}, n.takeDials())
			})
		})
	}
}

// staysInSoftware shows that a device that asks first does not talk to the service of l, which has
// no device, and that l does not see the question.
func (n *rnic) staysInSoftware(t *testing.T, l *iwarp.Listener, nic transport.Transport) {
	t.Helper()
	for range 2 { // the second time it is known
		c, s := meetSpeaking(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
		exchange(t, c, s, "hello")
		require.IsType(t, (*net.TCPConn)(nil), c)
		require.Equal(t, iwarp.ReasonDeclined, describe(t, c).Reason)
		require.EqualError(t, describe(t, c).Err, "peer: no device")
	}
	iwarp.ForgetPeers()
	for _, policy := range []iwarp.Offload{iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, policy) })
		exchange(t, c, s, "hello")
		require.Equal(t, "soft", describe(t, c).Transport)
	}
	require.Empty(t, n.takeDials())
	require.Zero(t, l.Stats().HandshakeFailed)
	require.Zero(t, l.Stats().Redirected)
}

// TestRedirectEndsWithDevice serves clients in software once the device has gone, also if it is
// back.
func TestRedirectEndsWithDevice(t *testing.T) {
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
		beside := n.lastListen().local
		n.unplug()
		eventually(t, func() bool { // once somebody accepts
			require.NoError(t, l.SetDeadline(time.Now().Add(time.Millisecond)))
			_, err := l.Accept()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			free, err := net.Listen("tcp", beside.String())
			if err == nil {
				_ = free.Close()
			}
			return err == nil
		}, "the device's port is given back")
		require.NoError(t, l.SetDeadline(time.Time{}))
		if n.devices[0].KernelPorts {
			n.staysInSoftware(t, l, nic)
		} else {
			c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
			exchange(t, c, s, "hello")
			require.Equal(t, "rnic", describe(t, c).Transport)
			require.Len(t, n.takeDials(), 1)
		}
		require.Zero(t, l.Stats().Redirected)

		n.devices = nil
		d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, iwarp.Info{Transport: "tcp", Reason: iwarp.ReasonNoDevice}, describe(t, c))
	})
}

// TestRedirectWithoutSoftware checks that a listener that must not serve iWARP in software still
// redirects.
func TestRedirectWithoutSoftware(t *testing.T) {
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		l := listen(t, iwarp.ListenConfig{Transports: []transport.Transport{nic}})
		c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadRequire) })
		exchange(t, c, s, "hello")
		require.Equal(t, "rnic", describe(t, c).Transport)

		next := acceptEach(t, l)
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(nil)}, Timeout: patience}
		_, err := d.Dial("tcp", l.Addr().String())
		require.ErrorContains(t, err, "offload required: peer declined: policy never")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		plain := dialTCP(t, l)
		_, err = io.WriteString(plain, "hello")
		require.NoError(t, err)
		require.IsType(t, (*net.TCPConn)(nil), next())
	})
}

// TestListenBeside has a transport with devices of both kinds listen on the port of the service and
// beside it.
func TestListenBeside(t *testing.T) {
	for _, tt := range []struct{ network, address, host string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"}, {"tcp4", ":0", "0.0.0.0"}, {"tcp", ":0", "::"}, {"tcp6", ":0", "::"},
	} {
		t.Run(tt.network+" "+tt.address, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				n.devices = append(n.devices, roce)
				lc := iwarp.ListenConfig{Transports: withSoft(nic)}
				l, err := lc.Listen(t.Context(), tt.network, tt.address)
				require.NoError(t, err)
				defer l.Close()
				require.Len(t, n.listens, 2)
				same, beside := n.listens[0], n.listens[1]
				require.Equal(t, tt.host, same.local.Addr().String())
				require.Equal(t, portOf(l.Addr()), same.local.Port())
				require.Equal(t, []string{roce.Name}, same.o.Devices)
				require.Equal(t, tt.host, beside.local.Addr().String())
				require.NotEqual(t, portOf(l.Addr()), beside.local.Port())
				require.Equal(t, []string{n.devices[0].Name}, beside.o.Devices)
				for _, call := range n.listens {
					require.Equal(t, tt.network == "tcp6", call.o.OnlyIPv6)
					_, err := net.Listen(tt.network, call.local.String())
					require.ErrorIs(t, err, syscall.EADDRINUSE)
				}
				if tt.network != "tcp6" {
					d := iwarp.Dialer{Transports: withSoft(nic), Timeout: patience}
					address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(portOf(l.Addr()))))
					c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp4", address) })
					exchange(t, c, s, "hello")
					require.Equal(t, beside.local.Port(), describe(t, c).RedirectPort)
				}
				require.NoError(t, l.Close())
				require.Zero(t, n.listeners())
			})
		})
	}
}

// TestListenBesideFails leaves a device out that cannot listen, and does not fail for it.
func TestListenBesideFails(t *testing.T) {
	inUse := os.NewSyscallError("bind", syscall.EADDRINUSE)
	for _, tt := range []struct {
		name          string
		err           error
		failures      int
		calls         int
		there         bool
		reservedFails bool
	}{
		{name: "taken once", err: inUse, failures: 1, calls: 2, there: true},
		{name: "taken often", err: inUse, failures: 15, calls: 16, there: true},
		{name: "taken always", err: inUse, failures: 100, calls: 16},
		{name: "other", err: errTest, failures: 1, calls: 1},
		{name: "no port", reservedFails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				seen := make(map[netip.AddrPort]bool)
				n.listenHook = func(local netip.AddrPort) error {
					require.False(t, seen[local], "each try has another port")
					seen[local] = true
					if len(seen) <= tt.failures {
						return tt.err
					}
					return nil
				}
				ps := &iwarp.PortSpace{}
				if tt.reservedFails {
					ps.Control = func(string, string, syscall.RawConn) error { return errTest }
				}
				l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic), PortSpace: ps})
				require.Len(t, seen, tt.calls)
				exchangeMet(t, l, func() net.Conn { return dialSoft(t, l) })
				if tt.there {
					require.Len(t, ps.Reservations(), 2)
					c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
					exchange(t, c, s, "hello")
					require.NotZero(t, describe(t, c).RedirectPort)
				} else {
					require.Len(t, ps.Reservations(), 1, "the ports of the tries are given back")
				}
			})
		})
	}
}

// TestNoDeviceSaysWhy has what is the matter with the devices reach the user.
func TestNoDeviceSaysWhy(t *testing.T) {
	missing := errors.Join(transport.ErrNoDevice, errors.New("librdmacm.so.1 is missing; install rdma-core"))
	locked := errors.Join(errors.New("registering memory failed; raise RLIMIT_MEMLOCK"), syscall.ENOMEM)
	for _, tt := range []struct {
		name   string
		nic    func(*rnic)
		reason iwarp.Reason
		text   string
	}{
		{name: "library", nic: func(n *rnic) { n.noDevices = missing }, reason: iwarp.ReasonNoDevice, text: "install rdma-core"},
		{name: "list", nic: func(n *rnic) { n.noDevices = errTest }, reason: iwarp.ReasonNoDevice, text: errTest.Error()},
		{name: "memory", nic: func(n *rnic) { n.noDevices = locked }, reason: iwarp.ReasonLimit, text: "RLIMIT_MEMLOCK"},
		{name: "unloaded", nic: func(n *rnic) {
			n.routeHook = func() (transport.Device, error) { return transport.Device{}, missing }
		}, reason: iwarp.ReasonNoDevice, text: "install rdma-core"},
		{name: "link down", nic: func(n *rnic) {
			n.routeHook = func() (transport.Device, error) {
				return transport.Device{}, errors.Join(transport.ErrNoRoute, errors.New("eth0 is down"))
			}
		}, reason: iwarp.ReasonNoRoute, text: "eth0 is down"},
		{name: "permission", nic: func(n *rnic) {
			n.routeHook = func() (transport.Device, error) {
				return transport.Device{}, os.NewSyscallError("mlock", syscall.EPERM)
			}
		}, reason: iwarp.ReasonLimit, text: "mlock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iwarp.ForgetPeers()
			n := newRNIC(rnicKinds["own ports"].device)
			tt.nic(n)
			l := listen(t, iwarp.ListenConfig{})
			d := iwarp.Dialer{Transports: []transport.Transport{n}, Timeout: patience}
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			info := describe(t, c)
			require.Equal(t, tt.reason, info.Reason)
			require.ErrorContains(t, info.Err, tt.text)

			d.Offload = iwarp.OffloadRequire
			_, err = d.Dial("tcp", l.Addr().String())
			var why *iwarp.OffloadError
			require.ErrorAs(t, err, &why)
			require.Equal(t, tt.reason, why.Reason)
			require.ErrorContains(t, err, tt.text)

			if n.noDevices == nil {
				return
			}
			lc := iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{n}}
			_, err = lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.ErrorAs(t, opError(t, err), &why)
			require.ErrorContains(t, err, tt.text)
			lc.Offload = iwarp.OffloadAuto
			plain := listen(t, lc)
			dialTCP(t, plain)
			require.ErrorContains(t, describe(t, accept(t, plain)).Err, tt.text)
		})
	}
}

// TestServiceOfListener refuses a client that was sent to another service.
func TestServiceOfListener(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	acceptEach(t, l)
	k, err := soft.New(nil).Dial(t.Context(), netip.AddrPort{}, infoAddr(l), nil)
	require.NoError(t, err)
	_, err = rdmanet.Client(t.Context(), &redirect.Connector{Connector: k, Service: portOf(l.Addr()) ^ 1}, nil)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	eventually(t, func() bool { return l.Stats().HandshakeFailed == 1 }, "the refusal is counted")
}

// TestRedirectAtOnce has many clients that know nothing yet find the device.
func TestRedirectAtOnce(t *testing.T) {
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
		go echo(l)
		ps := &iwarp.PortSpace{}
		d := iwarp.Dialer{Transports: withSoft(nic), Timeout: patience, PortSpace: ps}
		var wg sync.WaitGroup
		for range 24 {
			wg.Go(func() {
				for range 3 {
					c, err := d.Dial("tcp", l.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					if info, _ := iwarp.Describe(c); info.RedirectPort == 0 {
						t.Errorf("not through the device: %+v", info)
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		require.Empty(t, ps.Reservations())
		require.Zero(t, l.Stats().HandshakeFailed)
	})
}

// TestRedirectBehindForwardedPort reaches a service whose port the host's firewall has forwarded
// from another.
func TestRedirectBehindForwardedPort(t *testing.T) {
	iwarp.ForgetPeers()
	n := newRNIC(rnicKinds["own ports"].device)
	l := listen(t, iwarp.ListenConfig{Transports: withSoft(n)})
	forwarded := netip.MustParseAddrPort(closedPort(t))
	n.ports[forwarded] = infoAddr(l)
	d := iwarp.Dialer{Transports: []transport.Transport{n}, Timeout: patience, Offload: iwarp.OffloadRequire}
	for range 2 {
		c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", forwarded.String()) })
		require.Equal(t, forwarded.String(), c.RemoteAddr().String())
		exchange(t, c, s, "hello")
		require.NotZero(t, describe(t, c).RedirectPort)
	}
	require.Len(t, n.takeDials(), 3)
}

// TestRedirectAddressMoves redirects only while the device has the address that the client came to.
func TestRedirectAddressMoves(t *testing.T) {
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
		client := newRNIC(slices.Clone(n.devices)...)
		n.mu.Lock()
		n.devices[0].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		n.mu.Unlock()
		if client.devices[0].KernelPorts {
			client.staysInSoftware(t, l, rnicKinds["kernel ports"].over(client))
			return
		}
		c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, client, iwarp.OffloadAuto) })
		exchange(t, c, s, "hello")
		require.Equal(t, "rnic", describe(t, c).Transport)
		require.Zero(t, describe(t, c).RedirectPort)
		require.Zero(t, l.Stats().Redirected)
	})
}

// TestRedirectForgotten tries what was remembered once only after it has changed.
func TestRedirectForgotten(t *testing.T) {
	for name, there := range map[string]bool{"without a device": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
				l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
				service, old := portOf(l.Addr()), n.lastListen().local.Port()
				c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
				require.NoError(t, c.Close())
				require.NoError(t, s.Close())
				require.NoError(t, l.Close())
				var again net.Listener
				if there {
					var err error
					again, err = iwarp.Listen("tcp", l.Addr().String())
					require.NoError(t, err)
					defer again.Close()
				}
				n.takeDials()
				d := iwarp.Dialer{Transports: withSoft(nic), Timeout: patience}
				for _, dials := range [][]uint16{append([]uint16{old}, n.dialing(service)...), n.dialing(service)} {
					if !there {
						_, err := d.Dial("tcp", l.Addr().String())
						require.ErrorIs(t, err, syscall.ECONNREFUSED)
						require.Equal(t, dials, append([]uint16{}, n.takeDials()...))
						continue
					}
					c, s := meetSpeaking(t, again, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
					require.Equal(t, dials, append([]uint16{}, n.takeDials()...))
					exchange(t, c, s, "hello")
				}
			})
		})
	}
}
