package iwarp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// keepAlive is what a socket has: on, idle and interval in seconds, count.
type keepAlive [4]int

func keepAliveOf(t testing.TB, fd int) (k keepAlive) {
	t.Helper()
	for i, o := range [...][2]int{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	} {
		v, err := unix.GetsockoptInt(fd, o[0], o[1])
		require.NoError(t, err)
		k[i] = v
	}
	return k
}

// socketBelow returns the descriptor of this process whose socket has the addresses of c.
func socketBelow(t testing.TB, c net.Conn) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	addr := func(sa unix.Sockaddr, err error) (a netip.AddrPort) {
		if v4, ok := sa.(*unix.SockaddrInet4); ok && err == nil {
			a = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
		}
		return a
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if addr(unix.Getsockname(fd)).String() == c.LocalAddr().String() && addr(unix.Getpeername(fd)).String() == c.RemoteAddr().String() {
			return fd
		}
	}
	t.Fatalf("no socket of %v", c.LocalAddr())
	return -1
}

// TestDialKeepAlive compares what the fields of a Dialer make of a socket with what those of
// package net do, also what they leave to the system or to a Control function.
func TestDialKeepAlive(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	ports := &iwarp.PortSpace{}
	free, held := net.Addr(nil), func() net.Addr { return reserve(t, ports, "tcp", "127.0.0.1:0").Addr() }
	paths := []struct {
		name   string
		policy iwarp.Offload
		local  func() net.Addr
	}{
		{"plain", iwarp.OffloadNever, func() net.Addr { return free }},
		{"soft", iwarp.OffloadRequire, func() net.Addr { return free }},
		{"plain from a reservation", iwarp.OffloadNever, held},
		{"soft from a reservation", iwarp.OffloadRequire, held},
	}
	control := func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			for option, v := range map[int]int{unix.TCP_KEEPIDLE: 301, unix.TCP_KEEPINTVL: 302, unix.TCP_KEEPCNT: 33} {
				if err == nil {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, v)
				}
			}
			if err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			}
		})
		if cerr != nil {
			return cerr
		}
		return err
	}
	var cases []net.Dialer
	for _, idle := range []time.Duration{-1, 0, 401 * time.Second} {
		cases = append(cases, net.Dialer{KeepAlive: idle}, net.Dialer{KeepAlive: idle, Control: control},
			net.Dialer{KeepAlive: idle, KeepAliveConfig: net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}})
	}
	for i := range 27 {
		config := net.KeepAliveConfig{
			Enable: true, Idle: []time.Duration{-1, 0, 501 * time.Second}[i%3],
			Interval: []time.Duration{-1, 0, 502 * time.Second}[i/3%3], Count: []int{-1, 0, 53}[i/9],
		}
		cases = append(cases, net.Dialer{KeepAliveConfig: config}, net.Dialer{KeepAlive: -1, KeepAliveConfig: config, Control: control})
	}
	for _, nd := range cases {
		control, err := nd.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		want := keepAliveOf(t, socketBelow(t, control))
		cut(control)
		for _, path := range paths {
			d := iwarp.Dialer{
				KeepAlive: nd.KeepAlive, KeepAliveConfig: nd.KeepAliveConfig, Control: nd.Control,
				Offload: path.policy, LocalAddr: path.local(), PortSpace: ports, Timeout: patience,
			}
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			got := keepAliveOf(t, socketBelow(t, c))
			cut(c)
			what := fmt.Sprintf("%s: KeepAlive %v, %+v, Control %v", path.name, nd.KeepAlive, nd.KeepAliveConfig, nd.Control != nil)
			require.Equal(t, want, got, what)
		}
	}
}

// TestListenKeepAlive does the same for the fields of a ListenConfig and the connections that a
// listener accepts.
func TestListenKeepAlive(t *testing.T) {
	control := func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 301),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 33))
		})
		return errors.Join(cerr, err)
	}
	var cases []net.ListenConfig
	for _, idle := range []time.Duration{-1, 0, 401 * time.Second} {
		cases = append(cases, net.ListenConfig{KeepAlive: idle}, net.ListenConfig{KeepAlive: idle, Control: control})
	}
	for i := range 27 {
		config := net.KeepAliveConfig{
			Enable: true, Idle: []time.Duration{-1, 0, 501 * time.Second}[i%3],
			Interval: []time.Duration{-1, 0, 502 * time.Second}[i/3%3], Count: []int{-1, 0, 53}[i/9],
		}
		cases = append(cases, net.ListenConfig{KeepAliveConfig: config}, net.ListenConfig{KeepAlive: -1, KeepAliveConfig: config, Control: control})
	}
	accepted := func(l net.Listener, err error, policy iwarp.Offload) keepAlive {
		require.NoError(t, err)
		defer l.Close()
		_, s := meet(t, l, func() net.Conn {
			c := dial(t, l, policy)
			_, err := io.WriteString(c, "hello")
			noError(t, err)
			return c
		})
		return keepAliveOf(t, socketBelow(t, s))
	}
	for _, nl := range cases {
		l, err := nl.Listen(t.Context(), "tcp", "127.0.0.1:0")
		want := accepted(l, err, iwarp.OffloadNever)
		for _, policy := range policies {
			lc := iwarp.ListenConfig{KeepAlive: nl.KeepAlive, KeepAliveConfig: nl.KeepAliveConfig, Control: nl.Control, Offload: policy}
			client := policy
			if policy == iwarp.OffloadAuto {
				client = iwarp.OffloadNever
			}
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.Equal(t, want, accepted(l, err, client), "%v: KeepAlive %v, %+v, Control %v", policy, nl.KeepAlive, nl.KeepAliveConfig, nl.Control != nil)
		}
	}
}
