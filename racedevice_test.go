package iwarp_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// sixNIC is a nic that does with IPv6 what a test says.
type sixNIC struct {
	*nic
	six  func(context.Context) error
	race chan struct{} // if not nil, IPv4 waits for IPv6 to begin, which closes it

	mu    sync.Mutex
	steps []string
}

func (n *sixNIC) note(step string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = append(n.steps, step)
}

func (n *sixNIC) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	if remote.Addr().Is4() {
		if n.race != nil {
			<-n.race
		}
		n.note("4 begins")
		return n.nic.Dial(ctx, local, remote, o)
	}
	n.note("6 begins")
	if n.race != nil {
		close(n.race)
	}
	err := n.six(ctx)
	n.note("6 ends")
	return nil, err
}

// silentNIC is a nic of another transport, whose peers do not answer.
type silentNIC struct {
	*nic
	quick bool // the time is over at once
	dials atomic.Int32
	asks  chan struct{} // if not nil, takes one for each dial
}

func (n *silentNIC) Name() string { return "silent" }

func (n *silentNIC) Dial(ctx context.Context, _, _ netip.AddrPort, _ *transport.Options) (transport.Connector, error) {
	n.dials.Add(1)
	if n.asks != nil {
		n.asks <- struct{}{}
	}
	if n.quick {
		return nil, transport.ErrHandshakeTimeout
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestSilentDevices waits for one address of a name in each dial where plain TCP is allowed.
func TestSilentDevices(t *testing.T) {
	s := newLegacyServer(t, resetConn)
	_, port, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			iwarp.ForgetPeers()
			n := &silentNIC{nic: newNIC(), quick: true}
			d := iwarp.Dialer{
				Offload: policy, Transports: []transport.Transport{n},
				Resolver: nameServer([4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 2}, [4]byte{127, 0, 0, 3}),
			}
			for _, dials := range []int32{1, 2, 3, 3} {
				c, err := d.Dial("tcp", "server.test:"+port)
				if policy == iwarp.OffloadRequire {
					require.True(t, opError(t, err).Timeout())
					require.EqualValues(t, 3, n.dials.Load())
					return
				}
				require.NoError(t, err)
				require.Equal(t, iwarp.ReasonHandshakeTimeout, describe(t, c).Reason)
				require.NoError(t, c.Close())
				require.Equal(t, dials, n.dials.Load())
			}
		})
	}
}

// TestSilentDeviceBesideAnother asks the device of one transport where the peer is silent to that
// of another.
func TestSilentDeviceBesideAnother(t *testing.T) {
	n := newNIC()
	l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
	go echo(l)
	dialed := func(t *testing.T, list ...transport.Transport) string {
		c, err := (&iwarp.Dialer{Transports: list}).Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		return describe(t, c).Transport
	}
	t.Run("in this dial", func(t *testing.T) {
		iwarp.ForgetPeers()
		require.Equal(t, "nic", dialed(t, &silentNIC{nic: newNIC(), quick: true}, n))
	})
	t.Run("before", func(t *testing.T) {
		iwarp.ForgetPeers()
		silent := &silentNIC{nic: newNIC(), quick: true}
		require.Equal(t, "tcp", dialed(t, silent))
		require.Equal(t, "nic", dialed(t, silent, n))
		require.EqualValues(t, 1, silent.dials.Load())
	})
	t.Run("to another dial", func(t *testing.T) {
		iwarp.ForgetPeers()
		defer iwarp.SetAnswerSlack(time.Millisecond)()
		silent := &silentNIC{nic: newNIC(), asks: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() {
			d := iwarp.Dialer{Transports: []transport.Transport{silent}, HandshakeTimeout: time.Hour}
			_, err := d.DialContext(ctx, "tcp", l.Addr().String())
			over <- err
		}()
		<-silent.asks
		require.Equal(t, "nic", dialed(t, silent, n))
		cancel()
		require.ErrorIs(t, <-over, context.Canceled)
	})
}

// TestDeviceRace has the families of a name's addresses race as package net has it: "::" is all
// addresses of this host, those of IPv6 first.
func TestDeviceRace(t *testing.T) {
	needsIPv6(t)
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	refuse := func(context.Context) error { return os.NewSyscallError("connect", syscall.ECONNREFUSED) }
	late := func(ctx context.Context) error { // longer than the default head start
		time.Sleep(400 * time.Millisecond)
		return refuse(ctx)
	}
	for _, tt := range []struct {
		name    string
		six     func(context.Context) error
		delay   time.Duration
		limit   time.Duration // of the handshake
		network string
		steps   []string // nil if both are under way at once
		fails   bool
	}{
		{name: "head start", six: hang, delay: time.Millisecond, limit: time.Hour},
		{name: "default", six: hang, limit: time.Hour},
		{name: "failure", six: refuse, delay: time.Hour, limit: time.Hour, steps: []string{"6 begins", "6 ends", "4 begins"}},
		{name: "no race", six: late, delay: -1, limit: time.Hour, steps: []string{"6 begins", "6 ends", "4 begins"}},
		{name: "one family", six: refuse, delay: time.Hour, limit: time.Hour, network: "tcp4", steps: []string{"4 begins"}},
		{name: "other family", six: refuse, delay: time.Hour, limit: time.Hour, network: "tcp6", steps: []string{"6 begins", "6 ends"}, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iwarp.ForgetPeers()
			n := &sixNIC{nic: newNIC(), six: tt.six}
			if tt.steps == nil {
				n.race = make(chan struct{})
			}
			l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
			d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{n}, FallbackDelay: tt.delay, HandshakeTimeout: tt.limit}
			network, host := "tcp", "::"
			if tt.network != "" {
				network = tt.network
			}
			if network == "tcp4" {
				host = "127.0.0.1"
			}
			_, port, err := net.SplitHostPort(l.Addr().String())
			require.NoError(t, err)
			address := net.JoinHostPort(host, port)
			if tt.fails {
				_, err := d.Dial(network, address)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
			} else {
				c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, network, address) })
				exchange(t, c, s, "hello")
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if tt.steps == nil {
				require.Equal(t, []string{"6 begins", "4 begins"}, n.steps[:2])
			} else {
				require.Equal(t, tt.steps, n.steps)
			}
		})
	}
}

// needsIPv6 skips the test where the port of a connection over IPv6 cannot be held.
func needsIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this host has no IPv6: ", err)
	}
	_ = l.Close()
}

// TestDeviceRaceLost says why the first family has failed where both have, and what came after a
// dial that was given up.
func TestDeviceRaceLost(t *testing.T) {
	needsIPv6(t)
	iwarp.ForgetPeers()
	n := &sixNIC{nic: newNIC(), six: func(context.Context) error { return errors.New("six") }}
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{n}, HandshakeTimeout: time.Hour}
	_, err := d.Dial("tcp", "[::]:7")
	require.ErrorContains(t, err, "six")
	require.Equal(t, "[::]:7", opError(t, err).Addr.String())
	require.Equal(t, []string{"6 begins", "6 ends", "4 begins"}, n.steps)

	ctx, cancel := context.WithCancel(t.Context())
	n.six = func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }
	d.FallbackDelay = time.Hour
	_, err = d.DialContext(ctx, "tcp", "[::]:7")
	require.ErrorContains(t, err, "operation was canceled")
}
