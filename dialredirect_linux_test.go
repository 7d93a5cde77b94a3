package iwarp_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// rsocket serves as a C program with rsockets on an RDMA device would: it knows nothing of
// redirects.
func rsocket(t *testing.T) (netip.AddrPort, <-chan *rdmanet.Conn) {
	t.Helper()
	l, err := soft.New(nil).Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	conns := make(chan *rdmanet.Conn, 4)
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer close(conns)
		for {
			r, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			if c, err := rdmanet.Server(context.Background(), r, &rdmanet.Config{Plain: true}); err == nil {
				conns <- c
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-served
		for c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr(), conns
}

// TestKernelPortsAndRsocket has the device talk to the port of an rsocket once software has found
// that it is one.
func TestKernelPortsAndRsocket(t *testing.T) {
	for policy, want := range map[iwarp.Offload]struct {
		path  string
		dials int
	}{iwarp.OffloadAuto: {"rnic", 1}, iwarp.OffloadPrefer: {"soft", 0}, iwarp.OffloadRequire: {"soft", 0}} {
		t.Run(policy.String(), func(t *testing.T) {
			n, nic := newKernelPorts(erdmaDevice)
			to, conns := rsocket(t)
			d := iwarp.Dialer{Offload: policy, Transports: withSoft(nic), Timeout: patience}
			c, err := d.Dial("tcp", to.String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, want.path, describe(t, c).Transport)
			require.Len(t, n.takeDials(), want.dials)
			if want.dials > 0 {
				require.NoError(t, (<-conns).Close()) // that software had
			}
			s := <-conns
			exchange(t, c, s, "hello")
			require.NoError(t, s.Close())
		})
	}
}

// TestSIWAsksFromHeldPort has software ask from the port that the user wants, although that is
// held.
func TestSIWAsksFromHeldPort(t *testing.T) {
	n, nic := newSIW()
	l := listen(t, serving())
	ps := &iwarp.PortSpace{}
	r := reserve(t, ps, "tcp", "127.0.0.1:0")
	var controlled []string
	d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience, PortSpace: ps, LocalAddr: r.Addr(), Offload: iwarp.OffloadRequire}
	d.Control = func(_, address string, _ syscall.RawConn) error {
		controlled = append(controlled, address)
		return nil
	}
	c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
	exchange(t, c, s, "hello")
	require.Equal(t, r.Addr().String(), c.LocalAddr().String())
	require.Equal(t, []string{l.Addr().String()}, controlled, "the socket that asks")
	require.Len(t, n.locals, 1)
	_, err := net.Listen("tcp", r.Addr().String())
	require.Error(t, err)
}

// TestRefusedForAMoment asks a server again that has refused for what may pass, and not one that
// has no device.
func TestRefusedForAMoment(t *testing.T) {
	for why, again := range map[redirect.Why]bool{
		redirect.WhyUnsaid: false, redirect.WhyPolicy: false, redirect.WhyNoDevice: false,
		redirect.WhyLimit: true, redirect.WhyFailed: true,
	} {
		t.Run(why.String(), func(t *testing.T) {
			_, nic := newKernelPorts(erdmaDevice)
			var asked atomic.Int32
			to := rejecting(t, func(uint16) []byte {
				asked.Add(1)
				return append([]byte("iWAR\x01\x00\x04\x01"), byte(why))
			})
			d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience}
			for range 3 {
				c, err := d.Dial("tcp", to.String())
				require.NoError(t, err)
				require.Equal(t, iwarp.ReasonDeclined, describe(t, c).Reason)
				require.NoError(t, c.Close())
			}
			require.EqualValues(t, map[bool]int{false: 1, true: 3}[again], asked.Load())
		})
	}
}
